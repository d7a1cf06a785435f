//! What the coordinator writes into `__consumer_offsets`, in Kafka's own formats.
//!
//! A key is its kind as an i16, then fields in the classic encoding; a value is its version as an
//! i16, then fields, compact where the version is flexible; no value deletes. Kafka 4.3.1 writes
//! offsets as value version 4 (1 when the commit brought a retention time) and classic groups as
//! version 3, and so does this. Every version that Kafka 4 reads is read.

use bytes::{Bytes, BytesMut};
use palisade_protocol::{DecodeError, EncodeError, Message, Reader, Str, Writer};
use thiserror::Error;

mod classic;
mod consumer;
mod offset;

pub(crate) use classic::{GroupMetadataMember, GroupMetadataValue};
pub(crate) use consumer::{
    AssignedPartitions, ClassicMember, ClassicMemberMetadata, ClassicProtocol,
    CurrentAssignmentValue, EpochValue, MemberValue, RegexValue, TargetAssignmentEpochValue,
    TargetAssignmentValue, TargetPartitions,
};
pub(crate) use offset::OffsetCommitValue;

/// Kinds of records by the number that their keys begin with.
mod kind {
    pub(super) const LEGACY_OFFSET: i16 = 0;
    pub(super) const OFFSET: i16 = 1;
    pub(super) const GROUP: i16 = 2;
    pub(super) const CONSUMER_GROUP: i16 = 3;
    pub(super) const PARTITION_METADATA: i16 = 4;
    pub(super) const MEMBER: i16 = 5;
    pub(super) const TARGET_EPOCH: i16 = 6;
    pub(super) const TARGET: i16 = 7;
    pub(super) const CURRENT: i16 = 8;
    pub(super) const REGEX: i16 = 16;
}

/// One record; a value of `None` deletes what the key names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum GroupRecord {
    /// A committed offset (key kinds 0 and 1; 1 is written).
    Offset {
        /// The group.
        group: Str,
        /// The topic's name.
        topic: Str,
        /// The partition.
        partition: i32,
        /// What was committed.
        value: Option<OffsetCommitValue>,
    },
    /// A classic group with its members (kind 2).
    Group {
        /// The group.
        group: Str,
        /// Its state.
        value: Option<GroupMetadataValue>,
    },
    /// The epoch of a consumer group (kind 3).
    ConsumerGroup {
        /// The group.
        group: Str,
        /// Its epoch.
        value: Option<EpochValue>,
    },
    /// What older releases kept of a group's topics (kind 4); only ever deleted.
    PartitionMetadata {
        /// The group.
        group: Str,
    },
    /// A member of a consumer group and what it subscribes to (kind 5).
    Member {
        /// The group.
        group: Str,
        /// The member.
        member: Str,
        /// Its subscription.
        value: Option<MemberValue>,
    },
    /// The epoch of a group's target assignment (kind 6).
    TargetEpoch {
        /// The group.
        group: Str,
        /// The epoch.
        value: Option<TargetAssignmentEpochValue>,
    },
    /// What a member is to own in the end (kind 7).
    Target {
        /// The group.
        group: Str,
        /// The member.
        member: Str,
        /// Its partitions.
        value: Option<TargetAssignmentValue>,
    },
    /// What a member owns now (kind 8).
    Current {
        /// The group.
        group: Str,
        /// The member.
        member: Str,
        /// Its partitions and epochs.
        value: Option<CurrentAssignmentValue>,
    },
    /// The topics that a regular expression stands for (kind 16).
    Regex {
        /// The group.
        group: Str,
        /// The expression as its members sent it.
        regex: Str,
        /// Its topics.
        value: Option<RegexValue>,
    },
}

/// Bytes of the log that are not a record of the coordinator.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(crate) enum RecordError {
    /// A kind that this release does not write: a share or streams group's, or of a newer release.
    #[error("key kind {0} is not known")]
    UnknownKind(i16),
    /// A record without key.
    #[error("the record has no key")]
    NoKey,
    /// Bytes that do not decode.
    #[error("{0}")]
    Malformed(#[from] DecodeError),
}

impl GroupRecord {
    /// The group that the record belongs to.
    pub(crate) fn group(&self) -> &Str {
        match self {
            Self::Offset { group, .. }
            | Self::Group { group, .. }
            | Self::ConsumerGroup { group, .. }
            | Self::PartitionMetadata { group }
            | Self::Member { group, .. }
            | Self::TargetEpoch { group, .. }
            | Self::Target { group, .. }
            | Self::Current { group, .. }
            | Self::Regex { group, .. } => group,
        }
    }

