//! Fetches from all leaders at once, one request to each, and prints what comes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    time::Duration,
};

use palisade_protocol::{
    ErrorCode, Str,
    messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    super::{
        client::{ClientError, Cluster, Line, TopicPartition, printable},
        output,
        progress::Progress,
    },
    format::{Format, Marks, Shown},
    records::{self, Position, ReadError},
    start,
};
use crate::task;

/// The last version of Fetch that names topics.
const BY_NAME: i16 = 12;
/// Longest wait of a broker for something to send.
const MAX_WAIT_MS: i32 = 500;
/// Bytes of one answer, and of one partition in it.
const ANSWER_BYTES: i32 = 16 << 20;
const PARTITION_BYTES: i32 = 1 << 20;
/// Before a partition that failed is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// How long a partition is tried in vain before that is said.
const SILENCE: Duration = Duration::from_secs(1);

/// One partition that is read.
#[derive(Debug)]
struct Place {
    position: Position,
    /// Where to stop, exclusive.
    end: Option<i64>,
    is_busy: bool,
    retry_at: Option<Instant>,
    /// Since when it is asked for in vain, or in hope.
    trying_since: Option<Instant>,
    /// Why it was in vain the last time.
    trouble: Option<ClientError>,
    /// When it was asked for the last time.
    asked_at: Option<Instant>,
}

impl Place {
    fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.position.offset >= end)
    }

    fn is_well(&mut self) {
        self.trying_since = None;
        self.trouble = None;
        self.retry_at = None;
    }
}

/// What a leader sent.
struct Reply {
    node: i32,
    line: Line,
    epoch: u64,
    partitions: Vec<TopicPartition>,
    outcome: Result<FetchResponse, ClientError>,
}

/// How records are printed.
pub(super) struct Printing {
    pub(super) format: Format,
    pub(super) null: Vec<u8>,
    /// Standard output is a terminal, on which no record may act.
    pub(super) is_for_people: bool,
    /// Records left to print.
    pub(super) left: Option<u64>,
}

/// Reads partitions and prints their records.
pub(super) struct Reader {
    printing: Printing,
    /// 1 read_committed, else 0.
    isolation: i8,
    places: BTreeMap<TopicPartition, Place>,
    busy: BTreeSet<i32>,
    /// Number of the assignment: what was asked under another one is thrown away.
    epoch: u64,
    replies: (mpsc::Sender<Reply>, mpsc::Receiver<Reply>),
    /// Whether leaders must be looked for.
    pub(super) is_stale: bool,
    /// It was said already that something is tried in vain.
    is_told: bool,
    /// Why nobody reads the output any more.
    unheard: Option<io::Error>,
    out: Vec<u8>,
    pub(super) progress: Progress,
}

impl Reader {
    pub(super) fn new(printing: Printing, isolation: i8, progress: Progress) -> Self {
        Self {
            printing,
            isolation,
            places: BTreeMap::new(),
            busy: BTreeSet::new(),
            epoch: 0,
            replies: mpsc::channel(64),
            is_stale: false,
            is_told: false,
            unheard: None,
            out: Vec::new(),
            progress,
        }
    }

    /// Reads these partitions from now on and no others; up to `ends`, where given.
    pub(super) fn assign(
        &mut self,
        starts: &BTreeMap<TopicPartition, Position>,
        ends: Option<&BTreeMap<TopicPartition, i64>>,
    ) {
        self.epoch += 1;
        self.places = starts
            .iter()
            .map(|(at, position)| {
                let place = Place {
                    position: *position,
                    end: ends.and_then(|ends| ends.get(at)).copied(),
                    is_busy: false,
                    retry_at: None,
                    trying_since: None,
                    trouble: None,
                    asked_at: None,
                };
                (at.clone(), place)
            })
            .collect();
    }

    /// Where reading is.
    pub(super) fn positions(&self) -> BTreeMap<TopicPartition, Position> {
        let all = self.places.iter();
        all.map(|(at, place)| (at.clone(), place.position))
            .collect()
    }

