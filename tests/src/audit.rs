//! The audit log as an auditor reads it: from the file alone, with the hash chain computed anew.

use std::fs;
use std::path::Path;

use openssl::sha::Sha256;
use serde_json::Value;

/// What is hashed in front of every line.
const DOMAIN: &[u8] = b"broker-audit-v1\0";

/// The lines of a log, each a JSON object, after all of the chain was checked.
///
/// # Panics
/// When a line is no JSON, its hash is not that of its bytes, it does not name the line before,
/// or a number is missing.
pub fn verified(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("an audit log");
    let mut before = "0".repeat(64);
    let mut place: Option<(Value, u64)> = None;
    let mut lines = Vec::new();
    for line in text.lines() {
        let (body, rest) = line
            .rsplit_once(",\"hash\":\"")
            .unwrap_or_else(|| panic!("no hash at the end: {line}"));
        let claimed = rest
            .strip_suffix("\"}")
            .expect("the hash is the last member");
        let mut hasher = Sha256::new();
        hasher.update(DOMAIN);
        hasher.update(body.as_bytes());
        let hash: String = hasher
            .finish()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hash, claimed, "the hash of: {line}");
        let json: Value = serde_json::from_str(line).expect("one JSON object a line");
        assert_eq!(json["prev"], *before, "the line before: {line}");
        let seq = json["seq"].as_u64().expect("a number");
        let expected = match &place {
            Some((stream, last)) if *stream == json["stream"] => last + 1,
            _ => 1,
        };
        assert_eq!(seq, expected, "no holes: {line}");
        place = Some((json["stream"].clone(), seq));
        before = hash;
        lines.push(json);
    }
    lines
}

/// Positions of the lines with this action and outcome whose changed thing is `target`.
pub fn changes(lines: &[Value], action: &str, outcome: &str, target: &str) -> Vec<usize> {
    let all = lines.iter().enumerate();
    all.filter(|(_, line)| {
        line["action"] == action && line["outcome"] == outcome && line["change"]["target"] == target
    })
    .map(|(at, _)| at)
    .collect()
}
