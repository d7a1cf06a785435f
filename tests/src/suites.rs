//! Test suites of other projects: which of their tests must pass, and how to run them.
//!
//! `tests/suites/NAME.txt` has a line for each test: its name, a verdict, and a reason where it does not pass.
//!
//! | verdict | meaning |
//! |---|---|
//! | `PASS` | passes, and is run with our own tests |
//! | `SLOW` | passes, and is run by `tests/suite` only |
//! | `FAIL` | fails, for the reason given |
//! | `SKIP` | says nothing about a broker, or cannot run here |
//!
//! A line for `NAME@plaintext` (or another way in) goes above the one for `NAME`, where that way is used. Each list
//! has one way in by which our own tests run all that it lists as `PASS` (librdkafka `sasl_ssl`, with the consumer
//! protocol `plaintext`; kgo `ssl`); by the others they run only what has a line of its own for that way.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::paths;
use crate::process::Process;

/// For one process of a suite; the suites have timeouts of their own.
const LONGEST: Duration = Duration::from_secs(1200);

/// How a test of a suite is expected to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Passes.
    Pass,
    /// Passes, but takes too long to be run each time.
    Slow,
    /// Fails.
    Fail,
    /// Not run.
    Skip,
}

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The test's name in its suite.
    pub name: String,
    /// What is expected.
    pub verdict: Verdict,
    /// Why, unless it passes.
    pub reason: String,
    /// Whether the line speaks of one way in only.
    pub of_way: bool,
}

/// How a test went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether it passed; `None` where it chose not to run.
    pub passed: Option<bool>,
    /// How long it took.
    pub took: Duration,
    /// What it said when it did not pass.
    pub said: String,
}

/// Reads what a list, a suite's or that of a suite's other mode, says of one way in: `plaintext`, `ssl` or
/// `sasl_ssl`.
///
/// # Panics
/// When the file is missing or a line is not as described above.
pub fn list(list: &str, way: &str) -> Vec<Listed> {
    let path = paths::root().join(format!("tests/suites/{list}.txt"));
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    of_way(&text, way)
}

fn of_way(text: &str, way: &str) -> Vec<Listed> {
    let mut found: BTreeMap<String, Listed> = BTreeMap::new();
    for (line_way, line) in text.lines().filter_map(listed) {
        let own = found.get(&line.name).is_some_and(|before| before.of_way);
        if (line_way.is_empty() && !own) || line_way == way {
            found.insert(line.name.clone(), line);
        }
    }
    found.into_values().collect()
}

/// The way in that a line speaks of, empty for all, and the line.
fn listed(line: &str) -> Option<(String, Listed)> {
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let mut words = line.split_whitespace();
    let (name, verdict) = (words.next()?, words.next().unwrap_or_default());
    let reason = words.collect::<Vec<_>>().join(" ");
    let verdict = match verdict {
        "PASS" => Verdict::Pass,
        "SLOW" => Verdict::Slow,
        "FAIL" => Verdict::Fail,
        "SKIP" => Verdict::Skip,
        _ => panic!("no verdict in {line:?}"),
    };
    assert!(
        matches!(verdict, Verdict::Pass | Verdict::Slow) || !reason.is_empty(),
        "no reason in {line:?}"
    );
    let (name, way) = name.split_once('@').unwrap_or((name, ""));
    let listed = Listed {
        name: name.to_owned(),
        verdict,
        reason,
        of_way: !way.is_empty(),
    };
    Some((way.to_owned(), listed))
}

/// Compares what happened with the list; an empty answer means that it is true.
///
/// A test that is listed as failing must fail, so that the list never outlives its reasons.
pub fn differences(list: &[Listed], outcomes: &BTreeMap<String, Outcome>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, outcome) in outcomes {
        let line = list.iter().find(|line| line.name == *name);
        let expected = line.map(|line| line.verdict);
        let as_listed = match outcome.passed {
            Some(true) => matches!(expected, Some(Verdict::Pass | Verdict::Slow)),
            Some(false) => expected == Some(Verdict::Fail),
            None => expected == Some(Verdict::Skip),
        };
        if !as_listed {
            found.push(format!(
                "{name}: listed {expected:?}, passed {:?}: {}",
                outcome.passed, outcome.said
            ));
        }
    }
    found
}

/// Runs tests of librdkafka, those of each number in a process of their own, `at_once` of them side by side.
///
/// One process for all would end with the first test that hangs. `settings` are librdkafka's; what the tests say
/// goes to files below `target/suites/LOGS`.
pub fn librdkafka(
    names: &[String],
    settings: &[(&str, String)],
    environment: &[(&str, String)],
    at_once: usize,
    logs: &str,
) -> BTreeMap<String, Outcome> {
    let dir = paths::scratch();
    let file = dir.path().join("test.conf");
    let mut text: String = settings
        .iter()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect();
    text += "test.timeout.multiplier=3\n";
    paths::write_private(&file, text);
    let mut by_number: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    for name in names {
        let number = name.split('_').next().unwrap_or(name);
        by_number.entry(number).or_default().push(name);
    }
    let waiting = Mutex::new(by_number.into_iter());
    let done = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no panic").next();
                    let Some((number, names)) = next else { return };
                    let lines = run_librdkafka(number, &file, environment);
                    keep_log(logs, number, &lines);
                    let mut done = done.lock().expect("no panic");
                    done.extend(
                        names
                            .into_iter()
                            .map(|name| (name.clone(), librdkafka_outcome(name, &lines))),
                    );
                }
            });
        }
    });
    done.into_inner().expect("no panic")
}

