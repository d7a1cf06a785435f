//! How a record is printed: its value, a template, or a JSON object.

use base64::{Engine, engine::general_purpose::STANDARD};
use palisade_protocol::batch::record::Headers;
use serde_json::{Map, Value};

use super::super::escape::escape;
use crate::foreign;

/// A record with all that may be printed of it.
#[derive(Clone, Debug)]
pub(super) struct Shown<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Milliseconds since 1970; -1 none.
    pub(super) timestamp: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Headers<'a>,
}

/// What becomes of what cannot be printed as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks<'a> {
    /// Stands for keys and values that are none.
    pub(super) null: &'a [u8],
    /// Whether the bytes of records are shown as text in which nothing acts on a terminal. A
    /// program gets them as they are.
    pub(super) is_for_people: bool,
}

impl Marks<'_> {
    fn put(self, out: &mut Vec<u8>, bytes: &[u8]) {
        match self.is_for_people {
            true => foreign::put_bytes(out, bytes),
            false => out.extend_from_slice(bytes),
        }
    }

    fn put_or_null(self, out: &mut Vec<u8>, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.put(out, bytes),
            None => out.extend_from_slice(self.null),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    KeyLength,
    Value,
    ValueLength,
    Headers,
    Timestamp,
}

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Parts in their order.
    Template(Template),
    /// One object a line.
    Json,
}

/// A template, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

impl Template {
    /// The value and a line feed.
    pub(super) fn value() -> Self {
        Self(vec![Part::Value, Part::Text(b"\n".to_vec())])
    }

    /// Reads `%t`, `%p`, … and `\n`, `\t`, `\x41`, … .
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => plain.push(escape(&mut chars)?),
                '%' => match chars.next() {
                    Some('%') => plain.push(b'%'),
                    Some(letter) => {
                        let part = part(letter)?;
                        if !plain.is_empty() {
                            parts.push(Part::Text(std::mem::take(&mut plain)));
                        }
                        parts.push(part);
                    }
                    None => return Err("a % at the end; a percent sign is %%".to_owned()),
                },
                other => plain.extend(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }
}

fn part(letter: char) -> Result<Part, String> {
    Ok(match letter {
        't' => Part::Topic,
        'p' => Part::Partition,
        'o' => Part::Offset,
        'k' => Part::Key,
        'K' => Part::KeyLength,
        'v' | 's' => Part::Value,
        'S' => Part::ValueLength,
        'h' => Part::Headers,
        'T' => Part::Timestamp,
        _ => {
            return Err(format!(
                "%{letter} is unknown; %t %p %o %k %K %v %s %S %h %T %%"
            ));
        }
    })
}

impl Format {
    /// Appends a record to `out`. What a template says itself stays as it is: the user wrote it.
    pub(super) fn write(&self, out: &mut Vec<u8>, record: &Shown<'_>, marks: Marks<'_>) {
        let parts = match self {
            Self::Template(template) => &template.0,
            Self::Json => {
                out.extend(foreign::json(&json(record)).into_bytes());
                out.push(b'\n');
                return;
            }
        };
        for part in parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Topic => marks.put(out, record.topic.as_bytes()),
                Part::Partition => out.extend(record.partition.to_string().into_bytes()),
                Part::Offset => out.extend(record.offset.to_string().into_bytes()),
                Part::Timestamp => out.extend(record.timestamp.to_string().into_bytes()),
                Part::Key => marks.put_or_null(out, record.key),
                Part::Value => marks.put_or_null(out, record.value),
                Part::KeyLength => put_length(out, record.key),
                Part::ValueLength => put_length(out, record.value),
                Part::Headers => {
                    for (number, header) in record.headers.clone().enumerate() {
                        if number > 0 {
                            out.push(b',');
                        }
                        marks.put(out, header.key);
                        out.push(b'=');
                        marks.put_or_null(out, header.value);
                    }
                }
            }
        }
    }
}

/// A length, -1 for none at all, as kcat prints it.
fn put_length(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let length = bytes.map_or("-1".to_owned(), |bytes| bytes.len().to_string());
    out.extend(length.into_bytes());
}

fn json(record: &Shown<'_>) -> Value {
    let mut object = Map::new();
    object.insert("topic".to_owned(), record.topic.into());
    object.insert("partition".to_owned(), record.partition.into());
    object.insert("offset".to_owned(), record.offset.into());
    object.insert("timestamp".to_owned(), record.timestamp.into());
    put_bytes(&mut object, "key", record.key);
    put_bytes(&mut object, "value", record.value);
    let headers = record.headers.clone().map(|header| {
        let mut one = Map::new();
        put_bytes(&mut one, "key", Some(header.key));
        put_bytes(&mut one, "value", header.value);
        Value::Object(one)
    });
    object.insert("headers".to_owned(), headers.collect());
    Value::Object(object)
}

/// Text as it is, other bytes in base64 under a name that says so.
fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => object.insert(name.to_owned(), Value::Null),
        Some((_, Ok(text))) => object.insert(name.to_owned(), text.into()),
        Some((bytes, Err(_))) => {
            object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into())
        }
    };
}

#[cfg(test)]
mod tests {
    use palisade_protocol::{
        batch::{BATCH_HEADER_LEN, BatchBuilder, Codec, RecordIter},
        types::TimestampMs,
    };

    use super::*;

    fn printed(format: &Format) -> String {
        let mut builder = BatchBuilder::new(Codec::None);
        let headers: [(&str, Option<&[u8]>); 2] = [("a", Some(b"1")), ("b", None)];
        builder
            .add(TimestampMs::new(9), None, Some(&[0xff]), &headers)
            .unwrap();
        let batch = builder.build().unwrap();
        let section = &batch[BATCH_HEADER_LEN..];
        let record = RecordIter::new(section, 1).next().unwrap().unwrap();
        let mut out = Vec::new();
        let shown = Shown {
            topic: "t",
            partition: 3,
            offset: 42,
            timestamp: 9,
            key: record.key,
            value: Some(b"v\xff")
                .filter(|_| *format == Format::Json)
                .map_or(Some(&b"val"[..]), |bytes| Some(&bytes[..])),
            headers: record.headers,
        };
        let marks = Marks {
            null: b"NULL",
            is_for_people: false,
        };
        format.write(&mut out, &shown, marks);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn templates_are_kcats() {
        for (template, expected) in [
            ("%t [%p] at %o: %k=%s\\n", "t [3] at 42: NULL=val\n"),
            ("%K %S %T %h %%\\x41\\\\", "-1 3 9 a=1,b=NULL %A\\"),
            ("ä%v", "äval"),
        ] {
            let format = Format::Template(Template::parse(template).unwrap());
            assert_eq!(printed(&format), expected);
        }
        for wrong in ["%", "%q", "\\", "\\x4", "\\xzz"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
        let value = Format::Template(Template::value());
        assert_eq!(printed(&value), "val\n");
    }

    #[test]
    fn objects_have_text_or_base64() {
        let object: Value = serde_json::from_str(&printed(&Format::Json)).unwrap();
        assert_eq!(object["value_base64"], "dv8=");
        assert_eq!(object["key"], Value::Null);
        assert_eq!(object["headers"][0]["value"], "1");
        assert_eq!(object["headers"][1]["value"], Value::Null);
        assert!(object.get("value").is_none());
    }
}
