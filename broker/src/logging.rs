//! Log output of the process: human lines or JSON on standard error, filtered by `PALISADE_LOG`.
//!
//! Text from outside enters a log line only through `?` (Debug) formatting, which escapes control
//! characters, so that a client cannot write lines of its own.

use std::any::Any;
use std::panic::{self, Location};
use std::sync::Once;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;

use crate::clock;
use crate::task::panic_text;

/// The part of a panic's text that is told, in bytes.
const PANIC_TEXT_MAX: usize = 1024;
/// Places that may tell of panics in one second.
const PANIC_PLACES: usize = 16;

/// Lets one kind of line through at most once per second, so that strangers cannot fill the disk.
#[derive(Debug)]
pub struct Throttle {
    /// Milliseconds since the epoch.
    last: AtomicI64,
}

impl Throttle {
    /// Has said nothing yet.
    pub const fn new() -> Self {
        Throttle {
            last: AtomicI64::new(0),
        }
    }

    /// Whether a line may be written now; the caller then writes it.
    pub fn may_speak(&self) -> bool {
        let now = clock::now().value();
        let last = self.last.load(Ordering::Relaxed);
        // A clock that was set back does not silence us.
        let due = now < last || now - last >= 1000;
        let swapped = Ordering::Relaxed;
        due && self
            .last
            .compare_exchange(last, now, swapped, swapped)
            .is_ok()
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Throttle::new()
    }
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

/// Installs the process-wide log output, in which panics appear too; a second call changes nothing.
///
/// `filter` is a tracing filter such as `info` or `palisade=debug`; when it does not parse, `info`
/// is used and a warning says so.
pub fn init(filter: &str, format: LogFormat) {
    let parsed = EnvFilter::try_new(filter);
    let bad = parsed.is_err();
    let filter_layer = parsed.unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter_layer)
        // A line that cannot be written, as where the terminal is gone, would be told by a panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    // An already installed subscriber belongs to the caller (a test, an embedding program).
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    static TOLD: Once = Once::new();
    TOLD.call_once(tell_panics);
    if bad {
        tracing::warn!(?filter, "log filter does not parse; using \"info\"");
    }
}

/// Makes every panic of the process a line of level ERROR, whoever catches it.
fn tell_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        // An operator who wants no log still learns of these.
        if tracing::enabled!(tracing::Level::ERROR) {
            tell_panic(panic.location(), panic.payload());
        } else {
            usual(panic);
        }
    }));
}

fn tell_panic(place: Option<&Location<'_>>, payload: &(dyn Any + Send)) {
    let file = place.map_or("", |place| place.file());
    let place = place.map(Location::to_string).unwrap_or_default();
    if !may_tell(&place) {
        return;
    }
    let thread = thread::current();
    let thread = thread.name().unwrap_or("(no name)");
    let error = told(file, payload);
    tracing::error!(thread, place, error, "a thread panicked");
}

/// What of a panic's text is told.
fn told<'a>(file: &str, payload: &'a (dyn Any + Send)) -> &'a str {
    // A text may quote what the code worked at; in that crate it is passwords and keys.
    let text = match file.contains("auth/src/") {
        true => "(withheld)",
        false => panic_text(payload),
    };
    let mut end = text.len().min(PANIC_TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Whoever found the request that panics can send it again and again: one place gets one line a
/// second, while another place's is not lost for that.
fn may_tell(place: &str) -> bool {
    /// The places of the second that began at `since`, in milliseconds since the epoch.
    struct Told {
        since: i64,
        places: Vec<String>,
    }
    static TOLD: Mutex<Told> = Mutex::new(Told {
        since: 0,
        places: Vec::new(),
    });
    let now = clock::now().value();
    let mut told = TOLD.lock();
    if now < told.since || now - told.since >= 1000 {
        told.since = now;
        told.places.clear();
    }
    let may = told.places.len() < PANIC_PLACES && told.places.iter().all(|known| known != place);
    if may {
        told.places.push(place.to_owned());
    }
    may
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::time::Instant;

    use super::*;
    use crate::task::AbortOnPanic;

    const CHILD: &str = "PALISADE_TEST_PANICS";
    const SIGABRT: i32 = 6;

    /// A process of its own: the hook is the whole process's, and the end too.
    #[test]
    fn a_panic_is_a_line_of_the_log_and_ends_who_must_not_go_on() {
        if std::env::var_os(CHILD).is_some() {
            init("info", LogFormat::Text);
            let thread = thread::Builder::new().name("audit".to_owned());
            let thread = thread.spawn(|| {
                let _abort = AbortOnPanic;
                let number = 7;
                panic!("number {number}\n ERROR a line of its own");
            });
            let _ = thread.unwrap().join();
            return;
        }
        let name = "logging::tests::a_panic_is_a_line_of_the_log_and_ends_who_must_not_go_on";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1");
        let output = child.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.signal(), Some(SIGABRT), "{said}");
        let lines: Vec<_> = said
            .lines()
            .filter(|line| line.contains("number"))
            .collect();
        assert_eq!(lines.len(), 1, "{said}");
        for part in [
            " ERROR ",
            "a thread panicked",
            r#"thread="audit""#,
            r#"place="broker/src/logging.rs:"#,
            r#"error="number 7\n ERROR a line of its own""#,
        ] {
            assert!(lines[0].contains(part), "{part}: {said}");
        }
        assert!(
            !said.lines().any(|line| line.starts_with(" ERROR")),
            "{said}"
        );
    }

    #[test]
    fn a_panics_text_is_cut_and_that_of_secrets_withheld() {
        let long = format!("x{}", "\u{e9}".repeat(PANIC_TEXT_MAX));
        let said = told("broker/src/logging.rs", &long);
        assert_eq!(said.len(), PANIC_TEXT_MAX - 1, "no half of a letter");
        assert!(long.starts_with(said));
        let secret = "the password is wonderland".to_owned();
        assert_eq!(told("broker/src/server/login.rs", &secret), secret);
        for file in [
            "auth/src/secret.rs",
            "/somewhere/auth/src/scram/exchange.rs",
        ] {
            assert_eq!(told(file, &secret), "(withheld)");
        }
    }

    #[test]
    fn one_place_speaks_once_a_second() {
        let began = Instant::now();
        let calls = (0..300).map(|n| ["a:1", "b:1", "c:1"][n % 3]);
        let told: Vec<_> = calls.filter(|place| may_tell(place)).collect();
        assert_eq!(told.first_chunk(), Some(&["a:1", "b:1", "c:1"]));
        let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
        assert!(told.len() <= 3 * (2 + seconds), "{}", told.len());
        let many = (0..1000).filter(|n| may_tell(&n.to_string())).count();
        assert!(many <= PANIC_PLACES * (2 + seconds), "{many}");
    }
}
