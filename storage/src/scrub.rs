//! Re-reading sealed segments, before a client finds out that they are damaged (storage page, §10).
//!
//! Reads do not recompute checksums. A [`Scrubber`] does, pass after pass over the sealed segments
//! of one directory: log by log in the order of their names, segment by segment in the order of
//! offsets, each against the CRC of its seal and the CRC of each batch. It reads past the mapping,
//! through one small buffer, and leaves what is in memory as it was. What it may cost is its
//! caller's to bound, with a [`Pace`].
//!
//! Where a pass stands is kept in `scrub-checkpoint`, so that a node that starts every day still
//! comes to the end of it:
//!
//! ```text
//! version=1
//! started=<ms>      when the pass began
//! log=<directory>   the log it has come to; left out when the pass is finished
//! offset=<n>        sealed segments of that log below it are done
//! ```
//!
//! What is sealed behind the place where a pass stands is the next pass's.

use std::fmt::Write as _;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cleaner::Pace;
use crate::damage::{Examined, report_unlocated};
use crate::durable::{self, check_version, read_small_text};
use crate::error::StorageError;
use crate::failpoint;
use crate::fs::{Fs, OpenHow};
use crate::log::Log;
use crate::log_dir::LogDir;
use crate::seal::Seal;
use crate::segment::Segment;
use crate::shared::Shared;
use crate::types::{Offset, TimestampMs};

mod stream;

use stream::BatchStream;

const FILE: &str = "scrub-checkpoint";
const VERSION: u32 = 1;

/// Bytes read at once.
const STEP: u64 = 256 << 10;

/// Longest time for which progress is only in memory, in milliseconds.
const STORE_MS: i64 = 60_000;

/// What a pass has come to so far, in this life of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubTotals {
    /// Segments read to their end.
    pub segments: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Damaged ranges in them, those known before included.
    pub damaged_ranges: u64,
    /// Segments that could not be read, or do not match their seal though each batch verifies.
    pub doubtful_segments: u64,
    /// Segments that were not read, as no file descriptor was left.
    pub skipped_segments: u64,
}

/// What one step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubStep {
    /// A segment is done; there may be more.
    Segment,
    /// The pass is finished, with these totals.
    Finished(ScrubTotals),
    /// The pace ended the step; the next one begins the segment again.
    Stopped,
}

/// The log and the offset that a pass has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    log: String,
    offset: Offset,
}

/// One pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pass {
    started: Option<TimestampMs>,
    /// `None`: finished.
    place: Option<Place>,
}

/// How reading one segment ended.
enum Read {
    Verified,
    Differs,
    Gone,
    /// No file descriptor was left to read it with.
    Skipped,
    Stopped,
}

/// Goes over the sealed segments of one directory; see the module.
#[derive(Debug)]
pub struct Scrubber {
    shared: Arc<Shared>,
    path: PathBuf,
    pass: Pass,
    /// What the file says; `None` while there is none.
    stored: Option<Pass>,
    stored_at: TimestampMs,
    /// The log in work, and its end when the pass came to it: a log that grows as fast as it is
    /// read would hold the pass up for ever.
    bound: Option<Place>,
    totals: ScrubTotals,
    buffer: Vec<u8>,
}

impl LogDir {
    /// Takes up the scrubbing of the directory where the last start left it; one at a time.
    ///
    /// # Errors
    /// `FormatTooNew`.
    pub fn scrubber(&self) -> Result<Scrubber, StorageError> {
        let shared = self.shared().clone();
        let path = shared.path.join(FILE);
        let stored = match load(&*shared.fs, &path) {
            Err(error @ StorageError::FormatTooNew { .. }) => return Err(error),
            Err(error) => {
                let reason = match error {
                    StorageError::BadFile { reason, .. } => reason.to_owned(),
                    other => other.to_string(),
                };
                tracing::warn!(
                    path = %path.display(), reason,
                    "progress of the scrub is lost: it begins again, and reads once more what it \
                     has read since it began"
                );
                None
            }
            Ok(stored) => stored,
        };
        Ok(Scrubber {
            path,
            pass: stored.clone().unwrap_or_default(),
            stored,
            stored_at: shared.now(),
            bound: None,
            totals: ScrubTotals::default(),
            buffer: Vec::new(),
            shared,
        })
    }
}

