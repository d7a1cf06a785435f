//! Who may ask what: every served API without a login, without the right, with a near miss, and with the right.
//!
//! [`rows`] is a transcription by hand of the authorization table as Apache Kafka 4.3.1 answers it
//! (StandardAuthorizer). It is not derived from the broker's dispatch table, so a handler that asks for
//! another right than Kafka does fails here.

mod asks;

use std::collections::BTreeSet;
use std::time::Duration;

use palisade_protocol::api::{self, ApiKey};
use palisade_tests::check::eventually;
use palisade_tests::requests;
use palisade_tests::target::Target;
use palisade_tests::wire::Connection;

use self::asks::groups::{self, GROUP};
use self::asks::{ABSENT, Ask, Place, TOPIC};

const MECHANISM: &str = "SCRAM-SHA-512";
const USER: &str = "somebody";
const PASSWORD: &str = "somebody-secret";

/// Codes of the wire: resource types and operations.
const T: i8 = 2;
const G: i8 = 3;
const C: i8 = 4;
const X: i8 = 5;
const ALL: i8 = 2;
const READ: i8 = 3;
const WRITE: i8 = 4;
const CREATE: i8 = 5;
const DELETE: i8 = 6;
const ALTER: i8 = 7;
const DESCRIBE: i8 = 8;
const CLUSTER_ACTION: i8 = 9;
const DESCRIBE_CONFIGS: i8 = 10;
const ALTER_CONFIGS: i8 = 11;
const IDEMPOTENT_WRITE: i8 = 12;

const CLUSTER: &str = "kafka-cluster";

const TOPIC_REFUSED: i16 = 29;
const GROUP_REFUSED: i16 = 30;
const CLUSTER_REFUSED: i16 = 31;
const TRANSACTION_REFUSED: i16 = 53;
const REFUSALS: [i16; 4] = [
    TOPIC_REFUSED,
    GROUP_REFUSED,
    CLUSTER_REFUSED,
    TRANSACTION_REFUSED,
];

/// What the answer says to one who may ask.
#[derive(Clone, Copy, Debug)]
enum Granted {
    /// Exactly this code.
    Code(i16),
    /// Whatever the question leads to, but no refusal.
    NoRefusal,
}
use Granted::{Code, NoRefusal};

