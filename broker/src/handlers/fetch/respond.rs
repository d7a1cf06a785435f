//! Putting the rows of a fetch into a response.

use palisade_protocol::Str;
use palisade_protocol::messages::fetch::{
    FetchResponse, FetchableTopicResponse, NodeEndpoint, PartitionData,
};
use palisade_protocol::types::{BrokerId, TopicId};

use super::Scene;
use super::visit::{Kind, Row};
use crate::fetch_session::TopicKey;
use crate::handlers::layout;
use crate::partition::read;

/// Collects partitions; consecutive ones of one topic share its entry.
pub(super) struct Builder<'a> {
    scene: &'a Scene,
    response: FetchResponse,
}

impl<'a> Builder<'a> {
    /// An empty response.
    pub(super) fn new(scene: &'a Scene) -> Builder<'a> {
        Builder {
            scene,
            response: FetchResponse::default(),
        }
    }

    /// Adds one partition.
    pub(super) fn push(&mut self, topic: &TopicKey, row: Row) {
        let Row {
            mut data,
            read,
            kind,
        } = row;
        if kind == Kind::Data {
            data.records = Some(read::records(read.and_then(|read| read.slice)));
        }
        self.tell_leader(&data);
        let (name, topic_id) = match topic {
            TopicKey::Name(name) => (name.clone(), TopicId::NIL),
            TopicKey::Id(id) => (Str::EMPTY, *id),
        };
        match self.response.responses.last_mut() {
            Some(last) if last.topic == name && last.topic_id == topic_id => {
                last.partitions.push(data);
            }
            _ => self.response.responses.push(FetchableTopicResponse {
                topic: name,
                topic_id,
                partitions: vec![data],
            }),
        }
    }

    /// The response.
    pub(super) fn finish(self) -> FetchResponse {
        self.response
    }

    /// Adds the address of a leader that a partition names (KIP-951).
    fn tell_leader(&mut self, data: &PartitionData) {
        let leader = BrokerId::new(data.current_leader.leader_id);
        let endpoints = &mut self.response.node_endpoints;
        if leader.value() < 0 || endpoints.iter().any(|node| node.node_id == leader.value()) {
            return;
        }
        if let Some(address) = layout::of_node(&self.scene.image, leader, &self.scene.listener) {
            endpoints.push(NodeEndpoint {
                node_id: leader.value(),
                host: address.host,
                port: address.port,
                rack: address.rack,
            });
        }
    }
}
