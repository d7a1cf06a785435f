//! Looking at one partition of a fetch: right, existence, leadership, divergence, then the read.

use palisade_auth::grant::{ClusterAction, Granted, Read, Topic};
use palisade_protocol::ErrorCode;
use palisade_protocol::messages::fetch::{EpochEndOffset, LeaderIdAndEpoch, PartitionData};
use palisade_protocol::types::{Offset, PartitionIndex};
use palisade_storage::EpochEnd;

use super::{LEADER_HINTS, Scene, Terms};
use crate::fetch_session::{Entry, Sent, TopicKey, Wanted};
use crate::handlers::denied;
use crate::partition::read::{Isolation, ReadLimits, ReadOutcome};
use crate::partition::{Partition, PartitionError};

/// What a look found out about one partition.
pub(super) struct Row {
    /// The answer, without its records.
    pub(super) data: PartitionData,
    /// The bytes found.
    pub(super) read: Option<ReadOutcome>,
    /// What kind of answer it is.
    pub(super) kind: Kind,
}

/// Kinds of answers, by what they mean for the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Records go out.
    Data,
    /// There are records, but not in this answer: the limits are used up or the pages are cold.
    Held,
    /// An error, or a divergence: answered at once and again until it is over.
    Urgent,
    /// Positions changed since the client was last told.
    Moved,
    /// Nothing the client does not know.
    Nothing,
}

/// The right to read one topic, kept while consecutive partitions are of the same topic.
#[derive(Default)]
pub(super) struct GrantCache {
    last: Option<(TopicKey, TopicRight)>,
}

/// The right to read a topic, or what a request without it is told.
type TopicRight = Result<Granted<Topic, Read>, ErrorCode>;

/// Why a partition is not read.
struct Fault {
    code: ErrorCode,
    leader: Option<LeaderIdAndEpoch>,
}

impl From<ErrorCode> for Fault {
    fn from(code: ErrorCode) -> Fault {
        Fault { code, leader: None }
    }
}

/// Bytes the answer may still take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Bytes left of the whole answer.
    pub(super) bytes: usize,
    /// No partition has records yet: the first batch goes whatever its size.
    pub(super) empty: bool,
}

/// Looks at one partition; `subscribe`: it shall push its news into the list from now on.
pub(super) async fn visit(
    scene: &Scene,
    terms: &Terms,
    grants: &mut GrantCache,
    entry: &mut Entry,
    room: Room,
    subscribe: bool,
) -> Row {
    let wanted = entry.wanted.clone();
    match look(scene, terms, grants, entry, &wanted, room, subscribe).await {
        Ok(row) => row,
        Err(fault) => {
            // What was sent before no longer counts: it is told anew once the partition is well.
            entry.sent = Sent::NOTHING;
            failed(terms, &wanted, fault)
        }
    }
}

async fn look(
    scene: &Scene,
    terms: &Terms,
    grants: &mut GrantCache,
    entry: &mut Entry,
    wanted: &Wanted,
    room: Room,
    subscribe: bool,
) -> Result<Row, Fault> {
    let grant = grants.read(scene, terms, &wanted.topic)?;
    let partition = open(scene, grant, wanted)?;
    if terms.as_replica {
        return Err(no_such_replica(wanted).into());
    }
    let (Some(isolation), Some(_)) = (terms.isolation, terms.max_bytes) else {
        return Err(ErrorCode::UNKNOWN_SERVER_ERROR.into());
    };
    let Ok(partition_max) = usize::try_from(wanted.max_bytes) else {
        return Err(ErrorCode::UNKNOWN_SERVER_ERROR.into());
    };
    let fault = |error: PartitionError| hinted(scene, &partition, &error);
    partition
        .lead(wanted.current_leader_epoch)
        .map_err(&fault)?;
    if subscribe {
        // Before the positions are read, so that no later one is missed.
        follow(entry, &partition);
    }
    if let Some(diverging) = diverging(&partition, wanted).map_err(&fault)? {
        return Ok(diverged(&partition, wanted, isolation, diverging));
    }
    let limits = ReadLimits {
        isolation,
        max_bytes: partition_max.min(room.bytes),
        at_least_one: room.empty,
    };
    let read = partition
        .read(wanted.fetch_offset, limits)
        .await
        .map_err(&fault)?;
    Ok(found(entry, wanted, isolation, read))
}

