//! Opening a log: what is on disk becomes a log that can be trusted (storage page, §7).
//!
//! Only bytes above the recovery point are scanned with their checksums, and only there a bad batch
//! is a torn tail that may be cut. Below it, and in sealed segments, bad bytes are damage: they
//! stay where they are, and reads of them answer `Corrupt`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::LogConfig;
use crate::damage::DamagedRange;
use crate::error::StorageError;
use crate::fs::{FsFile, OpenHow};
use crate::log::Log;
use crate::log_dir::LogSpec;
use crate::observer::LogObserver;
use crate::seal::Seal;
use crate::segment::{Segment, SegmentHome, Tail, base_of};
use crate::segment_index::IndexBuilder;
use crate::shared::Shared;
use crate::types::{LeaderEpoch, Offset, TimestampMs};

mod finish;
mod home;
mod quarantine;
mod replay;
mod scan;
mod segment_file;

pub(crate) use home::{METADATA_FILE, is_half_made, stored_topic_id};
use home::{forget_predecessor, prepare_dir, refuse_vanished, remove_unmade};
pub(crate) use replay::{replay_aborted, replay_producers};

/// Files of one segment in the order of their removal: the records last, so that no seal is left
/// to be taken for that of a later segment.
pub(crate) const SEGMENT_EXTENSIONS: [&str; 5] = ["seal", "index", "timeindex", "txnindex", "log"];

/// What opening a log found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The log did not exist before.
    pub created: bool,
    /// Bytes scanned with their checksums.
    pub scanned_bytes: u64,
    /// Bytes of torn tail that were cut.
    pub cut_bytes: u64,
    /// Segments behind the torn tail that were dropped.
    pub dropped_segments: usize,
    /// Indexes rebuilt by scanning.
    pub rebuilt_indexes: usize,
    /// Number of damaged ranges found below the recovery point.
    pub damaged_ranges: usize,
    /// High watermark of the checkpoint, bounded by the log.
    pub high_watermark: Offset,
}

/// One log on its way from disk to memory.
struct Recovery<'a> {
    shared: &'a Arc<Shared>,
    name: &'a str,
    config: &'a LogConfig,
    home: SegmentHome,
    now: TimestampMs,
    recovery_point: Offset,
    /// The log start was found in its checkpoint.
    start_is_known: bool,
    /// Offsets may leave gaps: the log is compacted, or has been.
    sparse: bool,
    segments: Vec<Arc<Segment>>,
    /// The last segment is gone on with as a clean stop left it: nothing of it was written.
    as_left: bool,
    /// The last segment, if it can be appended to: its file, and bytes since its last entry.
    active: Option<(Arc<dyn FsFile>, u32)>,
    damage: Vec<DamagedRange>,
    /// Segments that are not as they were sealed, though each batch of them verifies.
    doubtful: Vec<Arc<Segment>>,
    epochs: Vec<(LeaderEpoch, Offset)>,
    /// What the next batch must have at least. A segment that is not as it was sealed says nothing
    /// of it: no checksum covers a leader epoch, and what follows would pass for a torn tail.
    lowest_epoch: LeaderEpoch,
    /// The partition's, as `LogSpec` has it.
    leader_epoch: Option<LeaderEpoch>,
    /// Base of the first segment whose transaction index must be rebuilt.
    replay_from: Option<Offset>,
    /// Files to sync, each with the bytes that may never have been synced.
    to_sync: Vec<(Arc<dyn FsFile>, std::ops::Range<u64>)>,
    /// The records that the snapshots speak of are gone, and so are later ones.
    forget_producers: bool,
    report: RecoveryReport,
}

/// Opens a log, creating it where absent; `synced` is a lower bound of the recovery point.
///
/// A creation that fails leaves nothing behind.
pub(crate) fn open_log(
    shared: &Arc<Shared>,
    spec: &LogSpec,
    synced: Offset,
    config: LogConfig,
    observer: Arc<dyn LogObserver>,
    now: TimestampMs,
) -> Result<(Arc<Log>, RecoveryReport), StorageError> {
    let mut made = false;
    let opened = recover(shared, spec, synced, config, observer, now, &mut made);
    if made && opened.is_err() {
        remove_unmade(shared, &shared.path.join(&spec.dir_name));
    }
    opened
}

