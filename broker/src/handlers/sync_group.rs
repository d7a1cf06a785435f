//! SyncGroup (14), versions 0-5: the leader's assignment, for everyone (coordination.md §1.3).
//!
//! v3 static members (KIP-345); v4 flexible; v5 protocol type and name, which must be there
//! (KIP-559). The answer waits for the leader.

use bytes::Bytes;
use palisade_auth::grant::Read;
use palisade_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use palisade_protocol::{ErrorCode, Str};

use super::denied;
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group::classic::{SyncAnswer, SyncAsk};
use crate::group::error::GroupError;

/// Protocol type and name are mandatory.
const NAMES_PROTOCOL: i16 = 5;

/// Takes the assignment, parks the member, or answers at once.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: SyncGroupRequest,
) -> Handled<SyncGroupResponse> {
    let nameless = request.protocol_type.is_none() || request.protocol_name.is_none();
    if ctx.api_version >= NAMES_PROTOCOL && nameless {
        return Handled::Now(failed(ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
    }
    if let Err(refused) = ctx.access().group::<Read>(&request.group_id) {
        let code = denied::code(&refused, ErrorCode::GROUP_AUTHORIZATION_FAILED);
        return Handled::Now(failed(code));
    }
    if request.group_id.is_empty() {
        return Handled::Now(response(Err(GroupError::InvalidGroupId)));
    }
    let group = request.group_id.detached();
    let rows = request.assignments.len();
    let ask = ask(ctx, &request);
    drop(request);
    let awaited = ctx
        .broker
        .groups
        .ask_of(group.clone(), rows, move |shard, moment, asker| {
            shard.sync(&group, ask, asker, moment)
        })
        .await;
    match awaited {
        Ok(awaited) => Handled::Later(Box::pin(async move {
            response(awaited.answer().await.unwrap_or_else(Err))
        })),
        Err(error) => Handled::Now(response(Err(error))),
    }
}

fn ask(ctx: &RequestContext, request: &SyncGroupRequest) -> SyncAsk {
    let assignments = request.assignments.iter();
    SyncAsk {
        principal: ctx.session.principal.clone(),
        member_id: request.member_id.detached(),
        instance_id: request.group_instance_id.as_ref().map(Str::detached),
        generation: request.generation_id,
        protocol_type: request.protocol_type.as_ref().map(Str::detached),
        protocol: request.protocol_name.as_ref().map(Str::detached),
        assignments: assignments
            .map(|one| {
                let assignment = Bytes::copy_from_slice(&one.assignment);
                (one.member_id.detached(), assignment)
            })
            .collect(),
    }
}

fn response(answer: SyncAnswer) -> SyncGroupResponse {
    match answer {
        Ok(synced) => SyncGroupResponse {
            protocol_type: synced.protocol_type,
            protocol_name: synced.protocol,
            assignment: synced.assignment,
            ..SyncGroupResponse::default()
        },
        Err(error) => failed(error.code()),
    }
}

fn failed(error_code: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse {
        error_code,
        ..SyncGroupResponse::default()
    }
}
