//! What a heartbeat must say, whatever the group's state (coordination.md §4).

use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;

use super::member::AWAY;
use crate::group::assignor::Assignor;
use crate::group::config::ConsumerGroupConfig;
use crate::group::error::GroupError;

/// Checks a request by itself; `member_id_optional` where the broker makes ids (version 0).
///
/// # Errors
/// `InvalidRequest`, or `UnsupportedAssignor` for an assignor that is not served.
pub(crate) fn check(
    request: &ConsumerGroupHeartbeatRequest,
    member_id_optional: bool,
    config: &ConsumerGroupConfig,
) -> Result<(), GroupError> {
    let refuse = |condition: bool, text: &str| match condition {
        true => Err(GroupError::InvalidRequest(text.to_owned())),
        false => Ok(()),
    };
    let is_empty =
        |text: &Option<palisade_protocol::Str>| text.as_ref().is_some_and(|text| text.is_empty());
    let epoch = request.member_epoch;
    let may_lack_id = epoch == 0 && member_id_optional;
    refuse(
        request.member_id.is_empty() && !may_lack_id,
        "MemberId can't be empty.",
    )?;
    refuse(request.group_id.is_empty(), "GroupId can't be empty.")?;
    refuse(is_empty(&request.instance_id), "InstanceId can't be empty.")?;
    refuse(is_empty(&request.rack_id), "RackId can't be empty.")?;
    if epoch == 0 {
        refuse(
            request.rebalance_timeout_ms == -1,
            "RebalanceTimeoutMs must be provided in first request.",
        )?;
        refuse(
            request
                .topic_partitions
                .as_ref()
                .is_none_or(|owned| !owned.is_empty()),
            "TopicPartitions must be empty when (re-)joining.",
        )?;
        refuse(
            request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none(),
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        )?;
    }
    refuse(
        epoch == AWAY && request.instance_id.is_none(),
        "InstanceId can't be null.",
    )?;
    refuse(epoch < AWAY, "MemberEpoch is invalid.")?;
    if let Some(name) = &request.server_assignor {
        let served = |name: &str| {
            config
                .assignors
                .iter()
                .filter_map(|served| Assignor::parse(served))
                .any(|served| served.name() == name)
        };
        if !served(name) {
            return Err(GroupError::UnsupportedAssignor(format!(
                "ServerAssignor {:?} is not supported. Supported assignors: {}.",
                name.chars().take(100).collect::<String>(),
                config.assignors.join(", ")
            )));
        }
    }
    Ok(())
}
