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
    pub(crate) fn show(self, object: &Value, text: &str) {
        if self.json {
            print(&object.to_string());
        } else if !text.is_empty() {
            print(text.trim_end_matches('\n'));
        }
    }

    /// Prints why the command failed: JSON to standard output, text to standard error.
    pub(crate) fn fail(self, error: &ClientError) {
        if !self.json {
            // Nobody is left to be told when this fails.
            let _ = writeln!(io::stderr(), "palisade: {error}");
            return;
        }
        let mut object = json!({ "message": error.to_string() });
        if let ClientError::Refused { code, .. } = error {
            object["code"] = json!(code.value());
            object["name"] = json!(code.name());
        }
        print(&json!({ "error": object }).to_string());
    }
}

/// Prints a line; a reader that has gone away is no error of ours.
pub(crate) fn print(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
