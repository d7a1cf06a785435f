//! DeleteGroups (42), versions 0-3: forgets empty groups and their offsets (KIP-229).
//!
//! v2 flexible; v3 words for the error.

use std::collections::HashSet;
use std::sync::Arc;

use palisade_auth::audit::{Action, AuditContext, AuditEvent, AuditSink, Change, Outcome};
use palisade_auth::grant::Delete;
use palisade_protocol::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use palisade_protocol::{ErrorCode, Str};

use super::denied;
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group::error::GroupError;

/// Deletes each group; one that is named twice has one answer.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DeleteGroupsRequest,
) -> Handled<DeleteGroupsResponse> {
    let access = ctx.access();
    let mut seen = HashSet::new();
    let mut asked = Vec::with_capacity(request.groups_names.len());
    for group in &request.groups_names {
        if !seen.insert(group) {
            continue;
        }
        let id = group.detached();
        if let Err(refused) = access.group::<Delete>(&id) {
            let code = denied::code(&refused, ErrorCode::GROUP_AUTHORIZATION_FAILED);
            let text = "not authorized to delete the group";
            asked.push((id, Err((code, Str::from_static(text)))));
            continue;
        }
        let name = id.clone();
        let awaited = ctx
            .broker
            .groups
            .ask(id.clone(), move |shard, _, asker| {
                shard.delete_group(&name, asker)
            })
            .await;
        let audit = (ctx.broker.audit.clone(), ctx.audit_context());
        let name = id.clone();
        let deleted = awaited.map(|awaited| {
            awaited.noted(move |answer: &Result<(), GroupError>| {
                if answer.is_ok() {
                    record(&audit, &name);
                }
            })
        });
        asked.push((id, deleted.map_err(|error| refusal(&error))));
    }
    drop(access);
    Handled::Later(Box::pin(async move {
        let mut response = DeleteGroupsResponse::default();
        for (group_id, deleted) in asked {
            let done = match deleted {
                Ok(deleted) => {
                    let answer = deleted.await.and_then(|answer| answer);
                    answer.map_err(|error| refusal(&error))
                }
                Err(refused) => Err(refused),
            };
            let (error_code, error_message) = match done {
                Ok(()) => (ErrorCode::NONE, None),
                Err((code, text)) => (code, Some(text)),
            };
            response.results.push(DeletableGroupResult {
                group_id,
                error_code,
                error_message,
            });
        }
        response
    }))
}

/// Notes a deletion that was done.
fn record((sink, context): &(Option<Arc<dyn AuditSink>>, AuditContext), group: &str) {
    if let Some(sink) = sink {
        let event = AuditEvent::new(Action::GroupDelete, Outcome::Ok, context.clone());
        sink.record(event.with_change(Change {
            target: format!("group {group}"),
            ..Change::default()
        }));
    }
}

fn refusal(error: &GroupError) -> (ErrorCode, Str) {
    (error.code(), Str::from(error.to_string()))
}
