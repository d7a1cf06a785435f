//! How a broker stops: the stages everybody can watch, and the gate that counts who is still
//! inside.

use std::fs;
use std::future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};

/// How far a broker is on its way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Running,
    /// No new connection and no new request; what was begun is finished.
    Draining,
    /// Nothing is waited for any longer.
    Stopped,
}

/// The switch that moves a broker from stage to stage, never back.
#[derive(Clone, Debug)]
pub struct Shutdown {
    stage: Arc<watch::Sender<Stage>>,
    gate: Gate,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown::new()
    }
}

impl Shutdown {
    /// A broker that runs.
    pub fn new() -> Self {
        let (stage, _) = watch::channel(Stage::Running);
        Shutdown {
            stage: Arc::new(stage),
            gate: Gate::new(),
        }
    }

    /// The gate that the broker's tasks enter.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The current stage.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Moves to `stage`; going back is ignored.
    pub fn advance(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let moved = stage > *now;
            if moved {
                *now = stage;
            }
            moved
        });
    }

    /// Completes when `stage` or a later one is reached. Cancel-safe.
    pub async fn reached(&self, stage: Stage) {
        let mut watch = self.stage.subscribe();
        // The sender lives in `self`, so the wait ends only by reaching the stage.
        let _ = watch.wait_for(|now| *now >= stage).await;
    }
}

/// Counts the tasks that must end before a broker may close its files.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    inside: AtomicUsize,
    left: Notify,
}

/// One task's presence inside a [`Gate`]; leaving is dropping it.
#[derive(Debug)]
pub struct Pass(Arc<GateState>);

impl Gate {
    /// A gate nobody has entered.
    pub fn new() -> Self {
        Gate::default()
    }

    /// Enters; the gate counts the caller until the pass is dropped.
    pub fn enter(&self) -> Pass {
        self.0.inside.fetch_add(1, Ordering::AcqRel);
        Pass(Arc::clone(&self.0))
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.0.inside.load(Ordering::Acquire)
    }

    /// Completes when nobody is inside. Cancel-safe.
    pub async fn emptied(&self) {
        loop {
            let left = self.0.left.notified();
            tokio::pin!(left);
            // Registered before the look, so that a pass dropped in between is not missed.
            left.as_mut().enable();
            if self.inside() == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.0.inside.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.left.notify_waiters();
        }
    }
}

/// Tells a start that nobody wants it any more.
///
/// It is heard between two logs that are opened. A start that has come further goes on to its end,
/// and is stopped then like any other.
#[derive(Clone, Debug, Default)]
pub struct CallOff(Arc<AtomicBool>);

impl CallOff {
    /// Calls the start off.
    pub fn call_off(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was called off.
    pub fn is_called_off(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The signals that ask the process to end, taken from the moment this is made.
///
/// Made before a node is announced: whoever reads the announcement may stop it at once.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
    hup: Hangup,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: Hangup::listen()?,
        })
    }

    /// Completes when SIGTERM, SIGINT or SIGHUP has come. Cancel-safe.
    pub async fn requested(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
            () = self.hup.heard() => {}
        }
    }

    /// Completes when somebody at a terminal presses Ctrl-C (SIGINT) once more. SIGTERM, which
    /// supervisors repeat, hurries nobody. Cancel-safe.
    pub async fn interrupted(&mut self) {
        self.int.recv().await;
    }
}

/// SIGHUP: the terminal that the process belongs to was closed, or its connection lost.
#[derive(Debug)]
pub(crate) struct Hangup(Option<Signal>);

impl Hangup {
    /// Begins to listen, unless the process was started with the signal ignored, as `nohup` does
    /// it: a handler would undo that.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub(crate) fn listen() -> io::Result<Self> {
        // Where nothing says what is ignored, a clean end is worth more than going on.
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if is_ignored(&status, SignalKind::hangup()) {
            return Ok(Hangup(None));
        }
        Ok(Hangup(Some(signal(SignalKind::hangup())?)))
    }

    /// Completes when the first has come, and never again: the kernel and a shell send one each,
    /// which is no second wish. Cancel-safe.
    pub(crate) async fn heard(&mut self) {
        let Some(signal) = &mut self.0 else {
            return future::pending().await;
        };
        signal.recv().await;
        self.0 = None;
    }
}

/// Whether a process whose `/proc/PID/status` this is ignores a signal (proc_pid_status(5)).
fn is_ignored(status: &str, signal: SignalKind) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signals are counted from 1, and stand from the lowest bit up.
    let bit = u32::try_from(signal.as_raw_value() - 1).unwrap_or(u32::MAX);
    mask.and_then(|mask| mask.checked_shr(bit))
        .is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stages_only_go_forward() {
        let shutdown = Shutdown::new();
        shutdown.advance(Stage::Stopped);
        shutdown.advance(Stage::Draining);
        assert_eq!(shutdown.stage(), Stage::Stopped);
        shutdown.reached(Stage::Draining).await;
    }

    #[test]
    fn ignored_signals_are_in_a_mask() {
        let status = "Name:\tpalisade\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(status, SignalKind::hangup()));
        assert!(is_ignored(status, SignalKind::pipe()));
        assert!(!is_ignored(status, SignalKind::interrupt()));
        assert!(!is_ignored("", SignalKind::hangup()));
    }

    #[tokio::test]
    async fn an_empty_gate_is_passed_at_once() {
        Gate::new().emptied().await;
    }
}
