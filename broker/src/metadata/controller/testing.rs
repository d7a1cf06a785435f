//! A controller without threads: decides, applies, and shows the image, for the tests of each API.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use palisade_auth::acl::{AclBinding, Operation, PatternType, Permission, ResourceType};
use palisade_auth::audit::AuditContext;
use palisade_auth::{Authorizer, AuthorizerConfig, Caller, Principal, SuperUsers};
use palisade_protocol::types::{BrokerId, Uuid};

use super::{Context, ControllerRequest, ControllerSettings, Descriptors};
use crate::config::TopicDefaults;
use crate::metadata::actor::{Actor, Internal, Rights};
use crate::metadata::builder::ImageBuilder;
use crate::metadata::delta::ClusterDelta;
use crate::metadata::group_config::GroupDefaults;
use crate::metadata::image::{BrokersImage, ClusterImage};
use crate::metadata::record::{
    BrokerRegistration, MetadataRecord, decode_batch, encode_batch, offset_of_index,
};

/// Settings as a fresh node has them, with `User:root` above the ACLs.
pub(in crate::metadata) fn settings() -> ControllerSettings {
    let super_users = SuperUsers::parse("User:root").unwrap();
    ControllerSettings {
        num_partitions: 1,
        default_replication_factor: 1,
        delete_topic_enable: true,
        descriptors: Descriptors::fixed(1 << 20, || Some(0)),
        topic_defaults: TopicDefaults::default(),
        group_defaults: GroupDefaults::default(),
        authorizer: Authorizer::new(AuthorizerConfig {
            super_users,
            ..Default::default()
        }),
        audit: None,
    }
}

/// A client's request by this user.
pub(in crate::metadata) fn user(name: &str) -> Actor {
    let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Actor::client(
        Caller::new(Principal::user(name), host),
        AuditContext::default(),
    )
}

/// The broker's own request.
pub(in crate::metadata) fn internal() -> Actor {
    Actor::internal(Internal::for_purpose("test"))
}

/// Registered brokers: id, rack, and whether they are live.
pub(in crate::metadata) fn brokers(brokers: &[(i32, Option<&str>, bool)]) -> BrokersImage {
    let mut image = BrokersImage::default();
    for (id, rack, live) in brokers {
        let registration = registration(*id, *rack, !*live);
        image.by_id.insert(registration.id, Arc::new(registration));
    }
    image
}

fn registration(id: i32, rack: Option<&str>, fenced: bool) -> BrokerRegistration {
    BrokerRegistration {
        id: BrokerId::new(id),
        incarnation: Uuid::from_bytes([7; 16]),
        epoch: 0,
        endpoints: Vec::new(),
        rack: rack.map(str::to_owned),
        fenced,
    }
}

/// ALLOW for a user on a literal resource.
pub(in crate::metadata) fn allow(
    user: &str,
    operation: Operation,
    resource_type: ResourceType,
    name: &str,
) -> MetadataRecord {
    MetadataRecord::Acl(AclBinding {
        resource_type,
        resource_name: name.to_owned(),
        pattern_type: PatternType::Literal,
        principal: format!("User:{user}"),
        host: "*".to_owned(),
        operation,
        permission: Permission::Allow,
    })
}

/// The controller's state.
pub(in crate::metadata) struct Bench {
    pub(in crate::metadata) image: ClusterImage,
    pub(in crate::metadata) settings: ControllerSettings,
    pub(in crate::metadata) last_delta: ClusterDelta,
    index: u64,
    seed: u8,
}

impl Bench {
    /// A cluster of one live broker with id 0.
    pub(in crate::metadata) fn new() -> Bench {
        Bench::with_brokers(&[(0, None, true)])
    }

    /// A cluster of these brokers.
    pub(in crate::metadata) fn with_brokers(brokers: &[(i32, Option<&str>, bool)]) -> Bench {
        let mut bench = Bench {
            image: ClusterImage::empty(),
            settings: settings(),
            last_delta: ClusterDelta::default(),
            index: 0,
            seed: 0,
        };
        bench.apply(&[MetadataRecord::ClusterId("test".to_owned())]);
        for (id, rack, live) in brokers {
            bench.apply(&[MetadataRecord::RegisterBroker(registration(
                *id, *rack, !*live,
            ))]);
        }
        bench
    }

    /// Applies records as one batch, through their bytes.
    pub(in crate::metadata) fn apply(&mut self, records: &[MetadataRecord]) {
        let read = decode_batch(&encode_batch(records)).unwrap();
        assert_eq!(read, records);
        self.index += 1;
        let mut builder = ImageBuilder::new(&self.image);
        for record in &read {
            builder.apply(record).unwrap();
        }
        builder.advance(
            palisade_protocol::types::Offset::new(i64::try_from(self.index).unwrap()),
            palisade_protocol::types::LeaderEpoch::new(1),
        );
        (self.last_delta, self.image) = builder.finish();
    }

    /// Decides a request, applies what follows, and answers.
    pub(in crate::metadata) fn submit<R: ControllerRequest>(
        &mut self,
        request: &R,
        version: i16,
        actor: Actor,
    ) -> R::Response {
        let acls = Arc::clone(self.image.acls.cache());
        let rights = Rights::of(actor, &self.settings.authorizer, &acls, None);
        let seed = &mut self.seed;
        let decision = request.decide(
            version,
            &mut Context {
                image: &self.image,
                committed: None,
                rights: &rights,
                settings: &self.settings,
                next_offset: offset_of_index(self.index + 1),
                random: &mut |bytes| {
                    *seed = seed.wrapping_add(1);
                    bytes.fill(*seed);
                },
            },
        );
        assert!(decision.changes.is_empty() || !decision.records.is_empty());
        if !decision.records.is_empty() {
            self.apply(&decision.records);
        }
        decision.response
    }
}
