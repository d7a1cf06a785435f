//! What administrators do to groups and to credentials is announced like every other change (rule 1).

use palisade_protocol::api::ApiKey;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::delete_groups::DeleteGroupsRequest;
use palisade_protocol::messages::find_coordinator::FindCoordinatorRequest;
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use palisade_protocol::text::Str;
use palisade_tests::audit;
use palisade_tests::check::eventually;
use palisade_tests::node::Node;
use palisade_tests::requests::{self, newest};
use palisade_tests::wire::Connection;
use serde_json::Value;
use std::time::Duration;

use super::stage::Stage;
use super::{REFUSED, create_topic, until_changes_work};

/// A commit to a group without members, as tools do it.
fn commit(connection: &mut Connection, group: &str) {
    let find = FindCoordinatorRequest {
        coordinator_keys: vec![Str::copy(group)],
        ..FindCoordinatorRequest::default()
    };
    let request = OffsetCommitRequest {
        group_id: Str::copy(group),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "orders".into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: 1,
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    };
    eventually("a coordinator", Duration::from_secs(60), || {
        let found = connection.call(newest(ApiKey::FindCoordinator), &find);
        drop(found.expect("an answer"));
        let answer = connection.call(8, &request).expect("an answer");
        match answer.topics[0].partitions[0].error_code {
            ErrorCode::NONE => Ok(()),
            code => Err(code.name().to_owned()),
        }
    });
}

fn delete_groups(connection: &mut Connection, groups: &[&str]) -> Vec<ErrorCode> {
    let request = DeleteGroupsRequest {
        groups_names: groups.iter().map(|group| Str::copy(group)).collect(),
    };
    let answer = connection.call(newest(ApiKey::DeleteGroups), &request);
    let results = answer.expect("an answer").results;
    results.into_iter().map(|row| row.error_code).collect()
}

fn delete_offsets(connection: &mut Connection, group: &str) -> (ErrorCode, ErrorCode) {
    let request = OffsetDeleteRequest {
        group_id: Str::copy(group),
        topics: vec![OffsetDeleteRequestTopic {
            name: "orders".into(),
            partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
        }],
    };
    let answer = connection.call(newest(ApiKey::OffsetDelete), &request);
    let answer = answer.expect("an answer");
    let row = answer
        .topics
        .first()
        .map(|topic| topic.partitions[0].error_code);
    (answer.error_code, row.unwrap_or(answer.error_code))
}

#[test]
fn groups_and_offsets_are_deleted_only_if_that_is_in_the_log() {
    let settings = [
        ("palisade.audit.block.max.ms", "200"),
        ("palisade.audit.reserve.bytes", "0"),
    ];
    let Some(mut stage) = Stage::set("groups_and_offsets", 1 << 20, &settings) else {
        return;
    };
    let mut admin = stage.admin();
    assert_eq!(create_topic(&mut admin, "orders").0, ErrorCode::NONE);
    for group in ["one", "two", "three"] {
        commit(&mut admin, group);
    }

    stage.tmpfs.fill();
    let full = (0..40).any(|number| create_topic(&mut admin, &format!("t{number}")).0 == REFUSED);
    assert!(full, "the disk is full");
    assert_eq!(delete_groups(&mut admin, &["one", "two"]), [REFUSED; 2]);
    assert_eq!(
        delete_offsets(&mut admin, "three"),
        (ErrorCode::NONE, REFUSED)
    );

    stage.tmpfs.free();
    until_changes_work(&mut admin);
    // They are still there.
    assert_eq!(
        delete_groups(&mut admin, &["one", "two", "none"]),
        [
            ErrorCode::NONE,
            ErrorCode::NONE,
            ErrorCode::GROUP_ID_NOT_FOUND
        ]
    );
    let deleted = delete_offsets(&mut admin, "three");
    assert_eq!(deleted, (ErrorCode::NONE, ErrorCode::NONE));
    drop(admin);
    stage.node.terminate();

    let lines = audit::verified(&stage.log());
    let offsets = "offsets of group three for topic orders";
    for (action, target) in [
        ("group_delete", "group one"),
        ("group_delete", "group two"),
        ("offsets_delete", offsets),
    ] {
        let intent = audit::changes(&lines, action, "intent", target);
        let done = audit::changes(&lines, action, "ok", target);
        assert_eq!(done.len(), 1, "{action} {target}");
        assert!(intent.iter().any(|at| *at < done[0]), "{action} {target}");
    }
    let failed = audit::changes(&lines, "group_delete", "error", "group none");
    assert_eq!(failed.len(), 1);
    assert_eq!(lines[failed[0]]["reason"], "GROUP_ID_NOT_FOUND");
}

