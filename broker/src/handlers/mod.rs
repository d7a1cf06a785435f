//! Handlers, one file per API; `dispatch` holds the table.

pub(crate) mod api_versions;
pub(crate) mod controlled;
pub(crate) mod delete_records;
pub(crate) mod denied;
pub(crate) mod describe_acls;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_topic_partitions;
pub(crate) mod describe_user_scram_credentials;
pub(crate) mod fetch;
pub(crate) mod init_producer_id;
mod layout;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;
pub(crate) mod sasl_authenticate;
pub(crate) mod sasl_handshake;
