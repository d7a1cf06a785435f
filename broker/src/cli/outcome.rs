//! Error codes in answers, and commands of which each part succeeds or fails on its own.

use palisade_protocol::ErrorCode;
use serde_json::{Value, json};

use super::{client::ClientError, output::Output};
use crate::foreign;

/// Appends a line, and no more than one whatever it speaks of.
pub(crate) fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.push_str(&foreign::columns(&arguments.to_string()));
    text.push('\n');
}

/// A refusal as an object of the JSON output.
pub(crate) fn failure(error: &ClientError, code: ErrorCode) -> Value {
    json!({ "message": error.to_string(), "name": code.name(), "code": code.value() })
}

/// The end of a command of several parts: says what was refused, and gives the exit status.
///
/// JSON has said it already, item by item.
pub(crate) fn some_refused(output: Output, refused: &[ClientError]) -> Result<(), ClientError> {
    if !output.json {
        refused.iter().for_each(|error| output.fail(error));
    }
    match refused.len() {
        0 => Ok(()),
        count => Err(ClientError::SomeRefused(count)),
    }
}

/// What was named, each once and in its order: some requests refuse what they name twice.
pub(crate) fn once<T: PartialEq + Clone>(named: &[T]) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    for one in named {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
    all
}

/// The code of the first result: of a request about one thing, the only one.
pub(crate) fn first_code(mut codes: impl Iterator<Item = ErrorCode>) -> ErrorCode {
    codes.next().unwrap_or(ErrorCode::NONE)
}

/// An answer without the one result it should have.
pub(crate) fn no_answer(what: &str) -> ClientError {
    ClientError::refused(what, ErrorCode::UNKNOWN_SERVER_ERROR, Some("empty answer"))
}

/// Turns an error code into an error.
///
/// # Errors
/// `Refused`, for every code but NONE.
pub(crate) fn accept(
    what: &str,
    code: ErrorCode,
    message: Option<&str>,
) -> Result<(), ClientError> {
    if code == ErrorCode::NONE {
        return Ok(());
    }
    Err(ClientError::refused(what, code, message))
}