impl Scrubber {
    /// When the next step is due, with passes that begin `interval_ms` after one another: now,
    /// while one is under way or where there was none yet.
    pub fn due(&self, interval_ms: i64, now: TimestampMs) -> TimestampMs {
        match (&self.pass.place, self.pass.started) {
            (None, Some(started)) => {
                let latest = now.value().saturating_add(interval_ms);
                // A clock that was set back must not keep a pass from its turn.
                TimestampMs::new(started.value().saturating_add(interval_ms).min(latest))
            }
            _ => now,
        }
    }

    /// Goes over one segment, in a new pass if none is under way; blocks. What does not verify is
    /// reported and refused to readers from then on ([`Log::damage`]).
    pub fn step(&mut self, now: TimestampMs, pace: &mut dyn Pace) -> ScrubStep {
        let place = match &self.pass.place {
            Some(place) => place.clone(),
            None => {
                self.pass.started = Some(now);
                self.totals = ScrubTotals::default();
                let front = Place {
                    log: String::new(),
                    offset: Offset::ZERO,
                };
                self.pass.place = Some(front.clone());
                front
            }
        };
        let Some((log, segment)) = self.next(place) else {
            self.pass.place = None;
            self.buffer = Vec::new();
            if self.stored.is_some() || self.totals.segments > 0 {
                self.store(now);
            }
            return ScrubStep::Finished(self.totals);
        };
        let next = segment.tail().next;
        if !self.look_at(&log, segment, pace) {
            self.store(now);
            return ScrubStep::Stopped;
        }
        self.pass.place = Some(Place {
            log: log.name.clone(),
            offset: next,
        });
        if now.value().saturating_sub(self.stored_at.value()) >= STORE_MS {
            self.store(now);
        }
        ScrubStep::Segment
    }

    /// The first sealed segment at or behind a place.
    fn next(&mut self, mut place: Place) -> Option<(Arc<Log>, Arc<Segment>)> {
        let mut from = Bound::Included(place.log.clone());
        loop {
            let log = {
                let logs = self.shared.logs.lock();
                let mut behind = logs.range((from, Bound::Unbounded));
                behind.find_map(|(_, log)| log.upgrade().filter(|log| !log.is_failed()))?
            };
            if log.name != place.log {
                place = Place {
                    log: log.name.clone(),
                    offset: Offset::ZERO,
                };
            }
            if self
                .bound
                .as_ref()
                .is_none_or(|bound| bound.log != log.name)
            {
                self.bound = Some(Place {
                    log: log.name.clone(),
                    offset: log.log_end_offset(),
                });
            }
            let end = self.bound.as_ref().map_or(Offset::ZERO, |b| b.offset);
            let list = log.segments.load();
            let segment = list.iter().find(|segment| {
                segment.is_sealed() && segment.base >= place.offset && segment.base < end
            });
            if let Some(segment) = segment.cloned() {
                return Some((log, segment));
            }
            from = Bound::Excluded(log.name.clone());
        }
    }

    /// Reads one segment and does what follows from it; false when the pace ended that.
    fn look_at(&mut self, log: &Log, segment: Arc<Segment>, pace: &mut dyn Pace) -> bool {
        let path = segment.path.clone();
        let Some(seal) = log.listed_seal(&segment) else {
            return true;
        };
        let base = segment.base;
        // Held, it would keep retention and truncation from cutting the file in place.
        let weak = Arc::downgrade(&segment);
        drop(segment);
        let looked = self.read(&path, base, &seal, pace).and_then(|read| {
            let closer = match read {
                Read::Differs => weak.upgrade(),
                Read::Gone | Read::Skipped | Read::Verified | Read::Stopped => None,
            };
            let examined = closer.map(|segment| log.examine(segment, pace));
            Ok((read, examined.transpose()?))
        });
        match looked {
            Ok((Read::Stopped, _) | (_, Some(Examined::Stopped))) => return false,
            Ok((Read::Skipped, _)) => {
                self.totals.skipped_segments += 1;
                return true;
            }
            Ok((Read::Verified, _)) => {}
            Ok((Read::Gone, _) | (_, None | Some(Examined::NotListed))) => return true,
            Ok((_, Some(found))) => self.tell(log, &path, found),
            Err(error) => {
                let still_there = weak
                    .upgrade()
                    .is_some_and(|s| log.listed_seal(&s).is_some());
                if !still_there {
                    return true;
                }
                tracing::error!(
                    log = %log.name, %error,
                    "sealed segment cannot be read; check the disk"
                );
                self.totals.doubtful_segments += 1;
            }
        }
        self.totals.segments += 1;
        self.totals.bytes += seal.size;
        true
    }