/// Groups that are announced together, and more than two such parts of them.
const TOGETHER: usize = 256;
const MANY: usize = 2 * TOGETHER + 100;

/// A log that could not be waited for with the first of many groups is not waited for with the others.
#[test]
fn many_groups_wait_once_for_a_log_that_is_stuck() {
    let settings = [
        ("palisade.audit.block.max.ms", "200"),
        ("palisade.audit.reserve.bytes", "0"),
        // All that would be announced has room.
        ("palisade.audit.queue.max.bytes", "4194304"),
    ];
    let Some(mut stage) = Stage::set("many_groups_wait_once", 8 << 20, &settings) else {
        return;
    };
    let mut admin = stage.admin();
    stage.tmpfs.fill();
    let full = (0..40).any(|number| create_topic(&mut admin, &format!("t{number}")).0 == REFUSED);
    assert!(full, "the disk is full");
    let names: Vec<String> = (0..MANY).map(|number| format!("group-{number}")).collect();
    let named: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(delete_groups(&mut admin, &named), [REFUSED; MANY]);

    stage.tmpfs.free();
    until_changes_work(&mut admin);
    drop(admin);
    stage.node.terminate();
    let lines = audit::verified(&stage.log());
    for outcome in ["intent", "error"] {
        let is_announced = |group: &&String| {
            let target = format!("group {group}");
            !audit::changes(&lines, "group_delete", outcome, &target).is_empty()
        };
        let announced: Vec<&String> = names.iter().filter(is_announced).collect();
        let first: Vec<&String> = names.iter().take(TOGETHER).collect();
        assert_eq!(announced, first, "{outcome}");
    }
}

/// The fingerprints of the credentials set for a user, and whether each says so twice alike.
fn fingerprints(lines: &[Value], user: &str) -> Vec<String> {
    let target = format!("user {user} SCRAM-SHA-256");
    let told = |outcome: &str| -> Vec<String> {
        let those = audit::changes(lines, "scram_upsert", outcome, &target);
        let secrets = those
            .iter()
            .map(|at| &lines[*at]["change"]["secret"]["sha256_8"]);
        secrets
            .map(|hex| hex.as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(told("intent"), told("ok"));
    told("ok")
}

#[test]
fn a_credential_is_told_by_a_keyed_hash() {
    let logs = [(); 2].map(|()| {
        let mut node = Node::start();
        let mut admin = Connection::open(&node.certificate()).expect("the administrator");
        for (user, password) in [("ann", "a"), ("ann", "b"), ("ann", "a"), ("bob", "a")] {
            requests::set_user(&mut admin, user, "SCRAM-SHA-256", password).expect("a user");
        }
        drop(admin);
        node.terminate();
        let lines = audit::verified(&node.dir().join("data/audit/audit.log"));
        (fingerprints(&lines, "ann"), fingerprints(&lines, "bob"))
    });
    let [(ann, bob), (elsewhere, _)] = logs;
    assert_eq!(ann.len(), 3);
    assert!(ann.iter().all(|hex| hex.len() == 16), "{ann:?}");
    assert!(
        ann[0] != ann[1] && ann[0] == ann[2] && ann[0] == bob[0],
        "{ann:?}"
    );
    assert_ne!(ann[0], elsewhere[0], "another cluster, another key");
}