    /// Key and value as they stand in the log.
    ///
    /// # Errors
    /// A name or a text that is longer than its length prefix can say.
    pub(crate) fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        match self {
            Self::Offset {
                group,
                topic,
                partition,
                value,
            } => {
                let key = OffsetKey {
                    group: group.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                };
                let value = value.as_ref().map(|value| (value, value.write_version()));
                pair(kind::OFFSET, &key, value)
            }
            Self::Group { group, value } => of_group(kind::GROUP, group, value, 3),
            Self::ConsumerGroup { group, value } => of_group(kind::CONSUMER_GROUP, group, value, 0),
            Self::PartitionMetadata { group } => {
                of_group::<EpochValue>(kind::PARTITION_METADATA, group, &None, 0)
            }
            Self::Member {
                group,
                member,
                value,
            } => of_member(kind::MEMBER, group, member, value),
            Self::TargetEpoch { group, value } => of_group(kind::TARGET_EPOCH, group, value, 0),
            Self::Target {
                group,
                member,
                value,
            } => of_member(kind::TARGET, group, member, value),
            Self::Current {
                group,
                member,
                value,
            } => of_member(kind::CURRENT, group, member, value),
            Self::Regex {
                group,
                regex,
                value,
            } => of_member(kind::REGEX, group, regex, value),
        }
    }

    /// Reads a record of the log; texts are slices of `key` and `value`.
    ///
    /// # Errors
    /// `UnknownKind` for records to skip, else bytes that nobody can have written.
    pub(crate) fn decode(key: Option<Bytes>, value: Option<Bytes>) -> Result<Self, RecordError> {
        let mut key = Reader::new(key.ok_or(RecordError::NoKey)?);
        let kind = key.read_i16()?;
        Ok(match kind {
            kind::LEGACY_OFFSET | kind::OFFSET => {
                let key = OffsetKey::decode(&mut key, 0)?;
                Self::Offset {
                    group: key.group,
                    topic: key.topic,
                    partition: key.partition,
                    value: read_value(value)?,
                }
            }
            kind::GROUP => Self::Group {
                group: GroupKey::decode(&mut key, 0)?.group,
                value: read_value(value)?,
            },
            kind::CONSUMER_GROUP => Self::ConsumerGroup {
                group: GroupKey::decode(&mut key, 0)?.group,
                value: read_value(value)?,
            },
            // A value says nothing that the metadata does not say better.
            kind::PARTITION_METADATA => Self::PartitionMetadata {
                group: GroupKey::decode(&mut key, 0)?.group,
            },
            kind::TARGET_EPOCH => Self::TargetEpoch {
                group: GroupKey::decode(&mut key, 0)?.group,
                value: read_value(value)?,
            },
            kind::MEMBER => {
                let MemberKey { group, member } = MemberKey::decode(&mut key, 0)?;
                Self::Member {
                    group,
                    member,
                    value: read_value(value)?,
                }
            }
            kind::TARGET => {
                let MemberKey { group, member } = MemberKey::decode(&mut key, 0)?;
                Self::Target {
                    group,
                    member,
                    value: read_value(value)?,
                }
            }
            kind::CURRENT => {
                let MemberKey { group, member } = MemberKey::decode(&mut key, 0)?;
                Self::Current {
                    group,
                    member,
                    value: read_value(value)?,
                }
            }
            kind::REGEX => {
                let MemberKey { group, member } = MemberKey::decode(&mut key, 0)?;
                Self::Regex {
                    group,
                    regex: member,
                    value: read_value(value)?,
                }
            }
            unknown => return Err(RecordError::UnknownKind(unknown)),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0")]
struct OffsetKey {
    group: Str,
    topic: Str,
    partition: i32,
}

#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0")]
struct GroupKey {
    group: Str,
}

/// A group and one of its members, or one of its expressions.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0")]
struct MemberKey {
    group: Str,
    member: Str,
}

fn of_group<V: Message>(
    kind: i16,
    group: &Str,
    value: &Option<V>,
    version: i16,
) -> Result<(Bytes, Option<Bytes>), EncodeError> {
    let key = GroupKey {
        group: group.clone(),
    };
    pair(kind, &key, value.as_ref().map(|value| (value, version)))
}

fn of_member<V: Message>(
    kind: i16,
    group: &Str,
    member: &Str,
    value: &Option<V>,
) -> Result<(Bytes, Option<Bytes>), EncodeError> {
    let key = MemberKey {
        group: group.clone(),
        member: member.clone(),
    };
    pair(kind, &key, value.as_ref().map(|value| (value, 0)))
}

fn pair<K: Message, V: Message>(
    kind: i16,
    key: &K,
    value: Option<(&V, i16)>,
) -> Result<(Bytes, Option<Bytes>), EncodeError> {
    let key = prefixed(kind, key, 0)?;
    let value = value.map(|(value, version)| prefixed(version, value, version));
    Ok((key, value.transpose()?))
}

fn prefixed<M: Message>(prefix: i16, body: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new(BytesMut::new());
    writer.put_i16(prefix);
    body.encode(&mut writer, version)?;
    let mut chunks = writer.finish().into_iter();
    // Nothing in these records is shared with a log, so the writer has one chunk.
    Ok(chunks
        .next()
        .map(|chunk| Bytes::copy_from_slice(chunk.as_bytes()))
        .unwrap_or_default())
}

fn read_value<V: Message>(value: Option<Bytes>) -> Result<Option<V>, DecodeError> {
    let Some(value) = value else { return Ok(None) };
    let mut reader = Reader::new(value);
    let version = reader.read_i16()?;
    V::decode(&mut reader, version).map(Some)
}
