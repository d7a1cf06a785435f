//! What error codes mean to whoever runs an administration command.

use palisade_protocol::ErrorCode;

/// A code in words, for answers that bring none of their own; the name for all other codes.
pub(super) fn of(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => "there is no such topic, or no right to see it",
        ErrorCode::TOPIC_ALREADY_EXISTS => "it exists already",
        ErrorCode::INVALID_TOPIC_EXCEPTION => {
            "a name has 1 to 249 letters, digits, '.', '_' and '-', and is not . or .."
        }
        ErrorCode::INVALID_PARTITIONS => "the number of partitions cannot be had",
        ErrorCode::INVALID_REPLICATION_FACTOR => "there are not as many nodes as replicas",
        ErrorCode::INVALID_CONFIG => "a configuration key or value is refused",
        ErrorCode::INVALID_REQUEST => "the broker finds the request malformed",
        ErrorCode::TOPIC_DELETION_DISABLED => "delete.topic.enable is off there",
        ErrorCode::POLICY_VIOLATION => "a policy of the broker forbids it",
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => "this user has no right to do that to the topic",
        ErrorCode::GROUP_AUTHORIZATION_FAILED => "this user has no right to do that to the group",
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
            "this user has no right to do that to the cluster"
        }
        ErrorCode::SECURITY_DISABLED => "the broker has no authorizer, so there are no ACLs",
        ErrorCode::RESOURCE_NOT_FOUND => "there is nothing of that name",
        ErrorCode::DUPLICATE_RESOURCE => "it was named twice",
        ErrorCode::UNACCEPTABLE_CREDENTIAL => "the user's name or the iterations are refused",
        ErrorCode::UNSUPPORTED_SASL_MECHANISM => "the broker does not know the mechanism",
        ErrorCode::REQUEST_TIMED_OUT => "the cluster did not decide in time",
        ErrorCode::NOT_CONTROLLER => "the cluster is choosing its controller; try again",
        ErrorCode::THROTTLING_QUOTA_EXCEEDED => "too many changes at once; try again later",
        ErrorCode::KAFKA_STORAGE_ERROR => "the broker's disk failed or is full",
        ErrorCode::UNSUPPORTED_VERSION => "the broker is too old or too new for this",
        ErrorCode::UNKNOWN_SERVER_ERROR => "the broker failed; its log says why",
        _ => return None,
    })
}