/// The same; `made` tells whether it has made the directory, also where it fails.
fn recover(
    shared: &Arc<Shared>,
    spec: &LogSpec,
    synced: Offset,
    config: LogConfig,
    observer: Arc<dyn LogObserver>,
    now: TimestampMs,
    made: &mut bool,
) -> Result<(Arc<Log>, RecoveryReport), StorageError> {
    let dir = shared.path.join(&spec.dir_name);
    let (name, topic_id) = (spec.dir_name.as_str(), spec.topic_id);
    let sparse = config.compact || shared.cleaner_points.get(name, topic_id).is_some();
    refuse_vanished(shared, name, topic_id, &dir, sparse)?;
    forget_predecessor(shared, &spec.dir_name, &dir)?;
    let created = prepare_dir(shared, &dir, spec.topic_id, made)?;
    let home = SegmentHome {
        fs: shared.fs.clone(),
        maps: shared.maps.clone(),
        dir,
    };
    crate::swap::finish(&home)?;
    let recovery_point = shared
        .recovery_points
        .get(name, topic_id)
        .unwrap_or(Offset::ZERO)
        .max(synced);
    let known_start = shared.log_starts.get(name, topic_id);
    let stored_start = known_start.unwrap_or(Offset::ZERO);
    let mut recovery = Recovery {
        shared,
        name,
        config: &config,
        home,
        now,
        recovery_point,
        start_is_known: known_start.is_some(),
        sparse,
        segments: Vec::new(),
        active: None,
        as_left: false,
        damage: Vec::new(),
        doubtful: Vec::new(),
        epochs: Vec::new(),
        lowest_epoch: LeaderEpoch::new(-1),
        leader_epoch: spec.leader_epoch,
        replay_from: None,
        to_sync: Vec::new(),
        forget_producers: false,
        report: RecoveryReport {
            created,
            ..RecoveryReport::default()
        },
    };
    recovery.load_segments(stored_start)?;
    recovery.make_active(stored_start)?;
    recovery.sync()?;
    let doubtful = std::mem::take(&mut recovery.doubtful);
    let (parts, mut report) = recovery.finish(topic_id, stored_start)?;
    let log = Log::new(shared.clone(), observer, parts);
    // With the leader epochs of the log at hand, which the scan did not have.
    doubtful
        .into_iter()
        .for_each(|segment| log.judge_doubtful(segment));
    report.damaged_ranges = log.damage.load().len();
    log.lower_cleaner_point(log.log_end_offset())?;
    log.queue_missing_seals();
    Ok((log, report))
}

