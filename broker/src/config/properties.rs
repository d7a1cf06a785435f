//! The `.properties` format, read exactly as `java.util.Properties` reads it.
//!
//! - Bytes are ISO-8859-1; anything else is written `\uXXXX` (UTF-16 units, pairs for the rest).
//! - Natural lines end with LF, CR or CR LF. Blank lines and lines that begin with `#` or `!` after
//!   blanks (space, tab, form feed) are skipped; neither can be continued.
//! - A line that ends with an odd number of backslashes goes on in the next one, whose leading
//!   blanks are dropped.
//! - The key ends at the first unescaped `=`, `:` or blank. Blanks around the separator go; blanks
//!   at the end of the value stay.
//! - `\t`, `\n`, `\r`, `\f` are those characters, a backslash before any other stands for nothing.
//!
//! One difference: half of a surrogate pair is an error, for Rust's text cannot hold it.

use std::{iter::Peekable, str::Chars};

use thiserror::Error;
use zeroize::Zeroizing;

/// One key with its value, both unescaped.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The key; may be empty, as in Java.
    pub(crate) key: String,
    /// The value; may be empty. It may be a secret, therefore it is wiped.
    pub(crate) value: Zeroizing<String>,
    /// Natural line on which the entry began, counted from 1.
    pub(crate) line: usize,
}

/// Why a text is no properties file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum SyntaxError {
    /// `\u` without four hexadecimal digits behind it.
    #[error("malformed \\uxxxx escape")]
    Unicode {
        /// Natural line on which the entry began.
        line: usize,
    },
    /// `\uD800` to `\uDFFF` without its partner.
    #[error("\\u escape is half of a surrogate pair")]
    Surrogate {
        /// Natural line on which the entry began.
        line: usize,
    },
}

/// Reads all entries, in order; a key may come twice.
///
/// # Errors
/// The first malformed `\u` escape.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Entry>, SyntaxError> {
    let mut lines = LogicalLines {
        rest: bytes,
        line: 1,
        was_pair: false,
    };
    let mut entries = Vec::new();
    while let Some((line, text)) = lines.next_line() {
        let (key, value) = split(&text);
        entries.push(Entry {
            key: unescape(key, line)?.to_string(),
            value: unescape(value, line)?,
            line,
        });
    }
    Ok(entries)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

/// Joins natural lines and leaves comments out; escapes stay as they are.
struct LogicalLines<'a> {
    rest: &'a [u8],
    line: usize,
    /// Whether the line end taken last was CR LF.
    was_pair: bool,
}

impl LogicalLines<'_> {
    fn next_char(&mut self) -> Option<char> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        // CR LF is one line end; the LF is taken with its CR.
        self.was_pair = false;
        if *first == b'\r' {
            if let Some((b'\n', rest)) = self.rest.split_first() {
                self.rest = rest;
                self.was_pair = true;
            }
            return Some('\n');
        }
        Some(char::from(*first))
    }

    fn skip_natural_line(&mut self) {
        while let Some(c) = self.next_char() {
            if c == '\n' {
                self.line += 1;
                return;
            }
        }
    }

    /// The next entry's text and the number of its first natural line.
    fn next_line(&mut self) -> Option<(usize, Zeroizing<String>)> {
        let mut text = Zeroizing::new(String::new());
        let mut began = self.line;
        let mut skip_blanks = true;
        let mut after_backslash = false;
        let mut continued = false;
        while let Some(c) = self.next_char() {
            if skip_blanks {
                if is_blank(c) {
                    continue;
                }
                skip_blanks = false;
            }
            if text.is_empty() && matches!(c, '#' | '!') {
                self.skip_natural_line();
                began = self.line;
                skip_blanks = true;
                continue;
            }
            if c != '\n' {
                text.push(c);
                after_backslash = c == '\\' && !after_backslash;
                continue;
            }
            self.line += 1;
            if after_backslash {
                text.pop();
                if self.rest.is_empty() && !self.was_pair {
                    // Nothing follows to join with: Java ends the line here, be it empty.
                    return Some((began, text));
                }
                after_backslash = false;
                skip_blanks = true;
                continued = true;
            } else if text.is_empty() && !continued {
                began = self.line;
                skip_blanks = true;
            } else if text.is_empty() {
                // Only a lone backslash stood before this blank line: nothing was begun.
                continued = false;
                began = self.line;
                skip_blanks = true;
            } else {
                return Some((began, text));
            }
        }
        let is_entry = !text.is_empty();
        if after_backslash {
            text.pop();
        }
        is_entry.then_some((began, text))
    }
}

/// Cuts a logical line into key and value, both still escaped.
fn split(text: &str) -> (&str, &str) {
    let mut after_backslash = false;
    let key_end = text
        .find(|c: char| {
            let ends = !after_backslash && (matches!(c, '=' | ':') || is_blank(c));
            after_backslash = c == '\\' && !after_backslash;
            ends
        })
        .unwrap_or(text.len());
    let (key, rest) = text.split_at(key_end);
    let rest = rest.trim_start_matches(is_blank);
    let rest = match rest.strip_prefix(['=', ':']) {
        Some(value) => value.trim_start_matches(is_blank),
        None => rest,
    };
    (key, rest)
}

fn unescape(text: &str, line: usize) -> Result<Zeroizing<String>, SyntaxError> {
    let mut out = Zeroizing::new(String::with_capacity(text.len()));
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => out.push(unicode(&mut chars, line)?),
            Some(other) => out.push(other),
            None => {}
        }
    }
    Ok(out)
}

