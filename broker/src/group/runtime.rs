//! The task that owns one shard: loads it, decides, appends, replays, lets timers go off.
//!
//! Events of different groups do not see each other, so their records share an append; an event of
//! a group whose records are not appended yet waits for them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use palisade_protocol::types::{LeaderEpoch, Offset, PartitionIndex};
use palisade_protocol::{Str, Uuid};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::budget::Budget;
use super::config::GroupConfig;
use super::decision::TimerChange;
use super::error::GroupError;
use super::load::{LoadError, load};
use super::shard::{Gone, MANY, Shard, Source};
use super::step::{Moment, Step};
use super::timers::Timers;
use super::write::{Packed, goes_on_refused, pack, settle};
use crate::clock::Clock;
use crate::logging::Throttle;
use crate::metadata::MetadataHandle;
use crate::partition::PartitionError;
use crate::partition::own::OwnPartition;
use crate::shutdown::{Shutdown, Stage};
use crate::task;

/// Events that wait for one shard at most; more wait with their connections.
pub(crate) const MAILBOX: usize = 1024;
/// Events that share one append at most.
const TURN: usize = 128;
/// How long a shard works before other tasks of its thread get a turn. tokio lets a task take 128
/// events, of which one may have a large group read, written and replayed.
const WORK: Duration = Duration::from_millis(1);
/// How long to wait before a log that did not load is read again.
const RELOAD: Duration = Duration::from_secs(10);
/// Groups and offsets looked at for what is to be deleted before members get their turn; one group
/// is looked at as a whole.
const LOOKS: usize = 1000;

/// An event on its way to a shard.
pub(crate) struct Command {
    /// The group it concerns; none for one that concerns all.
    pub(crate) group: Option<Str>,
    /// Members, offsets or topics that its request names.
    pub(crate) rows: usize,
    /// What happens.
    pub(crate) run: Event,
}

/// What happens to a shard.
pub(crate) type Event = Box<dyn FnOnce(&mut Shard, &Moment<'_>) -> Step + Send>;

/// How far a shard is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// Its log is being read.
    Loading,
    /// It answers.
    Active,
    /// Its log could not be read; it will be tried again.
    Failed,
    /// Another node coordinates, or this one stops.
    Closed,
}

/// A shard as everyone but its task sees it.
pub(crate) struct ShardHandle {
    pub(crate) index: PartitionIndex,
    /// The topic that the partition belongs to.
    pub(crate) topic_id: Uuid,
    pub(crate) epoch: LeaderEpoch,
    /// Empty until its log is open.
    partition: OnceLock<OwnPartition>,
    pub(crate) mailbox: mpsc::Sender<Command>,
    phase: AtomicU8,
    /// Topics that were deleted and whose offsets are still there.
    deleted: Mutex<Vec<(Arc<str>, Uuid)>>,
    /// Something other than the mailbox wants the task's attention.
    attention: Notify,
}

impl ShardHandle {
    pub(crate) fn new(
        index: PartitionIndex,
        topic_id: Uuid,
        epoch: LeaderEpoch,
    ) -> (Arc<Self>, mpsc::Receiver<Command>) {
        let (mailbox, events) = mpsc::channel(MAILBOX);
        let handle = Self {
            index,
            topic_id,
            epoch,
            partition: OnceLock::new(),
            mailbox,
            phase: AtomicU8::new(Phase::Loading as u8),
            deleted: Mutex::new(Vec::new()),
            attention: Notify::new(),
        };
        (Arc::new(handle), events)
    }

    /// How far the shard is.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Loading,
            1 => Phase::Active,
            2 => Phase::Failed,
            _ => Phase::Closed,
        }
    }

    fn set_phase(&self, phase: Phase) {
        // Closed is for good: the closing may come while the log is being read.
        let _ = self
            .phase
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                (now != Phase::Closed as u8).then_some(phase as u8)
            });
    }

    /// The partition, once its log is open; an answer comes from no other shard.
    pub(crate) fn partition(&self) -> Option<&OwnPartition> {
        self.partition.get()
    }

    /// Has a shard that failed look at its log again: the partition may have changed. One that is
    /// being read looks again should that fail.
    pub(crate) fn retry(&self) {
        if matches!(self.phase(), Phase::Failed | Phase::Loading) {
            self.attention.notify_one();
        }
    }

    /// Ends the shard: another node coordinates.
    pub(crate) fn close(&self) {
        self.set_phase(Phase::Closed);
        self.attention.notify_one();
    }

    /// Has the offsets of deleted topics deleted.
    pub(crate) fn topics_deleted(&self, topics: &[(Arc<str>, Uuid)]) {
        self.deleted.lock().extend_from_slice(topics);
        self.attention.notify_one();
    }
}

