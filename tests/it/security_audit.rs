//! The audit log fails closed: what cannot be recorded does not happen, and what was only counted is told
//! (security.md §5.2, Q11).

mod groups;
mod held_back;
mod reserve;
mod stage;

use std::io;
use std::time::Duration;

use palisade_protocol::api::ApiKey;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, ScramCredentialUpsertion,
};
use palisade_protocol::messages::create_acls::CreateAclsRequest;
use palisade_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use palisade_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use palisade_protocol::messages::describe_acls::DescribeAclsRequest;
use palisade_protocol::messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, UserName,
};
use palisade_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use palisade_protocol::text::Str;
use palisade_tests::audit;
use palisade_tests::check::eventually;
use palisade_tests::requests::{self, newest};
use palisade_tests::wire::Connection;
use serde_json::Value;

use self::stage::{Stage, be_denied};

const REFUSED: ErrorCode = ErrorCode::KAFKA_STORAGE_ERROR;

/// The code and whether there were words with it.
type Refusal = (ErrorCode, bool);

fn says_why(message: Option<&str>) -> bool {
    message.is_some_and(|message| message.contains("audit log"))
}

fn create_topic(connection: &mut Connection, name: &str) -> Refusal {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Str::copy(name),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        }],
        timeout_ms: requests::TIMEOUT_MS,
        ..CreateTopicsRequest::default()
    };
    let answer = connection.call(newest(ApiKey::CreateTopics), &request);
    let row = &answer.expect("an answer").topics[0];
    (row.error_code, says_why(row.error_message.as_deref()))
}

fn create_acl(connection: &mut Connection, user: &str) -> Refusal {
    let request = CreateAclsRequest {
        creations: vec![requests::allow(user, 2, "orders", 3)],
    };
    let answer = connection.call(newest(ApiKey::CreateAcls), &request);
    let row = &answer.expect("an answer").results[0];
    (row.error_code, says_why(row.error_message.as_deref()))
}

fn set_user(connection: &mut Connection, user: &str) -> Refusal {
    let request = AlterUserScramCredentialsRequest {
        upsertions: vec![ScramCredentialUpsertion {
            name: Str::copy(user),
            mechanism: 1,
            iterations: 4096,
            salt: vec![1; 16].into(),
            salted_password: vec![2; 32].into(),
        }],
        ..AlterUserScramCredentialsRequest::default()
    };
    let answer = connection.call(newest(ApiKey::AlterUserScramCredentials), &request);
    let row = &answer.expect("an answer").results[0];
    (row.error_code, says_why(row.error_message.as_deref()))
}

fn delete_records(connection: &mut Connection, topic: &str) -> ErrorCode {
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: Str::copy(topic),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset: -1,
            }],
        }],
        timeout_ms: requests::TIMEOUT_MS,
    };
    let answer = connection.call(newest(ApiKey::DeleteRecords), &request);
    answer.expect("an answer").topics[0].partitions[0].error_code
}

fn topic_exists(connection: &mut Connection, name: &str) -> bool {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(Str::copy(name)),
            ..MetadataRequestTopic::default()
        }]),
        ..MetadataRequest::default()
    };
    let answer = connection.call(newest(ApiKey::Metadata), &request);
    answer.expect("an answer").topics[0].error_code == ErrorCode::NONE
}

fn acls(connection: &mut Connection) -> usize {
    let request = DescribeAclsRequest {
        resource_type_filter: 1,
        resource_name_filter: None,
        pattern_type_filter: 1,
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
    };
    let answer = connection.call(newest(ApiKey::DescribeAcls), &request);
    answer.expect("an answer").resources.len()
}

fn user_exists(connection: &mut Connection, user: &str) -> bool {
    let request = DescribeUserScramCredentialsRequest {
        users: Some(vec![UserName {
            name: Str::copy(user),
        }]),
    };
    let answer = connection.call(newest(ApiKey::DescribeUserScramCredentials), &request);
    answer.expect("an answer").results[0].error_code == ErrorCode::NONE
}

/// Waits until a change goes into the log again: space was freed.
fn until_changes_work(admin: &mut Connection) {
    eventually(
        "changes after space returned",
        Duration::from_secs(30),
        || match create_topic(admin, "healed") {
            (ErrorCode::NONE, _) => Ok(()),
            (code, _) => Err(code.name().to_owned()),
        },
    );
}

