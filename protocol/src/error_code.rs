//! Error codes: what a response says of a topic, a partition or the whole request.

use std::fmt;

/// A code as it stands on the wire. Unknown codes of a newer peer survive.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ErrorCode(i16);

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $value:literal $($retriable:ident)?;)*) => {
        impl ErrorCode {
            $($(#[doc = $doc])* pub const $name: Self = Self($value);)*

            /// Every code of Kafka 4.4, ascending.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Kafka's name of the code, if it has one.
            const fn known_name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// Whether a client of Kafka 4.4 tries again by itself after this code.
            pub const fn is_retriable(self) -> bool {
                match self.0 {
                    $($($value => codes!(@$retriable),)?)*
                    _ => false,
                }
            }
        }
    };
    (@retriable) => { true };
}

impl ErrorCode {
    /// Wraps a code from the wire.
    pub const fn new(value: i16) -> Self {
        Self(value)
    }

    /// The code for the wire.
    pub const fn value(self) -> i16 {
        self.0
    }

    /// Kafka's name of the code; `UNKNOWN` for one of a newer peer.
    pub const fn name(self) -> &'static str {
        match self.known_name() {
            Some(name) => name,
            None => "UNKNOWN",
        }
    }

    /// Says whether this is not [`ErrorCode::NONE`].
    pub const fn is_error(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known_name() {
            Some(name) => f.pad(name),
            None => write!(f, "UNKNOWN({})", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

codes! {
    /// The broker failed in a way it has no code for.
    UNKNOWN_SERVER_ERROR = -1;
    /// Success.
    NONE = 0;
    /// The offset lies outside the log.
    OFFSET_OUT_OF_RANGE = 1;
    /// A batch does not match its CRC or its size.
    CORRUPT_MESSAGE = 2 retriable;
    /// The topic or partition does not exist here.
    UNKNOWN_TOPIC_OR_PARTITION = 3 retriable;
    /// The fetch size is not valid.
    INVALID_FETCH_SIZE = 4;
    /// The partition has no leader at present.
    LEADER_NOT_AVAILABLE = 5 retriable;
    /// This broker does not lead, or does not hold, the partition.
    NOT_LEADER_OR_FOLLOWER = 6 retriable;
    /// The request took longer than it allowed.
    REQUEST_TIMED_OUT = 7 retriable;
    /// The broker is not available.
    BROKER_NOT_AVAILABLE = 8;
    /// The replica is not available.
    REPLICA_NOT_AVAILABLE = 9 retriable;
    /// A batch is larger than the topic allows.
    MESSAGE_TOO_LARGE = 10;
    /// The controller has moved.
    STALE_CONTROLLER_EPOCH = 11;
    /// The text beside a committed offset is too long.
    OFFSET_METADATA_TOO_LARGE = 12;
    /// The connection broke; only clients use it.
    NETWORK_EXCEPTION = 13 retriable;
    /// The coordinator is still reading its state.
    COORDINATOR_LOAD_IN_PROGRESS = 14 retriable;
    /// The coordinator is not available.
    COORDINATOR_NOT_AVAILABLE = 15 retriable;
    /// This broker is not the coordinator asked for.
    NOT_COORDINATOR = 16 retriable;
    /// The topic may not be used that way, or its name is not valid.
    INVALID_TOPIC_EXCEPTION = 17;
    /// The batch is larger than a segment.
    RECORD_LIST_TOO_LARGE = 18;
    /// Fewer replicas are in sync than the topic demands.
    NOT_ENOUGH_REPLICAS = 19 retriable;
    /// Replicas dropped out of sync after the append.
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20 retriable;
    /// acks is not -1, 0 or 1.
    INVALID_REQUIRED_ACKS = 21;
    /// The generation is not the current one of the group.
    ILLEGAL_GENERATION = 22;
    /// The member shares no protocol with the group.
    INCONSISTENT_GROUP_PROTOCOL = 23;
    /// The group id is not valid.
    INVALID_GROUP_ID = 24;
    /// The group has no such member.
    UNKNOWN_MEMBER_ID = 25;
    /// The session timeout lies outside the allowed range.
    INVALID_SESSION_TIMEOUT = 26;
    /// The group is rebalancing; the member must rejoin.
    REBALANCE_IN_PROGRESS = 27;
    /// The offset commit is too large to store.
    INVALID_COMMIT_OFFSET_SIZE = 28;
    /// Access to the topic is denied.
    TOPIC_AUTHORIZATION_FAILED = 29;
    /// Access to the group is denied.
    GROUP_AUTHORIZATION_FAILED = 30;
    /// The operation on the cluster is denied.
    CLUSTER_AUTHORIZATION_FAILED = 31;
    /// A record timestamp lies outside the allowed range.
    INVALID_TIMESTAMP = 32;
    /// The SASL mechanism is not enabled.
    UNSUPPORTED_SASL_MECHANISM = 33;
    /// The request does not fit the state of authentication.
    ILLEGAL_SASL_STATE = 34;
    /// The version of the request is not served.
    UNSUPPORTED_VERSION = 35;
    /// A topic of that name exists.
    TOPIC_ALREADY_EXISTS = 36;
    /// The number of partitions is not valid.
    INVALID_PARTITIONS = 37;
    /// The replication factor is not valid.
    INVALID_REPLICATION_FACTOR = 38;
    /// The replica assignment is not valid.
    INVALID_REPLICA_ASSIGNMENT = 39;
    /// A configuration key or value is not valid.
    INVALID_CONFIG = 40;
    /// This broker is not the controller.
    NOT_CONTROLLER = 41 retriable;
    /// The request contradicts itself.
    INVALID_REQUEST = 42;
    /// The message format of the log does not allow it.
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43;
    /// A policy of the broker refuses the request.
    POLICY_VIOLATION = 44;
    /// A producer skipped a sequence number.
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45;
    /// A producer repeated a sequence number.
    DUPLICATE_SEQUENCE_NUMBER = 46;
    /// The producer epoch is older than the one known.
    INVALID_PRODUCER_EPOCH = 47;
    /// The transaction is in no state for it.
    INVALID_TXN_STATE = 48;
    /// The producer id does not belong to the transactional id.
    INVALID_PRODUCER_ID_MAPPING = 49;
    /// The transaction timeout is longer than the broker allows.
    INVALID_TRANSACTION_TIMEOUT = 50;
    /// Another step of the transaction is under way.
    CONCURRENT_TRANSACTIONS = 51 retriable;
    /// A newer transaction coordinator is at work.
    TRANSACTION_COORDINATOR_FENCED = 52;
    /// Access to the transactional id is denied.
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53;
    /// The broker has no authorizer.
    SECURITY_DISABLED = 54;
    /// Not tried, because another part of the request failed.
    OPERATION_NOT_ATTEMPTED = 55;
    /// The disk failed.
    KAFKA_STORAGE_ERROR = 56 retriable;
    /// The broker has no such log directory.
    LOG_DIR_NOT_FOUND = 57;
    /// Authentication failed.
    SASL_AUTHENTICATION_FAILED = 58;
    /// The log knows nothing of the producer id.
    UNKNOWN_PRODUCER_ID = 59;
    /// The partition is being reassigned.
    REASSIGNMENT_IN_PROGRESS = 60;
    /// Delegation tokens are not enabled.
    DELEGATION_TOKEN_AUTH_DISABLED = 61;
    /// There is no such delegation token.
    DELEGATION_TOKEN_NOT_FOUND = 62;
    /// The caller does not own the delegation token.
    DELEGATION_TOKEN_OWNER_MISMATCH = 63;
    /// Delegation tokens are not managed over this kind of connection.
    DELEGATION_TOKEN_REQUEST_NOT_ALLOWED = 64;
    /// Access to the delegation token is denied.
    DELEGATION_TOKEN_AUTHORIZATION_FAILED = 65;
    /// The delegation token has expired.
    DELEGATION_TOKEN_EXPIRED = 66;
    /// The principal type is not supported.
    INVALID_PRINCIPAL_TYPE = 67;
    /// The group still has members.
    NON_EMPTY_GROUP = 68;
    /// There is no such group.
    GROUP_ID_NOT_FOUND = 69;
    /// There is no such fetch session.
    FETCH_SESSION_ID_NOT_FOUND = 70 retriable;
    /// The fetch session expected another epoch.
    INVALID_FETCH_SESSION_EPOCH = 71 retriable;
    /// The leader has no listener of that name.
    LISTENER_NOT_FOUND = 72 retriable;
    /// Topics may not be deleted here.
    TOPIC_DELETION_DISABLED = 73;
    /// The leader epoch is older than the broker's.
    FENCED_LEADER_EPOCH = 74 retriable;
    /// The leader epoch is newer than the broker's.
    UNKNOWN_LEADER_EPOCH = 75 retriable;
    /// The codec may not be used in this version.
    UNSUPPORTED_COMPRESSION_TYPE = 76;
    /// The broker epoch is not the current one.
    STALE_BROKER_EPOCH = 77;
    /// The high watermark has not caught up with the leader epoch.
    OFFSET_NOT_AVAILABLE = 78 retriable;
    /// The member must rejoin with the id it was given.
    MEMBER_ID_REQUIRED = 79;
    /// The preferred leader is not available.
    PREFERRED_LEADER_NOT_AVAILABLE = 80 retriable;
    /// The group is full.
    GROUP_MAX_SIZE_REACHED = 81;
    /// Another member uses the static instance id.
    FENCED_INSTANCE_ID = 82;
    /// No replica may become leader.
    ELIGIBLE_LEADERS_NOT_AVAILABLE = 83 retriable;
    /// The wanted leader leads already.
    ELECTION_NOT_NEEDED = 84 retriable;
    /// The partition is not being reassigned.
    NO_REASSIGNMENT_IN_PROGRESS = 85;
    /// The group is subscribed to the topic.
    GROUP_SUBSCRIBED_TO_TOPIC = 86;
    /// A record breaks a rule of the broker or the topic.
    INVALID_RECORD = 87;
    /// A transaction still decides over the offset.
    UNSTABLE_OFFSET_COMMIT = 88 retriable;
    /// A quota is exhausted.
    THROTTLING_QUOTA_EXCEEDED = 89 retriable;
    /// A newer producer uses the transactional id.
    PRODUCER_FENCED = 90;
    /// The request names something that does not exist.
    RESOURCE_NOT_FOUND = 91;
    /// The request names something twice.
    DUPLICATE_RESOURCE = 92;
    /// The credential does not meet the rules.
    UNACCEPTABLE_CREDENTIAL = 93;
    /// The voters of the two sides differ.
    INCONSISTENT_VOTER_SET = 94;
    /// The update names an outdated version.
    INVALID_UPDATE_VERSION = 95;
    /// The feature could not be changed.
    FEATURE_UPDATE_FAILED = 96;
    /// A forwarded principal cannot be read.
    PRINCIPAL_DESERIALIZATION_FAILURE = 97;
    /// There is no such snapshot.
    SNAPSHOT_NOT_FOUND = 98;
    /// The position lies outside the snapshot.
    POSITION_OUT_OF_RANGE = 99;
    /// No topic has that id.
    UNKNOWN_TOPIC_ID = 100 retriable;
    /// A live broker uses the node id.
    DUPLICATE_BROKER_REGISTRATION = 101;
    /// No broker of that node id is registered.
    BROKER_ID_NOT_REGISTERED = 102;
    /// The log belongs to another topic of that name.
    INCONSISTENT_TOPIC_ID = 103 retriable;
    /// The request is meant for another cluster.
    INCONSISTENT_CLUSTER_ID = 104;
    /// There is no such transactional id.
    TRANSACTIONAL_ID_NOT_FOUND = 105;
    /// The fetch session changed between topic names and ids.
    FETCH_SESSION_TOPIC_ID_ERROR = 106 retriable;
    /// The replica may not join the ISR.
    INELIGIBLE_REPLICA = 107;
    /// The change made another broker the leader.
    NEW_LEADER_ELECTED = 108;
    /// The offset has moved to tiered storage.
    OFFSET_MOVED_TO_TIERED_STORAGE = 109;
    /// The member epoch is not the current one; rejoin.
    FENCED_MEMBER_EPOCH = 110;
    /// Another member still holds the instance id.
    UNRELEASED_INSTANCE_ID = 111;
    /// The assignor is not supported.
    UNSUPPORTED_ASSIGNOR = 112;
    /// The member epoch is outdated; retry with the newer one.
    STALE_MEMBER_EPOCH = 113;
    /// The request went to the wrong kind of endpoint.
    MISMATCHED_ENDPOINT_TYPE = 114;
    /// The kind of endpoint is not supported.
    UNSUPPORTED_ENDPOINT_TYPE = 115;
    /// There is no such controller.
    UNKNOWN_CONTROLLER_ID = 116;
    /// The telemetry subscription is outdated.
    UNKNOWN_SUBSCRIPTION_ID = 117;
    /// The telemetry is too large.
    TELEMETRY_TOO_LARGE = 118;
    /// The registration is not valid.
    INVALID_REGISTRATION = 119;
    /// The transaction must be aborted.
    TRANSACTION_ABORTABLE = 120;
    /// The record is in no state for it.
    INVALID_RECORD_STATE = 121;
    /// There is no such share session.
    SHARE_SESSION_NOT_FOUND = 122 retriable;
    /// The share session expected another epoch.
    INVALID_SHARE_SESSION_EPOCH = 123 retriable;
    /// The share coordinator knows a newer epoch.
    FENCED_STATE_EPOCH = 124;
    /// The voter key does not match the receiver.
    INVALID_VOTER_KEY = 125;
    /// The voter is in the set already.
    DUPLICATE_VOTER = 126;
    /// The voter is not in the set.
    VOTER_NOT_FOUND = 127;
    /// The regular expression is not valid.
    INVALID_REGULAR_EXPRESSION = 128;
    /// The client talks to another node than it means to.
    REBOOTSTRAP_REQUIRED = 129;
    /// The topology is not valid.
    STREAMS_INVALID_TOPOLOGY = 130;
    /// The topology epoch is not valid.
    STREAMS_INVALID_TOPOLOGY_EPOCH = 131;
    /// The topology epoch is outdated.
    STREAMS_TOPOLOGY_FENCED = 132;
    /// The broker holds as many share sessions as it may.
    SHARE_SESSION_LIMIT_REACHED = 133 retriable;
    /// Part of the group could not be deleted.
    GROUP_DELETION_FAILED = 134;
    /// The description of the topology could not be stored.
    STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED = 135;
    /// No controller of that node id is registered.
    CONTROLLER_ID_NOT_REGISTERED = 136;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_complete_and_ascending() {
        let values: Vec<i16> = ErrorCode::ALL.iter().map(|code| code.value()).collect();
        assert_eq!(values, (-1..=136).collect::<Vec<i16>>());
    }

    #[test]
    fn unknown_codes_survive() {
        assert_eq!(ErrorCode::new(999).value(), 999);
        assert_eq!(ErrorCode::new(999).to_string(), "UNKNOWN(999)");
        assert_eq!(ErrorCode::NOT_CONTROLLER.name(), "NOT_CONTROLLER");
    }

    #[test]
    fn retriable_codes_are_those_of_the_java_client() {
        let retriable = ErrorCode::ALL
            .iter()
            .filter(|code| code.is_retriable())
            .count();
        assert_eq!(retriable, 32);
        assert!(ErrorCode::NOT_LEADER_OR_FOLLOWER.is_retriable());
        assert!(!ErrorCode::NONE.is_retriable());
        assert!(!ErrorCode::TOPIC_AUTHORIZATION_FAILED.is_retriable());
    }
}
