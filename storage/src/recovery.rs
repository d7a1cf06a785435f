//! Opening a log: what is on disk becomes a log that can be trusted (storage page, §7).
//!
//! Only bytes above the recovery point are scanned with their checksums, and only there a bad batch
//! is a torn tail that may be cut. Below it, and in sealed segments, bad bytes are damage: they
//! stay where they are, and reads of them answer `Corrupt`.

use std::path::Path;
use std::sync::Arc;

use crate::append::Writer;
use crate::config::LogConfig;
use crate::durable::{self, check_version, read_small_text};
use crate::epoch_cache::EpochCache;
use crate::error::StorageError;
use crate::failpoint;
use crate::fs::{FsFile, OpenHow};
use crate::log::{DamagedRange, EPOCH_FILE, Log, LogParts};
use crate::log_dir::LogSpec;
use crate::observer::LogObserver;
use crate::producer_state::snapshot;
use crate::seal::Seal;
use crate::segment::{Segment, SegmentHome, Tail, base_of};
use crate::segment_index::{IndexBuilder, SegmentIndex};
use crate::shared::Shared;
use crate::types::{LeaderEpoch, Offset, TimestampMs, TopicId};

mod quarantine;
mod replay;
mod scan;

pub(crate) use replay::replay_producers;
use scan::{Scan, Scanned};

/// Files of one segment, the records first.
pub(crate) const SEGMENT_EXTENSIONS: [&str; 5] = ["log", "seal", "index", "timeindex", "txnindex"];

/// File with the topic id.
pub(crate) const METADATA_FILE: &str = "partition.metadata";
const METADATA_VERSION: u32 = 1;

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
    segments: Vec<Arc<Segment>>,
    /// The last segment, if it can be appended to: its file, and bytes since its last entry.
    active: Option<(Arc<dyn FsFile>, u32)>,
    damage: Vec<DamagedRange>,
    epochs: Vec<(LeaderEpoch, Offset)>,
    /// Base of the first segment whose transaction index must be rebuilt.
    replay_from: Option<Offset>,
    to_sync: Vec<Arc<dyn FsFile>>,
    report: RecoveryReport,
}

/// Opens a log, creating it where absent.
pub(crate) fn open_log(
    shared: &Arc<Shared>,
    spec: &LogSpec,
    config: LogConfig,
    observer: Arc<dyn LogObserver>,
    now: TimestampMs,
) -> Result<(Arc<Log>, RecoveryReport), StorageError> {
    let dir = shared.path.join(&spec.dir_name);
    forget_predecessor(shared, &spec.dir_name, &dir)?;
    let created = prepare_dir(shared, &dir, spec.topic_id)?;
    let home = SegmentHome {
        fs: shared.fs.clone(),
        maps: shared.maps.clone(),
        dir,
    };
    let (name, topic_id) = (spec.dir_name.as_str(), spec.topic_id);
    let recovery_point = shared
        .recovery_points
        .get(name, topic_id)
        .unwrap_or(Offset::ZERO);
    let mut recovery = Recovery {
        shared,
        name,
        config: &config,
        home,
        now,
        recovery_point,
        segments: Vec::new(),
        active: None,
        damage: Vec::new(),
        epochs: Vec::new(),
        replay_from: None,
        to_sync: Vec::new(),
        report: RecoveryReport {
            created,
            ..RecoveryReport::default()
        },
    };
    let stored_start = shared
        .log_starts
        .get(name, topic_id)
        .unwrap_or(Offset::ZERO);
    recovery.load_segments(stored_start)?;
    recovery.make_active(stored_start)?;
    recovery.sync()?;
    let (parts, report) = recovery.finish(topic_id, stored_start)?;
    let log = Log::new(shared.clone(), observer, parts);
    log.queue_missing_seals();
    Ok((log, report))
}

/// Drops the stored offsets of a log that was deleted, before a new one takes its name.
fn forget_predecessor(shared: &Shared, name: &str, dir: &Path) -> Result<(), StorageError> {
    let there = shared
        .fs
        .exists(dir)
        .map_err(|e| StorageError::io("open", dir, &e))?;
    if there {
        return Ok(());
    }
    for table in [
        &shared.recovery_points,
        &shared.log_starts,
        &shared.high_watermarks,
    ] {
        // Removed from memory at the deletion; the file may be older than that.
        if table.remove(name) || table.is_stale() {
            table.store(&*shared.fs)?;
        }
    }
    Ok(())
}

