//! ConsumerGroupDescribe (69), versions 0-1: consumer groups and their members (KIP-848).
//!
//! v1 the kind of each member (KIP-1099). A caller who may not see a topic that some member owns
//! sees no member at all.

use palisade_auth::Access;
use palisade_auth::acl::ResourceType;
use palisade_auth::grant::Describe;
use palisade_protocol::messages::consumer_group_describe::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup,
};
use palisade_protocol::{ErrorCode, Str};

use super::denied;
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group::error::GroupError;
use crate::group::step::Step;

/// Describes each group.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: ConsumerGroupDescribeRequest,
) -> Handled<ConsumerGroupDescribeResponse> {
    let access = ctx.access();
    let mut asked = Vec::with_capacity(request.group_ids.len());
    for group in &request.group_ids {
        let id = group.detached();
        if let Err(refused) = access.group::<Describe>(&id) {
            let code = denied::code(&refused, ErrorCode::GROUP_AUTHORIZATION_FAILED);
            asked.push(Err(failed(id, code, None)));
            continue;
        }
        if id.is_empty() {
            asked.push(Err(refused(id, &GroupError::InvalidGroupId)));
            continue;
        }
        let operations = match request.include_authorized_operations {
            true => access.authorized_operations(ResourceType::Group, &id),
            false => i32::MIN,
        };
        let name = id.clone();
        let awaited = ctx
            .broker
            .groups
            .ask(id.clone(), move |shard, moment, asker| {
                Step::decided(shard.describe_consumer(&name, moment), asker)
            })
            .await;
        asked.push(match awaited {
            Ok(awaited) => Ok((id, operations, awaited)),
            Err(error) => Err(refused(id, &error)),
        });
    }
    drop(request);
    Handled::Patient(Box::pin(async move {
        let mut response = ConsumerGroupDescribeResponse::default();
        for one in asked {
            let row = match one {
                Err(row) => row,
                Ok((id, operations, awaited)) => {
                    match awaited.answer().await.and_then(|answer| answer) {
                        Ok(group) => shown(group, operations, &access),
                        Err(error) => refused(id, &error),
                    }
                }
            };
            response.groups.push(row);
        }
        response
    }))
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

fn refused(group_id: Str, error: &GroupError) -> DescribedGroup {
    failed(group_id, error.code(), Some(Str::from(error.to_string())))
}

fn failed(group_id: Str, error_code: ErrorCode, error_message: Option<Str>) -> DescribedGroup {
    DescribedGroup {
        group_id,
        error_code,
        error_message,
        ..DescribedGroup::default()
    }
}
