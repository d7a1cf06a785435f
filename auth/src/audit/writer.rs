//! Appends lines to a file, and continues the chain after a restart.

mod file;
mod reserve;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use thiserror::Error;

use self::reserve::Reserve;
use super::chain::{NO_PREVIOUS, read_line, seal, verify_line};
use super::line::{Place, write_line};
use super::{Action, AuditContext, AuditEvent, Outcome, UnixMicros};

/// The most that one line can have, with room to spare: 64 questions of some KiB each.
const TAIL: u64 = 2 << 20;

/// A step of the clock that gets an event of its own; smaller ones are only evened out.
const STEP_MICROS: i64 = 1_000_000;

pub use self::file::AuditFile;

/// Why the log cannot be opened.
#[derive(Debug, Error)]
pub enum WriterError {
    /// The file cannot be opened, read or written.
    #[error("audit log: {0}")]
    Io(#[from] io::Error),
}

/// Why a batch was not appended.
#[derive(Debug, Error)]
pub enum AppendError {
    /// Only the reserve has room for it, which is not meant for it. Nothing was written.
    #[error("the disk is full but for the reserve")]
    OnlyReserve {
        /// Bytes of the batch.
        bytes: u64,
    },
    /// The file cannot be written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl AppendError {
    /// Whether the disk has no room.
    pub fn is_full(&self) -> bool {
        match self {
            Self::OnlyReserve { .. } => true,
            Self::Io(error) => reserve::is_full(error),
        }
    }
}

/// Names the streams of one node; a boot counter makes one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamId {
    /// The cluster's id.
    pub cluster: String,
    /// The node's id.
    pub node: i32,
}

/// What was found at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The boot counter of the new stream, from 1.
    pub boot: u64,
    /// The last stream ended with `stop`, or there was none.
    pub clean: bool,
    /// Bytes of an unfinished line that were cut off.
    pub torn_bytes: u64,
    /// The last line does not verify: the chain begins anew, and says so.
    pub broken: bool,
}

/// The one who writes the log. Not shared: one thread owns it.
pub struct AuditWriter<F: AuditFile = File> {
    file: F,
    len: u64,
    /// More is in the file than `len` says: what a failed append or sync left there.
    dirty: bool,
    reserve: Reserve,
    stream: String,
    head: Head,
    /// `len` and `head` at the last sync.
    synced: (u64, Head),
}

/// The end of the chain. Copied before a batch, so that a failed one leaves no trace.
#[derive(Debug, Clone)]
struct Head {
    seq: u64,
    prev: String,
    at: UnixMicros,
    stepped: bool,
}

impl AuditWriter<File> {
    /// Opens or creates the file with mode 0600 and writes the first line of a new stream.
    ///
    /// # Errors
    /// The file cannot be opened or written: the node is not ready.
    pub fn open_path(
        path: &Path,
        stream: &StreamId,
        now: UnixMicros,
    ) -> Result<(Self, Started), WriterError> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        Self::open(file, stream, now)
    }
}

