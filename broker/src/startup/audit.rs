//! The audit log's thread: takes events from the queue, writes and syncs them in groups.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use palisade_auth::audit::{
    Action, AuditContext, AuditEvent, AuditQueue, AuditSink, AuditWriter, Full, Outcome, StreamId,
    Ticket, WriterError,
};
use palisade_protocol::types::BrokerId;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock;
use crate::config::AuditSettings;
use crate::metadata::AuditTrail;
use crate::server::BoxFuture;

/// Name of the file in `palisade.audit.dir`.
const FILE: &str = "audit.log";
/// How long the thread sleeps when nothing happens; a wake-up without events does nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause before a failed write is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// The audit log of a running broker.
pub(crate) struct AuditLog {
    queue: Arc<AuditQueue>,
    /// Changes whenever more events are durable.
    durable: watch::Sender<()>,
    block_max: Duration,
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
        let (writer, started) =
            AuditWriter::open_path(&settings.dir.join(FILE), &stream, clock::now_micros())?;
        tracing::info!(?started, "audit log opened");
        let log = Arc::new(AuditLog {
            queue: Arc::new(AuditQueue::new(settings.queue_max_bytes, clock::now_micros)),
            durable: watch::Sender::new(()),
            block_max: settings.block_max,
            thread: Mutex::new(None),
        });
        let (queue, durable) = (Arc::clone(&log.queue), log.durable.clone());
        let thread = thread::Builder::new().name("audit".to_owned());
        let thread = thread.spawn(move || write(writer, &queue, &durable))?;
        *log.thread.lock() = Some(thread);
        Ok(log)
    }

    /// Records a login and waits, a bounded time, until that is durable; false when it is not,
    /// and then the login must not count.
    pub(crate) async fn record_login(&self, event: AuditEvent) -> bool {
        let failed = match event.action {
            Action::ReauthOk => Action::ReauthFailed,
            _ => Action::LoginFailed,
        };
        let correction = AuditEvent {
            action: failed,
            outcome: Outcome::Error,
            ..event.clone()
        };
        match self.keep(vec![event]).await {
            Kept::Durable => true,
            Kept::Nothing => false,
            Kept::Late => {
                // The line may still be written, and would claim what did not happen.
                self.queue
                    .record(correction.with_reason("audit_unavailable"));
                false
            }
        }
    }

    /// Takes events as the queue has room and waits until they are durable.
    async fn keep(&self, events: Vec<AuditEvent>) -> Kept {
        let mut waiting = Waiting {
            queue: &self.queue,
            events: VecDeque::from(events),
        };
        let mut last = None;
        let kept = tokio::time::timeout(self.block_max, async {
            let mut durable = self.durable.subscribe();
            while let Some(event) = waiting.events.pop_front() {
                match self.queue.offer(event) {
                    Ok(ticket) => last = Some(ticket),
                    Err(Full(event)) => {
                        waiting.events.push_front(*event);
                        if self.queue.is_closed() || durable.changed().await.is_err() {
                            return false;
                        }
                    }
                }
            }
            while last.is_some_and(|ticket: Ticket| !self.queue.is_durable(ticket)) {
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
        self.queue.finish(stop);
        if thread.join().is_err() {
            tracing::error!("the audit thread panicked");
        }
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
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        for event in &self.events {
            self.queue.count(event.class());
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
        self.queue.record(event);
    }
}

fn write(mut writer: AuditWriter<File>, queue: &AuditQueue, durable: &watch::Sender<()>) {
    loop {
        let events = queue.take(PATIENCE);
        let Some(last) = events.last().map(|event| event.ticket) else {
            if queue.is_closed() {
                return;
            }
            continue;
        };
        let lines: Vec<_> = events
            .iter()
            .map(|event| (event.at, &event.event))
            .collect();
        let mut failures = 0_u32;
        while let Err(error) = writer.append(&lines).and_then(|()| writer.sync()) {
            // Whoever needs the line waits and then fails; the queue fills and counts.
            if failures == 0 {
                tracing::error!(%error, "the audit log cannot be written");
            }
            failures += 1;
            if queue.is_closed() && failures > 10 {
                return;
            }
            thread::sleep(RETRY);
        }
        queue.confirm(last);
        durable.send_replace(());
    }
}
