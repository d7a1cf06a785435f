//! A part of the disk is kept for logins, changes and what the node does (rule 5).

use std::fs;
use std::os::unix::fs::MetadataExt;

use palisade_protocol::error_code::ErrorCode;
use palisade_tests::audit;
use palisade_tests::wire::Connection;

use super::stage::{Stage, be_denied};
use super::{REFUSED, create_topic, topic_exists, until_changes_work};

const RESERVE: u64 = 128 << 10;

/// Bytes of disk behind the end of the log that are the log's.
fn kept(stage: &Stage) -> u64 {
    let file = fs::metadata(stage.log()).expect("a log");
    file.blocks() * 512 - file.len()
}

#[test]
fn a_full_disk_has_room_for_logins_and_changes() {
    let bytes = RESERVE.to_string();
    let settings = [
        ("palisade.audit.block.max.ms", "200"),
        ("palisade.audit.reserve.bytes", bytes.as_str()),
    ];
    let Some(mut stage) = Stage::set("a_full_disk_has_room", 16 << 20, &settings) else {
        return;
    };
    stage.node.allow("the audit log's disk is full");
    let (mut admin, mut mallory) = (stage.admin(), stage.mallory());
    assert_eq!(create_topic(&mut admin, "orders").0, ErrorCode::NONE);
    let kept = kept(&stage);
    assert!(kept >= RESERVE, "{kept} bytes are kept");

    stage.tmpfs.fill();
    // What denials may have of the disk is soon used up.
    for round in 0..10 {
        be_denied(&mut mallory, round);
    }
    stage.said("the audit log's disk is full");

    let made = (0..1000).find(|&number| {
        let name = format!("more-{number}");
        let (code, _) = create_topic(&mut admin, &name);
        assert_eq!(topic_exists(&mut admin, &name), code == ErrorCode::NONE);
        if number == 10 {
            Connection::open(&stage.node.scram("SCRAM-SHA-512")).expect("a login");
            Connection::open(&stage.node.certificate()).expect("another");
        }
        code == REFUSED
    });
    let made = made.expect("a reserve ends too");
    assert!(made > 20, "{made} topics from the reserve");

    stage.tmpfs.free();
    until_changes_work(&mut admin);
    drop((admin, mallory));
    stage.node.terminate();

    let lines = audit::verified(&stage.log());
    assert_eq!(lines.last().expect("lines")["action"], "stop");
    let reached = |outcome: &str| {
        let mut at = lines.iter();
        at.position(|line| line["action"] == "audit_reserve" && line["outcome"] == outcome)
    };
    let (reached, left) = (reached("error"), reached("ok"));
    let (reached, left) = (reached.expect("an event"), left.expect("an event"));
    assert_eq!(lines[reached]["reason"], "disk_full");
    let within = &lines[reached..left];
    assert!(within.iter().any(|line| line["action"] == "login_ok"));
    assert!(!audit::changes(within, "topic_create", "ok", "topic more-10").is_empty());
    let flood = within.iter().filter(|line| line["class"] == "authz_denied");
    assert_eq!(flood.count(), 0, "the reserve is not for floods");
    let gap = lines
        .iter()
        .find(|line| line["action"] == "audit_gap" && line["agg"]["class"] == "authz_denied");
    assert_eq!(
        gap.expect("denials that were counted")["reason"],
        "disk_full"
    );
    assert!(lines.iter().all(|line| line["action"] != "clock_step"));
}

#[test]
fn a_reserve_that_is_switched_off_is_given_back() {
    const LARGE: u64 = 1 << 20;
    let bytes = LARGE.to_string();
    let settings = [("palisade.audit.reserve.bytes", bytes.as_str())];
    let test = "a_reserve_that_is_switched_off";
    let Some(mut stage) = Stage::set(test, 32 * LARGE, &settings) else {
        return;
    };
    assert!(kept(&stage) >= LARGE, "{} bytes", kept(&stage));
    stage.node.terminate();
    stage.node.set("palisade.audit.reserve.bytes", "0");
    stage.node.run();
    assert!(kept(&stage) < LARGE / 2, "{} bytes", kept(&stage));
    stage.node.terminate();
    audit::verified(&stage.log());
}
