//! What a group subscribes to is looked at as far as it changes.

use std::time::Duration;

use super::super::sum::LOOKED_AT;
use super::rig::{Request, Rig, beat, join};

/// Names of topics, most of which do not exist.
fn many(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:05}")).collect()
}

/// A group between two runs of the assignor, with a member of so many names in it.
fn beside(count: usize) -> Rig {
    let mut rig = Rig::new(&[("t", 1), ("00007", 3)]);
    rig.config.assignment_interval = Duration::from_secs(3600);
    let names = many(count);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    rig.ok(&join("large", &names));
    // The records of both would not fit a batch of the test.
    rig.config.assignment_interval = Duration::ZERO;
    rig.ok(&join("first", &["t"]));
    rig.config.assignment_interval = Duration::from_secs(3600);
    rig.ok(&join("large", &names));
    rig
}

/// How many names are looked at while something happens.
fn looked_at(rig: &mut Rig, happens: impl FnOnce(&mut Rig)) -> usize {
    let before = LOOKED_AT.get();
    happens(rig);
    LOOKED_AT.get() - before
}

#[test]
fn joins_and_leaves_beside_many_names_look_at_their_own() {
    const PAIRS: usize = 3;
    let mut rig = beside(50_000);
    let looked = looked_at(&mut rig, |rig| {
        for _ in 0..PAIRS {
            rig.ok(&join("n", &["t", "u"]));
            rig.ok(&beat("n", -1));
            rig.ok(&join("n", &["t", "00007"]));
            let expired = rig.decide(|group, at| group.session_expired("n", at));
            expired.unwrap();
        }
    });
    assert!(looked <= 16 * PAIRS, "{looked} names");
}

/// Nor has who has many names them looked at, unless he says them again.
#[test]
fn heartbeats_look_at_no_names_that_they_do_not_say() {
    const ROUNDS: usize = 3;
    let mut rig = beside(50_000);
    let epoch = rig.group.member("large").unwrap().epoch;
    let little = Request {
        rebalance_timeout_ms: 300_000,
        ..beat("large", epoch)
    };
    let looked = looked_at(&mut rig, |rig| {
        for _ in 0..ROUNDS {
            rig.ok(&join("n", &["t", "u"]));
            rig.ok(&little);
            rig.ok(&beat("n", -1));
            rig.ok(&little);
        }
    });
    assert!(looked <= 16 * ROUNDS, "{looked} names");
}