impl<F: AuditFile> AuditWriter<F> {
    /// Continues the chain of a file: finds its last whole line, cuts off a torn one, and
    /// writes `start` or `unclean_start` as the first line of a new stream, durably.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(
        mut file: F,
        stream: &StreamId,
        now: UnixMicros,
    ) -> Result<(Self, Started), WriterError> {
        let found = Found::read(&mut file)?;
        let started = Started {
            boot: found.boot + 1,
            clean: found.clean,
            torn_bytes: found.torn_bytes,
            broken: found.broken,
        };
        let len = file.size()?;
        let head = Head {
            seq: 0,
            prev: found.prev,
            at: now,
            stepped: false,
        };
        let mut writer = Self {
            len,
            file,
            dirty: false,
            reserve: Reserve::default(),
            stream: format!("{}/{}/{}", stream.cluster, stream.node, started.boot),
            synced: (len, head.clone()),
            head,
        };
        let action = if started.clean {
            Action::Start
        } else {
            Action::UncleanStart
        };
        let outcome = if started.broken {
            Outcome::Error
        } else {
            Outcome::Ok
        };
        let mut event = AuditEvent::new(action, outcome, AuditContext::default());
        if started.broken {
            event = event.with_reason("chain_broken");
        }
        if !started.clean {
            event = event.with_detail(format!(
                "last durable seq {}; {} bytes of an unfinished line cut off",
                found.seq, found.torn_bytes
            ));
        }
        writer.append_first(now, &event)?;
        // Within the new stream time begins anew, so the step is told, not evened out.
        if let Some(step) = found.at.and_then(|last| clock_step(last, now)) {
            writer.append_first(now, &step)?;
        }
        writer.sync()?;
        Ok((writer, started))
    }

    /// Appends events in one write. `at` of an event that is earlier than the last line's is
    /// evened out; a step of more than a second is told by an event of its own.
    ///
    /// `from_reserve`: what was [kept free](Self::keep_free) may be used for it.
    ///
    /// # Errors
    /// Nothing of the batch counts; it can be tried again.
    pub fn append(
        &mut self,
        batch: &[(UnixMicros, &AuditEvent)],
        from_reserve: bool,
    ) -> Result<(), AppendError> {
        if self.dirty {
            self.cut()?;
            self.dirty = false;
        }
        let mut head = self.head.clone();
        let mut lines = String::new();
        for (at, event) in batch {
            if let Some(step) = head.advance(*at) {
                self.add(&mut head, &mut lines, &step);
            }
            self.add(&mut head, &mut lines, event);
        }
        let bytes = lines.len() as u64;
        if !self
            .reserve
            .claim(&mut self.file, self.len + bytes, from_reserve)?
        {
            return Err(AppendError::OnlyReserve { bytes });
        }
        if let Err(error) = self.file.append(lines.as_bytes()) {
            self.cut_or_note();
            return Err(error.into());
        }
        self.len += bytes;
        self.head = head;
        Ok(())
    }

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// Nothing appended since the last sync counts; it is cut off, and can be tried again.
    pub fn sync(&mut self) -> io::Result<()> {
        if let Err(error) = self.file.sync() {
            // The kernel may have let go of the pages it could not write: a later sync that
            // succeeds says nothing about them, so they are written anew.
            self.len = self.synced.0;
            self.head = self.synced.1.clone();
            self.cut_or_note();
            return Err(error);
        }
        self.synced = (self.len, self.head.clone());
        Ok(())
    }

    /// Allocates disk space behind the end of the file, for lines that must be written when the
    /// disk is full: `wanted` bytes, but at most a tenth of what is free. Returns how many; none
    /// where the file system cannot do it.
    ///
    /// # Errors
    /// The file system does not tell its state.
    pub fn keep_free(&mut self, wanted: u64) -> io::Result<u64> {
        self.reserve = Reserve::allocate(&mut self.file, self.len, wanted)?;
        Ok(self.reserve.bytes())
    }

    /// Fills the reserve up again; true when it is whole, with room for `bytes` before it.
    pub fn refill(&mut self, bytes: u64) -> bool {
        let filled = self.reserve.claim(&mut self.file, self.len + bytes, false);
        filled.unwrap_or(false)
    }

    /// Bytes of the reserve that are left.
    pub fn reserve_left(&self) -> u64 {
        self.reserve.left(self.len)
    }

    /// Cuts off what does not count; if that fails too, the next append begins with it.
    fn cut_or_note(&mut self) {
        self.dirty = self.cut().is_err();
    }

    fn cut(&mut self) -> io::Result<()> {
        // This gives the space behind the end back too.
        self.reserve.forget(self.len);
        self.file.truncate(self.len)
    }

    /// Number and hash of the last line.
    pub fn head(&self) -> (u64, &str) {
        (self.head.seq, &self.head.prev)
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    fn append_first(&mut self, now: UnixMicros, event: &AuditEvent) -> Result<(), WriterError> {
        self.append(&[(now, event)], true)
            .map_err(|error| match error {
                AppendError::Io(error) => error.into(),
                AppendError::OnlyReserve { .. } => {
                    io::Error::from(io::ErrorKind::StorageFull).into()
                }
            })
    }

    fn add(&self, head: &mut Head, lines: &mut String, event: &AuditEvent) {
        head.seq += 1;
        let place = Place {
            stream: &self.stream,
            seq: head.seq,
            at: head.at,
            prev: &head.prev,
        };
        let mut line = write_line(event, &place);
        head.prev = seal(&mut line);
        lines.push_str(&line);
    }
}

