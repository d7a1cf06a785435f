//! Requests and responses, one file per API with both sides.
//!
//! A struct stands for all versions of its message. What a version lacks reads as the default and
//! is dropped when written if the schema calls it ignorable; otherwise writing it is an error.
//! Fields that may be null in any version are `Option`s. Names are those of Kafka's schemas.

use std::fmt;

use crate::api::ApiKey;
use crate::error::{DecodeError, EncodeError};
use crate::reader::Reader;
use crate::schema::MessageSchema;
use crate::wire::{Field, Version};
use crate::writer::Writer;

pub mod alter_configs;
pub mod alter_user_scram_credentials;
pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_acls;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_acls;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_acls;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_topic_partitions;
pub mod describe_user_scram_credentials;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sasl_authenticate;
pub mod sasl_handshake;
pub mod sync_group;

/// What stands in a log line for a secret: its length.
struct Redacted(usize);

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0)
    }
}

/// A request's or response's body.
pub trait Message: Field + Default {
    /// Its versions and fields.
    const SCHEMA: &'static MessageSchema;

    /// Reads a body; bytes after it stay in the reader.
    ///
    /// # Errors
    /// The bytes are not such a body, or the version is not known.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let version = Version::of(Self::SCHEMA, version)
            .ok_or(DecodeError::UnsupportedVersion { version })?;
        Self::read(reader, version)
    }

    /// Writes a body.
    ///
    /// # Errors
    /// The version is not known, or cannot carry a value that is set.
    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let version = Version::of(Self::SCHEMA, version)
            .ok_or(EncodeError::UnsupportedVersion { version })?;
        self.write(writer, version)
    }
}

/// A request's body, with what answers it.
pub trait Request: Message {
    /// The key in the request header.
    const KEY: ApiKey;
    /// The body of the response, of the same version.
    type Response: Message;
}
