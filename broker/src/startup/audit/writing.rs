//! The audit log's thread: takes events from the queue, writes and syncs them in groups.

use std::fs::File;
use std::io;
use std::thread;
use std::time::Duration;

use palisade_auth::audit::{AuditQueue, AuditWriter, Cause};
use tokio::sync::watch;

/// How long the thread sleeps when nothing happens; a wake-up without events does nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause before a failed write is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How often a write is tried when the broker stops.
const LAST_TRIES: u32 = 10;

/// Writes until the queue is closed and drained.
pub(super) fn run(mut writer: AuditWriter<File>, queue: &AuditQueue, durable: &watch::Sender<()>) {
    loop {
        let events = queue.take(PATIENCE);
        if events.is_empty() {
            if queue.is_closed() {
                return;
            }
            continue;
        }
        let lines: Vec<_> = events
            .iter()
            .map(|event| (event.at, &event.event))
            .collect();
        let mut failures = 0_u32;
        while let Err(error) = writer.append(&lines).and_then(|()| writer.sync()) {
            queue.stalled(match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Cause::DiskFull,
                _ => Cause::WriteFailed,
            });
            // Whoever needs the line waits and then fails; the queue fills and counts.
            if failures == 0 {
                tracing::error!(%error, "the audit log cannot be written");
            }
            failures += 1;
            if queue.is_closed() && failures > LAST_TRIES {
                return;
            }
            thread::sleep(RETRY);
        }
        if failures > 0 {
            queue.stalled(Cause::QueueFull);
        }
        queue.confirm(&events);
        durable.send_replace(());
    }
}
