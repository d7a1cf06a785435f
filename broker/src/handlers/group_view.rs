//! What DescribeGroups and ConsumerGroupDescribe share: who may see a group, and what of it.

use palisade_auth::Access;
use palisade_auth::access::OPERATIONS_NOT_REQUESTED;
use palisade_auth::acl::ResourceType;
use palisade_auth::grant::Describe;
use palisade_protocol::{ErrorCode, Str};

use super::denied;
use crate::group::coordinator::{Awaited, GroupCoordinator};
use crate::group::decision::Decision;
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

/// A group that was asked for, and whether the caller may see it.
pub(super) struct Judged {
    id: Str,
    operations: i32,
    seen: Result<(), Unseen>,
}

/// A group whose coordinator was asked.
pub(super) struct AskedGroup<T> {
    id: Str,
    operations: i32,
    view: Result<Awaited<Result<T, GroupError>>, Unseen>,
}

/// Decides, when the request comes, whether the caller may see the group of that id, and whether
/// `check` passes the id.
pub(super) fn judge(
    access: &Access,
    id: &Str,
    with_operations: bool,
    check: impl FnOnce(&Str) -> Result<(), GroupError>,
) -> Judged {
    let seen = match access.group::<Describe>(id) {
        Ok(_) => check(id).map_err(Unseen::Refused),
        Err(refused) => Err(Unseen::Denied(denied::code(
            &refused,
            ErrorCode::GROUP_AUTHORIZATION_FAILED,
        ))),
    };
    let operations = match with_operations && seen.is_ok() {
        true => access.authorized_operations(ResourceType::Group, id),
        false => OPERATIONS_NOT_REQUESTED,
    };
    Judged {
        id: id.detached(),
        operations,
        seen,
    }
}

impl Judged {
    /// Has `event` describe the group of the id that it is given, if the caller may see it.
    pub(super) async fn ask<T, E>(self, groups: &GroupCoordinator, event: E) -> AskedGroup<T>
    where
        T: Send + 'static,
        E: FnOnce(&mut Shard, &Str, &Moment<'_>) -> Decision<T> + Send + 'static,
    {
        let view = match self.seen {
            Ok(()) => {
                let id = self.id.clone();
                let event =
                    move |shard: &mut Shard, moment: &Moment<'_>, asker: Asker<Result<T, _>>| {
                        Step::decided(event(shard, &id, moment), asker)
                    };
                let asked = groups.ask(self.id.clone(), event).await;
                asked.map_err(Unseen::Refused)
            }
            Err(unseen) => Err(unseen),
        };
        AskedGroup {
            id: self.id,
            operations: self.operations,
            view,
        }
    }
}

impl<T> AskedGroup<T> {
    /// Its id, what the caller may do with it as a bit field, and the group, or why there is
    /// nothing to see, once the coordinator has said so.
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