    /// Nothing is left to do: all was read that was to be, or nobody listens.
    pub(super) fn is_done(&self) -> bool {
        let is_enough = self.printing.left == Some(0);
        is_enough || self.unheard.is_some() || self.is_at_end()
    }

    fn is_at_end(&self) -> bool {
        self.places.values().all(Place::is_done)
    }

    /// Whether all partitions have ends and were read to them; of none, no.
    pub(super) fn has_stopped(&self) -> bool {
        let is_enough = self.printing.left == Some(0);
        is_enough || self.unheard.is_some() || (!self.places.is_empty() && self.is_at_end())
    }

    /// Waits for an answer. Cancel safe.
    pub(super) async fn replied(&mut self) -> Answer {
        match self.replies.1.recv().await {
            Some(reply) => Answer(reply),
            // This end holds a sender too.
            None => std::future::pending().await,
        }
    }

    /// When a partition that failed, and is not due at `now`, is to be tried again.
    pub(super) fn wake_at(&self, now: Instant) -> Option<Instant> {
        let times = self.places.values().filter_map(|place| place.retry_at);
        times.filter(|at| *at > now).min()
    }

    /// Until when something is tried at most, which no answer has come to.
    pub(super) fn trying_until(&self, patience: Duration) -> Option<Instant> {
        let since = self.places.values().filter_map(|place| place.trying_since);
        since.min().map(|since| since + patience)
    }

    /// Says once, until all goes well again, that something has been tried in vain for a while.
    /// `promised` is how long the person wants it tried.
    pub(super) fn tell(&mut self, promised: Duration) {
        match self.trouble() {
            None => self.is_told = false,
            Some((since, error)) if since + SILENCE <= Instant::now() => {
                let error = error.to_string();
                self.say(&error, promised);
            }
            Some(_) => {}
        }
    }

    /// The same where nothing else will be looked at meanwhile: what has gone wrong in reading, or
    /// `else_of` if nothing has.
    pub(super) fn tell_at_once(&mut self, else_of: &str, promised: Duration) {
        let error = self.trouble().map(|(_, error)| error.to_string());
        self.say(error.as_deref().unwrap_or(else_of), promised);
    }

    /// What has been tried in vain for the longest time, and since when.
    fn trouble(&self) -> Option<(Instant, &ClientError)> {
        let troubles = self.places.values().filter_map(|place| {
            let error = place.trouble.as_ref()?;
            Some((place.trying_since?, error))
        });
        troubles.min_by_key(|(since, _)| *since)
    }

    fn say(&mut self, error: &str, promised: Duration) {
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        self.progress.clear();
        output::warn(&format!("{error}; trying for {} s", promised.as_secs()));
    }

