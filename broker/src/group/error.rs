//! Why the coordinator refuses, and the code that each reason has on the wire.

use palisade_protocol::{ErrorCode, Str};
use thiserror::Error;

use crate::foreign;

/// A refusal. The text is for clients that show one.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(crate) enum GroupError {
    /// An empty group id where a group needs a name.
    #[error("the group id must not be empty")]
    InvalidGroupId,
    /// A session timeout outside the broker's bounds.
    #[error("the session timeout is outside the allowed range")]
    InvalidSessionTimeout,
    /// The group has as many members as it may have.
    #[error("the group has reached its maximum size of {0} members")]
    GroupMaxSizeReached(usize),
    /// The members of the group, or of all groups, hold as many bytes as they may.
    #[error(
        "members hold too much metadata: palisade.group.members.max.bytes leaves {limit} bytes here"
    )]
    MembersFull {
        /// The limit that was met, in bytes.
        limit: usize,
    },
    /// They would, if all that was read from the log and has not been heard were the owner's.
    #[error(
        "members that were read from the log hold much and have not been heard yet: come again"
    )]
    MembersUnheard,
    /// Who asks had large groups converted, or large members written anew, a moment ago.
    #[error("much was converted or written anew for this user a moment ago: come again")]
    RewroteMuch,
    /// Protocol type or protocols that do not go with the group's.
    #[error("the member's protocols do not match those of the group")]
    InconsistentProtocol,
    /// The member must come again with the id it got.
    #[error("the member must rejoin with the id it was given")]
    MemberIdRequired,
    /// No such member.
    #[error("the group has no such member")]
    UnknownMember,
    /// The instance id belongs to another member.
    #[error("the instance id belongs to another member")]
    FencedInstanceId,
    /// The generation is not the group's.
    #[error("the generation is not the group's current one")]
    IllegalGeneration,
    /// The member must rejoin.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// No such group, with why.
    #[error("{0}")]
    GroupNotFound(String),
    /// The group has members.
    #[error("the group is not empty")]
    NonEmptyGroup,
    /// Members consume the topic.
    #[error("the group is subscribed to the topic")]
    SubscribedToTopic,
    /// The text beside an offset is too long.
    #[error("the metadata is longer than allowed")]
    OffsetMetadataTooLarge,
    /// An API version that cannot serve this kind of group.
    #[error("this version cannot be used with this kind of group")]
    UnsupportedVersion,
    /// The member epoch is not the current one.
    #[error("the member epoch is not the current one")]
    StaleMemberEpoch,
    /// The member is ahead of or too far behind the coordinator and must start anew.
    #[error("{0}")]
    FencedMemberEpoch(String),
    /// A live member holds the instance id.
    #[error("the instance id is held by another member")]
    UnreleasedInstanceId,
    /// No such assignor.
    #[error("{0}")]
    UnsupportedAssignor(String),
    /// The expression does not compile, or compiles into too much.
    #[error("{0}")]
    InvalidRegularExpression(String),
    /// The request contradicts itself, with how.
    #[error("{0}")]
    InvalidRequest(String),
    /// The partition's state is being read.
    #[error("the coordinator is loading")]
    Loading,
    /// Another broker leads the group's partition, or the log failed.
    #[error("this broker is not the coordinator of the group")]
    NotCoordinator,
    /// The state cannot be stored at present, or the coordinator stops.
    #[error("the coordinator is not available")]
    NotAvailable,
    /// What the log will never take, or members that contradict the protocol.
    #[error("{0}")]
    Unknown(String),
}

impl GroupError {
    /// There is no group of this id.
    pub(crate) fn group_not_found(id: &str) -> Self {
        Self::GroupNotFound(format!("Group {} not found.", foreign::name(id)))
    }

    /// The text for the wire, as long as an answer takes it.
    pub(crate) fn text(&self) -> Str {
        foreign::sentence(&self.to_string())
    }

    /// The code on the wire.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidGroupId => ErrorCode::INVALID_GROUP_ID,
            Self::InvalidSessionTimeout => ErrorCode::INVALID_SESSION_TIMEOUT,
            Self::GroupMaxSizeReached(_) | Self::MembersFull { .. } => {
                ErrorCode::GROUP_MAX_SIZE_REACHED
            }
            Self::InconsistentProtocol => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
            Self::MemberIdRequired => ErrorCode::MEMBER_ID_REQUIRED,
            Self::UnknownMember => ErrorCode::UNKNOWN_MEMBER_ID,
            Self::FencedInstanceId => ErrorCode::FENCED_INSTANCE_ID,
            Self::IllegalGeneration => ErrorCode::ILLEGAL_GENERATION,
            Self::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
            Self::GroupNotFound(_) => ErrorCode::GROUP_ID_NOT_FOUND,
            Self::NonEmptyGroup => ErrorCode::NON_EMPTY_GROUP,
            Self::SubscribedToTopic => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
            Self::OffsetMetadataTooLarge => ErrorCode::OFFSET_METADATA_TOO_LARGE,
            Self::UnsupportedVersion => ErrorCode::UNSUPPORTED_VERSION,
            Self::StaleMemberEpoch => ErrorCode::STALE_MEMBER_EPOCH,
            Self::FencedMemberEpoch(_) => ErrorCode::FENCED_MEMBER_EPOCH,
            Self::UnreleasedInstanceId => ErrorCode::UNRELEASED_INSTANCE_ID,
            Self::UnsupportedAssignor(_) => ErrorCode::UNSUPPORTED_ASSIGNOR,
            Self::InvalidRegularExpression(_) => ErrorCode::INVALID_REGULAR_EXPRESSION,
            Self::InvalidRequest(_) => ErrorCode::INVALID_REQUEST,
            Self::Loading | Self::MembersUnheard | Self::RewroteMuch => {
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            }
            Self::NotCoordinator => ErrorCode::NOT_COORDINATOR,
            Self::NotAvailable => ErrorCode::COORDINATOR_NOT_AVAILABLE,
            Self::Unknown(_) => ErrorCode::UNKNOWN_SERVER_ERROR,
        }
    }
}
