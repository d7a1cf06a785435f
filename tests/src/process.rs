//! A child process whose output is kept line by line and that never outlives its owner.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// Which of a child's two streams a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

#[derive(Default)]
struct State {
    lines: Vec<(Stream, String)>,
    open_streams: usize,
    exit: Option<ExitStatus>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A reader thread that panicked has already failed the test.
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A running child. Dropping it kills the process and waits for its end.
pub struct Process {
    name: String,
    pid: Pid,
    shared: Arc<Shared>,
}

impl Process {
    /// Starts `command` with its output captured and its input closed.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let pid = Pid::from_child(&child);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                open_streams: 2,
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        let out = child.stdout.take().expect("standard output was piped");
        let err = child.stderr.take().expect("standard error was piped");
        read_lines(Arc::clone(&shared), Stream::Out, out);
        read_lines(Arc::clone(&shared), Stream::Err, err);
        reap(Arc::clone(&shared), child);
        Process {
            name: name.to_owned(),
            pid,
            shared,
        }
    }

    /// The process id.
    pub fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until a line satisfies `wanted` and returns it.
    ///
    /// # Panics
    /// When the process ends, or `patience` passes, before such a line; with everything it said.
    pub fn wait_for_line(&self, patience: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + patience;
        let mut seen = 0;
        let mut state = self.shared.lock();
        loop {
            if let Some((_, line)) = state.lines[seen..].iter().find(|(_, line)| wanted(line)) {
                return line.clone();
            }
            seen = state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || (state.exit.is_some() && state.open_streams == 0) {
                let exit = state.exit;
                drop(state);
                panic!(
                    "{} did not say the awaited line (exit: {exit:?}):\n{}",
                    self.name,
                    self.output()
                );
            }
            state = self.wait_for_change(state, left);
        }
    }

    /// Waits for the end of the process and of its output.
    ///
    /// # Panics
    /// When `patience` passes first.
    pub fn wait(&self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.lock();
        loop {
            if let (Some(exit), 0) = (state.exit, state.open_streams) {
                return exit;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                panic!("{} did not end in time:\n{}", self.name, self.output());
            }
            state = self.wait_for_change(state, left);
        }
    }

    fn wait_for_change<'a>(
        &self,
        state: MutexGuard<'a, State>,
        at_most: Duration,
    ) -> MutexGuard<'a, State> {
        self.shared
            .changed
            .wait_timeout(state, at_most)
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .0
    }

    /// Sends a signal, unless the process has already ended.
    pub fn signal(&self, signal: Signal) {
        // The lock keeps the reaper from storing the exit, so the id cannot belong to another process yet.
        let state = self.shared.lock();
        if state.exit.is_none() {
            // A zombie takes signals without effect; a lost race is no failure.
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Ends the process at once (SIGKILL) and waits for it.
    pub fn kill(&self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(30))
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    pub fn terminate(&self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(Duration::from_secs(60))
    }

    /// The exit status, if the process has ended.
    pub fn exit(&self) -> Option<ExitStatus> {
        self.shared.lock().exit
    }

    /// All lines so far, of both streams in the order of arrival.
    pub fn lines(&self) -> Vec<String> {
        let state = self.shared.lock();
        state.lines.iter().map(|(_, line)| line.clone()).collect()
    }

    /// The lines from the `seen`-th on, of both streams in the order of arrival.
    pub fn lines_from(&self, seen: usize) -> Vec<String> {
        let state = self.shared.lock();
        let new = state.lines.iter().skip(seen);
        new.map(|(_, line)| line.clone()).collect()
    }

    /// The lines of one stream so far.
    pub fn stream(&self, stream: Stream) -> Vec<String> {
        let state = self.shared.lock();
        let of_stream = state.lines.iter().filter(|(from, _)| *from == stream);
        of_stream.map(|(_, line)| line.clone()).collect()
    }

    /// All output so far as one text.
    pub fn output(&self) -> String {
        self.lines().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit().is_none() {
            self.signal(Signal::KILL);
            let mut state = self.shared.lock();
            while state.exit.is_none() {
                state = self.wait_for_change(state, Duration::from_secs(1));
            }
        }
    }
}

/// A child whose streams a test has for itself. Dropping it kills the process and waits for its end.
pub struct KillOnDrop(Child);

impl KillOnDrop {
    /// Starts `command` as it is.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn spawn(command: &mut Command) -> KillOnDrop {
        let child = command.spawn();
        KillOnDrop(child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")))
    }
}

impl Deref for KillOnDrop {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for KillOnDrop {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // Both do nothing where its end was seen already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has processes that are started from here hear a signal, also where who started the tests has it
/// ignored, as `nohup` and a script's `&` do: a handler, other than an ignored signal, is not handed
/// on.
///
/// # Panics
/// When no handler can be set.
pub fn heed(kind: SignalKind) {
    if !is_ignored(kind, "self") {
        return;
    }
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    drop(signal(kind).expect("a handler"));
    assert!(!is_ignored(kind, "self"));
}

/// Whether a process, as `/proc` names it, ignores a signal.
///
/// # Panics
/// When there is none of that name.
pub fn is_ignored(kind: SignalKind, process: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a status");
    let mut fields = status.lines().filter_map(|line| line.split_once(":\t"));
    let (_, ignored) = fields.find(|(name, _)| *name == "SigIgn").expect("a mask");
    let mask = u64::from_str_radix(ignored, 16).expect("a mask");
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}

/// Whether a line of a node's output says that something is wrong: a warning, an error, or a panic
/// that came before the log or past it.
pub fn is_complaint(line: &str) -> bool {
    [" WARN ", " ERROR ", "panicked at"]
        .iter()
        .any(|part| line.contains(part))
}

fn read_lines(shared: Arc<Shared>, stream: Stream, source: impl Read + Send + 'static) {
    thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        while matches!(source.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            // Spaces at the end of a line may be a record's own.
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']).to_owned();
            line.clear();
            shared.lock().lines.push((stream, text));
            shared.changed.notify_all();
        }
        shared.lock().open_streams -= 1;
        shared.changed.notify_all();
    });
}

fn reap(shared: Arc<Shared>, mut child: Child) {
    thread::spawn(move || {
        // Waiting without the lock and reaping with it: see `Process::signal`.
        let _ = rustix::process::waitid(
            rustix::process::WaitId::Pid(Pid::from_child(&child)),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        );
        let mut state = shared.lock();
        state.exit = Some(child.wait().expect("an own child can be waited for"));
        drop(state);
        shared.changed.notify_all();
    });
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rustix::io::Errno;
    use rustix::process::test_kill_process;

    use super::*;

    #[test]
    fn a_child_does_not_outlive_a_panic() {
        let mut command = Command::new("cat");
        let mut child = KillOnDrop::spawn(command.stdin(Stdio::piped()).stdout(Stdio::null()));
        // It would read on.
        let _input = child.stdin.take();
        let pid = Pid::from_child(&child);
        let panicked = catch_unwind(AssertUnwindSafe(move || {
            panic!("with the child {}", child.id());
        }));
        assert!(panicked.is_err());
        assert_eq!(test_kill_process(pid), Err(Errno::SRCH), "it is there");
    }

    #[test]
    fn a_panic_is_a_complaint() {
        let panic = "thread 'tokio-rt-worker' (7) panicked at broker/src/server/tls.rs:1:2:";
        assert!(is_complaint(panic));
        assert!(is_complaint("2026-01-01T00:00:00Z ERROR palisade: x"));
        assert!(!is_complaint("2026-01-01T00:00:00Z  INFO palisade: x"));
    }
}
