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
use crate::task::Budget;

/// Lists what the caller may see.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ListGroupsRequest,
) -> Handled<ListGroupsResponse> {
    let access = ctx.access();
    let filter = Filter::of(&request.states_filter, &request.types_filter).await;
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

/// What the request wants to see of what there is; `None` wants everything.
struct Filter {
    states: Option<Vec<&'static str>>,
    types: Option<Vec<&'static str>>,
}

impl Filter {
    /// Takes names in either case; one that no group has matches none. There may be hundreds of
    /// thousands: each is looked at once, not for each group.
    async fn of(states: &[Str], types: &[Str]) -> Self {
        Self {
            states: known(states, &ListedGroup::STATES).await,
            types: known(types, &ListedGroup::KINDS).await,
        }
    }

    fn takes(&self, group: &ListedGroup) -> bool {
        let named = |list: &Option<Vec<&str>>, name| {
            let list = list.as_deref();
            list.is_none_or(|list| list.contains(&name))
        };
        named(&self.states, group.state) && named(&self.types, group.kind)
    }
}

async fn known(asked: &[Str], all: &[&'static str]) -> Option<Vec<&'static str>> {
    if asked.is_empty() {
        return None;
    }
    let mut budget = Budget::start();
    let mut known = Vec::new();
    for name in asked {
        let found = all.iter().find(|one| one.eq_ignore_ascii_case(name));
        if let Some(found) = found
            && !known.contains(found)
        {
            known.push(*found);
        }
        budget.breathe(name.len()).await;
    }
    Some(known)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::classic::State;
    use crate::group::consumer::GroupState;

    fn listed(state: &'static str, kind: &'static str) -> ListedGroup {
        ListedGroup {
            id: "g".into(),
            protocol_type: Str::EMPTY,
            state,
            kind,
        }
    }

    #[tokio::test]
    async fn what_groups_are_compared_with_does_not_grow_with_the_request() {
        let mut states = vec![Str::from("x"); 10_000];
        states.extend(vec![Str::from("STABLE"); 10_000]);
        let filter = Filter::of(&states, &["Consumer".into(), "share".into()]).await;
        assert_eq!(filter.states.as_deref(), Some(&["Stable"][..]));
        assert_eq!(filter.types.as_deref(), Some(&["consumer"][..]));
        assert!(filter.takes(&listed(State::Stable.name(), "consumer")));
        assert!(!filter.takes(&listed(State::Stable.name(), "classic")));
        assert!(!filter.takes(&listed(GroupState::Assigning.name(), "consumer")));
    }

    #[test]
    fn every_state_can_be_asked_for() {
        // A state that is new does not compile here: it belongs into both.
        let of_classic = |state| match state {
            State::Empty
            | State::PreparingRebalance
            | State::CompletingRebalance
            | State::Stable => state.name(),
        };
        let of_consumer = |state| match state {
            GroupState::Empty
            | GroupState::Assigning
            | GroupState::Reconciling
            | GroupState::Stable => state.name(),
        };
        let all = [
            of_classic(State::Empty),
            of_classic(State::PreparingRebalance),
            of_classic(State::CompletingRebalance),
            of_classic(State::Stable),
            of_consumer(GroupState::Empty),
            of_consumer(GroupState::Assigning),
            of_consumer(GroupState::Reconciling),
            of_consumer(GroupState::Stable),
        ];
        for name in all {
            assert!(ListedGroup::STATES.contains(&name), "{name}");
        }
    }

    #[tokio::test]
    async fn unknown_names_want_nothing_and_none_want_everything() {
        let nothing = Filter::of(&["Dead".into()], &[]).await;
        let everything = Filter::of(&[], &[]).await;
        for state in ListedGroup::STATES {
            for kind in ListedGroup::KINDS {
                let group = listed(state, kind);
                assert!(everything.takes(&group) && !nothing.takes(&group));
                let lower = Str::from(state.to_lowercase());
                assert!(Filter::of(&[lower], &[]).await.takes(&group));
            }
        }
    }
}
