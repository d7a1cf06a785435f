//! DescribeGroups (15), versions 0-6: classic groups and their members.
//!
//! A group that is named twice has one row: a description may be a thousand times as long as a
//! name.
//!
//! v3 what the caller may do (KIP-430); v4 static members (KIP-345); v5 flexible; v6 an error with
//! words for groups that do not exist (KIP-1043).

use std::collections::HashSet;
use std::sync::Arc;

use palisade_protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use palisade_protocol::{ErrorCode, Str};

use super::group_view;
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::foreign;
use crate::group::classic::{DescribedMember, Description};
use crate::group::decision::Decision;
use crate::group::shard::{GroupView, Shard};
use crate::group::step::Moment;

/// Unknown groups are an error.
const UNKNOWN_IS_ERROR: i16 = 6;

/// Describes each group.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DescribeGroupsRequest,
) -> Handled<DescribeGroupsResponse> {
    let access = ctx.access();
    let version = ctx.api_version;
    let mut judged = Vec::with_capacity(request.groups.len());
    let mut seen = HashSet::new();
    for group in &request.groups {
        if seen.insert(group) {
            let with_operations = request.include_authorized_operations;
            judged.push(group_view::judge(&access, group, with_operations, |_| {
                Ok(())
            }));
        }
    }
    let broker = Arc::clone(&ctx.broker);
    Handled::Patient(Box::pin(async move {
        let mut asked = Vec::with_capacity(judged.len());
        for group in judged {
            let event =
                |shard: &mut Shard, id: &Str, _: &Moment<'_>| Decision::answer(shard.describe(id));
            asked.push(group.ask(&broker.groups, event).await);
        }
        let mut response = DescribeGroupsResponse::default();
        for group in asked {
            let (id, operations, view) = group.view().await;
            let view = view.map_err(|unseen| unseen.code());
            response.groups.push(row(id, operations, view, version));
        }
        response
    }))
}

fn row(
    group_id: Str,
    operations: i32,
    view: Result<GroupView, ErrorCode>,
    version: i16,
) -> DescribedGroup {
    let blank = DescribedGroup {
        group_id,
        ..DescribedGroup::default()
    };
    match view {
        Ok(GroupView::Classic(description)) => described(blank, operations, description),
        Ok(GroupView::Absent(text)) if version >= UNKNOWN_IS_ERROR => DescribedGroup {
            error_code: ErrorCode::GROUP_ID_NOT_FOUND,
            error_message: Some(foreign::sentence(&text)),
            group_state: Str::from_static("Dead"),
            ..blank
        },
        Ok(GroupView::Absent(_)) => DescribedGroup {
            group_state: Str::from_static("Dead"),
            authorized_operations: operations,
            ..blank
        },
        Err(error_code) => DescribedGroup {
            error_code,
            ..blank
        },
    }
}

fn described(blank: DescribedGroup, operations: i32, found: Description) -> DescribedGroup {
    DescribedGroup {
        group_state: Str::from_static(found.state.name()),
        protocol_type: found.protocol_type,
        protocol_data: found.protocol,
        members: found.members.into_iter().map(member).collect(),
        authorized_operations: operations,
        ..blank
    }
}

fn member(member: DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    }
}
