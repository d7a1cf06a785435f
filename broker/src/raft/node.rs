//! The thread that runs the engine.
//!
//! The library reports broken invariants by panicking, and a panic may come between two halves of
//! a change: the process ends then, so that nobody is served from such a state.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use palisade_protocol::types::{BrokerId, TimestampMs};
use parking_lot::Mutex;

use super::command::{Input, Machine};
use super::engine::Engine;
use super::{RaftError, broker_of};
use crate::task::AbortOnPanic;

/// Time between two ticks.
const TICK: Duration = Duration::from_millis(100);
/// Inputs that may wait for the thread.
const INBOX: usize = 1024;
/// Inputs taken before what they led to is written: one sync serves them all.
const BATCH: usize = 256;
/// Wait before a full disk is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// Tells the time; the only clock the raft thread sees.
pub type Clock = Arc<dyn Fn() -> TimestampMs + Send + Sync>;

/// Where the group stands, as this node knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// The leader, as far as known.
    pub leader: Option<BrokerId>,
    /// Current term.
    pub term: u64,
    /// Index of the last entry known to be committed.
    pub commit: u64,
    /// Index of the last entry applied here.
    pub applied: u64,
    /// Index of the last entry in this node's log.
    pub last_index: u64,
    /// Members that vote.
    pub voters: Vec<BrokerId>,
}

/// Why a request did not reach the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too many inputs wait already.
    Full,
    /// The thread has ended.
    Stopped,
}

/// A running member of the group.
#[derive(Debug)]
pub struct RaftNode<R: Send + 'static> {
    inputs: SyncSender<Input<R>>,
    status: Arc<Mutex<RaftStatus>>,
    /// Set before the thread is asked to stop: one that waits for the disk takes no inputs.
    stopping: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<R: Send + 'static> RaftNode<R> {
    /// Starts the thread of an engine; what is committed and known to be so is applied on return.
    ///
    /// # Errors
    /// Those of the engine's first steps, and `Thread`.
    pub fn start<M: Machine<Request = R>>(
        mut engine: Engine<M>,
        clock: Clock,
    ) -> Result<RaftNode<R>, RaftError> {
        // On the caller's thread, so that what a bad disk says becomes an error and not an abort.
        engine.campaign_if_sole()?;
        engine.drive(clock())?;
        let status = Arc::new(Mutex::new(status_of(&engine)));
        let (inputs, inbox) = sync_channel(INBOX);
        let published = Arc::clone(&status);
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = thread::Builder::new()
            .name("raft".to_owned())
            .spawn(move || {
                let _abort = AbortOnPanic;
                run(engine, &inbox, &clock, &published, &stop);
            })
            .map_err(RaftError::Thread)?;
        Ok(RaftNode {
            inputs,
            status,
            stopping,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Hands a request to the thread without waiting.
    ///
    /// # Errors
    /// `Full`, `Stopped`; the request is dropped then.
    pub fn request(&self, request: R) -> Result<(), Refused> {
        self.inputs
            .try_send(Input::Request(request))
            .map_err(|error| match error {
                TrySendError::Full(_) => Refused::Full,
                TrySendError::Disconnected(_) => Refused::Stopped,
            })
    }

    /// Where the group stands.
    #[must_use]
    pub fn status(&self) -> RaftStatus {
        self.status.lock().clone()
    }

    /// Ends the thread after what it has begun; blocks. Later calls do nothing.
    ///
    /// # Errors
    /// An error only if the thread panicked, which aborts the process first.
    pub fn stop(&self) -> io::Result<()> {
        let Some(thread) = self.thread.lock().take() else {
            return Ok(());
        };
        self.stopping.store(true, Ordering::Release);
        // A thread that ended by itself has no inbox; joining is then all there is to do.
        let _ = self.inputs.send(Input::Stop);
        thread
            .join()
            .map_err(|_| io::Error::other("the raft thread panicked"))
    }
}

impl<R: Send + 'static> Drop for RaftNode<R> {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn run<M: Machine>(
    mut engine: Engine<M>,
    inbox: &Receiver<Input<M::Request>>,
    clock: &Clock,
    status: &Mutex<RaftStatus>,
    stop: &AtomicBool,
) {
    let mut next_tick = Instant::now() + TICK;
    let mut stopping = false;
    // A blocked engine takes nothing more: it can only be stopped then.
    while !stopping && !engine.is_blocked() {
        let wait = next_tick.saturating_duration_since(Instant::now());
        let mut input = match inbox.recv_timeout(wait) {
            Ok(input) => Some(input),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Input::Stop),
        };
        let mut taken = 0;
        while let Some(next) = input.take() {
            match next {
                Input::Request(request) => engine.handle(request),
                Input::Message(message) => engine.step(*message),
                Input::Stop => {
                    stopping = true;
                    break;
                }
            }
            taken += 1;
            if taken < BATCH {
                input = inbox.try_recv().ok();
            }
        }
        if Instant::now() >= next_tick {
            engine.tick();
            next_tick = Instant::now() + TICK;
        }
        drive(&mut engine, clock, stop);
        *status.lock() = status_of(&engine);
    }
    if let Err(error) = engine.close() {
        tracing::warn!(%error, "the raft hard state could not be written at stop");
    }
}

/// Drives until nothing is left; room on a full disk and file descriptors are waited for unless
/// the node stops, anything else ends the process.
fn drive<M: Machine>(engine: &mut Engine<M>, clock: &Clock, stop: &AtomicBool) {
    let mut warned = false;
    while let Err(error) = engine.drive(clock()) {
        assert!(error.is_passing(), "the metadata log cannot go on: {error}");
        if !warned {
            tracing::error!(%error, "the metadata log waits");
            warned = true;
        }
        if stop.load(Ordering::Acquire) {
            return;
        }
        thread::park_timeout(RETRY);
    }
}

fn status_of<M: Machine>(engine: &Engine<M>) -> RaftStatus {
    let raft = &engine.raft().raft;
    RaftStatus {
        leader: broker_of(raft.leader_id),
        term: raft.term,
        commit: raft.raft_log.committed,
        applied: raft.raft_log.applied,
        last_index: raft.raft_log.last_index(),
        voters: engine
            .raft()
            .store()
            .conf_state()
            .voters
            .iter()
            .filter_map(|id| broker_of(*id))
            .collect(),
    }
}