#[test]
fn a_full_audit_disk_stops_changes_and_logins_and_heals() {
    let settings = [
        ("palisade.audit.block.max.ms", "300"),
        ("palisade.audit.reserve.bytes", "0"),
    ];
    let Some(mut stage) = Stage::set("a_full_audit_disk", 1 << 20, &settings) else {
        return;
    };
    let (mut admin, mut mallory) = (stage.admin(), stage.mallory());
    assert_eq!(create_topic(&mut admin, "orders"), (ErrorCode::NONE, false));

    stage.tmpfs.fill();
    // The last page of the log still has room for some lines.
    let refused = (0..20).find(|number| {
        let name = format!("last-{number}");
        let (code, _) = create_topic(&mut admin, &name);
        assert!(
            code == ErrorCode::NONE || code == REFUSED,
            "{}",
            code.name()
        );
        assert_eq!(topic_exists(&mut admin, &name), code == ErrorCode::NONE);
        code == REFUSED
    });
    let refused = format!("last-{}", refused.expect("a full disk refuses in the end"));

    assert_eq!(create_topic(&mut admin, "never"), (REFUSED, true));
    assert_eq!(create_acl(&mut admin, "eve"), (REFUSED, true));
    assert_eq!(set_user(&mut admin, "eve"), (REFUSED, true));
    assert_eq!(delete_records(&mut admin, "orders"), REFUSED);
    assert!(!topic_exists(&mut admin, "never"));
    assert_eq!(acls(&mut admin), 0);
    assert!(!user_exists(&mut admin, "eve"));

    for _ in 0..2 {
        let error =
            Connection::open(&stage.node.scram("SCRAM-SHA-512")).expect_err("no login by SCRAM");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().starts_with("58:"), "{error}");
    }
    let mut stranger = Connection::open(&stage.node.certificate()).expect("a handshake");
    assert!(stranger.is_closed_by_peer(), "no login by certificate");

    // More denials than the queue holds: answered all the same, and counted.
    for round in 0..10 {
        be_denied(&mut mallory, round);
    }

    stage.tmpfs.free();
    until_changes_work(&mut admin);
    assert_eq!(create_acl(&mut admin, "bob"), (ErrorCode::NONE, false));
    assert_eq!(acls(&mut admin), 1);
    eventually(
        "logins after space returned",
        Duration::from_secs(30),
        || {
            Connection::open(&stage.node.scram("SCRAM-SHA-512"))
                .map(drop)
                .map_err(|error| error.to_string())
        },
    );
    drop((admin, mallory));
    stage.node.terminate();

    let lines = audit::verified(&stage.log());
    assert_eq!(lines.last().expect("lines")["action"], "stop");
    // Who set the stage, the administrator, mallory, and whoever logged in when there was space again.
    judge(&lines, &refused, 4);
}

/// What an auditor must be able to tell from the log afterwards.
fn judge(lines: &[Value], refused: &str, logins: usize) {
    let healed = audit::changes(lines, "topic_create", "intent", "topic healed");
    let healed = *healed
        .last()
        .expect("the change that went through was announced");
    let done = audit::changes(lines, "topic_create", "ok", "topic healed");
    assert!(done.len() == 1 && done[0] > healed, "announced, then done");
    let (before, after) = (&lines[healed]["change"], &lines[done[0]]["change"]);
    assert_eq!(before["after"], after["after"], "announced exactly as done");
    for member in ["conn", "req"] {
        assert_eq!(lines[healed][member], lines[done[0]][member], "{member}");
    }

    for (action, target) in [
        ("topic_create", format!("topic {refused}")),
        ("topic_create", "topic never".to_owned()),
        ("scram_upsert", "user eve SCRAM-SHA-256".to_owned()),
        ("records_delete", "records of orders-0".to_owned()),
    ] {
        let done = audit::changes(lines, action, "ok", &target);
        assert!(done.is_empty(), "{action} {target} was refused");
    }

    // Each announced change has its one result.
    let admin = |outcome: &str| {
        let those = lines.iter().filter(|line| line["class"] == "admin");
        those.filter(|line| line["outcome"] == outcome).count()
    };
    assert!(admin("ok") > 0 && admin("error") > 0);

    judge_logins(lines, logins);

    let gap = lines
        .iter()
        .position(|line| line["action"] == "audit_gap" && line["agg"]["class"] == "authz_denied")
        .expect("denials that were only counted");
    assert!(lines[gap]["agg"]["count"].as_u64() > Some(0));
    assert_eq!(lines[gap]["reason"], "disk_full");
    assert!(lines[gap]["agg"]["first"].as_str() <= lines[gap]["agg"]["last"].as_str());
    assert!(gap < healed, "told before anything that came later");
}

/// No login counts that was refused: its line is taken back by a later one of the same connection.
fn judge_logins(lines: &[Value], logins: usize) {
    let (taken_back, kept): (Vec<_>, Vec<_>) = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line["action"] == "login_ok")
        .partition(|(at, login)| {
            lines[at + 1..].iter().any(|later| {
                later["action"] == "login_failed"
                    && later["reason"] == "audit_unavailable"
                    && later["conn"] == login["conn"]
            })
        });
    assert_eq!(kept.len(), logins, "{kept:#?}");
    // The three that were refused while the disk was full had their lines written after all.
    assert!(taken_back.len() >= 3, "{taken_back:#?}");
}
