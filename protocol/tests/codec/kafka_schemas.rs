//! Our definitions against the schemas inside Kafka's own client library, field by field.
//!
//! The environment names the library: `PALISADE_KAFKA_CLIENTS_JAR`, a kafka-clients jar of 4.4.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use palisade_protocol::api::{ApiKey, SERVED};
use palisade_protocol::schema::{FieldSchema, StructSchema, TypeSchema, VersionRange};
use serde_json::Value as Json;

use crate::cases::{self, Case};
use crate::values;

const JAR: &str = "PALISADE_KAFKA_CLIENTS_JAR";

/// The library, or `None` with a loud remark.
fn jar() -> Option<PathBuf> {
    let jar = std::env::var_os(JAR).map(PathBuf::from);
    if jar.is_none() {
        // Past the capture of test output: a skipped oracle must be seen.
        let _ = writeln!(std::io::stderr(), "SKIPPED: schema oracle ({JAR} unset)");
    }
    jar
}

fn load(jar: &Path, name: &str) -> Json {
    let output = Command::new("unzip")
        .arg("-p")
        .arg(jar)
        .arg(format!("common/message/{name}.json"))
        .output()
        .expect("unzip runs");
    assert!(
        output.status.success(),
        "{name}.json is not in {}",
        jar.display()
    );
    let text = String::from_utf8(output.stdout).expect("schemas are text");
    serde_json::from_str(&strip_comments(&text))
        .unwrap_or_else(|error| panic!("{name}.json: {error}"))
}

/// Removes `//` comments, which the schemas use freely, outside of strings.
fn strip_comments(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut in_string = false;
        let mut end = line.len();
        for (at, letter) in line.char_indices() {
            in_string ^= letter == '"';
            if !in_string && line[at..].starts_with("//") {
                end = at;
                break;
            }
        }
        out.push_str(&line[..end]);
        out.push('\n');
    }
    out
}

fn range(json: &Json) -> Option<VersionRange> {
    let text = json.as_str().filter(|text| *text != "none")?;
    let number = |text: &str| text.parse::<i16>().expect("a version");
    let (first, last) = match (text.strip_suffix('+'), text.split_once('-')) {
        (Some(first), _) => (number(first), i16::MAX),
        (None, Some((first, last))) => (number(first), number(last)),
        (None, None) => (number(text), number(text)),
    };
    Some(VersionRange { first, last })
}

#[test]
fn every_message_is_defined_as_in_kafka() {
    let Some(jar) = jar() else { return };
    for case in cases::all() {
        let json = load(&jar, case.name);
        assert_eq!(json["name"], case.name);
        assert_eq!(json["apiKey"], case.key.value(), "{}", case.name);
        assert_eq!(
            range(&json["validVersions"]),
            Some(case.schema.versions),
            "{}",
            case.name
        );
        let flexible = range(&json["flexibleVersions"]).map(|range| range.first);
        assert_eq!(flexible, case.schema.first_flexible, "{}", case.name);
        let TypeSchema::Struct(body) = case.schema.body else {
            panic!("{} is no struct", case.name)
        };
        Comparison {
            case: &case,
            json: &json,
        }
        .fields(case.name, body, &json["fields"]);
    }
}

struct Comparison<'a> {
    case: &'a Case,
    json: &'a Json,
}

