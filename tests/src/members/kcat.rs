//! What kcat prints, read as a history.
//!
//! All kcats of a group append to one file, line by line, so that the order of its lines is the order in which they
//! were printed: kcat stamps nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::history::{self, Event, What};

/// The files of the groups that have kcats.
#[derive(Default)]
pub(super) struct Logs(BTreeMap<String, Log>);

struct Log {
    path: PathBuf,
    file: File,
    /// The beginning of a line whose end is not there yet.
    rest: String,
}

impl Logs {
    /// The file to which kcats of `group` append.
    pub(super) fn of(&mut self, group: &str, dir: &Path) -> PathBuf {
        let log = self.0.entry(group.to_owned()).or_insert_with(|| {
            let path = dir.join(format!("{group}.kcat"));
            Log {
                file: super::new_file(&path),
                path,
                rest: String::new(),
            }
        });
        log.path.clone()
    }

    /// The last lines of every file that are no records, for a message of failure.
    pub(super) fn tail(&self) -> String {
        let mut text = String::new();
        for log in self.0.values() {
            let said = fs::read_to_string(&log.path).unwrap_or_default();
            let other = said.lines().filter(|line| !line.starts_with("record "));
            for line in other.rev().take(10) {
                text += &format!("\n{line:.300}");
            }
        }
        text
    }

    /// What was appended since the last time.
    pub(super) fn read(&mut self) -> Vec<(String, Event)> {
        let mut found = Vec::new();
        for (group, log) in &mut self.0 {
            log.file
                .read_to_string(&mut log.rest)
                .expect("kcat prints text");
            let Some(end) = log.rest.rfind('\n') else {
                continue;
            };
            let left = log.rest.split_off(end + 1);
            let lines = std::mem::replace(&mut log.rest, left);
            let events = lines.lines().filter_map(event);
            found.extend(events.map(|event| (group.clone(), event)));
        }
        found
    }
}

/// `record NAME PARTITION OFFSET VALUE`, or
/// `% Group G rebalanced (memberid NAME-UUID): assigned: TOPIC [0], TOPIC [1]`.
///
/// # Panics
/// On a torn record: left out, it would look like one that was never read.
fn event(line: &str) -> Option<Event> {
    let (member, what) = if line.contains("record ") {
        record(line).unwrap_or_else(|| panic!("kcat's line is torn: {line:.300}"))
    } else {
        rebalance(line)?
    };
    Some(Event {
        stamp: history::now(),
        member: member.to_owned(),
        what,
    })
}

fn record(line: &str) -> Option<(&str, What)> {
    let mut words = line.strip_prefix("record ")?.split(' ');
    let member = words.next()?;
    let partition = words.next()?.parse().ok()?;
    let offset = words.next()?.parse().ok()?;
    // The values are numbers.
    let value = words.next()?.parse::<u64>().ok()?.to_string();
    let what = What::Record {
        partition,
        offset,
        value,
    };
    words.next().is_none().then_some((member, what))
}

fn rebalance(line: &str) -> Option<(&str, What)> {
    let (_, rest) = line.strip_prefix("% Group ")?.split_once("(memberid ")?;
    let (id, rest) = rest.split_once("): ")?;
    let (kind, list) = rest.split_once(": ").unwrap_or((rest, ""));
    let partitions: BTreeSet<i32> = list
        .split('[')
        .skip(1)
        .filter_map(|part| part.split(']').next()?.parse().ok())
        .collect();
    let what = match kind {
        "assigned" => What::Assigned(partitions, None),
        _ => What::Revoked(partitions),
    };
    Some((id.split('-').next()?, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_rebalances_are_read() {
        let record = event("record a 3 17 42").expect("a record");
        assert_eq!(record.member, "a");
        let read = What::Record {
            partition: 3,
            offset: 17,
            value: "42".to_owned(),
        };
        assert_eq!(record.what, read);
        let line = "% Group g-1 rebalanced (memberid a-1b2c-3d): assigned: t-1 [0], t-1 [12]";
        let assigned = event(line).expect("a rebalance");
        assert_eq!(assigned.member, "a");
        assert_eq!(assigned.what, What::Assigned(BTreeSet::from([0, 12]), None));
        let line = "% Group g-1 rebalanced (memberid a-1b2c-3d): revoked: t-1 [0]";
        let revoked = event(line).expect("a rebalance");
        assert_eq!(revoked.what, What::Revoked(BTreeSet::from([0])));
        assert_eq!(event("% Waiting for group rebalance"), None);
    }

    #[test]
    #[should_panic(expected = "torn")]
    fn a_torn_record_is_no_line_of_another_kind() {
        event("record a 1 12% Group g-1 rebalanced (memberid b-1): revoked: t-1 [0]");
    }
}