impl GrantCache {
    fn read(
        &mut self,
        scene: &Scene,
        terms: &Terms,
        topic: &TopicKey,
    ) -> Result<&Granted<Topic, Read>, ErrorCode> {
        let fresh = self.last.as_ref().is_none_or(|(key, _)| key != topic);
        if fresh {
            let granted = authorize(scene, terms, topic);
            self.last = Some((topic.clone(), granted));
        }
        match &self.last {
            Some((_, granted)) => granted.as_ref().map_err(|code| *code),
            None => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        }
    }
}

/// READ on the topic; a replica acts for the cluster and needs no right per topic.
fn authorize(
    scene: &Scene,
    terms: &Terms,
    topic: &TopicKey,
) -> Result<Granted<Topic, Read>, ErrorCode> {
    let refused = |refused| denied::code(&refused, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    // Before the id is looked up: whoever is no node learns nothing (security.md §4.10).
    let node = if terms.as_replica {
        Some(scene.access.cluster::<ClusterAction>().map_err(refused)?)
    } else {
        None
    };
    let name = match topic {
        TopicKey::Name(name) => name.as_str(),
        TopicKey::Id(id) => match scene.image.topics.by_id(*id) {
            Some(topic) => &topic.name,
            None => return Err(ErrorCode::UNKNOWN_TOPIC_ID),
        },
    };
    match node {
        Some(node) => Ok(node.read_topic(name)),
        None => scene.access.topic::<Read>(name).map_err(refused),
    }
}

fn open(
    scene: &Scene,
    grant: &Granted<Topic, Read>,
    wanted: &Wanted,
) -> Result<Partition<Read>, Fault> {
    let unknown = match wanted.topic {
        TopicKey::Name(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        TopicKey::Id(_) => ErrorCode::UNKNOWN_TOPIC_ID,
    };
    let topic = scene.image.topics.get(grant.name()).ok_or(unknown)?;
    let image = topic
        .partition(wanted.index)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let partition = scene
        .replicas
        .partition(grant, wanted.index)
        .map_err(|error| Fault {
            code: code_of(scene, &error),
            leader: Some(LeaderIdAndEpoch {
                leader_id: image.leader.map_or(-1, |leader| leader.value()),
                leader_epoch: image.leader_epoch.value(),
            })
            .filter(|_| scene.version >= LEADER_HINTS),
        })?;
    if partition.topic_id() != topic.id {
        // The log still belongs to a namesake that is being deleted.
        return Err(match wanted.topic {
            TopicKey::Name(_) => ErrorCode::NOT_LEADER_OR_FOLLOWER.into(),
            TopicKey::Id(_) => ErrorCode::INCONSISTENT_TOPIC_ID.into(),
        });
    }
    Ok(partition)
}

/// The answer to a replica id that no partition has (replication.md §3).
fn no_such_replica(wanted: &Wanted) -> ErrorCode {
    if wanted.current_leader_epoch.is_some() {
        ErrorCode::UNKNOWN_LEADER_EPOCH
    } else {
        ErrorCode::NOT_LEADER_OR_FOLLOWER
    }
}

/// An error, with the leader where the version and the error have room for it.
fn hinted(scene: &Scene, partition: &Partition<Read>, error: &PartitionError) -> Fault {
    let told = matches!(
        error,
        PartitionError::NotLeader { .. } | PartitionError::FencedLeaderEpoch { .. }
    );
    let leader = (told && scene.version >= LEADER_HINTS).then(|| {
        let leadership = partition.leadership();
        LeaderIdAndEpoch {
            leader_id: leadership.leader.map_or(-1, |leader| leader.value()),
            leader_epoch: leadership.leader_epoch.value(),
        }
    });
    Fault {
        code: code_of(scene, error),
        leader,
    }
}

/// Versions before the storage error existed know only the other one.
fn code_of(scene: &Scene, error: &PartitionError) -> ErrorCode {
    match error.code() {
        ErrorCode::KAFKA_STORAGE_ERROR if scene.version <= 5 => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        code => code,
    }
}

/// Makes sure that this very replica pushes its news.
fn follow(entry: &mut Entry, partition: &Partition<Read>) {
    let followed = entry
        .subscribed
        .as_ref()
        .is_some_and(|guard| partition.is_subscribed(guard));
    if !followed {
        let subscription = std::sync::Arc::clone(&entry.subscription);
        entry.subscribed = Some(partition.subscribe(subscription));
    }
}

/// Where the client's log and ours part, if they do (records.md §8.6).
fn diverging(
    partition: &Partition<Read>,
    wanted: &Wanted,
) -> Result<Option<EpochEndOffset>, PartitionError> {
    let Some(last_fetched) = wanted.last_fetched_epoch else {
        return Ok(None);
    };
    let out_of_range = || PartitionError::OffsetOutOfRange {
        requested: wanted.fetch_offset,
        start: partition.log_start_offset(),
        end: partition.log_end_offset(),
    };
    if wanted.fetch_offset < partition.log_start_offset() {
        return Err(out_of_range());
    }
    match partition.epoch_end(last_fetched) {
        EpochEnd::Unknown => Err(out_of_range()),
        EpochEnd::Known { epoch, end } if epoch < last_fetched || end < wanted.fetch_offset => {
            Ok(Some(EpochEndOffset {
                epoch: epoch.value(),
                end_offset: end.value(),
            }))
        }
        EpochEnd::Known { .. } => Ok(None),
    }
}

fn diverged(
    partition: &Partition<Read>,
    wanted: &Wanted,
    isolation: Isolation,
    diverging_epoch: EpochEndOffset,
) -> Row {
    let data = PartitionData {
        high_watermark: partition.high_watermark().value(),
        last_stable_offset: partition.last_stable_offset().value(),
        log_start_offset: partition.log_start_offset().value(),
        diverging_epoch,
        aborted_transactions: aborted(isolation),
        ..blank(wanted.index)
    };
    Row {
        data,
        read: None,
        kind: Kind::Urgent,
    }
}

fn found(entry: &Entry, wanted: &Wanted, isolation: Isolation, read: ReadOutcome) -> Row {
    let data = PartitionData {
        high_watermark: read.high_watermark.value(),
        last_stable_offset: read.last_stable_offset.value(),
        log_start_offset: read.log_start_offset.value(),
        aborted_transactions: aborted(isolation),
        ..blank(wanted.index)
    };
    let kind = if !read.is_empty() {
        Kind::Data
    } else if read.more {
        Kind::Held
    } else if entry.sent != sent(&data) {
        Kind::Moved
    } else {
        Kind::Nothing
    };
    Row {
        data,
        read: Some(read),
        kind,
    }
}

/// The positions that an answer tells.
pub(super) fn sent(data: &PartitionData) -> Sent {
    Sent {
        high_watermark: data.high_watermark,
        log_start_offset: data.log_start_offset,
    }
}

/// No transaction can have been aborted, since none can be begun; the list is there all the same
/// for readers who filter by it (records.md §8.3).
fn aborted(
    isolation: Isolation,
) -> Option<Vec<palisade_protocol::messages::fetch::AbortedTransaction>> {
    (isolation == Isolation::ReadCommitted).then(Vec::new)
}

fn failed(terms: &Terms, wanted: &Wanted, fault: Fault) -> Row {
    let unknown = matches!(
        fault.code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID
    );
    let committed = terms.isolation == Some(Isolation::ReadCommitted);
    let data = PartitionData {
        error_code: fault.code,
        current_leader: fault.leader.unwrap_or_default(),
        aborted_transactions: (unknown || committed).then(Vec::new),
        ..blank(wanted.index)
    };
    Row {
        data,
        read: None,
        kind: Kind::Urgent,
    }
}

/// A partition's answer before anything is known: all positions -1, empty records, never null.
fn blank(index: PartitionIndex) -> PartitionData {
    let nowhere = Offset::new(-1).value();
    PartitionData {
        partition_index: index.value(),
        high_watermark: nowhere,
        last_stable_offset: nowhere,
        log_start_offset: nowhere,
        records: Some(palisade_protocol::Records::default()),
        ..PartitionData::default()
    }
}
