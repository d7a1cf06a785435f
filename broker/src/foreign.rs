//! Text from outside on its way to a person: nothing in it acts on a terminal or on the line that
//! it stands in, and it is no longer than it is worth.
//!
//! Escaped are controls (C0, DEL, C1), what ends lines (U+2028, U+2029) and what turns the reading
//! direction, each as `\u{…}`; a backslash stays, so that text is escaped twice as it is once.

use std::borrow::Cow;

use palisade_protocol::Str;
use serde_json::Value;

/// Most bytes of a name or value in a sentence.
const NAME_MAX: usize = 300;
/// Most bytes of a sentence. An answer in which one is longer than the longest string of the
/// protocol (32,767 bytes) cannot be sent.
const TEXT_MAX: usize = 2_000;

fn acts(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        )
        || matches!(c, '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let acts = |c: char| acts(c) && !stays(c);
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match acts(c) {
            true => out.extend(c.escape_unicode()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A text, escaped; `…` stands for what makes it longer than `longest` bytes.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let before = out.len();
        match acts(c) {
            true => out.extend(c.escape_unicode()),
            false => out.push(c),
        }
        if out.len() > longest {
            out.truncate(before);
            out.push('…');
            break;
        }
    }
    out
}

/// A name or value that somebody sent, for a sentence about it.
pub(crate) fn name(text: &str) -> String {
    cut(text, NAME_MAX)
}

/// A sentence for an answer, as long as an answer takes it.
pub(crate) fn sentence(text: &str) -> Str {
    Str::from(cut(text, TEXT_MAX))
}

/// A sentence as one line. What is too long lacks its middle: at the end stands what to do.
pub(crate) fn line(text: &str) -> String {
    if text.len() <= TEXT_MAX {
        return whole(text).into_owned();
    }
    let mut from = text.len() - TEXT_MAX / 4;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let mut out = cut(text, TEXT_MAX / 2);
    out.push_str(&whole(text.get(from..).unwrap_or_default()));
    out
}

/// All of a text, escaped.
pub(crate) fn whole(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// All of a line in columns: tabs stay.
pub(crate) fn columns(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\t')
}

/// All of an output: tabs and the ends of its lines stay.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\t' | '\n'))
}

/// Bytes that may be text, escaped as by [`lines`]; what is none becomes `\xHH`.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        out.extend_from_slice(lines(chunk.valid()).as_bytes());
        for byte in chunk.invalid() {
            out.extend(format!("\\x{byte:02x}").into_bytes());
        }
    }
}

/// An object in JSON, in which what acts has escapes of JSON's own: who reads it gets the same.
pub(crate) fn json(object: &Value) -> String {
    let text = object.to_string();
    // Outside of strings JSON has nothing but ASCII, and what acts in there is escaped already.
    if !text.contains(acts) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match acts(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_acts_is_escaped() {
        let text = "a\u{1b}[1m\u{9b}\u{202e}é\u{2069}\\\n\tb";
        assert_eq!(
            whole(text),
            "a\\u{1b}[1m\\u{9b}\\u{202e}é\\u{2069}\\\\u{a}\\u{9}b"
        );
        assert_eq!(whole(&whole(text)), whole(text));
        assert_eq!(columns("a\tb\nc"), "a\tb\\u{a}c");
        assert_eq!(lines("a\tb\nc\r"), "a\tb\nc\\u{d}");
        // Emoji are put together with joiners, and accents follow their letters.
        let plain = "👩\u{200d}🚀 e\u{301} שלום";
        assert_eq!(whole(plain), plain);
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such() {
        let mut out = Vec::new();
        put_bytes(&mut out, b"a\n\xff\xc3\x9b1m\xc3\xa9\x9b");
        assert_eq!(String::from_utf8(out).unwrap(), "a\n\\xff\u{db}1mé\\x9b");
    }

    #[test]
    fn json_says_the_same_without_what_acts() {
        let object = json!({ "k\u{9b}": "a\u{7f}\u{202e}\u{2028}\u{1b}\"é" });
        let text = json(&object);
        assert_eq!(
            text,
            "{\"k\\u009b\":\"a\\u007f\\u202e\\u2028\\u001b\\\"é\"}"
        );
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), object);
    }

    #[test]
    fn a_cut_spares_characters_and_is_marked() {
        assert_eq!(cut("aää", 5), "aää");
        assert_eq!(cut("aää", 4), "aä…");
        assert_eq!(cut("aää", 0), "…");
        assert_eq!(name(&"x".repeat(300)), "x".repeat(300));
        assert_eq!(name(&"x".repeat(301)).len(), 303);
        let long = format!("key={}: expected a number", "ä".repeat(40_000));
        let line = line(&long);
        assert!(line.starts_with("key=ä") && line.ends_with("ä: expected a number"));
        assert!(line.contains("ä…ä") && line.len() < TEXT_MAX, "{line}");
        assert!(sentence(&long).len() < 32_767);
        // What is escaped counts as it is shown.
        assert_eq!(cut("a\u{9b}b", 7), "a\\u{9b}…");
        assert!(sentence(&"\u{9b}".repeat(32_767)).len() < 32_767);
    }
}
