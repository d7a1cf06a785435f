//! A crash at every single step of a story.

use super::model::{Op, Sim};
use crate::FlushPolicy;
use crate::fs::Crash;

/// Everything a log does in its life.
fn story() -> Vec<Op> {
    let mut ops = Vec::new();
    let append = |ops: &mut Vec<Op>, n: usize| {
        for size in 0..n {
            ops.push(Op::Append {
                count: 1 + size % 3,
                size: 40 + size * 17 % 200,
            });
            if size % 3 == 2 {
                ops.push(Op::Pending);
            }
        }
    };
    append(&mut ops, 14);
    ops.push(Op::Checkpoint);
    append(&mut ops, 9);
    ops.push(Op::Truncate { percent: 60 });
    append(&mut ops, 8);
    ops.push(Op::DeleteRecords { percent: 40 });
    ops.push(Op::Pending);
    ops.push(Op::Checkpoint);
    append(&mut ops, 8);
    ops.push(Op::Retention { segments: 2 });
    ops.push(Op::Pending);
    ops.push(Op::Restart);
    append(&mut ops, 6);
    ops.push(Op::Truncate { percent: 90 });
    ops.push(Op::Flush);
    append(&mut ops, 4);
    ops
}

fn steps(policy: FlushPolicy) -> u64 {
    let mut sim = Sim::new(policy);
    let before = sim.fs().operations();
    story().iter().for_each(|op| sim.run(op));
    sim.fs().operations() - before
}

fn crash_everywhere(policy: FlushPolicy, crash: impl Fn(u64) -> Crash) {
    for step in 0..steps(policy) {
        let mut sim = Sim::new(policy);
        sim.run(&Op::CrashAfter {
            operations: step,
            crash: crash(step),
        });
        for op in story() {
            sim.run(&op);
        }
        sim.run(&Op::CheckReads { max: 900 });
    }
}

#[test]
fn power_loss_at_every_step_loses_nothing_acknowledged() {
    crash_everywhere(FlushPolicy::Ack, |_| Crash::PowerLoss);
}

#[test]
fn torn_writes_at_every_step_lose_nothing_acknowledged() {
    for seed in 1..6 {
        crash_everywhere(FlushPolicy::Ack, |step| Crash::Torn {
            seed: seed * 7919 + step,
        });
    }
}

#[test]
fn a_kill_at_every_step_loses_nothing_acknowledged() {
    crash_everywhere(FlushPolicy::Ack, |_| Crash::Kill);
}

#[test]
fn unsynced_logs_keep_a_prefix_whatever_the_step() {
    crash_everywhere(FlushPolicy::Os, |step| Crash::Torn { seed: step });
}

#[test]
fn a_sync_that_fails_anywhere_loses_nothing_acknowledged() {
    for sync in 0..60 {
        let mut sim = Sim::new(FlushPolicy::Ack);
        sim.run(&Op::FailSyncAfter { syncs: sync });
        story().iter().for_each(|op| sim.run(op));
        sim.run(&Op::CheckReads { max: 900 });
    }
}

#[test]
fn a_full_disk_at_any_call_loses_nothing_acknowledged() {
    let growths = {
        let mut sim = Sim::new(FlushPolicy::Ack);
        story().iter().for_each(|op| sim.run(op));
        sim.fs().growths()
    };
    for growth in 0..growths {
        let mut sim = Sim::new(FlushPolicy::Ack);
        sim.run(&Op::RefuseGrowthAfter { growths: growth });
        story().iter().for_each(|op| sim.run(op));
        sim.run(&Op::Crash(Crash::PowerLoss));
        sim.run(&Op::CheckReads { max: 900 });
    }
}
