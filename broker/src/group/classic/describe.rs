//! A classic group as tools see it.

use bytes::Bytes;
use palisade_protocol::Str;

use super::{ClassicGroup, State};

/// What DescribeGroups tells.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Description {
    /// The state.
    pub(crate) state: State,
    /// The protocol type, maybe empty.
    pub(crate) protocol_type: Str,
    /// The protocol chosen; empty unless Stable.
    pub(crate) protocol: Str,
    /// The members, by id.
    pub(crate) members: Vec<DescribedMember>,
}

/// One member of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DescribedMember {
    /// Its id.
    pub(crate) member_id: Str,
    /// Its instance id, of a static member.
    pub(crate) instance_id: Option<Str>,
    /// The name its client gave itself.
    pub(crate) client_id: Str,
    /// Its address, with a slash before it.
    pub(crate) client_host: Str,
    /// Its metadata for the protocol chosen; empty unless Stable.
    pub(crate) metadata: Bytes,
    /// Its last assignment.
    pub(crate) assignment: Bytes,
}

impl ClassicGroup {
    /// The group as it is.
    pub(crate) fn describe(&self) -> Description {
        let is_stable = self.state == State::Stable;
        let protocol = self.protocol.clone().filter(|_| is_stable);
        let members = self.members.iter().map(|(id, member)| DescribedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: member.metadata(protocol.as_ref()),
            assignment: member.assignment.clone(),
        });
        Description {
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: members.collect(),
            protocol: protocol.unwrap_or_default(),
        }
    }
}
