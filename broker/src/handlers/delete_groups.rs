//! DeleteGroups (42), versions 0-3: forgets empty groups and their offsets (KIP-229).
//!
//! What may be deleted is in the audit log first. v2 flexible; v3 words for the error.

use std::collections::HashSet;

use palisade_auth::Access;
use palisade_auth::audit::{Action, Change};
use palisade_auth::grant::Delete;
use palisade_protocol::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use palisade_protocol::{ErrorCode, Str};

use super::{denied, group_change};
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group::error::GroupError;
use crate::group::shard::Shard;
use crate::group::step::Moment;
use crate::metadata::ControllerError;
use crate::metadata::intents::Intents;

/// What a group's row says: nothing when it is deleted, else why it is not.
type Row = Result<(), (ErrorCode, Str)>;

/// Groups that are announced, asked and waited for together. What is in the making for one takes a
/// kilobyte and more, its name perhaps two letters.
const AT_ONCE: usize = 256;

/// Deletes each group; one that is named twice has one answer. What the connection asks next waits
/// for it: rows that nobody has answered yet are many times as long as the names.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DeleteGroupsRequest,
) -> Handled<DeleteGroupsResponse> {
    let access = ctx.access();
    let mut seen = HashSet::new();
    let named = request.groups_names.iter();
    let named: Vec<&Str> = named.filter(|group| seen.insert(*group)).collect();
    let mut response = DeleteGroupsResponse::default();
    // Once it was waited for in vain, it is not waited for with each of the other parts.
    let mut is_audited = true;
    for groups in named.chunks(AT_ONCE) {
        let rows = delete(ctx, &access, groups, &mut is_audited).await;
        response.results.extend(rows.into_iter().map(result));
    }
    Handled::Now(response)
}

/// Announces what may be deleted, and deletes it.
async fn delete(
    ctx: &RequestContext,
    access: &Access,
    groups: &[&Str],
    is_audited: &mut bool,
) -> Vec<(Str, Row)> {
    let judged = groups.iter();
    let judged: Vec<(Str, Row)> = judged
        .map(|group| (group.detached(), judge(access, group)))
        .collect();
    let granted = judged.iter().filter(|(_, row)| row.is_ok());
    let changes = granted.map(|(group, _)| (Action::GroupDelete, change(group)));
    let announced = match *is_audited {
        true => Intents::announce_each(ctx.audit_trail(), changes.collect()).await,
        false => None,
    };
    let Some(intents) = announced else {
        *is_audited = false;
        access.forget_allowed();
        let unwritten = ControllerError::AuditUnavailable;
        let refused = (unwritten.code(), Str::from(unwritten.to_string()));
        let rows = judged.into_iter();
        let rows = rows.map(|(id, row)| (id, row.and(Err(refused.clone()))));
        return rows.collect();
    };
    access.flush();
    let mut intents = intents.into_iter();
    let mut asked = Vec::with_capacity(judged.len());
    for (id, row) in judged {
        let deleted = match row {
            Ok(()) => {
                let (name, intents) = (id.clone(), intents.next().into_iter().collect());
                let event = move |shard: &mut Shard, _: &Moment<'_>, asker| {
                    shard.delete_group(&name, asker)
                };
                let made =
                    group_change::make(ctx, id.clone(), intents, event, |(), _| Ok(())).await;
                made.map_err(|error| refusal(&error))
            }
            Err(refused) => Err(refused),
        };
        asked.push((id, deleted));
    }
    let mut rows = Vec::with_capacity(asked.len());
    for (id, deleted) in asked {
        let row = match deleted {
            Ok(deleted) => deleted.await.map_err(|error| refusal(&error)),
            Err(refused) => Err(refused),
        };
        rows.push((id, row));
    }
    rows
}

fn judge(access: &Access, group: &str) -> Row {
    let granted = access.group::<Delete>(group);
    granted.map(drop).map_err(|refused| {
        let code = denied::code(&refused, ErrorCode::GROUP_AUTHORIZATION_FAILED);
        (code, Str::from_static("not authorized to delete the group"))
    })
}

fn change(group: &str) -> Change {
    Change {
        target: format!("group {group}"),
        ..Change::default()
    }
}

fn result((group_id, row): (Str, Row)) -> DeletableGroupResult {
    let (error_code, error_message) = match row {
        Ok(()) => (ErrorCode::NONE, None),
        Err((code, text)) => (code, Some(text)),
    };
    DeletableGroupResult {
        group_id,
        error_code,
        error_message,
    }
}

fn refusal(error: &GroupError) -> (ErrorCode, Str) {
    (error.code(), error.text())
}
