//! What a group subscribes to is looked at as far as it changes.

use std::time::Duration;

use super::super::sum::LOOKED_UP;
use super::rig::{Rig, beat, join};

/// Names of topics, most of which do not exist.
fn many(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:05}")).collect()
}

/// A group in which nobody is assigned anything, as between two runs of the assignor, and a member
/// of so many names in it that will say no more.
fn beside(count: usize) -> Rig {
    let mut rig = Rig::new(&[("t", 1), ("00007", 3)]);
    rig.config.assignment_interval = Duration::from_secs(3600);
    let names = many(count);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    rig.ok(&join("large", &names));
    rig.ok(&join("first", &["t"]));
    rig
}

/// How many names are looked up while something happens.
fn looked_up(rig: &mut Rig, happens: impl FnOnce(&mut Rig)) -> usize {
    let before = LOOKED_UP.get();
    happens(rig);
    LOOKED_UP.get() - before
}

#[test]
fn joins_and_leaves_beside_many_names_look_at_their_own() {
    const PAIRS: usize = 3;
    let mut rig = beside(50_000);
    let looked = looked_up(&mut rig, |rig| {
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
