//! Lines into records, on a thread of its own: reading a terminal or a pipe blocks.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read},
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::de::{self, Deserialize, Deserializer};
use serde_json::{Map, Value, error::Category};
use tokio::sync::mpsc;

use super::printable;
use crate::config::keys;

/// Keys of an object that is a record: all that `palisade consume --json` writes.
const RECORD: [&str; 9] = [
    "topic",
    "partition",
    "offset",
    "timestamp",
    "key",
    "key_base64",
    "value",
    "value_base64",
    "headers",
];
/// Keys of an object that is a header. Bytes that are no text are no key of a header here, but it
/// must be said of them.
const HEADER: [&str; 4] = ["key", "key_base64", "value", "value_base64"];
/// Longest line; the largest record that brokers can be set to take is larger than useful already.
const LINE_MAX: usize = 64 << 20;
/// Lines that are handed over together while more of them are there to read.
const LINES: usize = 500;
/// Bytes of lines that are handed over together.
const BYTES: usize = 256 << 10;
/// Handfuls of lines that wait between the two threads.
const WAITING: usize = 4;

/// A record as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) line: u64,
    pub(super) partition: Option<i32>,
    /// Milliseconds since 1970.
    pub(super) timestamp: Option<i64>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// Bytes of key, value and headers.
    pub(super) fn len(&self) -> usize {
        let of = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        let headers = self
            .headers
            .iter()
            .map(|(key, value)| key.len() + of(value));
        of(&self.key) + of(&self.value) + headers.sum::<usize>()
    }
}

/// Where lines come from.
pub(super) type Source = BufReader<Box<dyn Read + Send>>;

/// A record, or the number of a line that is none and why.
pub(super) type Parsed = Result<Record, (u64, String)>;

/// What a line is.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// A value.
    Values,
    /// A key, these bytes, a value.
    Keyed(Vec<u8>),
    /// An object.
    Json,
}

/// Makes records of lines.
#[derive(Clone, Debug)]
pub(super) struct Parser {
    pub(super) shape: Shape,
    pub(super) null_marker: Option<Vec<u8>>,
}

