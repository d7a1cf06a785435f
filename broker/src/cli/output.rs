//! What commands print: text for people, or one JSON object for programs.
//!
//! Everything that brokers send passes here, and nothing in it acts on a terminal.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::client::ClientError;
use crate::foreign;

/// Moves a terminal home and clears what is below.
const HOME: &str = "\x1b[H\x1b[2J";

/// Standard output in one of two forms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// One JSON object instead of text.
    pub(crate) json: bool,
}

impl Output {
    /// Prints the outcome in the form that was asked for.
    ///
    /// # Errors
    /// `Output`: whoever asked for it does not get it.
    pub(crate) fn show(self, object: &Value, text: &str) -> Result<(), ClientError> {
        if self.json {
            print(&foreign::json(object))
        } else if text.is_empty() {
            Ok(())
        } else {
            print(&foreign::lines(text.trim_end_matches('\n')))
        }
    }

    /// Paints text on a terminal in the place of what is there, in one write.
    ///
    /// # Errors
    /// `Output`.
    pub(crate) fn paint(text: &str) -> Result<(), ClientError> {
        print(&format!(
            "{HOME}{}",
            foreign::lines(text.trim_end_matches('\n'))
        ))
    }

    /// Prints why the command failed: JSON to standard output, text to standard error.
    pub(crate) fn fail(self, error: &ClientError) {
        if self.json {
            // Nobody is left to be told when this fails.
            let _ = print(&foreign::json(&json!({ "error": described(error) })));
        } else {
            warn(&error.to_string());
        }
    }
}

/// An error as JSON has it, with the code that a broker gave.
pub(crate) fn described(error: &ClientError) -> Value {
    let mut object = json!({ "message": error.to_string() });
    if let ClientError::Refused { code, .. } = error {
        object["code"] = json!(code.value());
        object["name"] = json!(code.name());
    }
    object
}

/// Says something on standard error.
pub(crate) fn warn(text: &str) {
    // Nobody is left to be told when this fails.
    let _ = writeln!(io::stderr(), "palisade: {}", foreign::lines(text));
}

/// Prints a line of this program's own, or one that was made safe to print.
///
/// # Errors
/// `Output`.
pub(crate) fn print(line: &str) -> Result<(), ClientError> {
    let mut out = io::stdout().lock();
    let printed = writeln!(out, "{line}").and_then(|()| out.flush());
    printed.map_err(ClientError::Output)
}