/// The character of `\uXXXX`, or of two of them; the first `\u` has been taken already.
fn unicode(chars: &mut Peekable<Chars<'_>>, line: usize) -> Result<char, SyntaxError> {
    let first = unit(chars, line)?;
    let mut units = vec![first];
    if (0xd800..0xdc00).contains(&first)
        && chars.next_if_eq(&'\\').is_some()
        && chars.next_if_eq(&'u').is_some()
    {
        units.push(unit(chars, line)?);
    }
    let mut decoded = char::decode_utf16(units);
    match (decoded.next(), decoded.next()) {
        (Some(Ok(c)), None) => Ok(c),
        _ => Err(SyntaxError::Surrogate { line }),
    }
}

fn unit(chars: &mut Peekable<Chars<'_>>, line: usize) -> Result<u16, SyntaxError> {
    (0..4).try_fold(0u16, |unit, _| {
        let digit = chars.next().and_then(|c| c.to_digit(16));
        match digit.and_then(|digit| u16::try_from(digit).ok()) {
            Some(digit) => Ok(unit << 4 | digit),
            None => Err(SyntaxError::Unicode { line }),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Vec<(String, String)> {
        parse(text)
            .unwrap()
            .into_iter()
            .map(|entry| (entry.key, entry.value.to_string()))
            .collect()
    }

    fn one(text: &[u8]) -> (String, String) {
        let mut all = read(text);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn separators_and_blanks_follow_java() {
        for (text, key, value) in [
            ("a=b", "a", "b"),
            ("a:b", "a", "b"),
            ("a b", "a", "b"),
            ("a\tb", "a", "b"),
            ("a\u{c}b", "a", "b"),
            ("  a = b ", "a", "b "),
            ("a = = b", "a", "= b"),
            ("a == b", "a", "= b"),
            ("a : = b", "a", "= b"),
            ("a", "a", ""),
            ("a=", "a", ""),
            ("=b", "", "b"),
            (r"a\ b\=c\:d=e", "a b=c:d", "e"),
            (r"a\\=b", r"a\", "b"),
            ("a=b#c!d", "a", "b#c!d"),
            (r"a=\tb\nc\rd\fe\q\\", "a", "\tb\nc\rd\u{c}eq\\"),
            (r"a=\  b", "a", "  b"),
            (r"a=\u00e9\u65E5", "a", "é日"),
            (r"a=\ud83d\ude00!", "a", "😀!"),
            (r"\u0061=b", "a", "b"),
            (r"a=C:\\dir\\file", "a", r"C:\dir\file"),
            (r"a=C:\dir", "a", "C:dir"),
        ] {
            assert_eq!(one(text.as_bytes()), (key.into(), value.into()), "{text:?}");
        }
    }

    #[test]
    fn lines_are_joined_as_java_joins_them() {
        for (text, expected) in [
            ("a=b\\\n   c", vec![("a", "bc")]),
            ("a=b\\\r\n\tc\r\nd=e\r", vec![("a", "bc"), ("d", "e")]),
            ("a=b\\\\\nc=d", vec![("a", "b\\"), ("c", "d")]),
            ("a=b\\\n\nc=d", vec![("a", "b"), ("c", "d")]),
            ("a=b\\\n#c", vec![("a", "b#c")]),
            ("# x \\\na=b", vec![("a", "b")]),
            ("  ! x\n\n \t\na=b", vec![("a", "b")]),
            ("a=b\\", vec![("a", "b")]),
            ("a\\\n=b", vec![("a", "b")]),
            ("\\\n# x\na=b", vec![("a", "b")]),
            ("\\\n\na=b", vec![("a", "b")]),
            ("a=1\na=2", vec![("a", "1"), ("a", "2")]),
            ("", vec![]),
            ("#", vec![]),
            ("\\", vec![("", "")]),
            ("\\\n", vec![("", "")]),
            ("\\\r\n", vec![]),
        ] {
            let expected: Vec<(String, String)> = expected
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            assert_eq!(read(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn bytes_are_latin_1() {
        assert_eq!(one(b"a=\xe9"), ("a".into(), "é".into()));
        // UTF-8 is not recognised, as it is not in Java's reader of byte streams.
        assert_eq!(one("a=é".as_bytes()), ("a".into(), "Ã©".into()));
    }

    #[test]
    fn a_bad_escape_names_its_line() {
        for (text, error) in [
            (&b"a=b\nc=\\u12"[..], SyntaxError::Unicode { line: 2 }),
            (b"a=\\u12g4", SyntaxError::Unicode { line: 1 }),
            (b"\n\na=\\ud800x", SyntaxError::Surrogate { line: 3 }),
            (b"a=\\ud800\\u0041", SyntaxError::Surrogate { line: 1 }),
            (b"a=\\udc00", SyntaxError::Surrogate { line: 1 }),
            (b"#\na=b\\\n\\uzzzz", SyntaxError::Unicode { line: 2 }),
        ] {
            assert_eq!(parse(text).err(), Some(error), "{text:?}");
        }
    }

    #[test]
    fn lines_are_counted_from_the_first_of_an_entry() {
        let lines: Vec<usize> = parse(b"# c\na=1\r\n\r\nb=\\\n 2\nc=3")
            .unwrap()
            .iter()
            .map(|entry| entry.line)
            .collect();
        assert_eq!(lines, [2, 4, 6]);
    }
}