/// Makes the directory and its topic id, or checks the id. Answers whether it is new.
fn prepare_dir(shared: &Shared, dir: &Path, topic_id: TopicId) -> Result<bool, StorageError> {
    let fs = &*shared.fs;
    let io = |error| StorageError::io("create", dir, &error);
    let metadata = dir.join(METADATA_FILE);
    if fs.exists(dir).map_err(io)? {
        if let Some(found) = stored_topic_id(fs, &metadata)? {
            return if found == topic_id {
                Ok(false)
            } else {
                Err(StorageError::TopicIdMismatch {
                    path: dir.to_owned(),
                })
            };
        }
        let entries = fs.list(dir).map_err(io)?;
        if entries.iter().any(|entry| base_of(&entry.name).is_some()) {
            let reason = "segments without a topic id";
            return Err(StorageError::BadFile {
                path: metadata,
                reason,
            });
        }
    }
    fs.create_dir(dir).map_err(io)?;
    failpoint::hit("create.after_dir").map_err(io)?;
    let text = format!("version={METADATA_VERSION}\ntopic_id={topic_id}\n");
    durable::write_small_file(fs, &metadata, text.as_bytes())?;
    failpoint::hit("create.before_parent_sync").map_err(io)?;
    fs.sync_dir(&shared.path).map_err(io)?;
    Ok(true)
}

