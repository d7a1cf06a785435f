//! Text from outside on its way to a person: nothing in it acts on a terminal or on the line that
//! it stands in, and it is no longer than it is worth.
//!
//! Escaped are controls (C0, DEL, C1), what ends lines (U+2028, U+2029) and what turns the reading
//! direction, each as `\u{…}`; a backslash stays, so that text is escaped twice as it is once.

use palisade_protocol::Str;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_escaped() {
        let text = "a\u{1b}[1m\u{9b}\u{202e}é\u{2069}\\\n\tb";
        assert_eq!(
            cut(text, 1_000),
            "a\\u{1b}[1m\\u{9b}\\u{202e}é\\u{2069}\\\\u{a}\\u{9}b"
        );
        assert_eq!(cut(&cut(text, 1_000), 1_000), cut(text, 1_000));
        // Emoji are put together with joiners, and accents follow their letters.
        let plain = "👩\u{200d}🚀 e\u{301} שלום";
        assert_eq!(cut(plain, 1_000), plain);
    }

    #[test]
    fn a_cut_spares_characters_and_is_marked() {
        assert_eq!(cut("aää", 5), "aää");
        assert_eq!(cut("aää", 4), "aä…");
        assert_eq!(cut("aää", 0), "…");
        assert_eq!(name(&"x".repeat(300)), "x".repeat(300));
        assert_eq!(name(&"x".repeat(301)).len(), 303);
        let long = format!("key={}: expected a number", "ä".repeat(40_000));
        assert!(sentence(&long).len() < 32_767);
        // What is escaped counts as it is shown.
        assert_eq!(cut("a\u{9b}b", 7), "a\\u{9b}…");
        assert!(sentence(&"\u{9b}".repeat(32_767)).len() < 32_767);
    }
}
