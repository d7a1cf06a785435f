//! What DescribeGroups and ConsumerGroupDescribe share: who may see a group, and what of it.

use palisade_auth::Access;
use palisade_auth::access::OPERATIONS_NOT_REQUESTED;
use palisade_auth::acl::ResourceType;
use palisade_auth::grant::Describe;
use palisade_protocol::{ErrorCode, Str};

use super::denied;
use crate::context::RequestContext;
use crate::group::coordinator::Awaited;
use crate::group::error::GroupError;
use crate::group::shard::Shard;
use crate::group::step::{Asker, Moment, Step};

/// Why a group is not described.
pub(super) enum Unseen {
    /// The caller may not see it.
    Denied(ErrorCode),
    /// It cannot be described.
    Refused(GroupError),
}

impl Unseen {
    /// What the answer says.
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Unseen::Denied(code) => *code,
            Unseen::Refused(error) => error.code(),
        }
    }
}

/// A group that was asked for.
pub(super) struct AskedGroup<T> {
    /// Its id.
    pub(super) id: Str,
    /// What the caller may do with it, as a bit field.
    pub(super) operations: i32,
    view: Result<Awaited<Result<T, GroupError>>, Unseen>,
}

impl<T> AskedGroup<T> {
    /// The group, or why there is nothing to see, once the coordinator has said so.
    pub(super) async fn view(self) -> (Str, i32, Result<T, Unseen>) {
        let view = match self.view {
            Ok(awaited) => {
                let answer = awaited.answer().await.and_then(|answer| answer);
                answer.map_err(Unseen::Refused)
            }
            Err(unseen) => Err(unseen),
        };
        (self.id, self.operations, view)
    }
}

/// Has `event` describe the group of that id, if the caller may see it and `check` passes the id.
pub(super) async fn ask<T, E>(
    ctx: &RequestContext,
    access: &Access,
    (id, with_operations): (Str, bool),
    check: impl FnOnce(&Str) -> Result<(), GroupError>,
    event: E,
) -> AskedGroup<T>
where
    T: Send + 'static,
    E: FnOnce(&mut Shard, &Moment<'_>, Asker<Result<T, GroupError>>) -> Step + Send + 'static,
{
    let unseen = |id, why| AskedGroup {
        id,
        operations: OPERATIONS_NOT_REQUESTED,
        view: Err(why),
    };
    if let Err(refused) = access.group::<Describe>(&id) {
        let code = denied::code(&refused, ErrorCode::GROUP_AUTHORIZATION_FAILED);
        return unseen(id, Unseen::Denied(code));
    }
    if let Err(error) = check(&id) {
        return unseen(id, Unseen::Refused(error));
    }
    let operations = match with_operations {
        true => access.authorized_operations(ResourceType::Group, &id),
        false => OPERATIONS_NOT_REQUESTED,
    };
    let awaited = ctx.broker.groups.ask(id.clone(), event).await;
    AskedGroup {
        id,
        operations,
        view: awaited.map_err(Unseen::Refused),
    }
}
