//! What one principal's members may keep: others join, grow and come back whatever he does.

use palisade_protocol::api::ApiKey;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::create_acls::AclCreation;
use palisade_protocol::messages::heartbeat::HeartbeatRequest;
use palisade_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use palisade_protocol::messages::list_groups::ListGroupsRequest;
use palisade_protocol::messages::sync_group::SyncGroupRequest;
use palisade_protocol::text::Str;
use palisade_tests::check::eventually;
use palisade_tests::node::Node;
use palisade_tests::requests::{self, newest};
use palisade_tests::wire::Connection;

use super::{PATIENCE, coordinator};

const MECHANISM: &str = "SCRAM-SHA-512";
/// The least that the key takes: a group gets 256 KiB of it, a principal 512 KiB.
const LIMIT: &str = "1048576";
const FULL: ErrorCode = ErrorCode::GROUP_MAX_SIZE_REACHED;

/// A member as its client knows it.
struct Member {
    group: String,
    id: Str,
    generation: i32,
    metadata: usize,
}

/// A user who may read groups whose names begin with his own.
fn user(node: &Node, admin: &mut Connection, name: &str) -> Connection {
    requests::set_user(admin, name, MECHANISM, name).expect("a user");
    let rule = AclCreation {
        resource_pattern_type: 4,
        ..requests::allow(name, 3, name, 3)
    };
    requests::add_acls(admin, vec![rule]).expect("rules can be added");
    logged_in(node, name)
}

fn logged_in(node: &Node, name: &str) -> Connection {
    let access = node.scram(MECHANISM).as_user(MECHANISM, name, name);
    coordinator(&access, name)
}

fn admin_again(node: &Node) -> Connection {
    Connection::open(&node.certificate()).expect("a login")
}

fn join(connection: &mut Connection, group: &str, id: &Str, metadata: usize) -> JoinGroupResponse {
    let request = JoinGroupRequest {
        group_id: group.to_owned().into(),
        member_id: id.clone(),
        session_timeout_ms: 300_000,
        rebalance_timeout_ms: 300_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: vec![7; metadata].into(),
        }],
        ..JoinGroupRequest::default()
    };
    connection.call(3, &request).expect("an answer")
}

impl Member {
    /// Joins a group alone, with so many bytes of metadata.
    fn joins(connection: &mut Connection, group: &str, metadata: usize) -> Result<Self, ErrorCode> {
        let joined = join(connection, group, &Str::EMPTY, metadata);
        let mut member = Member {
            group: group.to_owned(),
            id: joined.member_id,
            generation: joined.generation_id,
            metadata,
        };
        match joined.error_code {
            ErrorCode::NONE => member.synced(connection).map(|()| member),
            refused => Err(refused),
        }
    }

    /// Rejoins with so many bytes of metadata; a refusal changes nothing.
    fn rejoins(&mut self, connection: &mut Connection, metadata: usize) -> Result<(), ErrorCode> {
        let joined = join(connection, &self.group, &self.id, metadata);
        match joined.error_code {
            ErrorCode::NONE => {
                self.generation = joined.generation_id;
                self.metadata = metadata;
                self.synced(connection)
            }
            refused => Err(refused),
        }
    }

    fn synced(&mut self, connection: &mut Connection) -> Result<(), ErrorCode> {
        let request = SyncGroupRequest {
            group_id: self.group.clone().into(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..SyncGroupRequest::default()
        };
        let synced = connection.call(2, &request).expect("an answer");
        match synced.error_code {
            ErrorCode::NONE => Ok(()),
            refused => Err(refused),
        }
    }

    fn beats(&self, connection: &mut Connection) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: self.group.clone().into(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..HeartbeatRequest::default()
        };
        connection.call(2, &request).expect("an answer").error_code
    }

