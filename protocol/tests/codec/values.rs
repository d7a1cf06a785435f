//! Random values of a message's schema and their encoding, independent of the derive.

use palisade_protocol::schema::{FieldSchema, MessageSchema, StructSchema, TypeSchema};

/// A value of some type; `None` is null.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Bytes of a fixed-width type.
    Fixed(Vec<u8>),
    Text(Option<String>),
    Blob(Option<Vec<u8>>),
    Array(Option<Vec<Value>>),
    Struct(Option<Vec<Value>>),
}

/// SplitMix64: enough to choose values, and the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

#[derive(Clone, Copy)]
struct Version {
    number: i16,
    flexible: bool,
}

/// The bytes of a random message at `version`.
pub(crate) fn random_message(schema: &MessageSchema, version: i16, random: &mut Random) -> Vec<u8> {
    let version = Version {
        number: version,
        flexible: schema.first_flexible.is_some_and(|first| version >= first),
    };
    let mut out = Vec::new();
    encode(
        &random_value(&schema.body, version, random),
        &schema.body,
        version,
        &mut out,
    );
    out
}

fn random_value(ty: &TypeSchema, version: Version, random: &mut Random) -> Value {
    match ty {
        TypeSchema::Primitive(name) => random_primitive(name, random),
        TypeSchema::Array(inner) => {
            let count = random.below(4);
            Value::Array(Some(
                (0..count)
                    .map(|_| random_value(inner, version, random))
                    .collect(),
            ))
        }
        TypeSchema::Struct(schema) => Value::Struct(Some(
            schema
                .fields
                .iter()
                .map(|field| random_field(field, version, random))
                .collect(),
        )),
    }
}

fn random_field(field: &FieldSchema, version: Version, random: &mut Random) -> Value {
    if !field.versions.contains(version.number) || (field.tag.is_some() && random.one_in(3)) {
        return default_of(field);
    }
    if field
        .nullable
        .is_some_and(|range| range.contains(version.number))
        && random.one_in(4)
    {
        return null(&field.ty);
    }
    random_value(&field.ty, version, random)
}

fn random_primitive(name: &str, random: &mut Random) -> Value {
    match name {
        "bool" => Value::Fixed(vec![(random.next() & 1) as u8]),
        "string" => {
            let length = if random.one_in(20) {
                200
            } else {
                random.below(12)
            };
            let letters = ['a', 'Z', '-', '.', 'é', '日', '🦀'];
            Value::Text(Some(
                (0..length)
                    .map(|_| letters[random.below(letters.len())])
                    .collect(),
            ))
        }
        "bytes" | "records" => {
            let length = if random.one_in(10) {
                5000
            } else {
                random.below(40)
            };
            Value::Blob(Some(random.bytes(length)))
        }
        _ if random.one_in(4) => Value::Fixed(vec![0; width(name)]),
        _ => Value::Fixed(random.bytes(width(name))),
    }
}

fn width(name: &str) -> usize {
    match name {
        "bool" | "int8" => 1,
        "int16" | "uint16" => 2,
        "int32" | "uint32" => 4,
        "int64" | "float64" => 8,
        "uuid" => 16,
        _ => panic!("{name} has no fixed width"),
    }
}

fn null(ty: &TypeSchema) -> Value {
    match ty {
        TypeSchema::Primitive("string") => Value::Text(None),
        TypeSchema::Primitive(_) => Value::Blob(None),
        TypeSchema::Array(_) => Value::Array(None),
        TypeSchema::Struct(_) => Value::Struct(None),
    }
}

fn default_of(field: &FieldSchema) -> Value {
    match (field.default, &field.ty) {
        (Some("null"), ty) => null(ty),
        (Some(text), TypeSchema::Primitive(name)) => {
            Value::Fixed(integer(text).to_be_bytes()[8 - width(name)..].to_vec())
        }
        (_, TypeSchema::Primitive("string")) => Value::Text(Some(String::new())),
        (_, TypeSchema::Primitive("bytes" | "records")) => Value::Blob(Some(Vec::new())),
        (_, TypeSchema::Primitive(name)) => Value::Fixed(vec![0; width(name)]),
        (_, TypeSchema::Array(_)) => Value::Array(Some(Vec::new())),
        (_, TypeSchema::Struct(schema)) => {
            Value::Struct(Some(schema.fields.iter().map(default_of).collect()))
        }
    }
}

/// A default as the source spells it.
pub(crate) fn integer(text: &str) -> i64 {
    match text {
        "true" => 1,
        "false" => 0,
        "i64::MAX" => i64::MAX,
        "i32::MIN" => i64::from(i32::MIN),
        _ => {
            let digits = text.replace('_', "");
            match digits.strip_prefix("0x") {
                Some(hex) => i64::from_str_radix(hex, 16).expect("hexadecimal default"),
                None => digits.parse().expect("decimal default"),
            }
        }
    }
}

fn encode(value: &Value, ty: &TypeSchema, version: Version, out: &mut Vec<u8>) {
    match (value, ty) {
        (Value::Fixed(bytes), _) => out.extend(bytes),
        (Value::Text(text), _) => {
            let bytes = text.as_ref().map(|text| text.as_bytes());
            match version.flexible {
                true => put_compact_length(bytes.map(<[u8]>::len), out),
                false => out.extend(bytes.map_or(-1, |bytes| bytes.len() as i16).to_be_bytes()),
            }
            out.extend(bytes.unwrap_or_default());
        }
        (Value::Blob(bytes), _) => {
            put_length(bytes.as_ref().map(Vec::len), version, out);
            out.extend(bytes.iter().flatten());
        }
        (Value::Array(elements), TypeSchema::Array(inner)) => {
            put_length(elements.as_ref().map(Vec::len), version, out);
            elements
                .iter()
                .flatten()
                .for_each(|element| encode(element, inner, version, out));
        }
        (Value::Struct(Some(values)), TypeSchema::Struct(schema)) => {
            encode_struct(values, schema, version, out)
        }
        _ => panic!("{value:?} is no {ty:?}"),
    }
}

fn encode_struct(values: &[Value], schema: &StructSchema, version: Version, out: &mut Vec<u8>) {
    let mut tagged = Vec::new();
    for (field, value) in schema.fields.iter().zip(values) {
        if !field.versions.contains(version.number) {
            continue;
        }
        let mut bytes = Vec::new();
        let is_struct = matches!(field.ty, TypeSchema::Struct(_));
        if is_struct
            && field
                .nullable
                .is_some_and(|range| range.contains(version.number))
        {
            let present = *value != Value::Struct(None);
            bytes.push(if present { 1 } else { 0xff });
            if present {
                encode(value, &field.ty, version, &mut bytes);
            }
        } else {
            encode(value, &field.ty, version, &mut bytes);
        }
        match field.tag {
            None => out.extend(bytes),
            Some(tag) if *value != default_of(field) => tagged.push((tag, bytes)),
            Some(_) => {}
        }
    }
    if version.flexible {
        tagged.sort();
        put_uvarint(tagged.len(), out);
        for (tag, bytes) in tagged {
            put_uvarint(tag as usize, out);
            put_uvarint(bytes.len(), out);
            out.extend(bytes);
        }
    }
}

fn put_length(length: Option<usize>, version: Version, out: &mut Vec<u8>) {
    match version.flexible {
        true => put_compact_length(length, out),
        false => out.extend(length.map_or(-1, |length| length as i32).to_be_bytes()),
    }
}

fn put_compact_length(length: Option<usize>, out: &mut Vec<u8>) {
    put_uvarint(length.map_or(0, |length| length + 1), out);
}

pub(crate) fn put_uvarint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
