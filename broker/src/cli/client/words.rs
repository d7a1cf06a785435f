//! What error codes mean to whoever runs an administration command.

use palisade_protocol::ErrorCode;

/// The operation whose lack a denial may mean, by kind of resource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right<'a> {
    topic: &'a str,
    group: &'a str,
    /// `None` where a denial of the cluster has other reasons.
    cluster: Option<&'a str>,
}

impl<'a> Right<'a> {
    /// One on topics and one on groups.
    pub(crate) const fn on(topic: &'a str, group: &'a str) -> Self {
        Self {
            topic,
            group,
            cluster: None,
        }
    }

    /// The same on whatever the denial speaks of.
    pub(crate) const fn on_it(operation: &'a str) -> Self {
        Self {
            topic: operation,
            group: operation,
            cluster: Some(operation),
        }
    }
}

/// A code in words, for answers that bring none of their own.
pub(super) fn of(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        // Rights and logins. Kafka's own words come first in four: they are what people search for.
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
            "Topic authorization failed; this user has no right to do that to the topic"
        }
        ErrorCode::GROUP_AUTHORIZATION_FAILED => {
            "Group authorization failed; this user has no right to do that to the group"
        }
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
            "Cluster authorization failed; this user has no right to do that to the cluster"
        }
        ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => {
            "Transactional Id authorization failed; this user has no right to that transactional id"
        }
        ErrorCode::SASL_AUTHENTICATION_FAILED => "the login is refused",
        ErrorCode::ILLEGAL_SASL_STATE => "the broker expected a login at this point",
        ErrorCode::UNSUPPORTED_SASL_MECHANISM => "the broker does not know the mechanism",
        ErrorCode::UNACCEPTABLE_CREDENTIAL => "the user's name or the iterations are refused",
        ErrorCode::SECURITY_DISABLED => "the broker has no authorizer, so there are no ACLs",

        // Topics and their settings.
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => "there is no such topic, or no right to see it",
        ErrorCode::TOPIC_ALREADY_EXISTS => "it exists already",
        ErrorCode::INVALID_TOPIC_EXCEPTION => {
            "a name has 1 to 249 letters, digits, '.', '_' and '-', and is not . or .."
        }
        ErrorCode::UNKNOWN_TOPIC_ID | ErrorCode::INCONSISTENT_TOPIC_ID => {
            "the topic was deleted, and perhaps made anew"
        }
        ErrorCode::INVALID_PARTITIONS => "the number of partitions cannot be had",
        ErrorCode::INVALID_REPLICATION_FACTOR => "there are not as many nodes as replicas",
        ErrorCode::INVALID_REPLICA_ASSIGNMENT => "the replicas cannot be placed like that",
        ErrorCode::REASSIGNMENT_IN_PROGRESS => "its replicas are just being moved",
        ErrorCode::INVALID_CONFIG => "a configuration key or value is refused",
        ErrorCode::TOPIC_DELETION_DISABLED => "delete.topic.enable is off there",

        // Partitions and their leaders.
        ErrorCode::LEADER_NOT_AVAILABLE => "the partition has no leader at the moment",
        ErrorCode::NOT_LEADER_OR_FOLLOWER => "the partition's leader moved",
        ErrorCode::REPLICA_NOT_AVAILABLE => "the partition's replica is not available",
        ErrorCode::FENCED_LEADER_EPOCH | ErrorCode::UNKNOWN_LEADER_EPOCH => {
            "the partition's leader has just changed"
        }
        ErrorCode::OFFSET_NOT_AVAILABLE => "the partition's new leader does not know its end yet",
        ErrorCode::OFFSET_OUT_OF_RANGE => "the log has no such offset",

        // Records.
        ErrorCode::MESSAGE_TOO_LARGE => "a record is larger than the topic takes",
        ErrorCode::RECORD_LIST_TOO_LARGE => "more records at once than a segment holds",
        ErrorCode::INVALID_RECORD => "the topic does not take such records",
        ErrorCode::INVALID_TIMESTAMP => "a timestamp is further off than the topic allows",
        ErrorCode::CORRUPT_MESSAGE => "the records are damaged",
        ErrorCode::UNSUPPORTED_COMPRESSION_TYPE => "the broker does not take this codec",
        ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT => "the topic's message format is too old",
        ErrorCode::INVALID_REQUIRED_ACKS => "the broker does not know such acknowledgements",
        ErrorCode::NOT_ENOUGH_REPLICAS => "fewer replicas are in sync than the topic demands",
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => {
            "written, but fewer replicas are in sync than the topic demands"
        }
        ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED => {
            "another producer of this id has taken its place"
        }
        ErrorCode::UNKNOWN_PRODUCER_ID => "the broker no longer knows this producer",
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER => "the broker lost records it had acknowledged",

        // Groups.
        ErrorCode::GROUP_ID_NOT_FOUND => "there is no such group",
        ErrorCode::INVALID_GROUP_ID => "a group needs a name",
        ErrorCode::NON_EMPTY_GROUP => "the group has members; stop them first",
        ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC => "members of the group still read the topic",
        ErrorCode::GROUP_MAX_SIZE_REACHED => "the group has as many members as it may",
        ErrorCode::COORDINATOR_NOT_AVAILABLE => "the group's coordinator is not available",
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => "the group's coordinator is still loading",
        ErrorCode::NOT_COORDINATOR => "the group's coordinator moved",
        ErrorCode::UNKNOWN_MEMBER_ID => "the group has members, or lost this one",
        ErrorCode::MEMBER_ID_REQUIRED => "the group wants to know the member first",
        ErrorCode::FENCED_INSTANCE_ID => "another member of this instance id has taken its place",
        ErrorCode::ILLEGAL_GENERATION => "the group has moved on without this member",
        ErrorCode::REBALANCE_IN_PROGRESS => "the group is rebalancing",
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL => {
            "the group's members share no assignor with this one, which has range"
        }
        ErrorCode::INVALID_SESSION_TIMEOUT => "the broker does not allow this session timeout",
        ErrorCode::INVALID_COMMIT_OFFSET_SIZE => "the committed offsets do not fit in one record",
        ErrorCode::OFFSET_METADATA_TOO_LARGE => "the text beside the offset is too long",
        ErrorCode::UNSTABLE_OFFSET_COMMIT => "a transaction of the group is still open",

        // The cluster, and any request.
        ErrorCode::BROKER_NOT_AVAILABLE => "no broker is available",
        ErrorCode::NETWORK_EXCEPTION => "the cluster names no address of it",
        ErrorCode::NOT_CONTROLLER => "the cluster is choosing its controller; try again",
        ErrorCode::REQUEST_TIMED_OUT => "the cluster did not decide in time",
        ErrorCode::THROTTLING_QUOTA_EXCEEDED => "too many changes at once; try again later",
        ErrorCode::KAFKA_STORAGE_ERROR => "the broker's disk failed or is full",
        ErrorCode::POLICY_VIOLATION => "a policy of the broker forbids it",
        ErrorCode::INVALID_REQUEST => "the broker finds the request malformed",
        ErrorCode::RESOURCE_NOT_FOUND => "there is nothing of that name",
        ErrorCode::DUPLICATE_RESOURCE => "it was named twice",
        ErrorCode::UNSUPPORTED_VERSION => "the broker is too old or too new for this",
        ErrorCode::UNKNOWN_SERVER_ERROR => "the broker failed; its log says why",
        _ => return None,
    })
}

/// A denial in words that name the right that was missing; `None` for other codes, and where it is
/// not known.
pub(super) fn of_missing(code: ErrorCode, right: Right<'_>) -> Option<String> {
    let (resource, operation) = match code {
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => ("Topic", right.topic),
        ErrorCode::GROUP_AUTHORIZATION_FAILED => ("Group", right.group),
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED => ("Cluster", right.cluster?),
        _ => return None,
    };
    let on = resource.to_lowercase();
    Some(format!(
        "{resource} authorization failed; {operation} on the {on} is needed"
    ))
}

/// Whether a broker's text says no more than the code's name, as "Topic authorization failed."
/// does.
pub(super) fn only_names(text: &str, code: ErrorCode) -> bool {
    let bare = |text: &str| -> String {
        let letters = text.chars().filter(|letter| letter.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    bare(code.name()).ends_with(&bare(text))
}
