//! A committed offset.

use palisade_protocol::{Message, Str, Uuid};

/// What was committed for one partition (OffsetCommitValue of Kafka, versions 0 to 4).
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-4", flexible = "4+")]
pub(crate) struct OffsetCommitValue {
    /// The next offset to consume.
    pub(crate) offset: i64,
    /// The leader epoch of the last consumed record; -1 for none.
    #[field(versions = "3+", default = -1, ignorable)]
    pub(crate) leader_epoch: i32,
    /// The client's own text.
    pub(crate) metadata: Str,
    /// When it was committed, in milliseconds since the epoch.
    pub(crate) commit_timestamp: i64,
    /// When it expires, in milliseconds since the epoch; -1 by the broker's retention.
    #[field(versions = "1", default = -1, ignorable)]
    pub(crate) expire_timestamp: i64,
    /// The topic's id; zero when not known.
    #[field(versions = "4+", tag = 0, ignorable)]
    pub(crate) topic_id: Uuid,
}

impl OffsetCommitValue {
    /// The version to write: only 1 carries a retention time of the commit's own.
    pub(super) fn write_version(&self) -> i16 {
        if self.expire_timestamp == -1 { 4 } else { 1 }
    }
}
