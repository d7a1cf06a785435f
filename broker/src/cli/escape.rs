//! Bytes that are hard to type, as templates and separators write them.

use std::str::Chars;

/// Text with escapes, read.
///
/// # Errors
/// A backslash with something else behind it, in words.
pub(crate) fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => bytes.push(escape(&mut chars)?),
            other => bytes.extend(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Ok(bytes)
}

/// The byte that is meant by what stands behind a backslash.
///
/// # Errors
/// None is, in words.
pub(crate) fn escape(chars: &mut Chars<'_>) -> Result<u8, String> {
    match chars.next() {
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some('x') => {
            let digits: String = chars.by_ref().take(2).collect();
            match (digits.len(), u8::from_str_radix(&digits, 16)) {
                (2, Ok(byte)) => Ok(byte),
                _ => Err("\\x needs two hexadecimal digits".to_owned()),
            }
        }
        _ => Err("a \\ is followed by n, r, t, 0, \\ or xHH".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backslash_stands_for() {
        assert_eq!(bytes("a\\tb\\x1f\\\\ä").unwrap(), "a\tb\x1f\\ä".as_bytes());
        for wrong in ["\\", "\\q", "\\x1"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
