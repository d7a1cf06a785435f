//! The broker a client suite runs against: the node under test, or Apache Kafka to judge the suite itself.

use palisade_protocol::api::{self, ApiKey};

use crate::access::Access;
use crate::kafka::ApacheKafka;
use crate::node::Node;

/// A running broker with an administrator.
pub enum Target {
    /// The node under test.
    Palisade(Node),
    /// The reference, chosen with `PALISADE_TEST_AGAINST=apache`.
    Apache(ApacheKafka),
}

impl Target {
    /// Starts the broker that the environment chooses.
    pub fn start() -> Target {
        Target::start_with(&[])
    }

    /// The same, with more settings of Kafka's. Those of a protocol that the node does not serve are left out.
    pub fn start_with(settings: &[(&str, &str)]) -> Target {
        match std::env::var("PALISADE_TEST_AGAINST").as_deref() {
            Ok("apache") => Target::Apache(ApacheKafka::start_with(settings)),
            Ok(other) if other != "palisade" => panic!("PALISADE_TEST_AGAINST={other}?"),
            _ => {
                let mut node = prepare(settings);
                node.run();
                node.create_admin();
                Target::Palisade(node)
            }
        }
    }

    /// The same, with a listener in the clear besides, whose address comes along.
    pub fn start_with_plaintext(settings: &[(&str, &str)]) -> (Target, String) {
        if std::env::var("PALISADE_TEST_AGAINST").as_deref() == Ok("apache") {
            let kafka = ApacheKafka::start_with(settings);
            let address = kafka.plaintext().to_owned();
            return (Target::Apache(kafka), address);
        }
        let mut node = prepare(settings);
        let address = node.add_listener("PLAINTEXT");
        // It warns of what is asked for here: a door in the clear, and possibly one that is open to all.
        node.allow("listeners without encryption");
        node.allow("allow.everyone.if.no.acl.found");
        node.run();
        node.create_admin();
        (Target::Palisade(node), address)
    }

    /// The node under test with those settings, whose clients by SCRAM are sent to `door` (see [`crate::tunnel`]).
    ///
    /// # Panics
    /// When Apache Kafka is chosen, which has no door.
    pub fn start_behind(door: &str, settings: &[(&str, &str)]) -> Target {
        assert!(
            std::env::var("PALISADE_TEST_AGAINST").as_deref() != Ok("apache"),
            "only the node under test can be put behind a door"
        );
        let mut node = prepare(settings);
        node.advertise(door);
        node.allow("allow.everyone.if.no.acl.found");
        node.run();
        node.create_admin();
        Target::Palisade(node)
    }

    /// The administrator by SCRAM.
    pub fn scram(&self, mechanism: &'static str) -> Access {
        match self {
            Target::Palisade(node) => node.scram(mechanism),
            Target::Apache(kafka) => kafka.scram(mechanism),
        }
    }

    /// The administrator by client certificate.
    pub fn certificate(&self) -> Access {
        match self {
            Target::Palisade(node) => node.certificate(),
            Target::Apache(kafka) => kafka.certificate(),
        }
    }

    /// Every way in that a client suite must try: both SCRAM mechanisms and mutual TLS.
    pub fn accesses(&self) -> [Access; 3] {
        [
            self.scram("SCRAM-SHA-512"),
            self.scram("SCRAM-SHA-256"),
            self.certificate(),
        ]
    }

    /// Whether the broker serves consumer groups.
    pub fn serves_groups(&self) -> bool {
        match self {
            Target::Palisade(_) => api::spec(ApiKey::FindCoordinator).is_some(),
            Target::Apache(_) => true,
        }
    }

    /// Whether the broker serves the consumer protocol (KIP-848).
    pub fn serves_consumer_protocol(&self) -> bool {
        match self {
            Target::Palisade(_) => api::spec(ApiKey::ConsumerGroupHeartbeat).is_some(),
            Target::Apache(_) => true,
        }
    }
}

fn prepare(settings: &[(&str, &str)]) -> Node {
    let mut node = Node::prepare();
    for (key, value) in settings {
        let of_consumer_protocol = key.starts_with("group.consumer.");
        if !of_consumer_protocol || api::spec(ApiKey::ConsumerGroupHeartbeat).is_some() {
            node.set(key, *value);
        }
    }
    node
}