/// Reads `source` to its end; what comes out of the channel is what was there to read at a time.
pub(super) fn read(source: Source, parser: Parser) -> mpsc::Receiver<io::Result<Vec<Parsed>>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    // The thread is not waited for: nobody can interrupt a read from a terminal.
    thread::spawn(move || {
        if let Err(error) = pass_on(source, &parser, &sender) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

fn pass_on(
    mut source: Source,
    parser: &Parser,
    sender: &mpsc::Sender<io::Result<Vec<Parsed>>>,
) -> io::Result<()> {
    let mut number = 0;
    loop {
        let mut lines = Vec::new();
        let mut bytes = 0;
        // Blocks for the first line; of those behind it, only what has arrived is taken along.
        while lines.len() < LINES && bytes < BYTES {
            if !lines.is_empty() && !source.buffer().contains(&b'\n') {
                break;
            }
            let mut line = Vec::new();
            let read = (&mut source)
                .take(LINE_MAX as u64 + 1)
                .read_until(b'\n', &mut line)?;
            if read == 0 {
                let _ = sender.blocking_send(Ok(lines));
                return Ok(());
            }
            number += 1;
            if line.last() == Some(&b'\n') {
                line.pop();
            } else if line.len() > LINE_MAX {
                let text = format!("line {number} is longer than {LINE_MAX} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            bytes += line.len() + 1;
            lines.push(parser.record(number, line));
        }
        if sender.blocking_send(Ok(lines)).is_err() {
            return Ok(());
        }
    }
}

impl Parser {
    fn record(&self, number: u64, line: Vec<u8>) -> Parsed {
        let record = match &self.shape {
            Shape::Values => Ok(Record {
                value: self.unless_null(line),
                ..Record::default()
            }),
            Shape::Keyed(separator) => {
                let at = line
                    .windows(separator.len())
                    .position(|part| part == separator.as_slice());
                at.and_then(|at| {
                    let value = line.get(at + separator.len()..)?.to_vec();
                    let key = line.get(..at)?.to_vec();
                    Some(Record {
                        key: self.unless_null(key),
                        value: self.unless_null(value),
                        ..Record::default()
                    })
                })
                .ok_or_else(|| "no key separator in it".to_owned())
            }
            Shape::Json => json(&line),
        };
        match record {
            Ok(record) => Ok(Record {
                line: number,
                ..record
            }),
            Err(reason) => Err((number, reason)),
        }
    }

    fn unless_null(&self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        (self.null_marker.as_ref() != Some(&bytes)).then_some(bytes)
    }
}

fn json(line: &[u8]) -> Result<Record, String> {
    let Strict(value) = serde_json::from_slice(line).map_err(|error| reason(&error))?;
    let Value::Object(object) = value else {
        return Err("no JSON object".to_owned());
    };
    if let Some(problem) = unknown(&object, &RECORD) {
        return Err(problem);
    }
    // No value deletes what a compacted topic has of the key; that must not come of a slip.
    if !object.contains_key("value") && !object.contains_key("value_base64") {
        return Err("neither value (null: a tombstone) nor value_base64".to_owned());
    }
    let bytes = |of: &Map<String, Value>, name: &str| {
        let coded = format!("{name}_base64");
        match (of.get(name), of.get(&coded)) {
            (Some(Value::String(text)), None) => Ok(Some(text.clone().into_bytes())),
            (None, Some(Value::String(text))) => STANDARD
                .decode(text)
                .map(Some)
                .map_err(|_| format!("{coded} is no base64")),
            (None | Some(Value::Null), None) => Ok(None),
            (Some(_), Some(_)) => Err(format!("{name} and {coded} exclude each other")),
            _ => Err(format!("{name} is no text")),
        }
    };
    let number = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_i64()
            .map(Some)
            .ok_or_else(|| format!("{name} is no whole number")),
    };
    let timestamp = number("timestamp")?;
    // -1 is what `consume --json` prints of a record that has none.
    if timestamp.is_some_and(|time| time < -1) {
        return Err("timestamp is negative, and only -1 says that there is none".to_owned());
    }
    let mut headers = Vec::new();
    match object.get("headers") {
        None | Some(Value::Null) => {}
        Some(Value::Array(all)) => {
            for header in all {
                let header = header.as_object().ok_or("a header is no object")?;
                if let Some(problem) = unknown(header, &HEADER) {
                    return Err(format!("a header has an {problem}"));
                }
                let key = header.get("key").and_then(Value::as_str);
                let key = key.ok_or("a header has no key")?.to_owned();
                headers.push((key, bytes(header, "value")?));
            }
        }
        Some(_) => return Err("headers are no array".to_owned()),
    }
    Ok(Record {
        line: 0,
        partition: number("partition")?
            .map(|index| i32::try_from(index).map_err(|_| "partition is out of range"))
            .transpose()?,
        timestamp,
        key: bytes(&object, "key")?,
        value: bytes(&object, "value")?,
        headers,
    })
}

/// Why a line does not parse. The line that serde_json names is always the first, and ours is named
/// anyway; the column is kept where the JSON itself is broken.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if error.classify() != Category::Data {
        return format!("no JSON: {text}");
    }
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

/// A value in whose objects each key stands once: [`Value`] itself takes the last of several.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> de::Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = from.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Strict(value))) = from.next_entry::<String, _>()? {
            if object.contains_key(&key) {
                let key = printable(&key);
                let text = format!("key {key} stands twice in one object");
                return Err(de::Error::custom(text));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// What is wrong with the keys of an object, if one is none of these.
fn unknown(object: &Map<String, Value>, known: &'static [&'static str]) -> Option<String> {
    let key = object.keys().find(|key| !known.contains(&key.as_str()))?;
    let nearest = keys::nearest_of(&key.to_lowercase(), known.iter().copied());
    let hint = nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"));
    Some(format!("unknown key {}{hint}", printable(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parser(shape: Shape) -> Parser {
        Parser {
            shape,
            null_marker: Some(b"NULL".to_vec()),
        }
    }

    #[test]
    fn lines_have_keys_and_nulls() {
        let keyed = parser(Shape::Keyed(b"=>".to_vec()));
        let record = keyed.record(3, b"k=>v=>w".to_vec()).unwrap();
        assert_eq!(record.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(record.value.as_deref(), Some(&b"v=>w"[..]));
        assert_eq!(record.line, 3);
        let record = keyed.record(1, b"k=>NULL".to_vec()).unwrap();
        assert_eq!(record.value, None);
        let record = keyed.record(1, b"=>".to_vec()).unwrap();
        assert_eq!(record.key.as_deref(), Some(&b""[..]));
        assert_eq!(keyed.record(9, b"nothing".to_vec()).unwrap_err().0, 9);
        let record = parser(Shape::Values).record(1, b"NULL".to_vec()).unwrap();
        assert_eq!(record.value, None);
    }

    #[test]
    fn objects_are_records() {
        let text = br#"{"key":"k","value_base64":"AP8=","partition":2,"timestamp":7,
            "headers":[{"key":"h","value":"x"},{"key":"i","value":null}]}"#;
        let record = json(text).unwrap();
        assert_eq!(record.value.as_deref(), Some(&[0, 255][..]));
        assert_eq!((record.partition, record.timestamp), (Some(2), Some(7)));
        assert_eq!(
            record.headers,
            [
                ("h".to_owned(), Some(b"x".to_vec())),
                ("i".to_owned(), None)
            ]
        );
        for wrong in [
            &b"[]"[..],
            b"{",
            br#"{"value":"v","key":1}"#,
            br#"{"value":"v","key_base64":"!"}"#,
            br#"{"value":"v","key":"a","key_base64":"YQ=="}"#,
            br#"{"value":"v","partition":4294967296}"#,
            br#"{"value":"v","headers":{}}"#,
            br#"{"value":"v","timestamp":-2}"#,
        ] {
            assert!(json(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
        let without = json(br#"{"value":"v","timestamp":-1}"#).unwrap();
        assert_eq!(without.timestamp, Some(-1));
    }

    /// A slip of the pen must not become a tombstone.
    #[test]
    fn objects_say_their_values_and_nothing_unknown() {
        let all = br#"{"topic":"t","partition":0,"offset":3,"timestamp":7,"key":null,"value":null,
            "headers":[]}"#;
        assert_eq!(json(all).unwrap().value, None);
        for (wrong, reason) in [
            (
                r#"{}"#,
                "neither value (null: a tombstone) nor value_base64",
            ),
            (r#"{"key":"k"}"#, "neither value (null"),
            (
                r#"{"key":"k","vlaue":"v"}"#,
                "unknown key vlaue; did you mean value?",
            ),
            (
                r#"{"value":"v","payload\u001b":1}"#,
                "unknown key payload\\u{1b}",
            ),
            (
                r#"{"value":"v","headers":[{"key":"h","valeu":"x"}]}"#,
                "a header has an unknown key valeu; did you mean value?",
            ),
        ] {
            let error = json(wrong.as_bytes()).expect_err(wrong);
            assert!(error.starts_with(reason), "{wrong}: {error}");
        }
    }

    /// Of two values one would be lost, and nobody knows which one was meant.
    #[test]
    fn objects_say_each_key_once() {
        let json = parser(Shape::Json);
        for (line, key) in [
            (r#"{"value":"a","value":"b"}"#, "value"),
            (r#"{"value":"a","value":null}"#, "value"),
            (r#"{"value":"a","k\u0065y":"k","key":"k"}"#, "key"),
            (r#"{"value":"a","headers":[],"headers":[]}"#, "headers"),
            (r#"{"value":"a","headers":[{"key":"h","key":"i"}]}"#, "key"),
            (r#"{"value":"a","\u001b":1,"\u001b":1}"#, "\\u{1b}"),
        ] {
            let error = json.record(7, line.as_bytes().to_vec()).expect_err(line);
            let reason = format!("key {key} stands twice in one object");
            assert_eq!(error, (7, reason), "{line}");
        }
        let twice = r#"{"value":"a","headers":[{"key":"h"},{"key":"h"}]}"#;
        let record = json.record(7, twice.as_bytes().to_vec()).unwrap();
        assert_eq!(record.headers.len(), 2);
        let error = json.record(7, b"{\"value\":1,}".to_vec()).unwrap_err();
        assert!(error.1.starts_with("no JSON: "), "{error:?}");
    }

    #[test]
    fn a_file_is_read_to_its_end() {
        let bytes: Box<dyn Read + Send> = Box::new(io::Cursor::new(b"a\n\nb".to_vec()));
        let source = BufReader::new(bytes);
        let mut lines = read(source, parser(Shape::Values));
        let mut values = Vec::new();
        while let Some(handful) = lines.blocking_recv() {
            for record in handful.unwrap() {
                values.push(record.unwrap().value.unwrap());
            }
        }
        assert_eq!(values, [&b"a"[..], b"", b"b"]);
    }
}
