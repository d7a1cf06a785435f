//! JoinGroup (11), versions 0-9: enters a classic group (coordination.md §1.2).
//!
//! v1 a rebalance timeout of its own; v4 ids before members (KIP-394); v5 static members
//! (KIP-345); v6 flexible; v7 the protocol in the answer; v8 the reason, which nobody reads; v9 a
//! leader that need not assign (KIP-814). The answer waits for the other members. More than
//! a hundred protocols of one member are refused, which Kafka does not do.

use std::time::Duration;

use bytes::Bytes;
use palisade_auth::grant::Read;
use palisade_auth::host::java_text;
use palisade_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
};
use palisade_protocol::{ErrorCode, Str};

use super::denied;
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group::classic::{JoinAnswer, JoinAsk, JoinRefused};
use crate::group::error::GroupError;
use crate::rng;

/// Dynamic members come back with an id before they count.
const NEEDS_KNOWN_ID: i16 = 4;
/// Null stands for no protocol.
const NULL_PROTOCOL: i16 = 7;
/// The answer says whether the leader is to assign.
const SKIPS_ASSIGNMENT: i16 = 9;

/// Protocols a member may name. Clients name a handful; every one is compared with those of every
/// other member, so that tens of thousands would keep the group's task from all its groups.
const MAX_PROTOCOLS: usize = 100;

/// Lets the member in, or parks it.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: JoinGroupRequest,
) -> Handled<JoinGroupResponse> {
    let version = ctx.api_version;
    let member_id = request.member_id.detached();
    let refuse = |error: GroupError| {
        let refused = JoinRefused {
            error,
            member_id: member_id.clone(),
        };
        Handled::Now(response(Err(refused), version))
    };
    if let Err(refused) = ctx.access().group::<Read>(&request.group_id) {
        let code = denied::code(&refused, ErrorCode::GROUP_AUTHORIZATION_FAILED);
        return Handled::Now(failed(code, member_id, version));
    }
    if request.group_id.is_empty() {
        return refuse(GroupError::InvalidGroupId);
    }
    let groups = &ctx.broker.groups;
    let session_timeout = millis(request.session_timeout_ms);
    let config = groups.config();
    let allowed = config.min_session_timeout..=config.max_session_timeout;
    if request.session_timeout_ms < 0 || !allowed.contains(&session_timeout) {
        return refuse(GroupError::InvalidSessionTimeout);
    }
    if request.protocols.len() > MAX_PROTOCOLS {
        return refuse(GroupError::InconsistentProtocol);
    }
    let group = request.group_id.detached();
    let ask = ask(ctx, request, session_timeout);
    let awaited = groups
        .ask(group.clone(), move |shard, moment, asker| {
            shard.join(&group, ask, asker, moment)
        })
        .await;
    let awaited = match awaited {
        Ok(awaited) => awaited,
        Err(error) => return refuse(error),
    };
    Handled::Later(Box::pin(async move {
        let answer = awaited.answer().await;
        let answer = answer.unwrap_or_else(|error| Err(JoinRefused { error, member_id }));
        response(answer, version)
    }))
}

fn ask(ctx: &RequestContext, request: JoinGroupRequest, session_timeout: Duration) -> JoinAsk {
    // Version 0 had no timeout of its own for the join phase.
    let rebalance_timeout = match request.rebalance_timeout_ms {
        ..0 => session_timeout,
        timeout => millis(timeout),
    };
    let protocols = request.protocols.iter();
    JoinAsk {
        principal: ctx.session.principal.clone(),
        member_id: request.member_id.detached(),
        instance_id: request.group_instance_id.as_ref().map(Str::detached),
        client_id: ctx
            .client_id
            .as_ref()
            .map(Str::detached)
            .unwrap_or_default(),
        client_host: Str::from(format!("/{}", java_text(ctx.session.peer.ip()))),
        session_timeout,
        rebalance_timeout,
        protocol_type: request.protocol_type.detached(),
        protocols: protocols
            .map(|one| (one.name.detached(), Bytes::copy_from_slice(&one.metadata)))
            .collect(),
        needs_known_id: ctx.api_version >= NEEDS_KNOWN_ID,
        may_skip_assignment: ctx.api_version >= SKIPS_ASSIGNMENT,
        chance: rng::uuid(),
    }
}

fn millis(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

fn response(answer: JoinAnswer, version: i16) -> JoinGroupResponse {
    let joined = match answer {
        Ok(joined) => joined,
        Err(refused) => return failed(refused.error.code(), refused.member_id, version),
    };
    let members = joined.members.into_iter();
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: joined.protocol_type,
        protocol_name: Some(joined.protocol.unwrap_or_default()),
        leader: joined.leader,
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id,
        members: members
            .map(|member| JoinGroupResponseMember {
                member_id: member.member_id,
                group_instance_id: member.instance_id,
                metadata: member.metadata,
            })
            .collect(),
        ..JoinGroupResponse::default()
    }
}

fn failed(error_code: ErrorCode, member_id: Str, version: i16) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code,
        protocol_name: (version < NULL_PROTOCOL).then_some(Str::EMPTY),
        member_id,
        ..JoinGroupResponse::default()
    }
}
