//! Metadata (key 3), versions 0 to 13: who is in the cluster and where each partition lives.
//!
//! v4 auto-creation by request (KIP-4), v8 authorized operations (KIP-430), v10 topic ids, v12
//! topics by id alone (KIP-516), v13 a top-level error (KIP-1102; never set, since this broker
//! asks no client to bootstrap again here).

use std::collections::HashSet;
use std::sync::Arc;

use palisade_auth::Access;
use palisade_auth::access::OPERATIONS_NOT_REQUESTED;
use palisade_auth::acl::ResourceType;
use palisade_auth::grant::{Describe, Granted, Topic};
use palisade_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use palisade_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use palisade_protocol::types::{BrokerId, TopicId};
use palisade_protocol::{ErrorCode, Str};

use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group;
use crate::handlers::find_coordinator;
use crate::metadata::TopicImage;
use crate::metadata::topic_name;
use crate::task::{Budget, ROW_WORK};

/// Topics that one change of the metadata creates at most.
const CREATED_AT_ONCE: usize = 100;
/// CreateTopics version whose defaults (-1) mean "as the broker is configured".
const AUTO_CREATE_VERSION: i16 = 7;

/// Answers a Metadata request.
pub(crate) async fn handle(
    ctx: &RequestContext,
    req: MetadataRequest,
) -> Handled<MetadataResponse> {
    let access = ctx.access();
    let mut response = MetadataResponse::default();
    if names_topics_by_id_too_early(&req, ctx.api_version) {
        response.topics = req
            .topics
            .unwrap_or_default()
            .into_iter()
            .map(refused_id)
            .collect();
        return Handled::Now(response);
    }
    response.brokers = ctx
        .live_endpoints()
        .map(|broker| MetadataResponseBroker {
            node_id: broker.id.value(),
            host: broker.host,
            port: broker.port,
            rack: broker.rack,
        })
        .collect();
    response.cluster_id = Some(Str::copy(&ctx.image.cluster_id));
    response.controller_id = ctx.any_live_broker();
    if req.include_cluster_authorized_operations {
        response.cluster_authorized_operations = access.cluster_operations();
    }

    // Versions below 4 cannot say no.
    let may_create = (ctx.api_version < 4 || req.allow_auto_topic_creation)
        && ctx.broker.config.topics.auto_create;
    let survey = Survey {
        ctx,
        access,
        with_operations: req.include_topic_authorized_operations,
    };
    response.topics = match req.topics {
        // Version 0 has no null: there the empty list asks for all.
        Some(wanted) if !(wanted.is_empty() && ctx.api_version == 0) => {
            survey.named(wanted, may_create).await
        }
        _ => survey.all().await,
    };
    Handled::Now(response)
}

/// What the rows of one answer are made by.
struct Survey<'a> {
    ctx: &'a RequestContext,
    access: Access,
    /// Every row tells what the caller may do (KIP-430).
    with_operations: bool,
}

impl Survey<'_> {
    /// The topics that the caller may know.
    async fn all(&self) -> Vec<MetadataResponseTopic> {
        let mut budget = Budget::start();
        let mut rows = Vec::new();
        for topic in self.ctx.image.topics.iter() {
            budget.breathe(ROW_WORK).await;
            if self.access.probe_topic::<Describe>(&topic.name).is_some() {
                rows.push(self.row(topic));
            }
        }
        rows
    }

    /// The topics of a request, those that are there first; where it may, it creates the others.
    async fn named(
        &self,
        wanted: Vec<MetadataRequestTopic>,
        may_create: bool,
    ) -> Vec<MetadataResponseTopic> {
        let (ctx, access) = (self.ctx, &self.access);
        let mut budget = Budget::start();
        let mut rows = Vec::new();
        let mut refused = Vec::new();
        // Rows of `refused` whose topics are to be created.
        let mut creating = Vec::new();
        let mut seen = HashSet::new();
        for wanted in wanted {
            budget.breathe(ROW_WORK).await;
            if !seen.insert(named_by(&wanted)) {
                continue;
            }
            let error = match find(ctx, access, &wanted) {
                Found::Topic(topic) => {
                    rows.push(self.row(&topic));
                    continue;
                }
                Found::Missing(granted) if may_create => match creatable(ctx, access, &granted) {
                    Ok(()) => {
                        creating.push(refused.len());
                        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                    }
                    Err(error) => error,
                },
                Found::Missing(granted) => missing(granted.name()),
                Found::Refused(error) => {
                    // As in Kafka: whoever may not describe it does not hear whose topic it is.
                    refused.push(MetadataResponseTopic {
                        is_internal: false,
                        ..error_row(error, wanted)
                    });
                    continue;
                }
            };
            refused.push(error_row(error, wanted));
        }
        for creating in creating.chunks(CREATED_AT_ONCE) {
            auto_create(ctx, &mut refused, creating).await;
        }
        rows.append(&mut refused);
        rows
    }

    fn row(&self, topic: &TopicImage) -> MetadataResponseTopic {
        let operations = match self.with_operations {
            true => self
                .access
                .authorized_operations(ResourceType::Topic, &topic.name),
            false => OPERATIONS_NOT_REQUESTED,
        };
        row(self.ctx, topic, operations)
    }
}

/// What became of one topic of the request.
enum Found {
    Topic(Arc<TopicImage>),
    /// No such name, and the caller may know it.
    Missing(Granted<Topic, Describe>),
    Refused(ErrorCode),
}

/// What tells one topic of a request from another: beside an id the name says nothing.
fn named_by(wanted: &MetadataRequestTopic) -> (TopicId, Option<Str>) {
    let by_name = wanted.topic_id == TopicId::NIL;
    (wanted.topic_id, wanted.name.clone().filter(|_| by_name))
}