impl Recovery<'_> {
    fn io(&self, operation: &'static str) -> impl Fn(std::io::Error) -> StorageError {
        let dir = self.home.dir.clone();
        move |error| StorageError::io(operation, &dir, &error)
    }

    /// Removes what a crash left half done; answers the bases of the segments, ascending.
    fn bases(&self) -> Result<Vec<Offset>, StorageError> {
        let fs = &*self.shared.fs;
        let mut bases = Vec::new();
        let mut removed = false;
        let entries = fs.list(&self.home.dir).map_err(self.io("list"))?;
        let names: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        for entry in &entries {
            if is_leftover(&entry.name, &names) {
                fs.remove_file(&self.home.dir.join(&entry.name))
                    .map_err(self.io("remove"))?;
                removed = true;
            }
            bases.extend(base_of(&entry.name));
        }
        if removed {
            fs.sync_dir(&self.home.dir).map_err(self.io("sync"))?;
        }
        bases.sort_unstable();
        self.drop_unused(&mut bases)?;
        Ok(bases)
    }

    /// Removes a last segment that was created but never written: the one before may have gone on
    /// after a roll that failed.
    fn drop_unused(&self, bases: &mut Vec<Offset>) -> Result<(), StorageError> {
        let fs = &*self.shared.fs;
        let Some(last) = bases.last().filter(|_| bases.len() > 1) else {
            return Ok(());
        };
        let path = self.home.path(*last);
        let file = fs.open(&path, OpenHow::Read).map_err(self.io("open"))?;
        let empty = file.size().map_err(self.io("open"))? == 0;
        if empty && Seal::load(fs, &path.with_extension("seal"))?.is_none() {
            fs.remove_file(&path).map_err(self.io("remove"))?;
            fs.sync_dir(&self.home.dir).map_err(self.io("sync"))?;
            bases.pop();
        }
        Ok(())
    }

    fn load_segments(&mut self, stored_start: Offset) -> Result<(), StorageError> {
        let bases = self.bases()?;
        let mut seals = Vec::with_capacity(bases.len());
        for base in &bases {
            let path = self.home.path(*base).with_extension("seal");
            seals.push(Seal::load(&*self.shared.fs, &path)?);
        }
        // Only a reset takes away all files: the producers of before went with them.
        self.forget_producers = bases.is_empty();
        let last_sealed = seals.iter().rposition(Option::is_some);
        for (n, base) in bases.iter().copied().enumerate() {
            let next_base = bases.get(n + 1).copied();
            let sealed_later = last_sealed.is_some_and(|last| last > n);
            let seal = seals.get(n).copied().flatten();
            let torn = self.load_segment(base, next_base, seal, sealed_later)?;
            if torn {
                self.drop_segments(bases.get(n + 1..).unwrap_or_default())?;
                break;
            }
        }
        if let Some(first) = bases.first().filter(|_| !self.sparse)
            && self.start_is_known
            && *first > stored_start
        {
            // The log start is stored before files go: these went without it.
            self.note_missing(stored_start, *first, stored_start);
        }
        if bases.is_empty() && self.recovery_point > stored_start {
            // Synced segments are gone without a trace.
            self.note_missing(stored_start, self.recovery_point, stored_start);
        }
        Ok(())
    }

    fn note_missing(&mut self, from: Offset, to: Offset, base: Offset) {
        let path = self.home.path(base).into();
        let (start, end) = (u64::MAX, u64::MAX);
        let reason = "records are missing";
        self.damage.push(DamagedRange {
            from,
            to,
            path,
            start,
            end,
            reason,
        });
    }

    fn drop_segments(&mut self, bases: &[Offset]) -> Result<(), StorageError> {
        // Newest first: a crash in between leaves a log without a hole in its files.
        for base in bases.iter().rev() {
            let path = self.home.path(*base);
            if let Ok(file) = self.shared.fs.open(&path, OpenHow::Read) {
                self.report.cut_bytes += file.size().unwrap_or(0);
            }
            self.home.remove_segment(*base)?;
            self.report.dropped_segments += 1;
        }
        Ok(())
    }

    /// Sees to a last segment that can be appended to.
    fn make_active(&mut self, stored_start: Offset) -> Result<(), StorageError> {
        let end = self
            .segments
            .last()
            .map_or(stored_start, |last| last.tail().next);
        let missing_to = self.recovery_point.max(stored_start);
        // Damage below the log start is nobody's loss.
        self.damage.retain(|range| range.to > stored_start);
        let live = end.max(stored_start);
        if live < self.recovery_point && !self.segments.is_empty() {
            let base = self.segments.last().map_or(end, |last| last.base);
            if self.active.is_some() {
                self.note_missing(live, self.recovery_point, base);
            }
            self.active = None;
        }
        if self.active.is_some() && end >= stored_start {
            if self.as_left {
                return Ok(());
            }
            let last = self.segments.last().map(|last| last.base);
            return last.map_or(Ok(()), |base| self.unseal(base));
        }
        if self.damage.is_empty() && end < stored_start {
            // Deleted records, or those of before a reset, without what came after them.
            let bases: Vec<Offset> = self.segments.drain(..).map(|s| s.base).collect();
            let before = self.report.clone();
            self.drop_segments(&bases)?;
            self.report = before;
            self.to_sync.clear();
            self.forget_producers = true;
        }
        let damaged_to = self
            .damage
            .iter()
            .map(|range| range.to)
            .max()
            .unwrap_or(end);
        let base = end.max(missing_to).max(damaged_to);
        let path = self.home.path(base);
        let file = self
            .shared
            .fs
            .open(&path, OpenHow::Create)
            .map_err(self.io("create"))?;
        let segment = Segment::open(
            &self.home,
            base,
            self.config.segment_bytes.min(u64::from(u32::MAX >> 1)),
            file.clone(),
            Tail {
                position: 0,
                next: base,
            },
            IndexBuilder::new(base, self.config.index_interval_bytes),
            self.now,
        );
        self.segments.push(Arc::new(segment));
        self.active = Some((file.clone(), 0));
        self.to_sync.push((file, 0..0));
        Ok(())
    }
}

/// True for a file that no step will miss: half written, renamed away, or of no segment.
fn is_leftover(name: &str, all: &BTreeSet<&str>) -> bool {
    let Some((stem, extension)) = name.rsplit_once('.') else {
        return false;
    };
    match extension {
        "tmp" | "deleted" | "cleaned" => true,
        "log" => false,
        _ if SEGMENT_EXTENSIONS.contains(&extension) => {
            !all.contains(format!("{stem}.log").as_str())
        }
        _ => false,
    }
}
