//! That the checker passes what is right, and fails each thing that is not.

use super::History;

/// A history of lines without their stamps: the n-th happened at n.
fn history(lines: &[&str]) -> History {
    let mut history = History::default();
    for (stamp, line) in lines.iter().enumerate() {
        let line = format!(r#"{{"at":{stamp},"group":"g",{line}}}"#);
        let (group, event) = History::parse(&line).expect("an event");
        assert_eq!(group, "g");
        history.add(event);
    }
    history
}

fn produced(history: &mut History, offsets: std::ops::Range<i64>) {
    for offset in offsets {
        history.add(super::Event {
            stamp: 0,
            member: "harness".to_owned(),
            what: super::What::Produced {
                partition: 0,
                offset,
                value: offset.to_string(),
            },
        });
    }
}

const A_OWNS: &str = r#""member":"a","event":"assigned","generation":1,"partitions":[0]"#;
const A_READS_0: &str = r#""member":"a","event":"record","partition":0,"offset":0,"value":"0""#;
const A_READS_1: &str = r#""member":"a","event":"record","partition":0,"offset":1,"value":"1""#;
const A_COMMITS_1: &str = r#""member":"a","event":"committed","offsets":[[0,1]]"#;
const A_REVOKES: &str = r#""member":"a","event":"revoked","partitions":[0]"#;
const A_LOSES: &str = r#""member":"a","event":"lost","partitions":[0]"#;
const B_OWNS: &str = r#""member":"b","event":"assigned","generation":2,"partitions":[0]"#;
const B_OWNS_1: &str = r#""member":"b","event":"assigned","generation":1,"partitions":[0]"#;
const B_READS_0: &str = r#""member":"b","event":"record","partition":0,"offset":0,"value":"0""#;
const B_READS_1: &str = r#""member":"b","event":"record","partition":0,"offset":1,"value":"1""#;

fn only(history: &History, expected: &str) {
    let found = history.violations();
    assert!(
        found.len() == 1 && found[0].contains(expected),
        "wanted {expected:?}, found {found:#?}"
    );
}

#[test]
fn an_orderly_handover_is_clean() {
    let mut history = history(&[A_OWNS, A_READS_0, A_COMMITS_1, A_REVOKES, B_OWNS, B_READS_1]);
    produced(&mut history, 0..2);
    assert_eq!(history.violations(), Vec::<String>::new());
    assert!(history.missing().is_empty());
    assert_eq!(history.first_read_by("b").get(&0), Some(&1));
    assert_eq!(history.owned_by("b").len(), 1);
    assert!(history.owned_by("a").is_empty());
}

#[test]
fn what_was_not_committed_may_be_read_again() {
    let history = history(&[
        A_OWNS, A_READS_0, A_READS_1, A_REVOKES, B_OWNS, B_READS_0, B_READS_1,
    ]);
    assert_eq!(history.violations(), Vec::<String>::new());
}

#[test]
fn a_lost_record_is_found() {
    let mut history = history(&[A_OWNS, A_READS_0]);
    produced(&mut history, 0..2);
    only(&history, "lost: 0 at 1");
}

#[test]
fn another_value_is_found() {
    let line = r#""member":"a","event":"record","partition":0,"offset":0,"value":"7""#;
    let mut history = history(&[A_OWNS, line]);
    produced(&mut history, 0..1);
    only(&history, "\"0\" was sent");
}

#[test]
fn reading_what_was_committed_is_found() {
    let history = history(&[A_OWNS, A_READS_0, A_COMMITS_1, A_REVOKES, B_OWNS, B_READS_0]);
    only(&history, "though 1 had been committed");
}

#[test]
fn going_back_within_an_ownership_is_found() {
    let history = history(&[A_OWNS, A_READS_0, A_READS_1, A_READS_0]);
    only(&history, "at 0 after 1");
}

#[test]
fn two_owners_at_a_time_are_found() {
    let history = history(&[A_OWNS, B_OWNS, A_REVOKES]);
    only(&history, "owned by two");
}

#[test]
fn two_owners_in_one_generation_are_found() {
    let history = history(&[A_OWNS, A_REVOKES, B_OWNS_1]);
    only(&history, "owned by two");
}

#[test]
fn an_owner_that_lost_its_partition_may_notice_late() {
    let history = history(&[A_OWNS, B_OWNS, A_LOSES]);
    assert_eq!(history.violations(), Vec::<String>::new());
}

#[test]
fn an_owner_that_never_gave_up_is_found() {
    let history = history(&[A_OWNS, B_OWNS]);
    only(&history, "owned by two");
}

#[test]
fn reading_without_owning_is_found() {
    let history = history(&[A_OWNS, A_REVOKES, A_READS_0]);
    only(&history, "without owning it");
}

#[test]
fn leaving_ends_every_ownership() {
    let history = history(&[A_OWNS, r#""member":"a","event":"closing""#, A_READS_0]);
    only(&history, "without owning it");
    assert!(!history.has_closed("a"));
}

#[test]
fn a_commit_that_moved_back_is_found() {
    let back = r#""member":"b","event":"committed","offsets":[[0,0]]"#;
    let history = history(&[A_COMMITS_1, back]);
    only(&history, "moved from 1 back to 0");
}

#[test]
fn other_output_is_no_event() {
    assert!(History::parse("% Waiting for group rebalance").is_none());
}
