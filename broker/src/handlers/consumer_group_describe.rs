//! ConsumerGroupDescribe (69), versions 0-1: consumer groups and their members (KIP-848).
//!
//! v1 the kind of each member (KIP-1099). A caller who may not see a topic that some member owns
//! sees no member at all. A group that is named twice has one row, as in DescribeGroups.

use std::collections::HashSet;
use std::sync::Arc;

use palisade_auth::Access;
use palisade_auth::grant::Describe;
use palisade_protocol::messages::consumer_group_describe::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup,
};
use palisade_protocol::{ErrorCode, Str};

use super::denied;
use super::group_view::{self, Unseen};
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group::error::GroupError;
use crate::group::shard::Shard;
use crate::group::step::Moment;

/// Describes each group.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ConsumerGroupDescribeRequest,
) -> Handled<ConsumerGroupDescribeResponse> {
    let access = ctx.access();
    let mut judged = Vec::with_capacity(request.group_ids.len());
    let mut seen = HashSet::new();
    for group in &request.group_ids {
        if seen.insert(group) {
            let with_operations = request.include_authorized_operations;
            judged.push(group_view::judge(&access, group, with_operations, check));
        }
    }
    drop(seen);
    drop(request);
    access.flush();
    let broker = Arc::clone(&ctx.broker);
    Handled::Patient(Box::pin(async move {
        let mut asked = Vec::with_capacity(judged.len());
        for group in judged {
            let event = |shard: &mut Shard, id: &Str, moment: &Moment<'_>| {
                shard.describe_consumer(id, moment)
            };
            asked.push(group.ask(&broker.groups, event).await);
        }
        let mut response = ConsumerGroupDescribeResponse::default();
        for group in asked {
            let (id, operations, view) = group.view().await;
            response.groups.push(match view {
                Ok(group) => shown(group, operations, &access),
                Err(Unseen::Denied(code)) => failed(id, code, None),
                Err(Unseen::Refused(error)) => failed(id, error.code(), Some(error.text())),
            });
        }
        response
    }))
}

fn check(id: &Str) -> Result<(), GroupError> {
    match id.is_empty() {
        true => Err(GroupError::InvalidGroupId),
        false => Ok(()),
    }
}

/// The group, if the caller may see every topic that is owned in it.
fn shown(group: DescribedGroup, operations: i32, access: &Access) -> DescribedGroup {
    let members = group.members.iter();
    let topics = members.flat_map(|member| {
        let owned = &member.assignment.topic_partitions;
        owned
            .iter()
            .chain(&member.target_assignment.topic_partitions)
    });
    for topic in topics {
        if let Err(refused) = access.topic::<Describe>(&topic.topic_name) {
            let code = denied::code(&refused, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
            let text = "The described group uses topics that the client is not authorized to \
                        describe.";
            return failed(group.group_id, code, Some(Str::from_static(text)));
        }
    }
    DescribedGroup {
        authorized_operations: operations,
        ..group
    }
}

fn failed(group_id: Str, error_code: ErrorCode, error_message: Option<Str>) -> DescribedGroup {
    DescribedGroup {
        group_id,
        error_code,
        error_message,
        ..DescribedGroup::default()
    }
}
