//! Skipping loudly, waiting for a condition, and judging what a client program printed.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

/// Whether this is a run where nothing may be skipped (`CI=true`).
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// Notes that a test could not run here; `tests/run` counts such lines.
///
/// # Panics
/// In CI, where a skipped test is a failed one.
pub fn skip(test: &str, reason: &str) {
    let line = format!("SKIPPED: {test}: {reason}");
    println!("{line}");
    if let Some(path) = std::env::var_os("PALISADE_TEST_SKIPS") {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .expect("the list of skipped tests can be opened");
        writeln!(file, "{line}").expect("the list of skipped tests can be written");
    }
    assert!(!in_ci(), "{line}, and in CI nothing is skipped");
}

/// Says what a test counted, where a reader of the run sees it: the runner keeps what a passed test prints.
pub fn tell(test: &str, counted: &str) {
    // Nobody reads it where that fails.
    let _ = io::stderr().write_all(format!("{test}: {counted}\n").as_bytes());
}

/// Asks `question` until it answers, for at most `patience`; the last word before that is its error.
///
/// # Panics
/// With the last error when the time is over.
pub fn eventually<T>(
    what: &str,
    patience: Duration,
    mut question: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match question() {
            Ok(answer) => return answer,
            Err(error) if Instant::now() > deadline => {
                panic!("{what}: not within {patience:?}: {error}")
            }
            // Another process is watched: it offers nothing to wait on.
            Err(_) => thread::park_timeout(Duration::from_millis(20)),
        }
    }
}

/// Judges the output of a client suite: lines `PASS name` and `FAIL name: reason`.
///
/// `known` lists checks that fail for a reason of the client itself; such a check must go on failing,
/// so that the list never outlives its reason.
///
/// # Panics
/// When a check failed that is not known, a known one passed, or fewer than `at_least` passed.
pub fn judge(suite: &str, output: &str, at_least: usize, known: &[(&str, &str)]) {
    let passed: Vec<_> = output
        .lines()
        .filter_map(|line| line.strip_prefix("PASS "))
        .collect();
    let failed: Vec<_> = output
        .lines()
        .filter_map(|line| line.strip_prefix("FAIL "))
        .collect();
    println!("{suite}: {} passed, {} failed", passed.len(), failed.len());
    let unknown: Vec<_> = failed
        .iter()
        .filter(|line| !known.iter().any(|(name, _)| is_check(line, name)))
        .collect();
    assert!(
        unknown.is_empty(),
        "{suite}: failed: {unknown:#?}\n{output}"
    );
    for (name, reason) in known {
        assert!(
            failed.iter().any(|line| is_check(line, name)),
            "{suite}: `{name}` is listed as failing ({reason}), but did not\n{output}"
        );
    }
    assert!(
        passed.len() >= at_least,
        "{suite}: only {} of {at_least} checks ran\n{output}",
        passed.len()
    );
}

/// Compares what was read back with what was sent, line by line.
///
/// # Panics
/// With the first line that differs, cut short, or with the two numbers of lines.
pub fn same_lines(what: &str, sent: &str, got: &str) {
    for (number, (sent, got)) in sent.lines().zip(got.lines()).enumerate() {
        assert!(
            sent == got,
            "{what}: line {number}: sent {:.200?}, got {:.200?}",
            sent,
            got
        );
    }
    assert_eq!(sent.lines().count(), got.lines().count(), "{what}: lines");
}

fn is_check(line: &str, name: &str) -> bool {
    line.strip_prefix(name)
        .is_some_and(|rest| rest.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn a_clean_run_passes() {
        judge("s", "PASS a\nnoise\nPASS b", 2, &[]);
    }

    #[test]
    #[should_panic(expected = "failed")]
    fn an_unknown_failure_fails() {
        judge("s", "PASS a\nFAIL b: broken", 1, &[]);
    }

    #[test]
    #[should_panic(expected = "is listed as failing")]
    fn a_known_failure_that_passes_fails() {
        judge("s", "PASS a\nPASS b", 1, &[("b", "a bug of theirs")]);
    }

    #[test]
    #[should_panic(expected = "only 1 of 2")]
    fn a_run_that_stopped_early_fails() {
        judge("s", "PASS a", 2, &[]);
    }
}
