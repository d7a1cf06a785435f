//! LeaveGroup (13), versions 0-5: members leave, or an operator removes them (coordination.md
//! §1.4).
//!
//! v3 several members, by instance too (KIP-345); v4 flexible; v5 the reason, which nobody reads.

use palisade_auth::grant::Read;
use palisade_protocol::messages::leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, MemberResponse,
};
use palisade_protocol::{ErrorCode, Str};

use super::denied;
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group::classic::Identity;
use crate::group::error::GroupError;

/// Several members in one request.
const BATCHED: i16 = 3;

/// Removes the members.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: LeaveGroupRequest,
) -> Handled<LeaveGroupResponse> {
    let batched = ctx.api_version >= BATCHED;
    if let Err(refused) = ctx.access().group::<Read>(&request.group_id) {
        let code = denied::code(&refused, ErrorCode::GROUP_AUTHORIZATION_FAILED);
        return Handled::Now(failed(code));
    }
    if request.group_id.is_empty() {
        return Handled::Now(failed(GroupError::InvalidGroupId.code()));
    }
    let leaving = leaving(&request, batched);
    let group = request.group_id.detached();
    drop(request);
    let named = leaving.clone();
    let awaited = ctx
        .broker
        .groups
        .ask_of(group.clone(), named.len(), move |shard, moment, asker| {
            shard.leave(&group, &leaving, asker, moment)
        })
        .await;
    match awaited {
        Ok(awaited) => Handled::Later(Box::pin(async move {
            match awaited.answer().await.and_then(|answer| answer) {
                Ok(answers) => response(named, answers, batched),
                Err(error) => failed(error.code()),
            }
        })),
        Err(error) => Handled::Now(failed(error.code())),
    }
}

fn leaving(request: &LeaveGroupRequest, batched: bool) -> Vec<Identity> {
    if !batched {
        return vec![Identity {
            member_id: request.member_id.detached(),
            instance_id: None,
        }];
    }
    let members = request.members.iter().map(|member| Identity {
        member_id: member.member_id.detached(),
        instance_id: member.group_instance_id.as_ref().map(Str::detached),
    });
    members.collect()
}

fn response(
    named: Vec<Identity>,
    answers: Vec<Result<(), GroupError>>,
    batched: bool,
) -> LeaveGroupResponse {
    let codes = answers.into_iter().map(|answer| match answer {
        Ok(()) => ErrorCode::NONE,
        Err(error) => error.code(),
    });
    let mut rows = named.into_iter().zip(codes);
    if !batched {
        return failed(rows.next().map_or(ErrorCode::NONE, |(_, code)| code));
    }
    let members = rows.map(|(identity, error_code)| MemberResponse {
        member_id: identity.member_id,
        group_instance_id: identity.instance_id,
        error_code,
    });
    LeaveGroupResponse {
        members: members.collect(),
        ..LeaveGroupResponse::default()
    }
}

fn failed(error_code: ErrorCode) -> LeaveGroupResponse {
    LeaveGroupResponse {
        error_code,
        ..LeaveGroupResponse::default()
    }
}
