//! The hash that ties each line to all before it (spec/security.md §5.2, tamper evidence).
//!
//! `hash = SHA-256("broker-audit-v1" ‖ 0x00 ‖ the bytes of the line before ,"hash":)`. The hash
//! of the previous line is among those bytes, so verification works on raw bytes.

use openssl::sha::Sha256;
use serde::Deserialize;
use thiserror::Error;

use super::UnixMicros;

const DOMAIN: &[u8] = b"broker-audit-v1\0";
const MEMBER: &str = ",\"hash\":\"";

/// The `prev` of the first line of all.
pub(super) const NO_PREVIOUS: &str =
    "0000000000000000000000000000000000000000000000000000000000000000";

/// Why a line does not belong into a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ChainError {
    /// It is no line of an audit log.
    #[error("not an audit line")]
    NotALine,
    /// Its content does not have the hash it claims.
    #[error("the hash does not fit the content")]
    Hash,
}

/// What a verified line says about its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineInfo {
    /// `<cluster id>/<node id>/<boot counter>`.
    pub stream: String,
    /// Its number in the stream.
    pub seq: u64,
    /// When it was written.
    pub at: UnixMicros,
    /// The action.
    pub action: String,
    /// The hash of the line before, in hex.
    pub prev: String,
    /// Its own hash, in hex.
    pub hash: String,
}

#[derive(Deserialize)]
struct Members {
    stream: String,
    seq: u64,
    ts: String,
    action: String,
    prev: String,
    hash: String,
}

fn digest(body: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(DOMAIN);
    hasher.update(body);
    let digest = hasher.finish();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Ends a line with its hash and a line feed; returns the hash.
pub(super) fn seal(line: &mut String) -> String {
    let hash = digest(line.as_bytes());
    line.push_str(MEMBER);
    line.push_str(&hash);
    line.push_str("\"}\n");
    hash
}

/// Reads a line, without its line feed, whether or not its hash fits.
pub(super) fn read_line(line: &[u8]) -> Result<LineInfo, ChainError> {
    let members: Members = serde_json::from_slice(line).map_err(|_| ChainError::NotALine)?;
    Ok(LineInfo {
        at: UnixMicros::parse(&members.ts).ok_or(ChainError::NotALine)?,
        stream: members.stream,
        seq: members.seq,
        action: members.action,
        prev: members.prev,
        hash: members.hash,
    })
}

/// Checks a line, without its line feed, against its own hash.
///
/// # Errors
/// The line was changed, or never was one.
pub fn verify_line(line: &[u8]) -> Result<LineInfo, ChainError> {
    let info = read_line(line)?;
    let text = std::str::from_utf8(line).map_err(|_| ChainError::NotALine)?;
    // The last one: a text inside the line cannot hold an unescaped quote.
    let (body, tail) = text.rsplit_once(MEMBER).ok_or(ChainError::NotALine)?;
    if tail != format!("{}\"}}", info.hash) {
        return Err(ChainError::NotALine);
    }
    if digest(body.as_bytes()) == info.hash {
        Ok(info)
    } else {
        Err(ChainError::Hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> String {
        let mut line = format!(
            r#"{{"v":1,"stream":"c/1/1","seq":1,"ts":"2026-08-21T10:15:30.123456Z","action":"start","detail":",\"hash\":\"","prev":"{NO_PREVIOUS}""#
        );
        seal(&mut line);
        line
    }

    #[test]
    fn a_sealed_line_verifies() {
        let line = line();
        let info = verify_line(line.trim_end().as_bytes()).unwrap();
        assert_eq!((info.seq, info.action.as_str()), (1, "start"));
        assert_eq!(info.prev, NO_PREVIOUS);
        // Anybody can check it with other tools.
        let body = line.rsplit_once(",\"hash\":").unwrap().0;
        let whole = [b"broker-audit-v1\0", body.as_bytes()].concat();
        let expected: String = openssl::sha::sha256(&whole)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(info.hash, expected);
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in ".{0,80}") {
            let _ = verify_line(text.as_bytes());
            let _ = UnixMicros::parse(&text);
        }
    }

    #[test]
    fn every_changed_byte_is_found() {
        let line = line();
        let bytes = line.trim_end().as_bytes();
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert!(verify_line(&changed).is_err(), "byte {at}");
        }
        for end in 0..bytes.len() {
            assert!(verify_line(&bytes[..end]).is_err());
        }
    }
}