/// Opens the partition of a shard.
pub(crate) type Open = Box<dyn Fn() -> Result<OwnPartition, PartitionError> + Send + Sync>;

/// The task's own things.
pub(crate) struct Runner {
    pub(crate) handle: Arc<ShardHandle>,
    pub(crate) open: Open,
    pub(crate) events: mpsc::Receiver<Command>,
    pub(crate) config: Arc<GroupConfig>,
    /// What members of this node may keep in memory.
    pub(crate) budget: Arc<Budget>,
    pub(crate) metadata: MetadataHandle,
    pub(crate) clock: Clock,
    pub(crate) shutdown: Shutdown,
}

impl Runner {
    /// Serves until the partition is lost or the node stops.
    pub(crate) async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        let stopped = async {
            shutdown.reached(Stage::Stopped).await;
        };
        tokio::select! {
            () = self.serve_on() => {}
            () = stopped => {}
        }
        self.handle.set_phase(Phase::Closed);
        // What is still in the mailbox is dropped, which tells who asked.
        self.events.close();
    }

    /// Serves, after a panic from the log anew: a defect that one request meets must not take the
    /// coordinator from all groups of this partition.
    async fn serve_on(&mut self) {
        while let Err(text) = task::caught(self.serve()).await {
            static SAID: Throttle = Throttle::new();
            if SAID.may_speak() {
                error!(partition = %self.handle.index, error = text, "group coordinator panicked");
            }
            if self.handle.phase() == Phase::Active {
                self.handle.set_phase(Phase::Loading);
            } else {
                // It was not a request: what is in the log would do it again.
                self.handle.set_phase(Phase::Failed);
                tokio::time::sleep(RELOAD).await;
            }
        }
    }

    async fn serve(&mut self) {
        let Some((partition, shard)) = self.load().await else {
            return;
        };
        let now = Instant::now();
        let mut work = Work {
            end: partition.log_end_offset(),
            partition,
            expiry_at: now + self.config.offsets_retention_check_interval,
            runner: self,
            shard,
            timers: Timers::default(),
            queue: Vec::new(),
            busy: HashSet::new(),
            long: false,
            draining: false,
        };
        work.begin().await;
        work.serve().await;
        work.release();
    }

    /// Reads the log until that succeeds or the partition is lost.
    async fn load(&self) -> Option<(OwnPartition, Shard)> {
        let handle = &self.handle;
        let mut said = String::new();
        while handle.phase() != Phase::Closed {
            match self.read().await {
                Ok(loaded) => return Some(loaded),
                Err(error) if handle.phase() != Phase::Closed => {
                    let text = error.to_string();
                    if text != said {
                        error!(partition = %handle.index, %error, "groups not loaded");
                        said = text;
                    }
                    handle.set_phase(Phase::Failed);
                    let again = tokio::time::sleep(RELOAD);
                    tokio::select! {
                        () = again => {}
                        () = handle.attention.notified() => {}
                    }
                }
                Err(_) => {}
            }
        }
        None
    }

    /// Opens the partition if need be, and reads all of it.
    async fn read(&self) -> Result<(OwnPartition, Shard), LoadError> {
        let handle = &self.handle;
        let began = Instant::now();
        let partition = match handle.partition.get() {
            Some(partition) => partition,
            None => {
                let opened = (self.open)()?;
                handle.partition.get_or_init(|| opened)
            }
        };
        let mut shard = Shard::new(Arc::clone(&self.budget));
        let end = partition.log_end_offset();
        let loaded = load(partition, end, &mut shard).await?;
        if loaded.contradicted > 0 {
            warn!(
                partition = %handle.index,
                ranges = loaded.contradicted,
                "leader epochs of batches are damaged, groups are loaded all the same"
            );
        }
        let records = loaded.records;
        if records > 0 {
            info!(
                partition = %handle.index,
                leader_epoch = %handle.epoch,
                records,
                groups = shard.group_count(),
                offsets = shard.offset_count(),
                millis = began.elapsed().as_millis(),
                "groups loaded"
            );
        }
        Ok((partition.clone(), shard))
    }
}

/// A loaded shard at work.
struct Work<'a> {
    runner: &'a mut Runner,
    partition: OwnPartition,
    shard: Shard,
    timers: Timers,
    /// Log end after the last append; what answers depend on.
    end: Offset,
    /// Steps whose records are not appended yet, with the group of each.
    queue: Vec<(Option<Str>, Step)>,
    /// Those groups: what happens to one next waits for its records.
    busy: HashSet<Str>,
    /// Some of them came of an event that may have taken long.
    long: bool,
    expiry_at: Instant,
    /// The node stops: nothing is kept waiting.
    draining: bool,
}

