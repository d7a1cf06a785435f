//! ListOffsets (2), versions 1-11.
//!
//! v2 isolation level; v4 leader epochs (KIP-320); v5 OFFSET_NOT_AVAILABLE (KIP-207); v6 flexible;
//! v7 max timestamp (KIP-734); v8 earliest local and v9 latest tiered (KIP-405); v10 timeout; v11
//! earliest pending upload (KIP-1023).
//!
//! Deliberately absent: tiers. What asks for them gets the answer of a topic without any.
//! Look-ups by timestamp may read the disk and open batches; they run on helper threads,
//! in turns among users.

use std::collections::HashSet;

use palisade_auth::grant::{Describe, Granted, Topic};
use palisade_auth::principal::Principal;
use palisade_auth::{Access, Denied};
use palisade_protocol::ErrorCode;
use palisade_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use palisade_protocol::types::{LeaderEpoch, Offset, PartitionIndex, TimestampMs};
use palisade_storage::TimestampOffset;

use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::handlers::{denied, expected_epoch};
use crate::metadata::ClusterImage;
use crate::partition::{Leadership, Partition, PartitionError, ReplicaManager};
use crate::task::{Budget, ROW_WORK};

/// First version that knows OFFSET_NOT_AVAILABLE.
const OFFSET_NOT_AVAILABLE_SINCE: i16 = 5;
/// The replica id of tools that look into any replica.
const DEBUGGING: i32 = -2;
/// First version that says in which epoch a record was written (KIP-320).
const LEADER_EPOCH_SINCE: i16 = 4;

/// Finds an offset for each partition.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ListOffsetsRequest,
) -> Handled<ListOffsetsResponse> {
    let scene = Scene {
        replicas: &ctx.broker.topics,
        image: &ctx.image,
        access: &ctx.access(),
        version: ctx.api_version,
    };
    Handled::Now(list_offsets(&scene, &request).await)
}

/// What the look-up works with.
pub(crate) struct Scene<'a> {
    pub(crate) replicas: &'a ReplicaManager,
    pub(crate) image: &'a ClusterImage,
    pub(crate) access: &'a Access,
    pub(crate) version: i16,
}

/// What is looked for: the table of records.md §9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Latest,
    Earliest,
    MaxTimestamp,
    EarliestLocal,
    /// Only tiers would have one.
    Tiered,
    At(TimestampMs),
}

impl Wanted {
    /// None for what does not exist, or not in this version.
    fn from_wire(timestamp: i64, version: i16) -> Option<Wanted> {
        let (wanted, since) = match timestamp {
            -1 => (Wanted::Latest, 0),
            -2 => (Wanted::Earliest, 0),
            -3 => (Wanted::MaxTimestamp, 7),
            -4 => (Wanted::EarliestLocal, 8),
            -5 => (Wanted::Tiered, 9),
            -6 => (Wanted::Tiered, 11),
            0.. => (Wanted::At(TimestampMs::new(timestamp)), 0),
            _ => return None,
        };
        (version >= since).then_some(wanted)
    }
}

/// Up to where the asker sees the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    Committed,
    Stable,
    LogEnd,
}

/// Who asks, as far as the answers depend on it.
struct Asker {
    /// None for an isolation level that does not exist.
    sight: Option<Sight>,
    /// A replica that does not lead will do.
    any_replica: bool,
}

impl Asker {
    fn of(request: &ListOffsetsRequest) -> Asker {
        let sight = match (request.replica_id, request.isolation_level) {
            (DEBUGGING | 0.., 0 | 1) => Some(Sight::LogEnd),
            (_, 0) => Some(Sight::Committed),
            (_, 1) => Some(Sight::Stable),
            _ => None,
        };
        Asker {
            sight,
            any_replica: request.replica_id == DEBUGGING,
        }
    }
}

/// Answers the whole request.
pub(crate) async fn list_offsets(
    scene: &Scene<'_>,
    request: &ListOffsetsRequest,
) -> ListOffsetsResponse {
    let asker = Asker::of(request);
    let duplicates = duplicates(request);
    let mut response = ListOffsetsResponse::default();
    let mut budget = Budget::start();
    for topic in &request.topics {
        let grant = scene.access.topic::<Describe>(&topic.name);
        let mut rows = Vec::with_capacity(topic.partitions.len());
        let mut told = HashSet::new();
        for partition in &topic.partitions {
            budget.breathe(ROW_WORK).await;
            let index = partition.partition_index;
            if duplicates.contains(&(topic.name.as_str(), index)) {
                if told.insert(index) {
                    rows.push(failed(index, ErrorCode::INVALID_REQUEST));
                }
                continue;
            }
            let found = find(scene, &grant, partition, &asker).await;
            let mut row = found.unwrap_or_else(|code| failed(index, code));
            if scene.version < LEADER_EPOCH_SINCE {
                row.leader_epoch = -1;
            }
            rows.push(row);
        }
        response.topics.push(ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions: rows,
        });
    }
    response
}

