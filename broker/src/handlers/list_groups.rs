//! ListGroups (16), versions 0-5: the groups this node coordinates.
//!
//! v3 flexible; v4 states (KIP-518); v5 types (KIP-848).

use std::sync::Arc;

use palisade_protocol::messages::list_groups::{
    ListGroupsRequest, ListGroupsResponse, ListedGroup as Row,
};
use palisade_protocol::{ErrorCode, Str};

use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group::decision::Decision;
use crate::group::error::GroupError;
use crate::group::shard::ListedGroup;
use crate::group::step::Step;

/// Lists what the caller may see.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ListGroupsRequest,
) -> Handled<ListGroupsResponse> {
    let access = ctx.access();
    let filter = Filter {
        states: texts(&request.states_filter),
        types: texts(&request.types_filter),
    };
    drop(request);
    let broker = Arc::clone(&ctx.broker);
    Handled::Patient(Box::pin(async move {
        let asked = broker
            .groups
            .ask_all(|shard, _, asker| Step::decided(Decision::answer(shard.list()), asker))
            .await;
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) => return failed(error.code()),
        };
        let mut groups = Vec::new();
        for one in asked {
            let listed = match one.answer().await.and_then(|answer| answer) {
                Ok(listed) => listed,
                // Whoever leads it now lists its groups.
                Err(GroupError::NotCoordinator) => continue,
                Err(error) => return failed(error.code()),
            };
            let wanted = listed.into_iter().filter(|group| filter.takes(group));
            let visible = wanted.filter(|group| access.listed_group(&group.id).is_some());
            groups.extend(visible.map(row));
        }
        groups.sort_unstable_by(|a: &Row, b| a.group_id.cmp(&b.group_id));
        ListGroupsResponse {
            groups,
            ..ListGroupsResponse::default()
        }
    }))
}

/// What the request wants to see, in letters of either case; empty lists want everything.
struct Filter {
    states: Vec<String>,
    types: Vec<String>,
}

impl Filter {
    fn takes(&self, group: &ListedGroup) -> bool {
        let named = |list: &[String], name: &str| {
            list.is_empty() || list.iter().any(|one| one.eq_ignore_ascii_case(name))
        };
        named(&self.states, group.state) && named(&self.types, group.kind)
    }
}

fn texts(names: &[Str]) -> Vec<String> {
    names.iter().map(Str::to_string).collect()
}

fn row(group: ListedGroup) -> Row {
    Row {
        group_id: group.id,
        protocol_type: group.protocol_type,
        group_state: Str::from_static(group.state),
        group_type: Str::from_static(group.kind),
    }
}

fn failed(error_code: ErrorCode) -> ListGroupsResponse {
    ListGroupsResponse {
        error_code,
        ..ListGroupsResponse::default()
    }
}