    /// Grows for as long as it is let, by steps that get smaller.
    fn grows_to_the_end(&mut self, connection: &mut Connection) {
        let mut step = 128 * 1024;
        while step > 0 {
            match self.rejoins(connection, self.metadata + step) {
                Ok(()) => {}
                Err(refused) => {
                    assert_eq!(refused, FULL);
                    step /= 4;
                }
            }
        }
    }
}

/// Has a member in each of so many groups, all of them as large as they may get.
fn fills(connection: &mut Connection, name: &str, groups: usize) -> Vec<Member> {
    let mut members = Vec::new();
    for number in 0..groups {
        let group = format!("{name}-{number}");
        let mut metadata = 200_000;
        while metadata > 0 {
            match Member::joins(connection, &group, metadata) {
                Ok(mut member) => {
                    member.grows_to_the_end(connection);
                    members.push(member);
                    break;
                }
                Err(refused) => assert_eq!(refused, FULL),
            }
            metadata /= 2;
        }
    }
    members
}

/// The finding: members of four groups, a quarter each, kept everybody else from joining and from
/// saying a word more, for as long as they sent heartbeats.
#[test]
fn one_principal_leaves_room_for_the_others() {
    let mut node = Node::prepare();
    node.set("palisade.group.members.max.bytes", LIMIT)
        .set("group.initial.rebalance.delay.ms", "0")
        .allow("member refused");
    node.run();
    node.create_admin();
    let mut admin = coordinator(&node.certificate(), "any");
    let mut mallory = user(&node, &mut admin, "mallory");
    let mut alice = user(&node, &mut admin, "alice");
    let mut early = Member::joins(&mut alice, "alice-early", 100).expect("there is room");

    let mut his = fills(&mut mallory, "mallory", 6);
    let held: usize = his.iter().map(|member| member.metadata).sum();
    assert!(held > 400_000, "he has his share: {held}");
    for member in &his {
        assert_eq!(member.beats(&mut mallory), ErrorCode::NONE);
    }
    early.rejoins(&mut alice, 150).expect("fifty bytes more");
    let mut late = Member::joins(&mut alice, "alice-late", 50_000).expect("a share of her own");
    late.rejoins(&mut alice, 60_000).expect("she may grow");

    let log = node.terminate();
    let refused = log.iter().find(|line| line.contains("member refused"));
    let refused = refused.expect("the operator is told").clone();
    assert!(refused.contains("principal=\"User:mallory\""), "{refused}");
    assert!(
        refused.contains("most_held_by=\"User:mallory\""),
        "{refused}"
    );
    node.run();

    // What the log holds is nobody's, until its member is heard, and may be anybody's who wants more.
    let mut mallory = logged_in(&node, "mallory");
    let mut alice = logged_in(&node, "alice");
    eventually("all groups are read", PATIENCE, || {
        let list = ListGroupsRequest::default();
        let answer = admin_again(&node).call(newest(ApiKey::ListGroups), &list);
        match answer.expect("an answer").error_code {
            ErrorCode::NONE => Ok(()),
            other => Err(other.to_string()),
        }
    });
    let again = Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    let more = Member::joins(&mut mallory, "mallory-soon", 100_000);
    assert_eq!(more.map(drop), again, "they may be his");
    Member::joins(&mut alice, "alice-soon", 100).expect("a little at once");
    assert_eq!(late.rejoins(&mut alice, 100_000), again, "not the end");
    for member in &his {
        eventually("his members are read", PATIENCE, || {
            match member.beats(&mut mallory) {
                ErrorCode::NONE => Ok(()),
                other => Err(other.to_string()),
            }
        });
    }
    let more = fills(&mut mallory, "mallory-again", 3);
    assert!(more.is_empty(), "he had his share before the restart");
    for member in &mut his {
        member.grows_to_the_end(&mut mallory);
    }
    early.rejoins(&mut alice, 200).expect("her place is kept");
    late.rejoins(&mut alice, 100_000)
        .expect("so is what she may grow by");
    Member::joins(&mut alice, "alice-later", 50_000).expect("and what may come");
}