    /// Asks every leader that is not asked yet for what is due at `now`.
    ///
    /// # Errors
    /// A partition has had no leader for too long.
    pub(super) fn dispatch(
        &mut self,
        cluster: &mut Cluster,
        now: Instant,
    ) -> Result<(), ClientError> {
        let mut ready: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
        let mut homeless = Vec::new();
        for (at, place) in &self.places {
            let is_due = place.retry_at.is_none_or(|time| time <= now);
            if place.is_busy || place.is_done() || !is_due {
                continue;
            }
            match cluster.leader(&at.0, at.1) {
                Some(node) if !self.busy.contains(&node) => {
                    ready.entry(node).or_default().push(at.clone());
                }
                Some(_) => {}
                None => homeless.push(at.clone()),
            }
        }
        for at in homeless {
            let error = refused(&at, ErrorCode::LEADER_NOT_AVAILABLE);
            self.fail(&at, error, cluster.patience())?;
        }
        for (node, partitions) in ready {
            match cluster.take(node) {
                Ok(line) => self.ask(node, line, partitions, now, cluster.patience()),
                Err(_) => {
                    for at in &partitions {
                        let error = refused(at, ErrorCode::LEADER_NOT_AVAILABLE);
                        self.fail(at, error, cluster.patience())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn ask(
        &mut self,
        node: i32,
        mut line: Line,
        partitions: Vec<TopicPartition>,
        now: Instant,
        patience: Duration,
    ) {
        let mut topics: Vec<FetchTopic> = Vec::new();
        let mut end = now + patience;
        for at in &partitions {
            let Some(place) = self.places.get_mut(at) else {
                continue;
            };
            place.is_busy = true;
            place.asked_at = Some(now);
            end = end.min(*place.trying_since.get_or_insert(now) + patience);
            let row = FetchPartition {
                partition: at.1,
                fetch_offset: place.position.offset,
                partition_max_bytes: PARTITION_BYTES,
                ..FetchPartition::default()
            };
            match topics.last_mut() {
                Some(topic) if &*topic.topic == at.0.as_str() => topic.partitions.push(row),
                _ => topics.push(FetchTopic {
                    topic: Str::copy(&at.0),
                    partitions: vec![row],
                    ..FetchTopic::default()
                }),
            }
        }
        let request = FetchRequest {
            max_wait_ms: MAX_WAIT_MS,
            min_bytes: 1,
            max_bytes: ANSWER_BYTES,
            isolation_level: self.isolation,
            topics,
            ..FetchRequest::default()
        };
        self.busy.insert(node);
        let replies = self.replies.0.clone();
        let epoch = self.epoch;
        task::spawn("fetch", async move {
            let sent = timeout_at(end, line.send(&request, BY_NAME)).await;
            let outcome = sent.unwrap_or_else(|_| Err(line.late()));
            let reply = Reply {
                node,
                line,
                epoch,
                partitions,
                outcome,
            };
            // A command that ends has nobody to hear of it.
            let _ = replies.send(reply).await;
        });
    }

    /// Prints what a leader sent.
    ///
    /// # Errors
    /// A refusal that lasts, damage, or a leader that has not answered for too long.
    pub(super) async fn take(
        &mut self,
        Answer(reply): Answer,
        cluster: &mut Cluster,
    ) -> Result<(), ClientError> {
        self.busy.remove(&reply.node);
        cluster.give_back(reply.node, reply.line);
        if reply.epoch != self.epoch {
            return Ok(());
        }
        for at in &reply.partitions {
            if let Some(place) = self.places.get_mut(at) {
                place.is_busy = false;
            }
        }
        let response = match reply.outcome {
            Ok(response) if response.error_code.is_error() => {
                return Err(ClientError::refused("Fetch", response.error_code, None));
            }
            Ok(response) => response,
            Err(error) if error.is_transient() => {
                for at in &reply.partitions {
                    self.fail(at, error.once_more(), cluster.patience())?;
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut unanswered: BTreeSet<&TopicPartition> = reply.partitions.iter().collect();
        let mut idle = Vec::new();
        for topic in &response.responses {
            for data in &topic.partitions {
                let at = (topic.topic.to_string(), data.partition_index);
                if !unanswered.remove(&at) {
                    continue;
                }
                match data.error_code {
                    ErrorCode::NONE if self.print(&at, data)? => {}
                    ErrorCode::NONE => idle.push((at, has_records(data))),
                    ErrorCode::OFFSET_OUT_OF_RANGE => self.come_back(&at, cluster).await?,
                    code if code.is_retriable() && code != ErrorCode::CORRUPT_MESSAGE => {
                        self.fail(&at, refused(&at, code), cluster.patience())?;
                    }
                    code => return Err(refused(&at, code)),
                }
            }
        }
        for at in unanswered {
            let error =
                ClientError::Lost(io::Error::other("the broker's answer lacks a partition"));
            self.fail(at, error, cluster.patience())?;
        }
        // Where others of the same answer have taken all the room, or a quota has, there was none.
        let is_full = idle.len() < reply.partitions.len() || response.throttle_time_ms > 0;
        for (at, has_records) in idle {
            self.rest(&at, is_full, has_records, cluster.patience())?;
        }
        Ok(())
    }

    /// Judges an answer that brought a partition no further, which it need not at the end of a log.
    ///
    /// # Errors
    /// It should have, and none has for too long.
    fn rest(
        &mut self,
        at: &TopicPartition,
        is_full: bool,
        has_records: bool,
        patience: Duration,
    ) -> Result<(), ClientError> {
        let Some(place) = self.places.get_mut(at) else {
            return Ok(());
        };
        let offset = place.position.offset;
        let error = match place.end {
            _ if has_records => "the broker sends records before it only".to_owned(),
            Some(end) if end > offset && !is_full => {
                format!("the broker sends nothing, though the log ends at {end}")
            }
            _ => {
                // Brokers wait for something to send, but nothing makes them.
                let again = place.asked_at.map(|asked| asked + RETRY);
                place.is_well();
                place.retry_at = again.filter(|again| !is_full && *again > Instant::now());
                return Ok(());
            }
        };
        let at_offset = format!("{}-{}: offset {offset}", printable(&at.0), at.1);
        let error = ClientError::Unfinished(format!("{at_offset}: {error}"));
        self.fail(at, error, patience)
    }

    /// Prints the records of an answer; false when it led nowhere.
    fn print(&mut self, at: &TopicPartition, data: &PartitionData) -> Result<bool, ClientError> {
        let Some(place) = self.places.get_mut(at) else {
            return Ok(true);
        };
        let before = place.position.offset;
        let (printing, progress, out) = (&mut self.printing, &mut self.progress, &mut self.out);
        let end = place.end;
        let outcome = records::read(data, place.position, |seen| {
            if end.is_some_and(|end| seen.offset >= end) || printing.left == Some(0) {
                return Err(Pause::Before(seen.offset));
            }
            let before = out.len();
            let shown = Shown {
                topic: &at.0,
                partition: at.1,
                offset: seen.offset,
                timestamp: seen.timestamp,
                key: seen.record.key,
                value: seen.record.value,
                headers: seen.record.headers,
            };
            let marks = Marks {
                null: &printing.null,
                is_for_people: printing.is_for_people,
            };
            printing.format.write(out, &shown, marks);
            progress.add(out.len() - before);
            if let Some(left) = &mut printing.left {
                *left = left.saturating_sub(1);
            }
            Ok(printing.left != Some(0))
        });
        let mut position = place.position;
        let mut damage = None;
        match outcome {
            Ok(behind) => position = behind,
            Err(Pause::Before(offset)) => position.offset = offset,
            Err(Pause::Damage(error)) => damage = Some(error),
        }
        self.hand_over();
        // Nothing is committed that may not have been handed over.
        if let (None, None, Some(place)) = (&self.unheard, &damage, self.places.get_mut(at)) {
            place.position = position;
        }
        let is_over = self.unheard.is_some() || self.printing.left == Some(0);
        match damage {
            None if is_over => Ok(true),
            None => {
                let has_moved = position.offset > before;
                if let (true, Some(place)) = (has_moved, self.places.get_mut(at)) {
                    place.is_well();
                }
                Ok(has_moved)
            }
            Some(error) => {
                let at = format!("{}-{}", printable(&at.0), at.1);
                Err(ClientError::Unfinished(format!("{at}: {error}")))
            }
        }
    }

    fn hand_over(&mut self) {
        let mut stdout = io::stdout().lock();
        if let Err(error) = stdout.write_all(&self.out).and_then(|()| stdout.flush()) {
            self.unheard = Some(error);
        }
        self.out.clear();
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// `Output`: records that were read could not be handed over.
    pub(super) fn finish(&mut self) -> Result<(), ClientError> {
        match self.unheard.take() {
            Some(error) => Err(ClientError::Output(error)),
            None => Ok(()),
        }
    }

    /// Comes back from beyond the end of the log, which a broker that is asked for records there
    /// tells of: where reading ends at once, nobody asks.
    ///
    /// # Errors
    /// A partition cannot be asked.
    pub(super) async fn return_from_beyond(
        &mut self,
        cluster: &mut Cluster,
    ) -> Result<(), ClientError> {
        let is_beyond = |place: &Place| place.end.is_some_and(|end| place.position.offset > end);
        let beyond: Vec<TopicPartition> = self
            .places
            .iter()
            .filter(|(_, place)| is_beyond(place))
            .map(|(at, _)| at.clone())
            .collect();
        if beyond.is_empty() {
            return Ok(());
        }
        // What read_committed does not show yet is in the log all the same.
        let ends = start::edge(cluster, &beyond, start::LATEST, 0).await?;
        for at in &beyond {
            let place = self.places.get(at);
            if place.map(|place| place.position.offset) > ends.get(at).copied() {
                self.come_back(at, cluster).await?;
            }
        }
        Ok(())
    }

    /// Goes on at the nearest offset there is, where the one asked for is gone or not there yet.
    async fn come_back(
        &mut self,
        at: &TopicPartition,
        cluster: &mut Cluster,
    ) -> Result<(), ClientError> {
        let partition = std::slice::from_ref(at);
        let first = start::edge(cluster, partition, start::EARLIEST, self.isolation).await?;
        let end = start::edge(cluster, partition, start::LATEST, self.isolation).await?;
        let first = first.get(at).copied().unwrap_or_default();
        let end = end.get(at).copied().unwrap_or_default();
        if let Some(place) = self.places.get_mut(at) {
            let wanted = place.position.offset;
            let offset = wanted.clamp(first, end.max(first));
            // Those who say that it is there are others than the one who says that it is not, or
            // know more by now.
            if wanted == offset {
                let error = refused(at, ErrorCode::OFFSET_OUT_OF_RANGE);
                return self.fail(at, error, cluster.patience());
            }
            place.position.offset = offset;
            place.is_well();
            let side = match wanted < offset {
                true => "before the first offset",
                false => "beyond the end",
            };
            self.progress.clear();
            output::warn(&format!(
                "{}-{}: offset {wanted} is {side} of the log; going on at {offset}",
                printable(&at.0),
                at.1,
            ));
        }
        Ok(())
    }

    /// Tries a partition again soon, unless it has failed for too long.
    fn fail(
        &mut self,
        at: &TopicPartition,
        error: ClientError,
        patience: Duration,
    ) -> Result<(), ClientError> {
        self.is_stale = true;
        let now = Instant::now();
        let Some(place) = self.places.get_mut(at) else {
            return Ok(());
        };
        let since = *place.trying_since.get_or_insert(now);
        // That the time is over is not why: what was heard before it ended is.
        let trouble = match (place.trouble.take(), error) {
            (Some(before), ClientError::Timeout(_)) => before,
            (_, error) => error,
        };
        if since + patience <= now {
            return Err(trouble);
        }
        place.trouble = Some(trouble);
        place.retry_at = Some(now + RETRY);
        Ok(())
    }
}

/// An answer that was awaited.
pub(super) struct Answer(Reply);

/// Why the records of an answer were not read to the end.
enum Pause {
    /// The rest is not wanted.
    Before(i64),
    Damage(ReadError),
}

impl From<ReadError> for Pause {
    fn from(error: ReadError) -> Self {
        Self::Damage(error)
    }
}

/// Whether there is anything in an answer that was not there to be skipped.
fn has_records(data: &PartitionData) -> bool {
    data.records
        .as_ref()
        .is_some_and(|records| !records.as_bytes().is_empty())
}

fn refused(at: &TopicPartition, code: ErrorCode) -> ClientError {
    ClientError::refused(format!("{}-{}", printable(&at.0), at.1), code, None)
}