fn run_librdkafka(number: &str, conf: &Path, environment: &[(&str, String)]) -> Vec<String> {
    let source = paths::clients().join("librdkafka");
    let libraries = format!(
        "{}:{}",
        source.join("src").display(),
        source.join("src-cpp").display()
    );
    // A run with a failure ends by an abort, which would take the table along that is still in a buffer.
    let mut command = Command::new("stdbuf");
    command
        .arg("-oL")
        .arg(source.join("tests/test-runner"))
        // No local tests, no emulated sockets, none with known issues.
        .args(["-L", "-E", "-K", "-p1"])
        .current_dir(source.join("tests"))
        // In CI the suite would choose other timeouts.
        .env_remove("CI")
        .env("LD_LIBRARY_PATH", libraries)
        .env("RDKAFKA_TEST_CONF", conf)
        .env("TEST_KAFKA_VERSION", "4.1.0")
        .env("TEST_LEVEL", "1")
        .env("TESTS", number);
    command.envs(environment.iter().map(|(key, value)| (key, value)));
    let process = Process::spawn(number, &mut command);
    process.wait(LONGEST);
    process.lines().iter().map(|line| plain(line)).collect()
}

/// From the table at the end: `| NAME | STATE | SECONDSs | why`. The exit code says nothing.
fn librdkafka_outcome(name: &str, lines: &[String]) -> Outcome {
    let cells = |line: &String| -> Vec<String> { line.split('|').map(plain).collect() };
    let row = lines
        .iter()
        .rev()
        .map(cells)
        .find(|cells| cells.get(1).is_some_and(|cell| cell == name));
    let cell = |at: usize| {
        row.as_ref()
            .and_then(|row| row.get(at))
            .cloned()
            .unwrap_or_default()
    };
    // Why a sub-test failed stands in the line below its name.
    let begins = format!("### Test \"{name}");
    let mut complaints = lines
        .iter()
        .skip_while(|line| !line.starts_with(&begins))
        .skip(1);
    Outcome {
        passed: match cell(2).as_str() {
            "PASSED" => Some(true),
            "SKIPPED" => None,
            _ => Some(false),
        },
        took: seconds(&cell(3)),
        said: complaints.next().cloned().unwrap_or(cell(4)),
    }
}

/// Of `1.23s`; nothing where that stands not.
fn seconds(text: &str) -> Duration {
    let number: f64 = text.trim_end_matches('s').parse().unwrap_or_default();
    Duration::try_from_secs_f64(number).unwrap_or_default()
}

/// A text without its colours and the spaces around it.
fn plain(text: &str) -> String {
    let mut bare = String::new();
    let mut escaped = false;
    for letter in text.chars() {
        match letter {
            '\u{1b}' => escaped = true,
            'm' if escaped => escaped = false,
            _ if escaped => {}
            _ => bare.push(letter),
        }
    }
    bare.trim().to_owned()
}

/// Runs tests of franz-go's kgo package, all of them in one process; `logs` as for [`librdkafka`].
pub fn kgo(
    names: &[String],
    environment: &[(&str, String)],
    logs: &str,
) -> BTreeMap<String, Outcome> {
    let dir = paths::scratch();
    let mut command = Command::new(paths::clients().join("go/kgo.test"));
    command
        .args(["-test.v", "-test.count=1", "-test.timeout=9m", "-test.run"])
        .arg(format!("^({})$", names.join("|")))
        .current_dir(dir.path())
        .env("KGO_TEST_RF", "1")
        .env("KGO_LOG_LEVEL", "none");
    command.envs(environment.iter().map(|(key, value)| (key, value)));
    let process = Process::spawn("kgo", &mut command);
    process.wait(LONGEST);
    let lines = process.lines();
    keep_log(logs, "all", &lines);
    let mut outcomes = BTreeMap::new();
    for name in names {
        outcomes.insert(name.clone(), kgo_outcome(name, &lines));
    }
    outcomes
}

/// Of `--- PASS: NAME (1.23s)` and the like; a test that never ended failed.
fn kgo_outcome(name: &str, lines: &[String]) -> Outcome {
    let ended = lines.iter().find_map(|line| {
        let (state, rest) = line.strip_prefix("--- ")?.split_once(": ")?;
        let (found, took) = rest.split_once(" (")?;
        (found == name).then(|| (state.to_owned(), took.trim_end_matches(')').to_owned()))
    });
    let (state, took) = ended.unwrap_or_default();
    // Tests that run side by side take turns: `=== NAME  TestX` says whose lines follow.
    let mut mine = false;
    let mut said = Vec::new();
    for line in lines {
        if let Some(header) = line.strip_prefix("=== ") {
            mine = header.split_whitespace().nth(1) == Some(name);
        } else if mine && line.contains(".go:") && !line.contains("deleting") {
            said.push(line.trim().to_owned());
        }
    }
    said.truncate(3);
    Outcome {
        passed: match state.as_str() {
            "PASS" => Some(true),
            "SKIP" => None,
            _ => Some(false),
        },
        took: seconds(&took),
        said: said.join("; "),
    }
}

