//! A full queue holds back the connections whose events find no room, and after a while counts those events
//! or, where the operator wants it, waits on (rules 2 to 4).

use std::collections::BTreeSet;

use palisade_protocol::api::ApiKey;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use palisade_protocol::messages::list_offsets::ListOffsetsRequest;
use palisade_protocol::text::Str;
use palisade_tests::audit;
use palisade_tests::requests::{self, newest};
use palisade_tests::wire::Connection;
use serde_json::Value;

use super::stage::{Stage, be_denied, deny, forbidden, judge_denial};
use super::{create_topic, topic_exists};

/// Far more than the queue holds: each is some 24 KiB of lines.
const ROUNDS: usize = 12;

#[test]
fn who_is_denied_waits_for_room_and_nothing_is_lost() {
    let settings = [
        ("palisade.audit.block.max.ms", "300000"),
        ("palisade.audit.reserve.bytes", "0"),
    ];
    let Some(mut stage) = Stage::set("who_is_denied_waits", 1 << 20, &settings) else {
        return;
    };
    let (mut admin, mut mallory) = (stage.admin(), stage.mallory());
    assert_eq!(create_topic(&mut admin, "orders").0, ErrorCode::NONE);

    stage.tmpfs.fill();
    let version = newest(ApiKey::ListOffsets);
    let asked = (0..ROUNDS).map(|round| mallory.ask(version, &forbidden(round, 60)));
    let asked: Vec<_> = asked.map(|asked| asked.expect("a question")).collect();
    stage.said("connections are held back");
    // Nobody else is.
    for _ in 0..20 {
        assert!(topic_exists(&mut admin, "orders"));
    }

    stage.tmpfs.free();
    for correlation in asked {
        let answer = mallory.answer::<ListOffsetsRequest>(version, correlation);
        judge_denial(&answer.expect("what was held back is answered"));
    }
    drop((admin, mallory));
    stage.node.terminate();

    let lines = audit::verified(&stage.log());
    let gaps = lines.iter().filter(|line| line["action"] == "audit_gap");
    assert_eq!(gaps.count(), 0, "nothing was only counted");
    let denied = lines.iter().filter(|line| line["action"] == "denied");
    let names: BTreeSet<String> = denied
        .flat_map(|line| line["authz"].as_array().expect("rows"))
        .map(|row| row["name"].to_string())
        .collect();
    assert_eq!(names.len(), ROUNDS * 60, "every denial is in the log");
}

/// A request that changes nothing, so that only its permission is recorded.
fn validation() -> CreateTopicsRequest {
    CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Str::from("maybe"),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        }],
        timeout_ms: requests::TIMEOUT_MS,
        validate_only: true,
    }
}

/// Fills queue and disk. Denials are answered all the same.
fn stuck(test: &str, policy: &str) -> Option<(Stage, Connection, Connection)> {
    let settings = [
        ("palisade.audit.block.max.ms", "200"),
        ("palisade.audit.reserve.bytes", "0"),
        ("palisade.audit.full.policy", policy),
    ];
    let stage = Stage::set(test, 1 << 20, &settings)?;
    let (admin, mut mallory) = (stage.admin(), stage.mallory());
    stage.tmpfs.fill();
    for round in 0..5 {
        be_denied(&mut mallory, round);
    }
    // What is left is too little for one row.
    for round in 100..108 {
        deny(&mut mallory, &forbidden(round, 1));
    }
    Some((stage, admin, mallory))
}

/// Ends the node; its log, and the gaps of a class in it.
fn ended(mut stage: Stage, class: &str) -> (Vec<Value>, Vec<Value>) {
    stage.node.terminate();
    let lines = audit::verified(&stage.log());
    let gaps = lines
        .iter()
        .filter(|line| line["action"] == "audit_gap" && line["agg"]["class"] == class);
    let gaps = gaps.cloned().collect();
    (lines, gaps)
}

/// Positions of the lines that permit the validation.
fn permitted(lines: &[Value]) -> Vec<usize> {
    let all = lines.iter().enumerate();
    all.filter(|(_, line)| line["action"] == "allowed" && line["req"]["api"] == "CreateTopics")
        .map(|(at, _)| at)
        .collect()
}

#[test]
fn a_permitted_request_stays_blocked() {
    let Some((stage, mut admin, mut mallory)) = stuck("a_permitted_request_stays", "block") else {
        return;
    };
    // The last of the queue is for those who must not go on unseen.
    for _ in 0..25 {
        let refused = Connection::open(&stage.node.scram("SCRAM-SHA-512"));
        assert!(refused.is_err(), "no login");
    }
    let version = newest(ApiKey::CreateTopics);
    let asked = admin.ask(version, &validation()).expect("a question");
    stage.said("permitted requests stay blocked");
    // Its patience is over, and denials are still answered.
    be_denied(&mut mallory, 5);
    assert!(!admin.has_input(), "nothing is answered");

    stage.tmpfs.free();
    let answer = admin.answer::<CreateTopicsRequest>(version, asked);
    let code = answer.expect("an answer in the end").topics[0].error_code;
    assert_eq!(code, ErrorCode::NONE);
    drop((admin, mallory));

    let (lines, gaps) = ended(stage, "authz_allowed");
    assert_eq!(gaps.len(), 0, "{gaps:?}");
    assert_eq!(permitted(&lines).len(), 1);
    let denied = lines
        .iter()
        .position(|line| line["action"] == "audit_gap" && line["agg"]["class"] == "authz_denied");
    assert!(denied.expect("a gap") < permitted(&lines)[0], "told first");
}

#[test]
fn a_permitted_request_is_counted() {
    let Some((stage, mut admin, mallory)) = stuck("a_permitted_request_is_counted", "count") else {
        return;
    };
    let answer = admin.call(newest(ApiKey::CreateTopics), &validation());
    let code = answer.expect("an answer").topics[0].error_code;
    assert_eq!(code, ErrorCode::NONE);
    stage.tmpfs.free();
    drop((admin, mallory));

    let (lines, gaps) = ended(stage, "authz_allowed");
    assert_eq!(permitted(&lines).len(), 0);
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0]["agg"]["count"], 1);
    assert_eq!(gaps[0]["reason"], "disk_full");
}