impl Head {
    /// Moves the time on, never back; returns the event that tells of a large step back.
    fn advance(&mut self, at: UnixMicros) -> Option<AuditEvent> {
        if at >= self.at {
            self.at = at;
            self.stepped = false;
            return None;
        }
        // Told once, until the clock has caught up.
        if self.stepped {
            return None;
        }
        let step = clock_step(self.at, at);
        self.stepped = step.is_some();
        step
    }
}

fn clock_step(last: UnixMicros, now: UnixMicros) -> Option<AuditEvent> {
    let back = last.value().saturating_sub(now.value());
    if back < STEP_MICROS {
        return None;
    }
    let event = AuditEvent::new(Action::ClockStep, Outcome::Ok, AuditContext::default());
    Some(event.with_detail(format!("the clock went back by {back} us to {now}")))
}

/// The end of an existing file.
struct Found {
    boot: u64,
    seq: u64,
    prev: String,
    at: Option<UnixMicros>,
    clean: bool,
    torn_bytes: u64,
    broken: bool,
}

impl Found {
    fn read<F: AuditFile>(file: &mut F) -> io::Result<Self> {
        let tail = file.tail(TAIL)?;
        let after_last_feed = tail
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let (whole, torn) = tail.split_at(after_last_feed);
        let mut torn_bytes = 0;
        let mut last = whole.strip_suffix(b"\n").unwrap_or(whole);
        if !torn.is_empty() {
            if verify_line(torn).is_ok() {
                // Only the line feed was lost.
                file.append(b"\n")?;
                last = torn;
            } else {
                torn_bytes = torn.len() as u64;
                let len = file.size()?;
                file.truncate(len.saturating_sub(torn_bytes))?;
            }
        }
        if let Some(at) = last.iter().rposition(|byte| *byte == b'\n') {
            last = last.get(at + 1..).unwrap_or_default();
        }
        if last.is_empty() {
            return Ok(Self {
                boot: 0,
                seq: 0,
                prev: NO_PREVIOUS.to_owned(),
                at: None,
                clean: torn_bytes == 0,
                torn_bytes,
                broken: false,
            });
        }
        let (info, broken) = match verify_line(last) {
            Ok(info) => (Some(info), false),
            // The number of the boot is still worth something: streams stay apart.
            Err(_) => (read_line(last).ok(), true),
        };
        let boot = info.as_ref().and_then(|info| {
            let (_, boot) = info.stream.rsplit_once('/')?;
            boot.parse().ok()
        });
        let prev = match &info {
            Some(info) if !broken => info.hash.clone(),
            _ => NO_PREVIOUS.to_owned(),
        };
        Ok(Self {
            boot: boot.unwrap_or(0),
            seq: info.as_ref().map_or(0, |info| info.seq),
            prev,
            at: info.as_ref().filter(|_| !broken).map(|info| info.at),
            clean: !broken
                && torn_bytes == 0
                && info.is_some_and(|info| info.action == Action::Stop.name()),
            torn_bytes,
            broken,
        })
    }
}

#[cfg(test)]
mod tests;