/// Everything a run said, for whoever wants to know why: `target/suites/LOGS/NAME.log`.
fn keep_log(logs: &str, name: &str, lines: &[String]) {
    let dir = paths::root().join("target/suites").join(logs);
    fs::create_dir_all(&dir).expect("a folder below target can be made");
    let path = dir.join(format!("{name}.log"));
    fs::write(path, lines.join("\n")).expect("a log can be written");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(passed: Option<bool>) -> Outcome {
        Outcome {
            passed,
            took: Duration::ZERO,
            said: String::new(),
        }
    }

    #[test]
    fn a_list_is_read() {
        let text = "# comment\n\na FAIL  no transactions\nb@ssl SKIP never\nb PASS\n";
        let [a, b] = of_way(text, "ssl").try_into().expect("two tests");
        assert_eq!((a.verdict, a.of_way), (Verdict::Fail, false));
        assert_eq!(a.reason, "no transactions");
        assert_eq!((b.verdict, b.of_way), (Verdict::Skip, true));
        let [_, b] = of_way(text, "plaintext").try_into().expect("two tests");
        assert_eq!((b.verdict, b.of_way), (Verdict::Pass, false));
    }

    #[test]
    #[should_panic(expected = "no reason")]
    fn a_failure_without_a_reason_is_refused() {
        listed("0103_x FAIL");
    }

    #[test]
    fn whatever_is_not_as_listed_is_told() {
        let list = of_way("a PASS\nb FAIL x\nc SKIP x\nd SLOW", "ssl");
        let as_listed = [("a", Some(true)), ("b", Some(false)), ("c", None)];
        let true_to_it = as_listed
            .map(|(name, passed)| (name.to_owned(), outcome(passed)))
            .into();
        assert_eq!(differences(&list, &true_to_it), Vec::<String>::new());
        for (name, passed) in [
            ("a", Some(false)),
            ("a", None),
            ("b", Some(true)),
            ("c", Some(true)),
            ("d", Some(false)),
            ("unheard of", Some(true)),
        ] {
            let other = [(name.to_owned(), outcome(passed))].into();
            assert_eq!(differences(&list, &other).len(), 1, "{name} {passed:?}");
        }
    }

    #[test]
    fn ends_of_go_tests_are_read() {
        let lines: Vec<_> = [
            "=== RUN   TestA",
            "    a_test.go:7: unable to join",
            "--- FAIL: TestA (1.50s)",
            "--- PASS: TestB (0.00s)",
            "--- SKIP: TestC (0.00s)",
        ]
        .map(str::to_owned)
        .into();
        let failed = kgo_outcome("TestA", &lines);
        assert_eq!(failed.passed, Some(false));
        assert_eq!(failed.took, Duration::from_millis(1500));
        assert_eq!(failed.said, "a_test.go:7: unable to join");
        assert_eq!(kgo_outcome("TestB", &lines).passed, Some(true));
        assert_eq!(kgo_outcome("TestC", &lines).passed, None);
        assert_eq!(kgo_outcome("TestD", &lines).passed, Some(false));
    }

    #[test]
    fn the_table_of_librdkafka_is_read() {
        let lines: Vec<_> = [
            "### Test \"0033_regex (sub)\" failed at x.c:447:do_test() at Sun: ###",
            "See 8 previous failures",
            "| <MAIN>       |     FAILED |  17.006s | 1 test failed",
            "| 0001_multiobj   |     PASSED |   4.250s |",
            "| 0033_regex   |     FAILED |   2.000s | do_test():447: See",
            "| 0092_mixed   |    SKIPPED |   0.000s | too new",
        ]
        .map(str::to_owned)
        .into();
        let passed = librdkafka_outcome("0001_multiobj", &lines);
        assert_eq!(passed.passed, Some(true));
        assert_eq!(passed.took, Duration::from_millis(4250));
        let failed = librdkafka_outcome("0033_regex", &lines);
        assert_eq!(failed.passed, Some(false));
        assert_eq!(failed.said, "See 8 previous failures");
        let skipped = librdkafka_outcome("0092_mixed", &lines);
        assert_eq!(skipped.passed, None);
        assert_eq!(skipped.said, "too new");
        let absent = librdkafka_outcome("0099_absent", &lines);
        assert_eq!(absent.passed, Some(false));
    }

    #[test]
    fn colours_are_no_text() {
        assert_eq!(
            plain("\u{1b}[32m 0001_multiobj  \u{1b}[0m"),
            "0001_multiobj"
        );
    }
}
