//! The ordered stage for one partition: right, existence, batch, leadership, checks, append.

use palisade_auth::grant::{Granted, Topic, Write};
use palisade_protocol::messages::produce::{
    LeaderIdAndEpoch, PartitionProduceData, PartitionProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use palisade_protocol::types::{PartitionIndex, TopicId};
use palisade_protocol::{ErrorCode, Records, Str};

use super::outcome::{Outcome, Pending, leader_of, not_appended};
use super::{Acks, BY_ID, LEADER_HINTS, Scene, ZSTD};
use crate::handlers::denied;
use crate::metadata::{PartitionImage, TopicImage};
use crate::partition::validate::framing::{FirstLook, first_look, single_batch};
use crate::partition::{Partition, PartitionError, Refusal};

/// What a caller without the right is told.
const DENIED: ErrorCode = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
/// What a refused transactional batch is told; there is no state to leave it in.
const NO_TRANSACTIONS: &str = "Transactions are not supported yet by this broker.";

/// A topic of the request, as far as its name leads.
pub(super) enum Target<'a> {
    /// All its partitions fail alike.
    Refused(ErrorCode),
    /// It exists and may be written.
    Found {
        /// The right.
        grant: Granted<Topic, Write>,
        /// The topic.
        image: &'a TopicImage,
    },
}

impl<'a> Target<'a> {
    /// Authorizes, then looks the topic up; for ids the other way round (security.md §4.8).
    pub(super) fn find(scene: &Scene<'a>, topic: &TopicProduceData) -> Target<'a> {
        let by_id = scene.version >= BY_ID;
        let resolved = if by_id {
            match scene.image.topics.by_id(topic.topic_id) {
                Some(image) => image.name.as_ref(),
                None => return Target::Refused(ErrorCode::UNKNOWN_TOPIC_ID),
            }
        } else {
            topic.name.as_str()
        };
        let grant = match scene.access.topic::<Write>(resolved) {
            Ok(grant) => grant,
            Err(refused) => return Target::Refused(denied::code(&refused, DENIED)),
        };
        match scene.image.topics.get(resolved) {
            Some(image) => Target::Found { grant, image },
            None => Target::Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        }
    }
}

/// The topic's entry of the answer, without partitions; holds no bytes of the request.
pub(super) fn topic_answer(scene: &Scene<'_>, topic: &TopicProduceData) -> TopicProduceResponse {
    let by_id = scene.version >= BY_ID;
    TopicProduceResponse {
        name: if by_id {
            Str::EMPTY
        } else {
            topic.name.detached()
        },
        topic_id: if by_id { topic.topic_id } else { TopicId::NIL },
        partition_responses: Vec::with_capacity(topic.partition_data.len()),
    }
}

/// Checks and appends the records of one partition (records.md §4, steps 1 to 8).
pub(super) async fn append(
    scene: &Scene<'_>,
    target: &Target<'_>,
    acks: Option<Acks>,
    data: PartitionProduceData,
) -> Outcome {
    let (grant, topic) = match target {
        Target::Refused(code) => return Outcome::failed(*code),
        Target::Found { grant, image } => (grant, image),
    };
    let index = PartitionIndex::new(data.index);
    let Some(image) = topic.partition(index) else {
        return Outcome::failed(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    };
    let Some(Records::Inline(records)) = data.records else {
        return Outcome::failed(ErrorCode::INVALID_RECORD);
    };
    let batch = match single_batch(records, scene.version >= ZSTD) {
        Ok(batch) => batch,
        Err(refusal) => return Outcome::failed(refusal.code),
    };
    let Some(acks) = acks else {
        return Outcome::failed(ErrorCode::INVALID_REQUIRED_ACKS);
    };
    let partition = match scene.replicas.partition(grant, index) {
        Ok(partition) if partition.topic_id() == topic.id => partition,
        Ok(_) => return elsewhere(scene, image, &PartitionError::InconsistentTopicId),
        Err(error) => return elsewhere(scene, image, &error),
    };
    let leadership = match partition.lead(None) {
        Ok(leadership) => leadership,
        Err(error) => return refused_by(scene, &partition, &error),
    };
    // Kafka lets the client id `__admin_client` through; but anybody can claim a name, and what is
    // written here decides offsets and transactions of others.
    if topic.is_internal() {
        return Outcome::failed(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    let settings = partition.settings();
    if acks == Acks::All && !leadership.enough_in_sync(settings.min_insync_replicas) {
        return Outcome::failed_in_log(
            ErrorCode::NOT_ENOUGH_REPLICAS,
            partition.log_start_offset(),
        );
    }
    if is_transactional(&batch) {
        let text = NO_TRANSACTIONS.to_owned();
        return Outcome::refused(Refusal::with_text(ErrorCode::INVALID_TXN_STATE, text));
    }
    let user = &scene.access.caller().principal;
    let valid = match partition.check(batch, scene.now, user).await {
        Ok(valid) => valid,
        Err(refusal) => {
            let mut outcome = Outcome::refused(refusal);
            outcome.set_log_start(partition.log_start_offset());
            return outcome;
        }
    };
    let epoch = leadership.leader_epoch;
    match partition.append(valid, epoch, scene.now).await {
        Ok(appended) => {
            let row = PartitionProduceResponse {
                base_offset: appended.base_offset.value(),
                log_append_time_ms: appended.log_append_time.map_or(-1, |time| time.value()),
                log_start_offset: partition.log_start_offset().value(),
                ..PartitionProduceResponse::default()
            };
            // A duplicate waits as well: the first try may not have enough copies yet.
            let end = appended.last_offset.checked_add(1);
            let hints = scene.version >= LEADER_HINTS;
            let pending = end
                .filter(|end| acks == Acks::All && partition.high_watermark() < *end)
                .map(|end| Pending::new(partition, end, epoch, hints));
            Outcome { row, pending }
        }
        Err(error) => refused_by(scene, &partition, &error),
    }
}

fn is_transactional(batch: &[u8]) -> bool {
    matches!(
        first_look(batch),
        Ok(FirstLook::Batch {
            transactional: true,
            ..
        })
    )
}

/// A partition that this node does not have, or not of this topic.
fn elsewhere(scene: &Scene<'_>, image: &PartitionImage, error: &PartitionError) -> Outcome {
    let mut outcome = Outcome::failed(error.code());
    if matches!(error, PartitionError::InconsistentTopicId) {
        // Produce knows no code for it: the log is a namesake's that is being deleted.
        outcome = Outcome::failed(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    if outcome.row.error_code == ErrorCode::NOT_LEADER_OR_FOLLOWER && scene.version >= LEADER_HINTS
    {
        outcome.row.current_leader = LeaderIdAndEpoch {
            leader_id: image.leader.map_or(-1, |leader| leader.value()),
            leader_epoch: image.leader_epoch.value(),
        };
    }
    outcome
}

fn refused_by(scene: &Scene<'_>, partition: &Partition<Write>, error: &PartitionError) -> Outcome {
    let mut outcome = not_appended(partition, error);
    if outcome.row.error_code == ErrorCode::NOT_LEADER_OR_FOLLOWER && scene.version >= LEADER_HINTS
    {
        outcome.row.current_leader = leader_of(partition);
    }
    outcome
}
