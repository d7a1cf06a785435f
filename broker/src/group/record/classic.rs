//! A classic group.

use bytes::Bytes;
use palisade_protocol::{Message, Str};

/// A classic group as of its last assignment (GroupMetadataValue of Kafka, versions 0 to 4).
#[derive(Clone, Debug, PartialEq, Message)]
#[message(versions = "0-4", flexible = "4+")]
pub(crate) struct GroupMetadataValue {
    /// The kind of protocol, `consumer` for consumers; empty for a group that never had members.
    pub(crate) protocol_type: Str,
    /// The generation.
    pub(crate) generation: i32,
    /// The protocol chosen; null while there is none.
    #[field(nullable = "0+", default = null)]
    pub(crate) protocol: Option<Str>,
    /// The leading member; null while there is none.
    #[field(nullable = "0+", default = null)]
    pub(crate) leader: Option<Str>,
    /// When the group came into its state, in milliseconds since the epoch; -1 when not known.
    #[field(versions = "2+", default = -1, ignorable)]
    pub(crate) current_state_timestamp: i64,
    /// The members.
    pub(crate) members: Vec<GroupMetadataMember>,
}

/// One member of a classic group.
#[derive(Clone, Debug, PartialEq, Message)]
#[message(name = "MemberMetadata")]
pub(crate) struct GroupMetadataMember {
    /// The member's id.
    pub(crate) member_id: Str,
    /// The id of a static member; null for a dynamic one.
    #[field(versions = "3+", nullable = "3+", default = null, ignorable)]
    pub(crate) group_instance_id: Option<Str>,
    /// The name the client gave itself.
    pub(crate) client_id: Str,
    /// Its address, with a slash before it.
    pub(crate) client_host: Str,
    /// Milliseconds the member may take to rejoin; -1 when not known.
    #[field(versions = "1+", default = -1, ignorable)]
    pub(crate) rebalance_timeout: i32,
    /// Milliseconds the member may be silent.
    pub(crate) session_timeout: i32,
    /// The member's metadata for the protocol chosen.
    pub(crate) subscription: Bytes,
    /// What the leader assigned to it.
    pub(crate) assignment: Bytes,
}
