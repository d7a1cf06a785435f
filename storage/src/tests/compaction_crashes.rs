//! A crash, a failed sync or a full disk at every step of a life with several passes.

use palisade_protocol::batch::Codec;

use super::compaction_model::{Op, Sim};
use crate::FlushPolicy;
use crate::fs::Crash;

/// A life with several passes, each of which has something to do.
fn story() -> Vec<Op> {
    let mut ops = Vec::new();
    for round in 0..4_u8 {
        for n in 0..14_u8 {
            ops.push(Op::Append {
                keys: vec![(n % 5, n % 6 != 5), ((n + round) % 7, true)],
                size: 40,
                producer: i64::from(n % 5) - 1,
                codec: if n % 4 == 3 { Codec::Zstd } else { Codec::None },
            });
            if n % 7 == 6 {
                ops.push(Op::EndTransaction {
                    producer: 0,
                    commit: round % 2 == 0,
                });
                ops.push(Op::EndTransaction {
                    producer: 1,
                    commit: n == 6,
                });
            }
        }
        ops.push(Op::Pending);
        ops.push(Op::Clean {
            map_bytes: if round == 1 { 140 } else { 1 << 16 },
            patience: u64::MAX,
        });
        ops.push(Op::Advance { ms: 4000 });
        ops.push(Op::Pending);
    }
    ops
}

#[test]
fn the_story_has_something_to_clean() {
    let mut sim = Sim::new(FlushPolicy::Ack);
    story().iter().for_each(|op| sim.run(op));
    assert_eq!(sim.passes, 4);
    assert!(sim.dropped > 40, "{} records went", sim.dropped);
}

fn crash_everywhere(crash: impl Fn(u64) -> Crash) {
    let steps = {
        let mut sim = Sim::new(FlushPolicy::Ack);
        story().iter().for_each(|op| sim.run(op));
        sim.fs().operations()
    };
    for step in 0..steps {
        let mut sim = Sim::new(FlushPolicy::Ack);
        sim.run(&Op::CrashAfter {
            operations: step,
            crash: crash(step),
        });
        story().iter().for_each(|op| sim.run(op));
    }
}

#[test]
fn power_loss_at_every_step_of_a_pass() {
    crash_everywhere(|_| Crash::PowerLoss);
}

#[test]
fn torn_writes_at_every_step_of_a_pass() {
    for seed in 1..4 {
        crash_everywhere(|step| Crash::Torn {
            seed: seed * 104_729 + step,
        });
    }
}

#[test]
fn a_kill_at_every_step_of_a_pass() {
    crash_everywhere(|_| Crash::Kill);
}

#[test]
fn a_failed_sync_at_every_step_of_a_pass() {
    let syncs = {
        let mut sim = Sim::new(FlushPolicy::Ack);
        story().iter().for_each(|op| sim.run(op));
        sim.fs().syncs()
    };
    for sync in 0..syncs {
        let mut sim = Sim::new(FlushPolicy::Ack);
        sim.run(&Op::FailSyncAfter { syncs: sync });
        story().iter().for_each(|op| sim.run(op));
    }
}

#[test]
fn a_full_disk_at_every_step_of_a_pass() {
    let growths = {
        let mut sim = Sim::new(FlushPolicy::Ack);
        story().iter().for_each(|op| sim.run(op));
        sim.fs().growths()
    };
    for growth in 0..growths {
        let mut sim = Sim::new(FlushPolicy::Ack);
        sim.run(&Op::RefuseGrowthAfter { growths: growth });
        story().iter().for_each(|op| sim.run(op));
    }
}

/// A pass that a kill cut short has left gaps, which the log keeps when it is compacted no more.
#[test]
fn gaps_of_a_pass_that_did_not_end_are_no_damage() {
    let append = |keys: &[(u8, bool)], size, producer, codec| Op::Append {
        keys: keys.to_vec(),
        size,
        producer,
        codec,
    };
    for step in 0..40 {
        let mut sim = Sim::new(FlushPolicy::Ack);
        for op in [
            Op::Crash(Crash::Kill),
            append(&[(0, false)], 0, 1, Codec::None),
            append(&[(4, false)], 0, -1, Codec::None),
            append(&[(0, false)], 0, 1, Codec::None),
            append(&[(0, false), (0, true), (0, false)], 1, 1, Codec::Gzip),
            append(&[(0, false), (0, false), (4, true)], 0, -1, Codec::Snappy),
            Op::Checkpoint,
            append(&[(0, true)], 19, -1, Codec::None),
            Op::EndTransaction {
                producer: 1,
                commit: false,
            },
            Op::Pending,
            Op::Checkpoint,
            append(&[(0, true), (0, true)], 101, 0, Codec::None),
            Op::Crash(Crash::Torn {
                seed: 166_571_012_347_298_372,
            }),
            Op::Pending,
            Op::CrashAfter {
                operations: step,
                crash: Crash::Kill,
            },
            Op::Clean {
                map_bytes: 1 << 16,
                patience: u64::MAX,
            },
            Op::Policy { compact: false },
            append(&[(0, true), (0, true), (0, true)], 66, 0, Codec::None),
            append(
                &[(1, false), (0, true), (0, false), (1, true)],
                24,
                0,
                Codec::Lz4,
            ),
            Op::Crash(Crash::PowerLoss),
        ] {
            sim.run(&op);
        }
    }
}
