//! The audit log's thread: takes events from the queue, writes and syncs them in groups. While the
//! disk is full it writes what fails closed, from the reserve, and the rest stays in the queue.

use std::fs::File;
use std::thread;
use std::time::Duration;

use palisade_auth::audit::{
    Action, AppendError, AuditContext, AuditEvent, AuditQueue, AuditWriter, Cause, Outcome, Stamped,
};
use palisade_storage::failpoint;
use parking_lot::Mutex;
use tokio::sync::watch;

/// How long the thread sleeps when nothing happens; a wake-up without events does nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause before a failed write is tried again, and between two looks for space.
const RETRY: Duration = Duration::from_millis(200);
/// How often a write is tried when the broker stops.
const LAST_TRIES: u32 = 10;

/// Writes until the queue is closed and drained; `trouble` is why it cannot, for as long as it
/// cannot.
pub(super) fn run(
    mut writer: AuditWriter<File>,
    queue: &AuditQueue,
    durable: &watch::Sender<()>,
    trouble: &Mutex<Option<String>>,
) {
    // Bytes that found no room but in the reserve.
    let mut short_of: Option<u64> = None;
    loop {
        if short_of.is_some_and(|bytes| writer.refill(bytes)) {
            short_of = None;
            queue.stalled(Cause::QueueFull);
            tracing::info!("the audit log's disk has room again");
            queue.note(reserve_event(Outcome::Ok, "space_returned", &writer));
        }
        // The last ones may have the reserve, whatever they are.
        let is_last = queue.is_closed();
        let events = match short_of.is_some() && !is_last {
            true => queue.take_fail_closed(RETRY),
            false => queue.take(PATIENCE),
        };
        if events.is_empty() {
            if is_last {
                return;
            }
            continue;
        }
        let from_reserve = short_of.is_some() || is_last;
        match write(&mut writer, queue, &events, from_reserve, trouble) {
            Written::Durable => {
                queue.confirm(&events);
                durable.send_replace(());
            }
            Written::OnlyReserve { bytes } => {
                short_of = Some(bytes);
                queue.stalled(Cause::DiskFull);
                tracing::error!(
                    reserve = writer.reserve_left(),
                    "the audit log's disk is full: from now on its reserve is used, for logins, \
                     changes and what the node does"
                );
                queue.put_back(events);
                queue.note(reserve_event(Outcome::Error, "disk_full", &writer));
            }
            Written::Never => return,
        }
    }
}

/// What became of a batch.
enum Written {
    /// It is on stable storage.
    Durable,
    /// Only the reserve has room, which is not for all of it.
    OnlyReserve { bytes: u64 },
    /// The broker stops, and the file cannot be written.
    Never,
}

/// Writes a batch, however long it takes.
fn write(
    writer: &mut AuditWriter<File>,
    queue: &AuditQueue,
    events: &[Stamped],
    from_reserve: bool,
    trouble: &Mutex<Option<String>>,
) -> Written {
    let lines: Vec<_> = events
        .iter()
        .map(|event| (event.at, &event.event))
        .collect();
    let mut failures = 0_u32;
    loop {
        let appended = failpoint::hit("audit.before_write")
            .map_err(AppendError::Io)
            .and_then(|()| writer.append(&lines, from_reserve));
        let error = match appended.and_then(|()| Ok(writer.sync()?)) {
            Ok(()) => break,
            Err(AppendError::OnlyReserve { bytes }) => return Written::OnlyReserve { bytes },
            Err(error) => error,
        };
        queue.stalled(match error.is_full() {
            true => Cause::DiskFull,
            false => Cause::WriteFailed,
        });
        // Whoever needs the line waits and then fails; the queue fills and counts.
        if failures == 0 {
            tracing::error!(%error, "the audit log cannot be written");
            *trouble.lock() = Some(error.to_string());
        }
        failures += 1;
        if queue.is_closed() && failures > LAST_TRIES {
            return Written::Never;
        }
        thread::sleep(RETRY);
    }
    if failures > 0 {
        *trouble.lock() = None;
    }
    if failures > 0 && !from_reserve {
        queue.stalled(Cause::QueueFull);
    }
    Written::Durable
}

fn reserve_event(outcome: Outcome, reason: &'static str, writer: &AuditWriter<File>) -> AuditEvent {
    let left = writer.reserve_left();
    AuditEvent::new(Action::AuditReserve, outcome, AuditContext::default())
        .with_reason(reason)
        .with_detail(format!("{left} bytes are kept for what fails closed"))
}