/// Partitions that the request names more than once.
fn duplicates(request: &ListOffsetsRequest) -> HashSet<(&str, i32)> {
    let mut seen = HashSet::new();
    request
        .topics
        .iter()
        .flat_map(|topic| {
            let name = topic.name.as_str();
            topic
                .partitions
                .iter()
                .map(move |partition| (name, partition.partition_index))
        })
        .filter(|name| !seen.insert(*name))
        .collect()
}

async fn find(
    scene: &Scene<'_>,
    grant: &Result<Granted<Topic, Describe>, Denied>,
    asked: &ListOffsetsPartition,
    asker: &Asker,
) -> Result<ListOffsetsPartitionResponse, ErrorCode> {
    let wanted =
        Wanted::from_wire(asked.timestamp, scene.version).ok_or(ErrorCode::UNSUPPORTED_VERSION)?;
    let grant = grant
        .as_ref()
        .map_err(|refused| denied::code(refused, ErrorCode::TOPIC_AUTHORIZATION_FAILED))?;
    let sight = asker.sight.ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)?;
    let index = PartitionIndex::new(asked.partition_index);
    scene
        .image
        .topics
        .partition(grant.name(), index)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let code = |error: PartitionError| match error {
        PartitionError::OffsetNotAvailable if scene.version < OFFSET_NOT_AVAILABLE_SINCE => {
            ErrorCode::LEADER_NOT_AVAILABLE
        }
        error => error.code(),
    };
    let partition = scene.replicas.partition(grant, index).map_err(code)?;
    let expected = expected_epoch(asked.current_leader_epoch);
    let leadership = if asker.any_replica {
        partition.check_epoch(expected)
    } else {
        partition.lead(expected)
    };
    let leadership = leadership.map_err(code)?;
    let user = &scene.access.caller().principal;
    let found = answer(&partition, &leadership, wanted, sight, user).await;
    found.map_err(code)
}

/// The answer of a partition that may be asked.
async fn answer(
    partition: &Partition<Describe>,
    leadership: &Leadership,
    wanted: Wanted,
    sight: Sight,
    user: &Principal,
) -> Result<ListOffsetsPartitionResponse, PartitionError> {
    let index = partition.index();
    let limit = match sight {
        Sight::Committed => partition.high_watermark(),
        Sight::Stable => partition.last_stable_offset(),
        Sight::LogEnd => partition.log_end_offset(),
    };
    // A new leader does not know yet what of its log is committed; a replica sees the log as is.
    let unsettled = sight != Sight::LogEnd && partition.high_watermark() < leadership.epoch_start;
    match wanted {
        Wanted::Latest if unsettled => Err(PartitionError::OffsetNotAvailable),
        Wanted::Latest => Ok(position(index, limit, Some(leadership.leader_epoch))),
        Wanted::Earliest | Wanted::EarliestLocal => {
            let start = partition.log_start_offset();
            let empty = start == partition.log_end_offset();
            let epoch = if empty {
                Some(leadership.leader_epoch)
            } else {
                partition.epoch_at(start)
            };
            Ok(position(index, start, epoch))
        }
        Wanted::Tiered => Ok(nowhere(index)),
        Wanted::MaxTimestamp => {
            let found = partition.max_timestamp(limit, user).await?;
            Ok(found.map_or_else(|| nowhere(index), |found| record(index, found)))
        }
        Wanted::At(timestamp) => {
            let found = by_timestamp(partition, timestamp, limit, user).await?;
            match found {
                Some(found) => Ok(record(index, found)),
                None if unsettled => Err(PartitionError::OffsetNotAvailable),
                None => Ok(nowhere(index)),
            }
        }
    }
}

async fn by_timestamp(
    partition: &Partition<Describe>,
    timestamp: TimestampMs,
    limit: Offset,
    user: &Principal,
) -> Result<Option<TimestampOffset>, PartitionError> {
    let found = partition.find_by_timestamp(timestamp, limit, user).await?;
    Ok(found.filter(|found| found.offset < limit))
}

/// A position without a record.
fn position(
    index: PartitionIndex,
    offset: Offset,
    epoch: Option<LeaderEpoch>,
) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        offset: offset.value(),
        leader_epoch: epoch.map_or(-1, LeaderEpoch::value),
        ..nowhere(index)
    }
}

fn record(index: PartitionIndex, found: TimestampOffset) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        timestamp: found.timestamp.value(),
        ..position(index, found.offset, found.epoch)
    }
}

/// Nothing found, which is no error.
fn nowhere(index: PartitionIndex) -> ListOffsetsPartitionResponse {
    failed(index.value(), ErrorCode::NONE)
}

fn failed(partition_index: i32, error_code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index,
        error_code,
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
    }
}

#[cfg(test)]
mod tests;