fn find(ctx: &RequestContext, access: &Access, wanted: &MetadataRequestTopic) -> Found {
    // An id names a topic whatever the name says; rights are asked about what it resolves to.
    if wanted.topic_id != TopicId::NIL {
        return match ctx.image.topics.by_id(wanted.topic_id) {
            None => Found::Refused(ErrorCode::UNKNOWN_TOPIC_ID),
            Some(topic) => match access.topic::<Describe>(&topic.name) {
                Ok(_) => Found::Topic(Arc::clone(topic)),
                Err(_) => Found::Refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            },
        };
    }
    let Some(name) = &wanted.name else {
        return Found::Refused(ErrorCode::INVALID_REQUEST);
    };
    // Existence is not looked at before the right is known (security.md §4.8).
    match access.topic::<Describe>(name) {
        Err(_) => Found::Refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
        Ok(granted) => match ctx.image.topics.get(name) {
            Some(topic) => Found::Topic(Arc::clone(topic)),
            None => Found::Missing(granted),
        },
    }
}

fn missing(name: &str) -> ErrorCode {
    match topic_name::validate(name) {
        Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
    }
}

/// Whether the caller may have this topic created, on its own rights.
///
/// # Errors
/// What the caller is told instead.
fn creatable(
    ctx: &RequestContext,
    access: &Access,
    described: &Granted<Topic, Describe>,
) -> Result<(), ErrorCode> {
    let name = described.name();
    if access.create_topic(name).is_err() {
        return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
    let unknown = missing(name);
    if unknown != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        || name == topic_name::CLUSTER_METADATA
        || ctx.image.topics.colliding(name).is_some()
    {
        return Err(unknown);
    }
    Ok(())
}

/// Has the controller create the topics of these rows with the settings of their kind, all at once.
///
/// The answer that causes it says "unknown", as Kafka does: clients ask again on that.
async fn auto_create(ctx: &RequestContext, refused: &mut [MetadataResponseTopic], rows: &[usize]) {
    let names = rows
        .iter()
        .filter_map(|row| refused.get(*row)?.name.clone());
    let topics = names.map(|name| match &*name {
        group::TOPIC => find_coordinator::offsets_topic(&ctx.broker.config),
        _ => CreatableTopic {
            name,
            num_partitions: -1,
            replication_factor: -1,
            ..CreatableTopic::default()
        },
    });
    let request = CreateTopicsRequest {
        topics: topics.collect(),
        ..CreateTopicsRequest::default()
    };
    let version = AUTO_CREATE_VERSION;
    let submitted = ctx.broker.controller.submit(request, version, ctx.actor());
    let Ok(response) = submitted.await else {
        return;
    };
    for created in response.topics {
        if created.error_code != ErrorCode::INVALID_REPLICATION_FACTOR {
            continue;
        }
        let mut rows = rows.iter();
        let row = rows.find(|row| {
            let row = refused.get(**row);
            row.is_some_and(|row| row.name.as_ref() == Some(&created.name))
        });
        if let Some(row) = row.and_then(|row| refused.get_mut(*row)) {
            row.error_code = created.error_code;
        }
    }
}

/// Topic ids are in the layout from version 10, but only version 12 may ask by them.
fn names_topics_by_id_too_early(req: &MetadataRequest, version: i16) -> bool {
    (10..12).contains(&version)
        && req
            .topics
            .iter()
            .flatten()
            .any(|topic| topic.topic_id != TopicId::NIL || topic.name.is_none())
}

fn refused_id(wanted: MetadataRequestTopic) -> MetadataResponseTopic {
    MetadataResponseTopic {
        // Below version 12 the name cannot be null.
        name: Some(wanted.name.unwrap_or_default()),
        ..error_row(ErrorCode::INVALID_REQUEST, MetadataRequestTopic::default())
    }
}

fn error_row(error: ErrorCode, wanted: MetadataRequestTopic) -> MetadataResponseTopic {
    let by_id = wanted.topic_id != TopicId::NIL;
    let name = if by_id { None } else { wanted.name };
    MetadataResponseTopic {
        error_code: error,
        is_internal: name.as_deref().is_some_and(topic_name::is_internal),
        name,
        topic_id: wanted.topic_id,
        topic_authorized_operations: OPERATIONS_NOT_REQUESTED,
        ..MetadataResponseTopic::default()
    }
}

fn row(ctx: &RequestContext, topic: &TopicImage, operations: i32) -> MetadataResponseTopic {
    // Clients know LISTENER_NOT_FOUND since version 6; older ones are told to ask again.
    let unlisted = match ctx.api_version {
        ..6 => ErrorCode::LEADER_NOT_AVAILABLE,
        _ => ErrorCode::LISTENER_NOT_FOUND,
    };
    let partitions = (0..)
        .zip(&topic.partitions)
        .map(|(partition_index, partition)| {
            let is_live = |id: &&BrokerId| ctx.image.brokers.is_live(**id);
            MetadataResponsePartition {
                error_code: ctx.leader_error(partition.leader, unlisted),
                partition_index,
                leader_id: partition.leader.map_or(-1, |id| id.value()),
                leader_epoch: partition.leader_epoch.value(),
                replica_nodes: partition.replicas.iter().map(|id| id.value()).collect(),
                isr_nodes: partition.isr.iter().map(|id| id.value()).collect(),
                offline_replicas: partition
                    .replicas
                    .iter()
                    .filter(|id| !is_live(id))
                    .map(|id| id.value())
                    .collect(),
            }
        });
    MetadataResponseTopic {
        error_code: ErrorCode::NONE,
        name: Some(Str::copy(&topic.name)),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        topic_authorized_operations: operations,
    }
}
