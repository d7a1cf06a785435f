//! The audit log of a running broker: who may wait for what in it.

mod writing;

use std::collections::VecDeque;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use palisade_auth::audit::{
    Action, AuditContext, AuditEvent, AuditQueue, AuditSink, AuditWriter, Held, Outcome, StreamId,
    Ticket, WriterError,
};
use palisade_protocol::types::BrokerId;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock;
use crate::config::{AuditFullPolicy, AuditSettings};
use crate::metadata::AuditTrail;
use crate::server::{Hold, Room};
use crate::task::{AbortOnPanic, BoxFuture};

/// Name of the file in `palisade.audit.dir`.
const FILE: &str = "audit.log";

/// The audit log of a running broker.
pub(crate) struct AuditLog {
    path: PathBuf,
    room: Room,
    /// Why it cannot be written, while that is so.
    trouble: Arc<Mutex<Option<String>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl AuditLog {
    /// Opens the log and starts its thread; the first line of this run is durable then.
    ///
    /// # Errors
    /// The directory or file cannot be made or written.
    pub(super) fn open(
        settings: &AuditSettings,
        cluster_id: &str,
        node_id: BrokerId,
    ) -> Result<Arc<Self>, WriterError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&settings.dir)?;
        let stream = StreamId {
            cluster: cluster_id.to_owned(),
            node: node_id.value(),
        };
        let (mut writer, started) =
            AuditWriter::open_path(&settings.dir.join(FILE), &stream, clock::now_micros())?;
        let reserve = writer.keep_free(settings.reserve_bytes)?;
        tracing::info!(
            boot = started.boot,
            clean = started.clean,
            torn_bytes = started.torn_bytes,
            broken = started.broken,
            reserve,
            "audit log opened"
        );
        if reserve < settings.reserve_bytes {
            let wanted = settings.reserve_bytes;
            tracing::info!(
                reserve,
                wanted,
                "the audit log's reserve is smaller than asked for: the disk has no more to spare"
            );
        }
        let allowed_stays = settings.full_policy == AuditFullPolicy::Block;
        let queue = AuditQueue::new(settings.queue_max_bytes, clock::now_micros)
            .with_allowed_failing_closed(allowed_stays);
        let log = Arc::new(AuditLog {
            path: settings.dir.join(FILE),
            trouble: Arc::default(),
            room: Room {
                queue: Arc::new(queue),
                durable: watch::Sender::new(()),
                block_max: settings.block_max,
                allowed_stays,
            },
            thread: Mutex::new(None),
        });
        let (queue, durable) = (Arc::clone(&log.room.queue), log.room.durable.clone());
        let trouble = Arc::clone(&log.trouble);
        let thread = thread::Builder::new().name("audit".to_owned());
        let thread = thread.spawn(move || {
            // Without it no login and no change would ever succeed again.
            let _abort = AbortOnPanic;
            writing::run(writer, &queue, &durable, &trouble);
        })?;
        *log.thread.lock() = Some(thread);
        Ok(log)
    }

    /// Its file, and why it cannot be written, where that is so: no login counts and nothing is
    /// changed meanwhile.
    pub(crate) fn trouble(&self) -> Option<(PathBuf, String)> {
        let reason = self.trouble.lock().clone()?;
        Some((self.path.clone(), reason))
    }

    /// A new connection's part in it.
    pub(crate) fn hold(&self) -> Hold {
        Hold::new(self.room.clone())
    }

    /// Records a login and waits, a bounded time, until that is durable; false when it is not,
    /// and then the login must not count.
    pub(crate) async fn record_login(&self, mut event: AuditEvent) -> bool {
        // It has waited long enough when it is taken back.
        event.context.overflow = None;
        // It names the login itself, so that it is never merged with another: one line takes one
        // back.
        let connection = event.context.connection.as_deref();
        let correction = AuditEvent {
            action: Action::LoginFailed,
            outcome: Outcome::Error,
            auth: connection.and_then(|connection| connection.auth.clone()),
            ..event.clone()
        };
        match self.keep(vec![event]).await {
            Kept::Durable => true,
            Kept::Nothing => false,
            Kept::Late => {
                // The line may still be written, and would claim what did not happen.
                self.room
                    .queue
                    .record(correction.with_reason("audit_unavailable"));
                false
            }
        }
    }

    /// Takes events as the queue has room and waits until they are durable.
    async fn keep(&self, events: Vec<AuditEvent>) -> Kept {
        let queue = &self.room.queue;
        let mut waiting = Waiting {
            queue,
            events: VecDeque::from(events),
            held: None,
        };
        let mut last = None;
        let kept = tokio::time::timeout(self.room.block_max, async {
            let mut durable = self.room.durable.subscribe();
            while let Some(offered) = waiting.offer_next() {
                match offered {
                    Some(ticket) => last = Some(ticket),
                    None if queue.is_closed() || durable.changed().await.is_err() => {
                        return false;
                    }
                    None => {}
                }
            }
            while last.is_some_and(|ticket: Ticket| !queue.is_durable(ticket)) {
                if durable.changed().await.is_err() {
                    return false;
                }
            }
            true
        });
        match kept.await {
            Ok(true) => Kept::Durable,
            _ if last.is_none() => Kept::Nothing,
            _ => Kept::Late,
        }
    }

    /// Writes what waits and the line that says the stop was clean; blocks.
    pub(super) fn close(&self) {
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        let stop = AuditEvent::new(Action::Stop, Outcome::Ok, AuditContext::default());
        self.room.queue.finish(stop);
        // A panic in there has ended the process.
        let _ = thread.join();
    }
}

impl Drop for AuditLog {
    /// A start that failed half-way leaves no thread behind.
    fn drop(&mut self) {
        self.close();
    }
}

/// What became of events that are waited for.
enum Kept {
    /// They are on stable storage.
    Durable,
    /// Some were taken, and not all of them are on stable storage in time.
    Late,
    /// None was taken.
    Nothing,
}

/// Events that found no room yet; those that never do are counted, whoever stops waiting.
struct Waiting<'a> {
    queue: &'a AuditQueue,
    events: VecDeque<AuditEvent>,
    /// Between the events and the queue.
    held: Option<Held>,
}

impl Waiting<'_> {
    /// Offers the next event: its ticket, or none when it found no room. `None` when all are in.
    fn offer_next(&mut self) -> Option<Option<Ticket>> {
        let offered = match self.held.take() {
            Some(held) => self.queue.offer_again(held),
            None => self.queue.offer(self.events.pop_front()?),
        };
        Some(offered.map_err(|held| self.held = Some(held)).ok())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let classes = self.events.iter().map(AuditEvent::class);
        for class in classes.chain(self.held.as_ref().map(Held::class)) {
            self.queue.count(class);
        }
    }
}

impl AuditTrail for AuditLog {
    fn record_ahead(&self, events: Vec<AuditEvent>) -> BoxFuture<'_, bool> {
        Box::pin(async move { matches!(self.keep(events).await, Kept::Durable) })
    }
}

impl AuditSink for AuditLog {
    fn record(&self, event: AuditEvent) {
        self.room.queue.record(event);
    }
}
