//! DescribeTopicPartitions (key 75), version 0 (KIP-966): topics by pages of partitions.
//!
//! Eligible leader replicas are not kept yet, so both of their lists are empty.

use std::collections::BTreeSet;

use palisade_auth::access::{Access, OPERATIONS_NOT_REQUESTED};
use palisade_auth::acl::ResourceType;
use palisade_auth::grant::Describe;
use palisade_protocol::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, ResponseCursor,
};
use palisade_protocol::{ErrorCode, Str};

use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::metadata::TopicImage;
use crate::metadata::topic_name;

/// Answers a DescribeTopicPartitions request.
pub(crate) async fn handle(
    ctx: &RequestContext,
    req: DescribeTopicPartitionsRequest,
) -> Handled<DescribeTopicPartitionsResponse> {
    let access = ctx.access();
    let named: BTreeSet<Str> = req.topics.iter().map(|topic| topic.name.clone()).collect();
    let cursor = req.cursor.as_ref();
    if let Some(cursor) = cursor {
        let is_listed = named.is_empty() || named.contains(&cursor.topic_name);
        if cursor.partition_index < 0 || !is_listed {
            let rows = req.topics.iter().map(|topic| {
                error_row(
                    ErrorCode::INVALID_REQUEST,
                    &topic.name,
                    OPERATIONS_NOT_REQUESTED,
                )
            });
            let topics = rows.collect();
            let response = DescribeTopicPartitionsResponse {
                topics,
                ..Default::default()
            };
            return Handled::Now(response);
        }
    }
    let limit = ctx
        .broker
        .config
        .limits
        .describe_partitions_max
        .min(usize::try_from(req.response_partition_limit).unwrap_or(0));
    let mut page = Page {
        ctx,
        access: &access,
        left: limit.max(1),
        answer: Default::default(),
    };
    let from = cursor.map_or("", |cursor| &*cursor.topic_name);
    let start_of = |name: &str| match cursor {
        Some(cursor) if *cursor.topic_name == *name => {
            usize::try_from(cursor.partition_index).unwrap_or(0)
        }
        _ => 0,
    };
    if named.is_empty() {
        for topic in ctx.image.topics.starting_at(from) {
            if access.probe_topic::<Describe>(&topic.name).is_none() {
                continue;
            }
            if !page.add(topic, start_of(&topic.name)) {
                break;
            }
        }
    } else {
        for name in named.iter().filter(|name| ***name >= *from) {
            if !page.add_named(name, start_of(name)) {
                break;
            }
        }
    }
    Handled::Now(page.answer)
}

/// An answer that fills up; only partitions count against its limit.
struct Page<'a> {
    ctx: &'a RequestContext,
    access: &'a Access,
    left: usize,
    answer: DescribeTopicPartitionsResponse,
}

impl Page<'_> {
    /// Adds a topic that the request names; false when the page is full.
    fn add_named(&mut self, name: &Str, start: usize) -> bool {
        if self.access.topic::<Describe>(name).is_err() {
            let row = error_row(
                ErrorCode::TOPIC_AUTHORIZATION_FAILED,
                name,
                OPERATIONS_NOT_REQUESTED,
            );
            self.answer
                .topics
                .push(DescribeTopicPartitionsResponseTopic {
                    is_internal: false,
                    ..row
                });
            return true;
        }
        if let Some(topic) = self.ctx.image.topics.get(name) {
            return self.add(topic, start);
        }
        if self.left == 0 {
            return self.stop_at(name, start);
        }
        let error = match topic_name::validate(name) {
            Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        };
        let operations = self.access.authorized_operations(ResourceType::Topic, name);
        self.answer.topics.push(error_row(error, name, operations));
        true
    }

    /// Adds as much of a topic as fits; false when the page is full.
    fn add(&mut self, topic: &TopicImage, start: usize) -> bool {
        if self.left == 0 {
            return self.stop_at(&Str::copy(&topic.name), start);
        }
        let end = topic.partitions.len().min(start.saturating_add(self.left));
        let partitions: Vec<_> = (start..end)
            .filter_map(|at| self.partition(topic, at))
            .collect();
        self.left = self.left.saturating_sub(partitions.len());
        self.answer
            .topics
            .push(DescribeTopicPartitionsResponseTopic {
                name: Some(Str::copy(&topic.name)),
                topic_id: topic.id,
                is_internal: topic.is_internal(),
                partitions,
                topic_authorized_operations: self
                    .access
                    .authorized_operations(ResourceType::Topic, &topic.name),
                ..Default::default()
            });
        if end < topic.partitions.len() {
            return self.stop_at(&Str::copy(&topic.name), end);
        }
        true
    }

    fn stop_at(&mut self, name: &Str, partition: usize) -> bool {
        self.answer.next_cursor = Some(ResponseCursor {
            topic_name: name.clone(),
            partition_index: i32::try_from(partition).unwrap_or(i32::MAX),
        });
        false
    }

    fn partition(
        &self,
        topic: &TopicImage,
        at: usize,
    ) -> Option<DescribeTopicPartitionsResponsePartition> {
        let partition = topic.partitions.get(at)?;
        let offline = partition
            .replicas
            .iter()
            .filter(|id| !self.ctx.image.brokers.is_live(**id));
        Some(DescribeTopicPartitionsResponsePartition {
            error_code: self
                .ctx
                .leader_error(partition.leader, ErrorCode::LISTENER_NOT_FOUND),
            partition_index: i32::try_from(at).ok()?,
            leader_id: partition.leader.map_or(-1, |id| id.value()),
            leader_epoch: partition.leader_epoch.value(),
            replica_nodes: partition.replicas.iter().map(|id| id.value()).collect(),
            isr_nodes: partition.isr.iter().map(|id| id.value()).collect(),
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas: offline.map(|id| id.value()).collect(),
        })
    }
}

fn error_row(
    error_code: ErrorCode,
    name: &Str,
    operations: i32,
) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code,
        name: Some(name.clone()),
        is_internal: topic_name::is_internal(name),
        topic_authorized_operations: operations,
        ..Default::default()
    }
}