impl Comparison<'_> {
    fn fields(&self, path: &str, ours: &StructSchema, json: &Json) {
        let valid = self.case.schema.versions;
        let theirs: Vec<&Json> = json
            .as_array()
            .expect("fields are a list")
            .iter()
            // A field may remain from versions that are gone.
            .filter(|field| {
                versions(field).first <= valid.last && valid.first <= versions(field).last
            })
            .collect();
        let names: Vec<String> = theirs
            .iter()
            .map(|field| snake_case(field["name"].as_str().expect("a name")))
            .collect();
        let our_names: Vec<&str> = ours.fields.iter().map(|field| field.name).collect();
        assert_eq!(our_names, names, "{path}");
        for (field, json) in ours.fields.iter().zip(theirs) {
            self.field(&format!("{path}.{}", field.name), field, json);
        }
    }

    fn field(&self, path: &str, ours: &FieldSchema, json: &Json) {
        assert_eq!(ours.versions, versions(json), "{path} versions");
        assert_eq!(
            ours.nullable,
            range(&json["nullableVersions"]),
            "{path} nullable"
        );
        assert_eq!(ours.tag.map(u64::from), json["tag"].as_u64(), "{path} tag");
        if ours.tag.is_some() {
            assert_eq!(
                Some(ours.versions),
                range(&json["taggedVersions"]),
                "{path} tagged versions"
            );
        }
        assert_eq!(
            ours.ignorable,
            json["ignorable"].as_bool().unwrap_or(false),
            "{path} ignorable"
        );
        assert_eq!(our_default(ours), their_default(json), "{path} default");
        self.ty(path, &ours.ty, json["type"].as_str().expect("a type"), json);
    }

    fn ty(&self, path: &str, ours: &TypeSchema, theirs: &str, json: &Json) {
        match (ours, theirs.strip_prefix("[]")) {
            (TypeSchema::Array(inner), Some(theirs)) => self.ty(path, inner, theirs, json),
            (TypeSchema::Primitive(name), None) => assert_eq!(*name, theirs, "{path} type"),
            (TypeSchema::Struct(ours), None) => {
                assert_eq!(ours.name, theirs, "{path} type");
                let fields = match json.get("fields") {
                    Some(fields) => fields,
                    None => self.common_struct(theirs),
                };
                self.fields(&format!("{path}:{theirs}"), ours, fields);
            }
            _ => panic!("{path} is {ours:?}, not {theirs}"),
        }
    }

    fn common_struct(&self, name: &str) -> &Json {
        let structs = self.json["commonStructs"]
            .as_array()
            .expect("common structs");
        &structs
            .iter()
            .find(|candidate| candidate["name"] == name)
            .expect("a common struct")["fields"]
    }
}

/// A tagged field may leave its versions out.
fn versions(json: &Json) -> VersionRange {
    range(&json["versions"])
        .or_else(|| range(&json["taggedVersions"]))
        .expect("versions")
}

/// The default as a number, `null`, or empty for that of the type.
fn our_default(field: &FieldSchema) -> String {
    match field.default {
        None => String::new(),
        Some("null") => "null".to_owned(),
        Some(text) => values::integer(text).to_string(),
    }
}

fn their_default(json: &Json) -> String {
    // Records are null unless said otherwise, where they may be.
    if json["type"] == "records"
        && json.get("nullableVersions").is_some()
        && json.get("default").is_none()
    {
        return "null".to_owned();
    }
    let text = match &json["default"] {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    };
    match text.as_str() {
        "" | "0" | "false" => String::new(),
        "null" => text,
        _ => values::integer(&text).to_string(),
    }
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[test]
fn every_key_is_kafkas() {
    let Some(jar) = jar() else { return };
    for &key in ApiKey::ALL {
        let json = load(&jar, &format!("{key}Request"));
        assert_eq!(json["apiKey"], key.value(), "{key}");
        assert_eq!(
            range(&json["flexibleVersions"]).map(|range| range.first),
            key.first_flexible(),
            "{key}"
        );
    }
}

#[test]
fn what_is_served_is_what_kafka_serves() {
    let Some(jar) = jar() else { return };
    for spec in SERVED {
        let json = load(&jar, &format!("{}Request", spec.key));
        let valid = range(&json["validVersions"]).expect("a served API has versions");
        let unstable = i16::from(json["latestVersionUnstable"] == true);
        assert_eq!(
            (spec.served_min, spec.max),
            (valid.first, valid.last - unstable),
            "{}",
            spec.key
        );
    }
}
