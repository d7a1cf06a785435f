//! What commands print: text for people, or one JSON object for programs.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::client::ClientError;

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
            print(&object.to_string())
        } else if text.is_empty() {
            Ok(())
        } else {
            print(text.trim_end_matches('\n'))
        }
    }

    /// Prints why the command failed: JSON to standard output, text to standard error.
    pub(crate) fn fail(self, error: &ClientError) {
        if self.json {
            // Nobody is left to be told when this fails.
            let _ = print(&json!({ "error": described(error) }).to_string());
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
    let _ = writeln!(io::stderr(), "palisade: {text}");
}

/// Prints a line.
///
/// # Errors
/// `Output`.
pub(crate) fn print(line: &str) -> Result<(), ClientError> {
    let mut out = io::stdout().lock();
    let printed = writeln!(out, "{line}").and_then(|()| out.flush());
    printed.map_err(ClientError::Output)
}
