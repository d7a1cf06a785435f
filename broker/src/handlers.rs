//! Handlers, one file per API; `dispatch` holds the table.

pub(crate) mod api_versions;
pub(crate) mod consumer_group_describe;
pub(crate) mod consumer_group_heartbeat;
pub(crate) mod controlled;
pub(crate) mod delete_groups;
pub(crate) mod delete_records;
pub(crate) mod denied;
pub(crate) mod describe_acls;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_groups;
pub(crate) mod describe_topic_partitions;
pub(crate) mod describe_user_scram_credentials;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
mod group_change;
mod group_view;
pub(crate) mod heartbeat;
pub(crate) mod init_producer_id;
pub(crate) mod join_group;
mod layout;
pub(crate) mod leave_group;
pub(crate) mod list_groups;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod offset_commit;
pub(crate) mod offset_delete;
pub(crate) mod offset_fetch;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;
pub(crate) mod sasl_authenticate;
pub(crate) mod sasl_handshake;
pub(crate) mod sync_group;

use palisade_protocol::types::LeaderEpoch;

/// The leader epoch that a client holds a partition's to be. But for Fetch any number is one that
/// is not -1, as in Kafka.
fn expected_epoch(value: i32) -> Option<LeaderEpoch> {
    Some(LeaderEpoch::new(value)).filter(|epoch| *epoch != LeaderEpoch::NONE)
}