/// Topic id in a metadata file; `None` when there is no file.
pub(crate) fn stored_topic_id(
    fs: &dyn crate::fs::Fs,
    path: &Path,
) -> Result<Option<TopicId>, StorageError> {
    let Some(text) = read_small_text(fs, path)? else {
        return Ok(None);
    };
    let mut lines = check_version(&text, METADATA_VERSION, path)?;
    let reason = "no topic id";
    lines
        .find_map(|line| line.strip_prefix("topic_id=")?.parse().ok())
        .map(Some)
        .ok_or(StorageError::BadFile {
            path: path.to_owned(),
            reason,
        })
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
        for entry in fs.list(&self.home.dir).map_err(self.io("list"))? {
            let leftover = [".tmp", ".deleted", ".cleaned"];
            if leftover.iter().any(|suffix| entry.name.ends_with(suffix)) {
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
        if bases.is_empty() && self.recovery_point > stored_start {
            // Synced segments are gone without a trace.
            self.note_missing(stored_start, self.recovery_point, stored_start);
        }
        Ok(())
    }

    /// Takes one segment in; answers whether the log ends in it with a torn tail.
    fn load_segment(
        &mut self,
        base: Offset,
        next_base: Option<Offset>,
        seal: Option<Seal>,
        sealed_later: bool,
    ) -> Result<bool, StorageError> {
        let path: Arc<Path> = self.home.path(base).into();
        let open = |error| StorageError::io("open", &path, &error);
        let file = self.shared.fs.open(&path, OpenHow::Write).map_err(open)?;
        let size = file.size().map_err(open)?;
        // A longer file was appended to after a clean stop: the seal is of another day.
        let seal = seal.filter(|seal| {
            seal.size >= size && next_base.is_none_or(|next| seal.next_offset <= next)
        });
        let intact = seal.filter(|seal| seal.size == size);
        if let Some(seal) = intact {
            let verified = seal.next_offset <= self.recovery_point;
            if next_base.is_none() && verified {
                return self.reopen_last(base, seal, file).map(|()| false);
            }
            let segment = Arc::new(Segment::sealed(&self.home, base, seal, self.now));
            if next_base.is_some() && (verified || self.verify(&segment, &seal)?) {
                self.note_gap(seal.next_offset, next_base, base);
                self.segments.push(segment);
                return Ok(false);
            }
        }

        let scan = Scan {
            path: &path,
            base,
            interval: self.config.index_interval_bytes,
            exact: !self.config.compact,
            // A sealed segment that does not match is looked through from its start.
            recovery_point: if seal.is_some() {
                Offset::ZERO
            } else {
                self.recovery_point
            },
            next_base,
            may_be_torn: seal.is_none() && !sealed_later,
            epoch: self
                .epochs
                .last()
                .map_or(LeaderEpoch::new(-1), |(epoch, _)| *epoch),
        };
        let mut scanned = scan.run(&*file)?;
        self.report.scanned_bytes += scanned.scanned_bytes;
        self.report.rebuilt_indexes += 1;
        self.damage.append(&mut scanned.damage);
        let tail = scanned.tail;
        let torn = match scanned.torn {
            Some(bad) => {
                tracing::warn!(
                    log = self.name, offset = %bad.offset, reason = bad.reason,
                    bytes = size - tail.position, "torn tail cut"
                );
                quarantine::keep_tail(self.shared, self.name, &path, &*file, tail.position, size);
                file.set_len(tail.position).map_err(self.io("truncate"))?;
                self.report.cut_bytes += size - tail.position;
                true
            }
            None => self.is_hole(tail.next, next_base, sealed_later),
        };
        let lost_tail = seal.map_or(tail.next, |seal| seal.next_offset);
        if !torn && !scanned.dead_end {
            if lost_tail > tail.next {
                self.note_missing(tail.next, lost_tail, base);
            }
            self.note_gap(tail.next.max(lost_tail), next_base, base);
        }
        let dead_end = scanned.dead_end || lost_tail > tail.next;
        self.push_scanned(base, file, scanned, dead_end);
        Ok(torn)
    }

    fn push_scanned(
        &mut self,
        base: Offset,
        file: Arc<dyn FsFile>,
        scanned: Scanned,
        dead_end: bool,
    ) {
        self.epochs.extend(scanned.epochs);
        self.replay_from.get_or_insert(base);
        let since_index = scanned.content.since();
        let segment = Segment::open(
            &self.home,
            base,
            self.config.segment_bytes.min(u64::from(u32::MAX >> 1)),
            file.clone(),
            scanned.tail,
            scanned.content,
            self.now,
        );
        self.segments.push(Arc::new(segment));
        self.active = (!dead_end).then(|| (file.clone(), since_index));
        self.to_sync.push(file);
    }

    /// Goes on with the last segment of a clean stop: nothing is scanned.
    fn reopen_last(
        &mut self,
        base: Offset,
        seal: Seal,
        file: Arc<dyn FsFile>,
    ) -> Result<(), StorageError> {
        let fs = &*self.shared.fs;
        let path: Arc<Path> = self.home.path(base).into();
        let tail = Tail {
            position: seal.size,
            next: seal.next_offset,
        };
        let Some(index) = SegmentIndex::load(fs, &path, &seal) else {
            let scan = Scan {
                path: &path,
                base,
                interval: self.config.index_interval_bytes,
                exact: !self.config.compact,
                recovery_point: self.recovery_point,
                next_base: None,
                may_be_torn: false,
                epoch: LeaderEpoch::new(-1),
            };
            let mut scanned = scan.run(&*file)?;
            self.report.rebuilt_indexes += 1;
            self.damage.append(&mut scanned.damage);
            let dead_end = scanned.dead_end;
            self.push_scanned(base, file, scanned, dead_end);
            return Ok(());
        };
        let (entry, _) = index.floor_with_time(seal.size);
        let since_index = (seal.size - u64::from(entry.position)) as u32;
        let memory = index.to_memory(seal.size, seal.next_offset);
        let first = (seal.size > 0).then_some(seal.first_timestamp);
        let content = IndexBuilder::resume(base, memory, first, seal.max_timestamp);
        // The seal must not outlive the first append.
        for extension in SEGMENT_EXTENSIONS
            .iter()
            .filter(|extension| **extension != "log")
        {
            let _ = fs.remove_file(&path.with_extension(extension));
        }
        fs.sync_dir(&self.home.dir).map_err(self.io("sync"))?;
        let capacity = self.config.segment_bytes.min(u64::from(u32::MAX >> 1));
        let segment = Segment::open(
            &self.home,
            base,
            capacity,
            file.clone(),
            tail,
            content,
            self.now,
        );
        self.segments.push(Arc::new(segment));
        self.active = Some((file, since_index));
        Ok(())
    }

    /// Compares a sealed segment above the recovery point with its seal.
    fn verify(&mut self, segment: &Arc<Segment>, seal: &Seal) -> Result<bool, StorageError> {
        self.report.scanned_bytes += seal.size;
        let crc = crate::roll::checksum(segment, seal.size)?;
        Ok(crc == seal.log_crc)
    }

    /// True when what follows a segment that was never synced does not continue it.
    fn is_hole(&self, next: Offset, next_base: Option<Offset>, sealed_later: bool) -> bool {
        let gap = next_base.is_some_and(|base| base > next);
        gap && !self.config.compact && next >= self.recovery_point && !sealed_later
    }

    /// Notes offsets that are missing between two segments.
    fn note_gap(&mut self, next: Offset, next_base: Option<Offset>, base: Offset) {
        if let Some(to) = next_base.filter(|to| *to > next && !self.config.compact) {
            self.note_missing(next, to, base);
        }
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
            for extension in SEGMENT_EXTENSIONS {
                match self.shared.fs.remove_file(&path.with_extension(extension)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(self.io("remove")(error));
                    }
                    _ => {}
                }
            }
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
        if self.active.is_some() && end < self.recovery_point && !self.segments.is_empty() {
            let base = self.segments.last().map_or(end, |last| last.base);
            self.note_missing(end, self.recovery_point, base);
            self.active = None;
        }
        if self.active.is_some() && end >= stored_start {
            return Ok(());
        }
        if self.damage.is_empty() && end < stored_start {
            // All records were deleted; what is left of them is in nobody's way.
            let bases: Vec<Offset> = self.segments.drain(..).map(|s| s.base).collect();
            let before = self.report.clone();
            self.drop_segments(&bases)?;
            self.report = before;
            self.to_sync.clear();
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
        self.to_sync.push(file);
        Ok(())
    }

    /// Brings everything that was recovered to stable storage before it is served.
    fn sync(&mut self) -> Result<(), StorageError> {
        failpoint::hit("recovery.before_sync").map_err(self.io("sync"))?;
        let end = self
            .segments
            .last()
            .map_or(Offset::ZERO, |last| last.tail().next);
        for entry in self
            .shared
            .fs
            .list(&self.home.dir)
            .map_err(self.io("list"))?
        {
            if snapshot::offset_of(&entry.name).is_some_and(|offset| offset > end) {
                let path = self.home.dir.join(&entry.name);
                self.shared
                    .fs
                    .remove_file(&path)
                    .map_err(self.io("remove"))?;
            }
        }
        for file in &self.to_sync {
            file.sync().map_err(self.io("sync"))?;
        }
        if !self.to_sync.is_empty() {
            self.shared
                .fs
                .sync_dir(&self.home.dir)
                .map_err(self.io("sync"))?;
        }
        let last = self.segments.len().saturating_sub(1);
        self.segments
            .iter()
            .take(last)
            .for_each(|segment| segment.set_synced());
        failpoint::hit("recovery.after_sync").map_err(self.io("sync"))
    }

    fn load_epochs(&mut self, start: Offset, end: Offset) -> Result<EpochCache, StorageError> {
        let path = self.home.dir.join(EPOCH_FILE);
        let mut epochs = match EpochCache::load(&*self.shared.fs, &path) {
            Ok(epochs) => epochs,
            Err(StorageError::BadFile { reason, .. }) => {
                tracing::warn!(log = self.name, reason, "leader epochs rebuilt by scanning");
                self.walk_epochs()?
            }
            Err(error) => return Err(error),
        };
        // Above the recovery point only the batches count.
        epochs.truncate_from_end(self.recovery_point.min(end));
        for (epoch, offset) in &self.epochs {
            epochs.assign(*epoch, *offset);
        }
        epochs.truncate_from_end(end);
        epochs.truncate_from_start(start);
        Ok(epochs)
    }

    fn walk_epochs(&self) -> Result<EpochCache, StorageError> {
        let mut epochs = EpochCache::default();
        for segment in &self.segments {
            let region = segment.region()?;
            let tail = segment.tail();
            let mut walk = crate::batch::Walk::new(&region, 0, tail.position, segment.base);
            while let Some(Ok(found)) = walk.next() {
                epochs.assign(
                    found.header.partition_leader_epoch,
                    found.header.base_offset,
                );
            }
        }
        Ok(epochs)
    }

    fn finish(
        mut self,
        topic_id: TopicId,
        stored_start: Offset,
    ) -> Result<(LogParts, RecoveryReport), StorageError> {
        let first = self
            .segments
            .first()
            .map_or(Offset::ZERO, |segment| segment.base);
        let active = self
            .segments
            .last()
            .cloned()
            .expect("make_active saw to one");
        let (file, since_index) = self.active.take().expect("make_active saw to one");
        let end = active.tail().next;
        let missing = self
            .damage
            .iter()
            .map(|range| range.from)
            .min()
            .unwrap_or(first);
        let start = stored_start.max(first.min(missing));
        let epochs = self.load_epochs(start, end)?;
        let newest = self.replay_from.unwrap_or(end).min(end);
        let mut producers = replay_producers(&self.home, &self.segments, start, newest, end)?;
        producers.expire(self.now, self.config.producer_id_expiration_ms);
        let marked = self
            .shared
            .high_watermarks
            .get(self.name, topic_id)
            .unwrap_or(start);
        self.report.high_watermark = marked.clamp(start, end);
        self.report.damaged_ranges = self.damage.len();
        for range in &self.damage {
            tracing::error!(
                log = self.name, path = %range.path.display(), from = %range.from,
                to = %range.to, reason = range.reason, "log is damaged"
            );
        }
        let index = active
            .memory_index()
            .expect("an opened segment has its index in memory");
        let parts = LogParts {
            name: self.name.to_owned(),
            topic_id,
            home: self.home,
            config: self.config.clone(),
            segments: self.segments,
            start,
            end,
            durable: end,
            high_watermark: self.report.high_watermark,
            epochs,
            damage: self.damage,
            writer: Writer::new(active, file, index, since_index, producers),
        };
        Ok((parts, self.report))
    }
}