    fn tell(&mut self, log: &Log, path: &Path, found: Examined) {
        match found {
            Examined::NotListed | Examined::Outlived | Examined::Stopped => {}
            Examined::Intact => tracing::warn!(
                log = %log.name, path = %path.display(),
                "segment did not verify at the first look and did at the second; if that happens \
                 again, check memory and disk"
            ),
            Examined::Unlocated => {
                report_unlocated(&log.name, path);
                self.totals.doubtful_segments += 1;
            }
            Examined::Damaged(ranges) => self.totals.damaged_ranges += ranges as u64,
        }
    }

    fn read(
        &mut self,
        path: &Path,
        base: Offset,
        seal: &Seal,
        pace: &mut dyn Pace,
    ) -> Result<Read, StorageError> {
        let file = match self.shared.fs.open(path, OpenHow::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Read::Gone),
            Err(error) => {
                let error = StorageError::io("open", path, &error);
                // Nothing is known of the disk.
                return match error.found_no_descriptor() {
                    true => Ok(Read::Skipped),
                    false => Err(error),
                };
            }
        };
        let mut batches = BatchStream::new(base, seal.next_offset);
        let (mut crc, mut at) = (0, 0);
        self.buffer.resize(STEP.min(seal.size) as usize, 0);
        while at < seal.size {
            let want = (seal.size - at).min(STEP) as usize;
            let into = self.buffer.get_mut(..want).unwrap_or_default();
            let read = failpoint::hit("scrub.before_read").and_then(|()| file.read_aside(into, at));
            let count = match read {
                Ok(0) => return Ok(Read::Differs),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                // Which bytes of it cannot be read shows when each batch is looked at.
                Err(_) => return Ok(Read::Differs),
            };
            let bytes = self.buffer.get(..count).unwrap_or_default();
            crc = crc32c::crc32c_append(crc, bytes);
            if !batches.feed(bytes) {
                return Ok(Read::Differs);
            }
            at += count as u64;
            if !pace.spend(count as u64) {
                return Ok(Read::Stopped);
            }
        }
        if crc == seal.log_crc && batches.is_whole() {
            Ok(Read::Verified)
        } else {
            Ok(Read::Differs)
        }
    }

    /// Writes down where the pass stands, if that has changed; blocks.
    pub fn store(&mut self, now: TimestampMs) {
        self.stored_at = now;
        if self.stored.as_ref() == Some(&self.pass) {
            return;
        }
        let mut text = format!("version={VERSION}\n");
        if let Some(started) = self.pass.started {
            let _ = writeln!(text, "started={started}");
        }
        if let Some(place) = &self.pass.place {
            let _ = writeln!(text, "log={}\noffset={}", place.log, place.offset);
        }
        match durable::write_small_file(&*self.shared.fs, &self.path, text.as_bytes()) {
            Ok(()) => self.stored = Some(self.pass.clone()),
            // The next start begins where the file stands.
            Err(error) => tracing::warn!(%error, "progress of the scrub not written"),
        }
    }
}

fn load(fs: &dyn Fs, path: &Path) -> Result<Option<Pass>, StorageError> {
    let Some(text) = read_small_text(fs, path)? else {
        return Ok(None);
    };
    let lines: Vec<(&str, &str)> = check_version(&text, VERSION, path)?
        .filter_map(|line| line.split_once('='))
        .collect();
    let field = |key: &str| lines.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
    let number = |key: &str| field(key).and_then(|text| text.parse::<i64>().ok());
    let place = field("log").map(|log| Place {
        log: log.to_owned(),
        offset: Offset::new(number("offset").unwrap_or(0)),
    });
    Ok(Some(Pass {
        started: number("started").map(TimestampMs::new),
        place,
    }))
}
