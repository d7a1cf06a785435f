//! Passwords come from a file, a pipe or a prompt, never from the command line.

use std::{
    fs,
    io::{self, BufRead, IsTerminal, Read, Write},
    path::Path,
    process::{Command, Stdio},
};

use palisade_auth::Secret;
use tokio::{signal, task};
use zeroize::Zeroizing;

use super::client::{ClientError, printable};

/// Longest password, in bytes; PLAIN's fields have the same limit.
const LONGEST: usize = 255;

/// Takes a password from the file, or else from standard input: prompting where it is a terminal.
///
/// One line end behind the password is no part of it.
///
/// # Errors
/// `File`, or `Usage` for an empty, overlong or mistyped password.
pub(crate) async fn take(file: Option<&Path>, user: &str) -> Result<Secret, ClientError> {
    if let Some(path) = file {
        let bytes = fs::read(path).map_err(|source| ClientError::File {
            path: path.to_owned(),
            source,
        })?;
        return check(Zeroizing::new(bytes));
    }
    if io::stdin().is_terminal() {
        return prompt(user).await;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 3));
    let limit = u64::try_from(LONGEST + 3).unwrap_or(u64::MAX);
    io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| usage(format!("standard input: {error}")))?;
    if bytes.is_empty() {
        return Err(usage(
            "standard input is empty, and no terminal: write the password to it, or give \
             --password-file FILE",
        ));
    }
    check(bytes)
}

fn usage(text: impl Into<String>) -> ClientError {
    ClientError::Usage(text.into())
}

fn check(mut bytes: Zeroizing<Vec<u8>>) -> Result<Secret, ClientError> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| usage("the password is not UTF-8"))?;
    if text.is_empty() {
        return Err(usage("the password is empty"));
    }
    if text.len() > LONGEST {
        return Err(usage(format!("the password has more than {LONGEST} bytes")));
    }
    if text.contains(char::is_control) {
        return Err(usage(
            "the password has a control character or a second line",
        ));
    }
    Ok(Secret::new(bytes.to_vec()))
}

async fn prompt(user: &str) -> Result<Secret, ClientError> {
    let quiet = Quiet::start().ok_or_else(|| {
        usage("this terminal would show the password; use --password-file or a pipe")
    })?;
    let text = format!("password of {}: ", printable(user));
    let asked = task::spawn_blocking(move || -> Result<(Secret, Secret), ClientError> {
        Ok((ask(&text)?, ask("once more: ")?))
    });
    // An interrupt at the prompt must not leave the terminal without echo.
    let (first, second) = tokio::select! {
        asked = asked => asked.map_err(|error| usage(format!("terminal: {error}")))??,
        _ = signal::ctrl_c() => {
            drop(quiet);
            std::process::exit(130);
        }
    };
    if first != second {
        return Err(usage("the two passwords differ"));
    }
    Ok(first)
}

fn ask(text: &str) -> Result<Secret, ClientError> {
    let broken = |error: io::Error| usage(format!("terminal: {error}"));
    let mut terminal = io::stderr();
    write!(terminal, "{text}").map_err(broken)?;
    terminal.flush().map_err(broken)?;
    let mut line = Zeroizing::new(String::with_capacity(LONGEST + 3));
    io::stdin().lock().read_line(&mut line).map_err(broken)?;
    writeln!(terminal).map_err(broken)?;
    check(Zeroizing::new(line.as_bytes().to_vec()))
}

/// The terminal without echo, until dropped.
struct Quiet;

impl Quiet {
    fn start() -> Option<Self> {
        stty("-echo").then_some(Self)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        stty("echo");
    }
}

/// Asks the system's own tool: the call behind it needs code that this crate does without.
fn stty(mode: &str) -> bool {
    Command::new("stty")
        .arg(mode)
        .stdin(Stdio::inherit())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_file(path: &Path) -> Result<Secret, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(take(Some(path), "u"))
    }

    #[test]
    fn a_file_gives_the_password_without_its_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        for (text, password) in [
            ("secret", Ok("secret")),
            ("secret\n", Ok("secret")),
            ("secret\r\n", Ok("secret")),
            (" pä ss \n", Ok(" pä ss ")),
            ("", Err("empty")),
            ("\n", Err("empty")),
            ("one\ntwo\n", Err("second line")),
        ] {
            fs::write(&path, text).unwrap();
            let taken = check_file(&path);
            match (taken, password) {
                (Ok(secret), Ok(expected)) => assert_eq!(secret, Secret::from(expected)),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{text:?}: {error}");
                }
                (taken, _) => panic!("{text:?}: {taken:?}"),
            }
        }
        fs::write(&path, "x".repeat(256)).unwrap();
        let error = check_file(&path).unwrap_err();
        assert!(error.to_string().contains("more than 255 bytes"), "{error}");
        fs::write(&path, [0xff]).unwrap();
        assert!(check_file(&path).is_err());
    }
}
