//! A consumer group (KIP-848), piece by piece.

use bytes::Bytes;
use palisade_protocol::schema::TypeSchema;
use palisade_protocol::wire::{Field, Version};
use palisade_protocol::{DecodeError, EncodeError, Message, Reader, Str, Uuid, Writer};

/// The epoch of a group (ConsumerGroupMetadataValue).
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub(crate) struct EpochValue {
    /// The group's epoch.
    pub(crate) epoch: i32,
    /// A hash over the topics subscribed to.
    #[field(tag = 0)]
    pub(crate) metadata_hash: i64,
}

/// A member's subscription (ConsumerGroupMemberMetadataValue).
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub(crate) struct MemberValue {
    /// The id of a static member; null for a dynamic one.
    #[field(nullable = "0+", default = null)]
    pub(crate) instance_id: Option<Str>,
    /// The client's rack.
    #[field(nullable = "0+", default = null)]
    pub(crate) rack_id: Option<Str>,
    /// The name the client gave itself.
    pub(crate) client_id: Str,
    /// Its address, with a slash before it.
    pub(crate) client_host: Str,
    /// The topics subscribed to by name.
    pub(crate) subscribed_topic_names: Vec<Str>,
    /// The expression subscribed to.
    #[field(nullable = "0+", default = null)]
    pub(crate) subscribed_topic_regex: Option<Str>,
    /// Milliseconds the member may take to give up partitions.
    #[field(default = -1)]
    pub(crate) rebalance_timeout_ms: i32,
    /// The assignor the member wants.
    #[field(nullable = "0+", default = null)]
    pub(crate) server_assignor: Option<Str>,
    /// What a member of the classic protocol brought.
    #[field(tag = 0)]
    pub(crate) classic_member_metadata: ClassicMember,
}

/// What a member of the classic protocol brought; `None` for a member of the consumer protocol.
///
/// The schema has no default for the field, so a missing tag reads as an empty struct: a native
/// member must say that it is one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClassicMember(pub(crate) Option<ClassicMemberMetadata>);

impl Default for ClassicMember {
    fn default() -> Self {
        Self(Some(ClassicMemberMetadata::default()))
    }
}

impl Field for ClassicMember {
    const TYPE: TypeSchema = ClassicMemberMetadata::TYPE;

    fn min_size(_version: Version) -> usize {
        1
    }

    // In a tag a struct that may be null is marked by an unsigned varint, not by an i8.
    fn read(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        match reader.read_uvarint()? {
            0 => Ok(Self(None)),
            1 => Ok(Self(Some(ClassicMemberMetadata::read(reader, version)?))),
            other => Err(DecodeError::PresenceMarker {
                marker: i8::try_from(other).unwrap_or(i8::MAX),
            }),
        }
    }

    fn write(&self, writer: &mut Writer, version: Version) -> Result<(), EncodeError> {
        match &self.0 {
            None => {
                writer.put_uvarint(0);
                Ok(())
            }
            Some(metadata) => {
                writer.put_uvarint(1);
                metadata.write(writer, version)
            }
        }
    }
}

/// What a member of the classic protocol sent when it joined.
#[derive(Clone, Debug, PartialEq, Message)]
pub(crate) struct ClassicMemberMetadata {
    /// Milliseconds the member may be silent.
    pub(crate) session_timeout_ms: i32,
    /// Its protocols, by its preference.
    pub(crate) supported_protocols: Vec<ClassicProtocol>,
}

/// One protocol of a classic member.
#[derive(Clone, Debug, PartialEq, Message)]
pub(crate) struct ClassicProtocol {
    /// Its name.
    pub(crate) name: Str,
    /// The member's metadata for it.
    pub(crate) metadata: Bytes,
}

/// The epoch of a target assignment (ConsumerGroupTargetAssignmentMetadataValue).
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub(crate) struct TargetAssignmentEpochValue {
    /// The group epoch that the assignment was computed for.
    pub(crate) assignment_epoch: i32,
    /// When it was computed, in milliseconds since the epoch.
    #[field(tag = 0)]
    pub(crate) assignment_timestamp: i64,
}

/// What a member is to own in the end (ConsumerGroupTargetAssignmentMemberValue).
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub(crate) struct TargetAssignmentValue {
    /// The partitions, per topic.
    pub(crate) topic_partitions: Vec<TargetPartitions>,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Message)]
pub(crate) struct TargetPartitions {
    /// The topic's id.
    pub(crate) topic_id: Uuid,
    /// The partitions.
    pub(crate) partitions: Vec<i32>,
}

/// What a member owns now (ConsumerGroupCurrentMemberAssignmentValue).
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub(crate) struct CurrentAssignmentValue {
    /// The member's epoch.
    pub(crate) member_epoch: i32,
    /// The epoch before it.
    pub(crate) previous_member_epoch: i32,
    /// 0 stable, 1 must give up partitions, 2 waits for partitions of others.
    pub(crate) state: i8,
    /// What it owns.
    pub(crate) assigned_partitions: Vec<AssignedPartitions>,
    /// What it must give up and has not.
    pub(crate) partitions_pending_revocation: Vec<AssignedPartitions>,
}

/// Partitions of one topic with the epochs in which they were assigned.
#[derive(Clone, Debug, PartialEq, Message)]
pub(crate) struct AssignedPartitions {
    /// The topic's id.
    pub(crate) topic_id: Uuid,
    /// The partitions.
    pub(crate) partitions: Vec<i32>,
    /// Epochs, one per partition; empty in logs of releases before 4.3.
    #[field(tag = 0, nullable = "0+")]
    pub(crate) assignment_epochs: Option<Vec<i32>>,
}

/// The topics of an expression (ConsumerGroupRegularExpressionValue).
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub(crate) struct RegexValue {
    /// The topics, by name.
    pub(crate) topics: Vec<Str>,
    /// The offset of the metadata that they were looked up in.
    pub(crate) metadata_version: i64,
    /// When they were looked up, in milliseconds since the epoch.
    pub(crate) timestamp: i64,
}
