//! Heartbeat (12), versions 0-4: keeps a classic member alive (coordination.md §1.4).
//!
//! v3 static members (KIP-345); v4 flexible.

use palisade_auth::grant::Read;
use palisade_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use palisade_protocol::{ErrorCode, Str};

use super::denied;
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group::error::GroupError;

/// Starts the member's session anew, and says whether it must rejoin.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: HeartbeatRequest,
) -> Handled<HeartbeatResponse> {
    if let Err(refused) = ctx.access().group::<Read>(&request.group_id) {
        let code = denied::code(&refused, ErrorCode::GROUP_AUTHORIZATION_FAILED);
        return Handled::Now(failed(code));
    }
    if request.group_id.is_empty() {
        return Handled::Now(response(Err(GroupError::InvalidGroupId)));
    }
    let group = request.group_id.detached();
    let member = request.member_id.detached();
    let instance = request.group_instance_id.as_ref().map(Str::detached);
    let generation = request.generation_id;
    let principal = ctx.session.principal.clone();
    let awaited = ctx
        .broker
        .groups
        .ask(group.clone(), move |shard, moment, asker| {
            let instance = instance.as_deref();
            shard.hear(&group, &member, &principal);
            shard.heartbeat(&group, &member, instance, generation, asker, moment)
        })
        .await;
    match awaited {
        Ok(awaited) => Handled::Later(Box::pin(async move {
            response(awaited.answer().await.unwrap_or_else(Err))
        })),
        Err(error) => Handled::Now(response(Err(error))),
    }
}

fn response(answer: Result<(), GroupError>) -> HeartbeatResponse {
    match answer {
        // Sessions begin when the log is read: until then nobody is late, and nobody need hurry.
        Ok(()) | Err(GroupError::Loading) => failed(ErrorCode::NONE),
        Err(error) => failed(error.code()),
    }
}

fn failed(error_code: ErrorCode) -> HeartbeatResponse {
    HeartbeatResponse {
        error_code,
        ..HeartbeatResponse::default()
    }
}