/// ALLOW of an operation on a resource: type, name, operation.
type Right = (i8, &'static str, i8);

struct Row {
    api: ApiKey,
    what: &'static str,
    /// What is granted throughout, to reach the check that the row is about.
    base: &'static [Right],
    /// Each of these alone is enough.
    enough: &'static [Right],
    /// Not even all of these together are.
    misses: &'static [Right],
    refused: i16,
    granted: Granted,
    ask: Ask,
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let row = |api, what, enough, misses, refused, granted, ask| Row { api, what, base: &[], enough, misses, refused, granted, ask };
    let beside = |base, row| Row { base, ..row };
    vec![
        // Data
        row(ApiKey::Produce, "", &[(T, TOPIC, WRITE), (T, "*", ALL)],
            &[(T, TOPIC, READ), (T, ABSENT, WRITE), (C, CLUSTER, ALL)], TOPIC_REFUSED, Code(0), asks::produce),
        row(ApiKey::Produce, "to an absent topic", &[(T, ABSENT, WRITE)],
            &[(T, ABSENT, DESCRIBE)], TOPIC_REFUSED, Code(3), asks::produce_absent),
        row(ApiKey::Fetch, "as consumer", &[(T, TOPIC, READ)],
            &[(T, TOPIC, WRITE), (T, TOPIC, DESCRIBE), (C, CLUSTER, ALL)], TOPIC_REFUSED, Code(0), asks::fetch),
        row(ApiKey::Fetch, "as follower", &[(C, CLUSTER, CLUSTER_ACTION)],
            &[(T, TOPIC, ALL)], TOPIC_REFUSED, NoRefusal, asks::fetch_as_follower),
        row(ApiKey::ListOffsets, "", &[(T, TOPIC, DESCRIBE), (T, TOPIC, READ), (T, TOPIC, WRITE)],
            &[(T, TOPIC, CREATE), (C, CLUSTER, ALL)], TOPIC_REFUSED, Code(0), asks::list_offsets),
        row(ApiKey::DeleteRecords, "", &[(T, TOPIC, DELETE)],
            &[(T, TOPIC, WRITE), (T, TOPIC, ALTER), (C, CLUSTER, ALL)], TOPIC_REFUSED, Code(0), asks::delete_records),
        row(ApiKey::OffsetForLeaderEpoch, "", &[(T, TOPIC, DESCRIBE), (C, CLUSTER, CLUSTER_ACTION)],
            &[(T, TOPIC, CREATE), (C, CLUSTER, ALTER)], TOPIC_REFUSED, Code(0), asks::offset_for_leader_epoch),
        row(ApiKey::InitProducerId, "idempotent", &[(C, CLUSTER, IDEMPOTENT_WRITE), (T, TOPIC, WRITE)],
            &[(T, TOPIC, READ), (T, TOPIC, DESCRIBE)], CLUSTER_REFUSED, Code(0), asks::init_producer_id),
        row(ApiKey::InitProducerId, "transactional", &[(X, "payments", WRITE)],
            &[(X, "payments", DESCRIBE), (T, TOPIC, ALL), (C, CLUSTER, ALL)], TRANSACTION_REFUSED, NoRefusal, asks::init_transactional),
        // Metadata
        row(ApiKey::Metadata, "by name", &[(T, TOPIC, DESCRIBE), (T, TOPIC, DELETE), (T, TOPIC, ALTER)],
            &[(T, TOPIC, CREATE), (T, TOPIC, ALTER_CONFIGS), (C, CLUSTER, ALL)], TOPIC_REFUSED, Code(0), asks::metadata_by_name),
        row(ApiKey::Metadata, "by id", &[(T, TOPIC, DESCRIBE)],
            &[(T, ABSENT, DESCRIBE)], TOPIC_REFUSED, Code(0), asks::metadata_by_id),
        row(ApiKey::Metadata, "of an absent topic", &[(T, ABSENT, DESCRIBE)],
            &[(T, TOPIC, DESCRIBE)], TOPIC_REFUSED, Code(3), asks::metadata_of_absent),
        row(ApiKey::DescribeTopicPartitions, "", &[(T, TOPIC, DESCRIBE)],
            &[(T, TOPIC, CREATE), (C, CLUSTER, ALL)], TOPIC_REFUSED, Code(0), asks::describe_topic_partitions),
        // Groups
        row(ApiKey::FindCoordinator, "of a group", &[(G, GROUP, DESCRIBE), (G, GROUP, READ), (G, GROUP, DELETE)],
            &[(G, GROUP, DESCRIBE_CONFIGS), (T, "*", ALL), (C, CLUSTER, ALL)], GROUP_REFUSED, NoRefusal, groups::find_group),
        row(ApiKey::FindCoordinator, "of a transaction", &[(X, "payments", DESCRIBE), (X, "payments", WRITE)],
            &[(G, "*", ALL), (T, "*", ALL), (C, CLUSTER, ALL)], TRANSACTION_REFUSED, NoRefusal, groups::find_transaction),
        row(ApiKey::FindCoordinator, "of a share partition", &[(C, CLUSTER, CLUSTER_ACTION)],
            &[(G, "*", ALL), (T, "*", ALL), (C, CLUSTER, ALTER)], CLUSTER_REFUSED, NoRefusal, groups::find_share),
        row(ApiKey::JoinGroup, "", &[(G, GROUP, READ)],
            &[(G, GROUP, DESCRIBE), (G, GROUP, DELETE), (T, "*", ALL), (C, CLUSTER, ALL)], GROUP_REFUSED, NoRefusal, groups::join),
        row(ApiKey::SyncGroup, "", &[(G, GROUP, READ)],
            &[(G, GROUP, DESCRIBE), (G, GROUP, DELETE), (C, CLUSTER, ALL)], GROUP_REFUSED, NoRefusal, groups::sync),
        row(ApiKey::Heartbeat, "", &[(G, GROUP, READ)],
            &[(G, GROUP, DESCRIBE), (G, GROUP, DELETE), (C, CLUSTER, ALL)], GROUP_REFUSED, NoRefusal, groups::heartbeat),
        row(ApiKey::LeaveGroup, "", &[(G, GROUP, READ)],
            &[(G, GROUP, DESCRIBE), (G, GROUP, DELETE), (C, CLUSTER, ALL)], GROUP_REFUSED, NoRefusal, groups::leave),
        row(ApiKey::DescribeGroups, "", &[(G, GROUP, DESCRIBE), (G, GROUP, READ), (G, GROUP, DELETE)],
            &[(G, GROUP, DESCRIBE_CONFIGS), (C, CLUSTER, ALL)], GROUP_REFUSED, NoRefusal, groups::describe),
        row(ApiKey::DeleteGroups, "", &[(G, GROUP, DELETE)],
            &[(G, GROUP, READ), (G, GROUP, DESCRIBE), (C, CLUSTER, ALL)], GROUP_REFUSED, NoRefusal, groups::delete),
        row(ApiKey::ConsumerGroupHeartbeat, "without topics", &[(G, GROUP, READ)],
            &[(G, GROUP, DESCRIBE), (G, GROUP, DELETE), (T, "*", ALL), (C, CLUSTER, ALL)], GROUP_REFUSED, NoRefusal, groups::consume_nothing),
        beside(&[(G, GROUP, READ)], row(ApiKey::ConsumerGroupHeartbeat, "of a topic", &[(T, TOPIC, DESCRIBE), (T, TOPIC, READ)],
            &[(T, TOPIC, CREATE), (C, CLUSTER, ALL)], TOPIC_REFUSED, NoRefusal, groups::consume_topic)),
        row(ApiKey::ConsumerGroupDescribe, "", &[(G, GROUP, DESCRIBE), (G, GROUP, READ), (G, GROUP, DELETE)],
            &[(G, GROUP, DESCRIBE_CONFIGS), (C, CLUSTER, ALL)], GROUP_REFUSED, NoRefusal, groups::describe_consumers),
        row(ApiKey::OffsetCommit, "of a topic that may not be read", &[(G, GROUP, READ)],
            &[(G, GROUP, DESCRIBE), (T, "*", ALL), (C, CLUSTER, ALL)], GROUP_REFUSED, Code(TOPIC_REFUSED), groups::commit),
        beside(&[(G, GROUP, READ)], row(ApiKey::OffsetCommit, "", &[(T, TOPIC, READ)],
            &[(T, TOPIC, WRITE), (T, TOPIC, DESCRIBE), (C, CLUSTER, ALL)], TOPIC_REFUSED, NoRefusal, groups::commit)),
        row(ApiKey::OffsetFetch, "of all topics", &[(G, GROUP, DESCRIBE), (G, GROUP, READ)],
            &[(G, GROUP, DESCRIBE_CONFIGS), (T, "*", ALL), (C, CLUSTER, ALL)], GROUP_REFUSED, NoRefusal, groups::fetch_all),
        beside(&[(G, GROUP, DESCRIBE)], row(ApiKey::OffsetFetch, "of a topic", &[(T, TOPIC, DESCRIBE), (T, TOPIC, READ)],
            &[(T, TOPIC, CREATE), (C, CLUSTER, ALL)], TOPIC_REFUSED, NoRefusal, groups::fetch_topic)),
        row(ApiKey::OffsetDelete, "of nothing", &[(G, GROUP, DELETE)],
            &[(G, GROUP, READ), (T, "*", ALL), (C, CLUSTER, ALL)], GROUP_REFUSED, NoRefusal, groups::delete_no_offset),
        beside(&[(G, GROUP, DELETE)], row(ApiKey::OffsetDelete, "of a topic", &[(T, TOPIC, READ)],
            &[(T, TOPIC, DELETE), (T, TOPIC, DESCRIBE), (C, CLUSTER, ALL)], TOPIC_REFUSED, NoRefusal, groups::delete_offset)),
        // Topic and cluster administration
        row(ApiKey::CreateTopics, "", &[(C, CLUSTER, CREATE), (T, "made", CREATE)],
            &[(T, "made", WRITE), (T, TOPIC, CREATE), (C, CLUSTER, ALTER)], TOPIC_REFUSED, Code(0), asks::create_topics),
        row(ApiKey::CreateTopics, "with an illegal name", &[(C, CLUSTER, CREATE)],
            &[(C, CLUSTER, DESCRIBE)], TOPIC_REFUSED, Code(17), asks::create_illegal_topic),
        row(ApiKey::DeleteTopics, "that is absent", &[(C, CLUSTER, DELETE), (T, ABSENT, DELETE)],
            &[(T, TOPIC, DELETE), (C, CLUSTER, ALTER)], TOPIC_REFUSED, NoRefusal, asks::delete_absent_topic),
        row(ApiKey::DeleteTopics, "that may be described", &[(T, TOPIC, DELETE)],
            &[(T, TOPIC, DESCRIBE), (T, TOPIC, ALTER)], TOPIC_REFUSED, Code(0), asks::delete_topic),
        row(ApiKey::CreatePartitions, "", &[(T, TOPIC, ALTER)],
            &[(T, TOPIC, CREATE), (C, CLUSTER, ALL)], TOPIC_REFUSED, Code(0), asks::create_partitions),
        row(ApiKey::DescribeConfigs, "of a topic", &[(T, TOPIC, DESCRIBE_CONFIGS), (T, TOPIC, ALTER_CONFIGS)],
            &[(T, TOPIC, DESCRIBE), (T, TOPIC, ALTER), (C, CLUSTER, ALL)], TOPIC_REFUSED, Code(0), asks::describe_topic_configs),
        row(ApiKey::DescribeConfigs, "of a broker", &[(C, CLUSTER, DESCRIBE_CONFIGS)],
            &[(C, CLUSTER, DESCRIBE), (T, "*", ALL)], CLUSTER_REFUSED, NoRefusal, asks::describe_broker_configs),
        row(ApiKey::DescribeConfigs, "of a group", &[(G, "readers", DESCRIBE_CONFIGS)],
            &[(G, "readers", DESCRIBE), (C, CLUSTER, ALL)], GROUP_REFUSED, NoRefusal, asks::describe_group_configs),
        row(ApiKey::AlterConfigs, "of a topic", &[(T, TOPIC, ALTER_CONFIGS)],
            &[(T, TOPIC, ALTER), (T, TOPIC, DESCRIBE_CONFIGS), (C, CLUSTER, ALL)], TOPIC_REFUSED, Code(0), asks::alter_topic_configs),
        row(ApiKey::AlterConfigs, "of a broker", &[(C, CLUSTER, ALTER_CONFIGS)],
            &[(C, CLUSTER, ALTER), (T, "*", ALL)], CLUSTER_REFUSED, NoRefusal, asks::alter_broker_configs),
        row(ApiKey::IncrementalAlterConfigs, "of a topic", &[(T, TOPIC, ALTER_CONFIGS)],
            &[(T, TOPIC, ALTER), (T, TOPIC, DESCRIBE_CONFIGS), (C, CLUSTER, ALL)], TOPIC_REFUSED, Code(0), asks::incremental_topic_configs),
        row(ApiKey::IncrementalAlterConfigs, "of a broker", &[(C, CLUSTER, ALTER_CONFIGS)],
            &[(C, CLUSTER, ALTER), (T, "*", ALL)], CLUSTER_REFUSED, NoRefusal, asks::incremental_broker_configs),
        row(ApiKey::DescribeAcls, "", &[(C, CLUSTER, DESCRIBE), (C, CLUSTER, ALTER)],
            &[(C, CLUSTER, DESCRIBE_CONFIGS), (T, "*", ALL)], CLUSTER_REFUSED, Code(0), asks::describe_acls),
        row(ApiKey::CreateAcls, "", &[(C, CLUSTER, ALTER)],
            &[(C, CLUSTER, ALTER_CONFIGS), (C, CLUSTER, DESCRIBE), (T, "*", ALL)], CLUSTER_REFUSED, Code(0), asks::create_acls),
        row(ApiKey::DeleteAcls, "", &[(C, CLUSTER, ALTER)],
            &[(C, CLUSTER, DELETE), (C, CLUSTER, DESCRIBE), (T, "*", ALL)], CLUSTER_REFUSED, Code(0), asks::delete_acls),
        row(ApiKey::DescribeUserScramCredentials, "", &[(C, CLUSTER, DESCRIBE)],
            &[(C, CLUSTER, DESCRIBE_CONFIGS), (T, "*", ALL)], CLUSTER_REFUSED, Code(0), asks::describe_users),
        row(ApiKey::AlterUserScramCredentials, "", &[(C, CLUSTER, ALTER)],
            &[(C, CLUSTER, ALTER_CONFIGS), (C, CLUSTER, DESCRIBE)], CLUSTER_REFUSED, Code(0), asks::alter_users),
    ]
}

/// What anyone who is logged in may ask, and is shown as much of as may be seen; SASL after the
/// login is refused in its own way.
const FREE: [ApiKey; 5] = [
    ApiKey::ApiVersions,
    ApiKey::DescribeCluster,
    ApiKey::ListGroups,
    ApiKey::SaslHandshake,
    ApiKey::SaslAuthenticate,
];

struct World {
    admin: Connection,
    user: Connection,
    place: Place,
    /// The reference applies a rule some time after it has answered; the node under test before.
    patience: Duration,
}

impl World {
    fn start(target: &Target) -> World {
        let access = target.scram(MECHANISM);
        let mut admin = Connection::open(&access).expect("the administrator logs in");
        let id = requests::create_topic(&mut admin, TOPIC, 1, &[]).expect("a topic");
        requests::set_user(&mut admin, USER, MECHANISM, PASSWORD).expect("a user");
        let patience = match target {
            Target::Palisade(_) => Duration::ZERO,
            Target::Apache(_) => Duration::from_secs(20),
        };
        let user = eventually("the user's first login", patience, || {
            Connection::open(&access.as_user(MECHANISM, USER, PASSWORD))
                .map_err(|error| error.to_string())
        });
        World {
            admin,
            user,
            place: Place { id, count: 0 },
            patience,
        }
    }

    /// Asks as the user and expects all error codes of the answer to satisfy `fits`.
    fn expect(&mut self, row: &Row, when: &str, fits: impl Fn(i16) -> bool) {
        let what = format!("{} {} {when}", row.api.name(), row.what);
        eventually(&what, self.patience, || {
            self.place.count += 1;
            let codes = (row.ask)(&mut self.user, &self.place)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(!codes.is_empty(), "{what}: no code in the answer");
            match codes.iter().all(|code| fits(code.value())) {
                true => Ok(()),
                false => Err(format!("{codes:?}")),
            }
        });
    }

    fn grant(&mut self, rights: &[Right]) {
        let creations = rights
            .iter()
            .map(|(kind, name, operation)| requests::allow(USER, *kind, name, *operation));
        requests::add_acls(&mut self.admin, creations.collect()).expect("rules can be added");
    }

    fn revoke_all(&mut self) {
        requests::remove_acls(&mut self.admin, USER).expect("rules can be deleted");
    }

    /// Puts back what an allowed question took away.
    fn restore(&mut self) {
        if let Ok(id) = requests::create_topic(&mut self.admin, TOPIC, 1, &[]) {
            self.place.id = id;
        }
    }
}

#[test]
fn every_api_asks_for_its_right() {
    let mut target = Target::start();
    if let Target::Palisade(node) = &mut target {
        node.allow("transactional producer refused");
    }
    let mut world = World::start(&target);
    requests::await_coordinators(&mut world.admin, GROUP, Duration::from_secs(60));
    for row in &rows() {
        world.restore();
        world.grant(row.base);
        world.expect(row, "without its right", |code| code == row.refused);
        world.grant(row.misses);
        world.expect(row, "with rights beside the point", |code| {
            code == row.refused
        });
        world.revoke_all();
        world.grant(row.base);
        for right in row.enough {
            world.grant(&[*right]);
            let when = format!("with {right:?}");
            world.expect(row, &when, |code| match row.granted {
                Code(wanted) => code == wanted,
                NoRefusal => !REFUSALS.contains(&code),
            });
            world.revoke_all();
            world.grant(row.base);
            world.restore();
        }
        // What was allowed a moment ago is refused on the same connection.
        world.expect(row, "after it was revoked", |code| code == row.refused);
        world.revoke_all();
    }
}

#[test]
fn every_served_api_has_a_row() {
    let tabled: BTreeSet<_> = rows().iter().map(|row| row.api).chain(FREE).collect();
    let served: BTreeSet<_> = api::SERVED.iter().map(|spec| spec.key).collect();
    assert_eq!(tabled, served);
}

/// A refused name is not told apart from others, whatever it is the name of.
#[test]
fn a_refused_name_says_nothing_of_its_kind() {
    let target = Target::start();
    let mut world = World::start(&target);
    let (code, is_internal) = asks::metadata_of_offsets(&mut world.user).expect("an answer");
    assert_eq!((code.value(), is_internal), (TOPIC_REFUSED, false));
    let (code, is_internal) = asks::partitions_of_offsets(&mut world.user).expect("an answer");
    assert_eq!((code.value(), is_internal), (TOPIC_REFUSED, false));
}

/// A listing hides what may not be described, without an error.
#[test]
fn listings_hide() {
    let target = Target::start();
    let mut world = World::start(&target);
    let listed = |world: &mut World, count: usize| {
        eventually("the listing", world.patience, || {
            let names = asks::list_topics(&mut world.user).map_err(|error| error.to_string())?;
            match names.len() == count {
                true => Ok(()),
                false => Err(format!("{names:?}")),
            }
        });
    };
    listed(&mut world, 0);
    world.grant(&[(T, TOPIC, DESCRIBE)]);
    listed(&mut world, 1);
    world.revoke_all();
    listed(&mut world, 0);
}

/// Groups are hidden likewise; a right on the cluster shows them all.
#[test]
fn listings_hide_groups() {
    let target = Target::start();
    let mut world = World::start(&target);
    // A commit without membership makes a group, once there is a topic to keep it in.
    eventually("a group", Duration::from_secs(60), || {
        for ask in [groups::find_group as Ask, groups::commit] {
            let codes = ask(&mut world.admin, &world.place).expect("an answer");
            if let Some(code) = codes.into_iter().find(|code| code.is_error()) {
                return Err(code.name().to_owned());
            }
        }
        Ok(())
    });
    let listed = |world: &mut World, wanted: &[&str]| {
        eventually("the listing", world.patience, || {
            let names = groups::list(&mut world.user).map_err(|error| error.to_string())?;
            match names == wanted {
                true => Ok(()),
                false => Err(format!("{names:?}")),
            }
        });
    };
    listed(&mut world, &[]);
    for right in [
        (G, GROUP, DESCRIBE),
        (G, GROUP, READ),
        (C, CLUSTER, DESCRIBE),
    ] {
        world.grant(&[right]);
        listed(&mut world, &[GROUP]);
        world.revoke_all();
        listed(&mut world, &[]);
    }
    world.grant(&[(G, "another", ALL), (T, "*", ALL), (C, CLUSTER, CREATE)]);
    listed(&mut world, &[]);
}

/// Before a login the connection closes without a word on all but the handshake's own APIs.
#[test]
fn nothing_is_answered_without_a_login() {
    let target = Target::start();
    let access = target.scram(MECHANISM);
    let place = Place {
        id: Default::default(),
        count: 0,
    };
    for row in &rows() {
        let mut connection = Connection::tls(&access).expect("TLS");
        let answer = (row.ask)(&mut connection, &place);
        assert!(
            answer.is_err(),
            "{} {} was answered without a login",
            row.api.name(),
            row.what
        );
    }
    let mut connection = Connection::tls(&access).expect("TLS");
    assert!(asks::describe_cluster(&mut connection).is_err());
    let mut connection = Connection::tls(&access).expect("TLS");
    asks::api_versions(&mut connection).expect("the handshake's own API is answered");
}

/// What needs no right is answered to a user without any; SASL is refused once it is over.
#[test]
fn free_apis() {
    let target = Target::start();
    let mut world = World::start(&target);
    asks::api_versions(&mut world.user).expect("ApiVersions");
    asks::describe_cluster(&mut world.user).expect("DescribeCluster");
    let code = asks::sasl_handshake(&mut world.user).expect("SaslHandshake");
    assert_eq!(code.value(), 34);
    let code = asks::sasl_authenticate(&mut world.user).expect("SaslAuthenticate");
    assert_eq!(code.value(), 34);
    // The connection is still of use.
    asks::api_versions(&mut world.user).expect("ApiVersions");
}