impl Work<'_> {
    fn moment_of<'m>(
        runner: &'m Runner,
        partition: &OwnPartition,
        image: &'m Arc<crate::metadata::ClusterImage>,
    ) -> Moment<'m> {
        Moment {
            now: runner.clock.now(),
            image,
            config: &runner.config,
            max_batch_bytes: partition.max_batch_bytes(),
        }
    }

    async fn begin(&mut self) {
        let steps = self.happen(None, 0, |shard, moment| shard.loaded(moment));
        for step in steps {
            self.take(None, step);
        }
        self.flush().await;
        self.runner.handle.set_phase(Phase::Active);
        // Told while the log was not read: a load that failed took the notice.
        self.drop_deleted_topics().await;
    }

    async fn serve(&mut self) {
        let handle = Arc::clone(&self.runner.handle);
        let shutdown = self.runner.shutdown.clone();
        let drain = shutdown.reached(Stage::Draining);
        tokio::pin!(drain);
        while handle.phase() != Phase::Closed {
            let look = self.timers.next_look().unwrap_or(self.expiry_at);
            let look = look.min(self.expiry_at);
            tokio::select! {
                event = self.runner.events.recv() => match event {
                    Some(event) => self.turn(event).await,
                    None => return,
                },
                () = tokio::time::sleep_until(look) => self.look_at_timers().await,
                () = handle.attention.notified() => self.drop_deleted_topics().await,
                () = &mut drain, if !self.draining => self.draining = true,
            }
            if self.draining {
                self.release();
            }
        }
    }

    /// Takes an event and those that wait behind it; others get a breath after long ones.
    async fn turn(&mut self, first: Command) {
        let mut next = Some(first);
        let mut taken = 0;
        let mut began = Instant::now();
        while let Some(Command { group, rows, run }) = next {
            let must_wait = match &group {
                Some(group) => self.busy.contains(group.as_str()),
                None => !self.queue.is_empty(),
            };
            if must_wait {
                self.flush().await;
            }
            let step = self.happen(group.as_ref(), rows, run);
            self.take(group, step);
            taken += 1;
            if began.elapsed() >= WORK {
                // Who waits for these has not to wait for others' turns.
                self.flush().await;
                tokio::task::yield_now().await;
                began = Instant::now();
            }
            next = match taken {
                TURN => None,
                _ => self.runner.events.try_recv().ok(),
            };
        }
        self.flush().await;
        if began.elapsed() >= WORK {
            tokio::task::yield_now().await;
        }
    }

    /// Has an event happen that concerns one group or all, beside other tasks if it may take long.
    fn happen<T>(
        &mut self,
        group: Option<&Str>,
        rows: usize,
        event: impl FnOnce(&mut Shard, &Moment<'_>) -> T,
    ) -> T {
        let long = rows >= MANY || self.shard.is_large(group);
        self.long |= long;
        let image = self.runner.metadata.image();
        let moment = Self::moment_of(self.runner, &self.partition, &image);
        let shard = &mut self.shard;
        aside_if(long, || event(shard, &moment))
    }

    /// Does what needs no append at once, and queues the rest.
    fn take(&mut self, group: Option<Str>, mut step: Step) {
        self.change_timers(std::mem::take(&mut step.timers));
        if step.records.is_empty() {
            self.finish(group, step, Ok(()));
        } else {
            self.busy.extend(group.clone());
            self.queue.push((group, step));
        }
    }

    fn change_timers(&mut self, changes: Vec<TimerChange>) {
        let now = Instant::now();
        for change in changes {
            self.timers.change(change, now);
        }
    }

    /// What follows a step whose records are appended, or not.
    fn finish(&mut self, group: Option<Str>, step: Step, result: Result<(), GroupError>) {
        for delivery in step.deliveries {
            delivery(self.end);
        }
        if let Some(after) = step.after {
            let image = self.runner.metadata.image();
            let moment = Self::moment_of(self.runner, &self.partition, &image);
            let next = after(&mut self.shard, &moment, result);
            self.take(group, next);
        }
        // What it stood for is counted by now.
        drop(step.reserved);
    }

    /// Appends and replays everything that is queued.
    async fn flush(&mut self) {
        let was_long = std::mem::take(&mut self.long);
        while !self.queue.is_empty() {
            let queue = std::mem::take(&mut self.queue);
            let (groups, mut steps): (Vec<_>, Vec<_>) = queue.into_iter().unzip();
            let records: usize = steps.iter().map(|step| step.records.len()).sum();
            let long = was_long || records >= MANY;
            let results = self.store(&mut steps, long).await;
            aside_if(long, || {
                for ((group, step), result) in groups.into_iter().zip(steps).zip(results) {
                    self.finish(group, step, result);
                }
            });
        }
        self.busy.clear();
    }

    /// Appends and replays the records of steps, and says of each whether all of it was appended.
    async fn store(&mut self, steps: &mut [Step], long: bool) -> Vec<Result<(), GroupError>> {
        let clock = self.runner.clock;
        let (codec, max_bytes) = (self.runner.config.codec, self.partition.max_batch_bytes());
        let mut results = vec![Ok(()); steps.len()];
        let packed = aside_if(long, || {
            pack(steps, &mut results, codec, max_bytes, clock.now())
        });
        let records: Vec<_> = steps
            .iter_mut()
            .map(|step| std::mem::take(&mut step.records))
            .collect();
        let mut failed = None;
        for Packed { batch, parts } in packed {
            let appended = match &failed {
                // Of a step that failed the log keeps what came first, and nothing behind a gap.
                Some(error) if goes_on_refused(&parts, &results) => {
                    Err(PartitionError::clone(error))
                }
                _ => {
                    let epoch = self.runner.handle.epoch;
                    let appended = self.partition.append(batch, epoch, clock.now()).await;
                    appended.map(|end| self.end = end)
                }
            };
            if let Err(error) = &appended {
                failed = Some(error.clone());
            }
            let shard = &mut self.shard;
            aside_if(long, || {
                settle(parts, appended, &records, &mut results, |record| {
                    shard.replay(record, Source::Decision);
                });
            });
        }
        results
    }

    async fn look_at_timers(&mut self) {
        // A heartbeat that waits here has come in time: a slow disk is not its member's fault.
        for _ in 0..MAILBOX / TURN {
            match self.runner.events.try_recv() {
                Ok(event) => self.turn(event).await,
                Err(_) => break,
            }
        }
        let now = Instant::now();
        let mut began = now;
        let mut taken = 0;
        while let Some(key) = self.timers.pop_due(now) {
            if self.busy.contains(key.group().as_str()) {
                self.flush().await;
            }
            let expired = |shard: &mut Shard, moment: &Moment<'_>| shard.expired(&key, moment);
            let step = self.happen(Some(key.group()), 0, expired);
            self.take(Some(key.group().clone()), step);
            taken += 1;
            if taken % TURN == 0 || began.elapsed() >= WORK {
                self.flush().await;
                self.give_way().await;
                began = Instant::now();
            }
        }
        self.flush().await;
        if now >= self.expiry_at {
            self.expire().await;
            self.expiry_at = Instant::now() + self.runner.config.offsets_retention_check_interval;
        }
    }

    async fn expire(&mut self) {
        self.each_group(Shard::expire).await;
    }

    async fn drop_deleted_topics(&mut self) {
        let topics = std::mem::take(&mut *self.runner.handle.deleted.lock());
        // All of them, not only those with offsets now: a commit may come while the groups are
        // walked.
        if topics
            .iter()
            .any(|(name, _)| self.shard.has_offsets_in(name))
        {
            let gone: Gone = topics.into_iter().collect();
            self.each_group(|shard, group, _| shard.drop_topics(group, &gone))
                .await;
        }
    }

    /// Has something happen to each group.
    async fn each_group(&mut self, event: impl Fn(&Shard, &Str, &Moment<'_>) -> Step) {
        let mut began = Instant::now();
        let mut looks = 0;
        for group in self.shard.names() {
            looks += 1 + self.shard.offsets_of(&group);
            let step = self.happen(Some(&group), 0, |shard, moment| {
                event(shard, &group, moment)
            });
            self.take(Some(group), step);
            if looks >= LOOKS || began.elapsed() >= WORK {
                self.flush().await;
                self.give_way().await;
                began = Instant::now();
                looks = 0;
            }
        }
        self.flush().await;
    }

    /// Lets other tasks run, and members of this shard be served, in the middle of a long work.
    ///
    /// To be awaited with nothing queued.
    async fn give_way(&mut self) {
        tokio::task::yield_now().await;
        if let Ok(event) = self.runner.events.try_recv() {
            self.turn(event).await;
        }
    }

    /// Answers everything that waits in a group.
    fn release(&mut self) {
        let step = self.shard.release_parked();
        self.finish(None, step, Ok(()));
    }
}

/// Does what may take long beside other tasks, and all else in place.
fn aside_if<T>(long: bool, work: impl FnOnce() -> T) -> T {
    match long {
        true => task::aside(work),
        false => work(),
    }
}

#[cfg(test)]
mod tests;
