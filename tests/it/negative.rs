//! The catalogue of what must not work: each row by its number, over a real socket to a real process.
//!
//! T transport and framing, P before authentication, L PLAIN, S SCRAM, A authorization, Q robustness. After every row
//! somebody else logs in and is served: no row may harm others.

mod authorization;
mod plain;
mod preauth;
mod robustness;
mod scram;
mod timers;
mod transport;
mod world;

use std::collections::BTreeSet;

use self::world::World;

/// One row: its number and what it does.
type Row = (&'static str, fn(&World));

const TABLES: [&[Row]; 7] = [
    transport::ROWS,
    timers::ROWS,
    preauth::ROWS,
    plain::ROWS,
    scram::ROWS,
    authorization::ROWS,
    robustness::ROWS,
];

/// Rows that are not in the tables, and why.
#[rustfmt::skip]
const ELSEWHERE: [(&str, &[&str]); 11] = [
    ("links between nodes are not built", &["T18", "T19", "A31", "A40", "A41", "A42", "Q17", "Q20"]),
    ("stores are not reloaded yet", &["T21"]),
    ("delegation tokens are not built", &["S20", "S21"]),
    ("transactions, ecosystems upon them and log directories are not built",
     &["A05", "A15", "A16", "A17", "A18", "A44", "A46"]),
    ("the hostile cases of groups, in groups/hostile.rs", &["A13", "A14", "A45", "A47"]),
    ("quotas are not built", &["Q01", "Q02", "Q03", "Q04", "Q05", "Q06"]),
    ("an audit topic and the verification of a whole log are not built", &["A49", "Q13"]),
    ("an admin HTTP endpoint is not built", &["Q19"]),
    ("unit tests beside the code: records, rules, batches, clocks and addresses that no socket shows",
     &["S17", "A06", "A25", "A26", "A27", "A29", "A36", "A37", "A38", "A43", "Q07", "Q08", "Q10", "Q15"]),
    ("other modules of this binary: the table of rights, full disks", &["A01", "A19", "Q11"]),
    ("not run: timing and a million nonces need a quiet machine, descriptors a machine of their own",
     &["S23", "S25", "Q18"]),
];

fn run(rows: &[Row]) {
    let world = World::start();
    run_in(&world, rows);
}

fn run_in(world: &World, rows: &[Row]) {
    for (id, row) in rows {
        let _named = Named(id);
        row(world);
        world.still_serves();
    }
}

/// Says which row it was that failed.
struct Named(&'static str);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("row {}", self.0);
        }
    }
}

#[test]
fn transport_and_framing() {
    run(transport::ROWS);
}

#[test]
fn timers_and_caps() {
    run_in(&World::hasty(), timers::ROWS);
}

#[test]
fn before_authentication() {
    run(preauth::ROWS);
}

#[test]
fn plain_logins() {
    run(plain::ROWS);
}

#[test]
fn scram_logins() {
    run(scram::ROWS);
}

#[test]
fn authorization_of_requests() {
    run(authorization::ROWS);
}

#[test]
fn robustness_of_a_node() {
    run(robustness::ROWS);
}

/// Every row of the catalogue is run here or named with the reason.
#[test]
fn every_row_has_its_place() {
    let lengths = [
        ('T', 23),
        ('P', 19),
        ('L', 8),
        ('S', 25),
        ('A', 49),
        ('Q', 20),
    ];
    let all: BTreeSet<String> = lengths
        .iter()
        .flat_map(|(letter, length)| (1..=*length).map(move |row| format!("{letter}{row:02}")))
        .collect();
    let run = TABLES
        .iter()
        .flat_map(|table| table.iter().map(|(id, _)| *id));
    let named = ELSEWHERE.iter().flat_map(|(_, ids)| ids.iter().copied());
    let mut found = BTreeSet::new();
    for id in run.chain(named) {
        assert!(found.insert(id.to_owned()), "{id} twice");
    }
    assert_eq!(found, all);
}
