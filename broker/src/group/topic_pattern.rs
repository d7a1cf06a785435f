//! The regular expressions that consumers subscribe with (KIP-848): RE2's syntax, matched in time
//! linear in the name.
//!
//! The `regex` crate has RE2's engine, but not quite its syntax, and its classes of Unicode cost
//! more than any topic is worth: names have ASCII's letters alone. [`translate`] writes what RE2
//! means of those in the crate's words, for bytes. Look-around and references back exist in
//! neither, so no expression can be catastrophic; a small one that stands for a huge program is
//! refused by the size of its program.

use regex::bytes::{Regex, RegexBuilder};
use translate::translate;

mod property;
mod translate;

/// Most bytes of an expression.
const MAX_PATTERN: usize = 16 * 1024;
/// Most bytes of a compiled one.
const MAX_PROGRAM: usize = 1 << 20;
/// Deepest nesting of groups.
const MAX_NESTING: u32 = 100;

/// An expression that matches whole topic names.
#[derive(Clone, Debug)]
pub(crate) struct TopicPattern(Regex);

impl TopicPattern {
    /// Compiles an expression, which may take some milliseconds.
    ///
    /// # Errors
    /// Why not, for the client.
    pub(crate) fn parse(pattern: &str) -> Result<Self, String> {
        let refused = |reason: String| {
            let shown: String = pattern.chars().take(100).collect();
            format!("the regular expression {shown:?} is not valid: {reason}")
        };
        if pattern.len() > MAX_PATTERN {
            return Err(refused(format!("it is longer than {MAX_PATTERN} bytes")));
        }
        let translated = translate(pattern).map_err(refused)?;
        let compiled = RegexBuilder::new(&format!(r"\A(?:{translated})\z"))
            .unicode(false)
            .size_limit(MAX_PROGRAM)
            .dfa_size_limit(MAX_PROGRAM)
            .nest_limit(MAX_NESTING)
            .build();
        compiled.map(Self).map_err(|error| refused(reason(&error)))
    }

    /// Whether it stands for this name.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        self.0.is_match(topic.as_bytes())
    }
}

fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "it compiles into too large a program".to_owned(),
        // The crate draws the expression with an arrow below; its last line is the reason.
        other => other
            .to_string()
            .lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
