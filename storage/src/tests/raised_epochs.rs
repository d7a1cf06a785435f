//! Leader epochs that a flipped bit has raised at the end of a segment, where what contradicts them
//! lies in the next file, or has changed in the segment that is appended to, which has no seal yet:
//! no checksum of a batch covers them.

use std::path::{Path, PathBuf};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::damage::served;

use crate::batch::{HEADER_LEN, stamp};
use crate::fs::{Crash, FaultyFs, Fs, OpenHow, write_all_at};
use crate::testing::*;
use crate::types::LeaderEpoch;
use crate::{Log, LogConfig, StorageError};

const BATCHES: usize = 60;

fn config(compact: bool) -> LogConfig {
    LogConfig {
        compact,
        delete: !compact,
        ..small()
    }
}

/// A log of several sealed segments, a leader epoch that began in the second, and one that was
/// appended to, killed with nothing known to be synced; its files, and the length of a batch.
fn killed(compact: bool) -> (FaultyFs, Vec<PathBuf>, usize) {
    let bench = Bench::new(config(compact));
    for tag in 0..BATCHES {
        let epoch = i32::from(tag > 20);
        bench.put_as(batch(tag as u64, 1, 100, 1000), leader(epoch));
        bench.dir.run_pending();
    }
    let fs = bench.fs.clone();
    let list = bench.log.segments.load_full();
    let logs: Vec<_> = list.iter().map(|s| s.path.to_path_buf()).collect();
    assert!(logs.len() > 4 && list[1].base < offset(20) && offset(23) < list[2].base);
    let size = fs.content(&logs[0]).unwrap().len() / list[1].base.value() as usize;
    drop((list, bench));
    fs.restart(Crash::Kill);
    (fs, logs, size)
}

/// Raises the leader epoch of the last batch but `behind`.
fn raise(fs: &FaultyFs, log: &Path, size: usize, behind: usize, (byte, mask): (usize, u8)) {
    let place = fs.content(log).unwrap().len() - (behind + 1) * size;
    fs.flip(log, place + byte, mask);
}

/// Bytes of the leader epoch, and what of each is 0 in epochs 0 and 1.
const RAISES: [(usize, u8); 4] = [(12, 0x40), (13, 4), (15, 2), (15, 0x80)];

/// All but `lost` records are there, and the log goes on with its leader, through more stops.
fn only_lost(fs: FaultyFs, compact: bool, lost: usize, what: &dyn std::fmt::Debug) {
    goes_on(Bench::on(fs, config(compact)), compact, lost, what);
}

/// The same where the metadata tells that the log is in leader epoch 1.
fn only_lost_when_led(fs: FaultyFs, compact: bool, lost: usize, what: &dyn std::fmt::Debug) {
    goes_on(Bench::led(fs, config(compact), 1), compact, lost, what);
}

fn goes_on(mut bench: Bench, compact: bool, lost: usize, what: &dyn std::fmt::Debug) {
    for round in 0..4 {
        let count = BATCHES + round;
        assert_eq!(bench.report.cut_bytes, 0, "{what:?}, {round}");
        assert_eq!(bench.log.log_end_offset(), offset(count as i64), "{what:?}");
        assert_eq!(
            served(&bench.log),
            (count - lost, lost as i64),
            "{what:?}, {round}: {:?}",
            bench.log.damage()
        );
        let latest = bench.log.epoch_at(offset(count as i64 - 1)).unwrap();
        assert_eq!(latest.value(), 1, "{what:?}, {round}");
        bench.put_as(batch(count as u64, 1, 100, 1000), leader(1));
        bench.dir.run_pending();
        bench = match round {
            0 => bench.crash(Crash::Kill, config(compact)),
            1 => bench.reopen(config(compact)),
            _ => bench.crash(Crash::PowerLoss, config(compact)),
        };
    }
}

/// What can be read without regard to leader epochs, and how many offsets cannot.
fn whole(log: &Log) -> (usize, i64) {
    let (mut from, end) = (offset(0), log.log_end_offset());
    let (mut found, mut refused) = (0, 0);
    while from < end {
        let (bytes, to) = match log.read(from, end, 1 << 20, true) {
            Ok(read) => (read.slice.unwrap().as_ref().to_vec(), read.next_offset),
            Err(StorageError::Corrupt { to, .. }) => match log.read_contradicted(from).unwrap() {
                Some(read) => read,
                None => {
                    refused += to.distance(from);
                    (Vec::new(), to)
                }
            },
            Err(error) => panic!("{error}"),
        };
        for (base, _, tag) in tags(&bytes) {
            assert_eq!(base, tag as i64, "each record at its offset");
            found += 1;
        }
        from = to;
    }
    (found, refused)
}

#[test]
fn batches_with_wrong_epochs_can_be_read_by_who_depends_on_none() {
    for compact in [false, true] {
        for segment in 0..killed(compact).1.len() {
            for behind in [0, 1, 3] {
                let (fs, logs, size) = killed(compact);
                raise(&fs, &logs[segment], size, behind, (15, 0x40));
                let bench = Bench::led(fs, config(compact), 1);
                assert_eq!(served(&bench.log), (BATCHES - 1, 1));
                let what = (compact, segment, behind);
                assert_eq!(whole(&bench.log), (BATCHES, 0), "{what:?}");
            }
        }
    }
}

/// Bytes of a batch beside which a wrong epoch counts for nothing: its base offset, its length, and
/// what its checksum covers.
const OTHERS: [(usize, u8); 5] = [(6, 1), (7, 1), (7, 0x40), (11, 1), (70, 1)];

#[test]
fn batches_in_which_more_is_wrong_than_an_epoch_are_read_by_nobody() {
    for compact in [false, true] {
        for segment in 0..killed(compact).1.len() {
            for other in OTHERS {
                let (fs, logs, size) = killed(compact);
                raise(&fs, &logs[segment], size, 1, (15, 0x40));
                raise(&fs, &logs[segment], size, 1, other);
                let bench = Bench::led(fs, config(compact), 1);
                let (found, _) = whole(&bench.log);
                assert!(found < BATCHES, "{:?}", (compact, segment, other));
            }
        }
    }
}

/// What lay behind the wrong epoch was synced, and is gone.
#[test]
fn a_file_that_was_cut_behind_a_wrong_epoch_is_read_by_nobody() {
    for compact in [false, true] {
        let bench = Bench::new(config(compact));
        bench.fill(0, 6);
        bench.dir.checkpoint().unwrap();
        let log = bench.file("00000000000000000000.log");
        let fs = bench.fs.clone();
        let content = fs.content(&log).unwrap();
        let size = content.len() / 6;
        drop(bench);
        fs.restart(Crash::Kill);
        fs.replace(&log, &content[..4 * size]);
        fs.flip(&log, 3 * size + 15, 0x40);
        let bench = Bench::led(fs, config(compact), 0);
        assert_eq!(whole(&bench.log), (3, 3), "{compact}");
    }
}

#[test]
fn a_raised_epoch_behind_damage_in_a_sealed_segment_costs_its_batch() {
    for compact in [false, true] {
        let (_, logs, size) = killed(compact);
        for segment in 0..logs.len() - 1 {
            for flip in RAISES {
                let (fs, logs, _) = killed(compact);
                fs.flip(&logs[segment], 3 * size + 70, 1);
                raise(&fs, &logs[segment], size, 0, flip);
                only_lost(fs, compact, 2, &(compact, segment, flip));
            }
        }
    }
}

#[test]
fn a_raised_epoch_at_the_end_of_a_sealed_segment_costs_its_batch() {
    for compact in [false, true] {
        for segment in [0, 2] {
            for flip in RAISES {
                let (fs, logs, size) = killed(compact);
                raise(&fs, &logs[segment], size, 0, flip);
                only_lost(fs, compact, 1, &(compact, segment, flip));
            }
        }
    }
}

#[test]
fn raised_epochs_before_a_head_that_does_not_verify_cut_nothing() {
    for compact in [false, true] {
        let (fs, logs, size) = killed(compact);
        let last = logs.len() - 1;
        fs.flip(&logs[last - 2], 3 * size + 70, 1);
        raise(&fs, &logs[last - 2], size, 1, (13, 4));
        raise(&fs, &logs[last - 2], size, 0, (12, 0x40));
        fs.flip(&logs[last - 1], 70, 1);
        let bench = Bench::on(fs, config(compact));
        assert_eq!(bench.report.cut_bytes, 0, "{compact}");
        assert_eq!(bench.log.log_end_offset(), offset(BATCHES as i64));
        let (served, refused) = served(&bench.log);
        assert_eq!(served as i64 + refused, BATCHES as i64);
        assert!(refused <= 4, "{compact}: {:?}", bench.log.damage());
        bench.put_as(batch(BATCHES as u64, 1, 100, 1000), leader(1));
    }
}

/// A kill may come before a segment that was rolled has its seal.
#[test]
fn a_raised_epoch_at_the_end_of_an_unsealed_segment_costs_its_batch() {
    for compact in [false, true] {
        for behind in [0, 1] {
            for flip in RAISES {
                let (fs, logs, size) = killed(compact);
                let rolled = &logs[logs.len() - 2];
                fs.remove_file(&rolled.with_extension("seal")).unwrap();
                raise(&fs, rolled, size, behind, flip);
                if behind == 1 {
                    raise(&fs, rolled, size, 0, flip);
                }
                only_lost(fs, compact, 1 + behind, &(compact, behind, flip));
            }
        }
    }
}

/// Batches in the segment that is appended to.
fn in_the_last(fs: &FaultyFs, logs: &[PathBuf], size: usize) -> usize {
    let count = fs.content(&logs[logs.len() - 1]).unwrap().len() / size;
    assert!(count > 4, "too few to tell anything");
    count
}

#[test]
fn a_raised_epoch_in_the_active_segment_costs_its_batch() {
    for compact in [false, true] {
        let (fs, logs, size) = killed(compact);
        for behind in 1..in_the_last(&fs, &logs, size) {
            for flip in RAISES {
                let (fs, logs, _) = killed(compact);
                raise(&fs, &logs[logs.len() - 1], size, behind, flip);
                only_lost(fs, compact, 1, &(compact, behind, flip));
            }
        }
    }
}

/// Nothing behind it contradicts it, but the metadata does.
#[test]
fn a_raised_epoch_at_the_end_of_the_active_segment_costs_its_batch() {
    for compact in [false, true] {
        for flip in RAISES {
            let (fs, logs, size) = killed(compact);
            raise(&fs, &logs[logs.len() - 1], size, 0, flip);
            only_lost_when_led(fs, compact, 1, &(compact, flip));
        }
    }
}

#[test]
fn raised_epochs_on_both_sides_of_a_roll_cost_their_batches() {
    for compact in [false, true] {
        for flip in RAISES {
            for (rolled_by, active_by) in [((13, 4), flip), (flip, (13, 4)), (flip, flip)] {
                let (fs, logs, size) = killed(compact);
                let [.., rolled, active] = logs.as_slice() else {
                    panic!("{logs:?}")
                };
                fs.remove_file(&rolled.with_extension("seal")).unwrap();
                raise(&fs, rolled, size, 0, rolled_by);
                let first = in_the_last(&fs, &logs, size) - 1;
                raise(&fs, active, size, first, active_by);
                only_lost_when_led(fs, compact, 2, &(compact, rolled_by, active_by));
            }
        }
    }
}

#[test]
fn a_lowered_epoch_in_the_active_segment_costs_its_batch() {
    for compact in [false, true] {
        let (fs, logs, size) = killed(compact);
        let first = in_the_last(&fs, &logs, size) - 1;
        for behind in 0..first {
            let (fs, logs, _) = killed(compact);
            raise(&fs, &logs[logs.len() - 1], size, behind, (15, 1));
            only_lost(fs, compact, 1, &(compact, behind));
        }
        // Behind segments that need no look there is nothing that contradicts the first one.
        raise(&fs, &logs[logs.len() - 1], size, first, (15, 1));
        let bench = Bench::on(fs, config(compact));
        assert_eq!(bench.report.cut_bytes, 0, "{compact}");
        assert_eq!(served(&bench.log), (BATCHES - 1, 1), "{compact}");
        let bench = bench.reopen(config(compact));
        let (served, refused) = served(&bench.log);
        assert_eq!(served as i64 + refused, BATCHES as i64, "{compact}");
    }
}

/// The first batches of a new leader, one of which says its predecessor's epoch: it is that one
/// which is wrong, not the one before it.
#[test]
fn a_lowered_epoch_among_the_first_of_a_leader_costs_its_batch() {
    for compact in [false, true] {
        let bench = Bench::new(config(compact));
        for tag in 0..6 {
            let epoch = i32::from(tag > 2);
            bench.put_as(batch(tag, 1, 100, 1000), leader(epoch));
        }
        let log = bench.file("00000000000000000000.log");
        let size = bench.fs.content(&log).unwrap().len() / 6;
        bench.fs.flip(&log, 4 * size + 15, 1);
        let bench = bench.crash(Crash::Kill, config(compact));
        assert_eq!(bench.report.cut_bytes, 0, "{compact}");
        let damage: Vec<_> = bench.log.damage().iter().map(|d| d.from).collect();
        assert_eq!(damage, [offset(4)], "{compact}");
        assert_eq!(served(&bench.log), (5, 1), "{compact}");
    }
}

/// A write that was cut short is, also where a batch before it has another epoch.
#[test]
fn a_torn_tail_behind_a_wrong_epoch_is_cut() {
    for compact in [false, true] {
        let (fs, logs, size) = killed(compact);
        let last = &logs[logs.len() - 1];
        let length = fs.content(last).unwrap().len();
        raise(&fs, last, size, 3, (15, 1));
        fs.flip(last, length - size + 70, 1);
        let bench = Bench::on(fs, config(compact));
        assert_eq!(bench.report.cut_bytes, size as u64, "{compact}");
        assert_eq!(bench.log.log_end_offset(), offset(BATCHES as i64 - 1));
        assert_eq!(served(&bench.log), (BATCHES - 2, 1), "{compact}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Leaders that wrote so many batches each, and flipped bits in some of their epochs.
    #[test]
    fn whatever_epochs_are_changed_nothing_else_is_lost(
        leaders in vec((1..3_i32, 1..12_usize), 1..6),
        flips in btree_map(0..40_usize, 0..32_usize, 1..3),
        compact in any::<bool>(),
        all_sealed in any::<bool>(),
        synced in any::<bool>(),
        torn in prop_oneof![Just(0), 1..150_usize],
    ) {
        let bench = Bench::new(config(compact));
        let epochs = leaders.iter().scan(0, |epoch, (rise, batches)| {
            *epoch += rise;
            Some(vec![*epoch; *batches])
        });
        let epochs: Vec<i32> = epochs.flatten().collect();
        let mut size = 0;
        for (tag, epoch) in epochs.iter().enumerate() {
            let batch = batch(tag as u64, 1, 100, 1000);
            size = batch.len();
            bench.put_as(batch, leader(*epoch));
            bench.dir.run_pending();
        }
        if synced {
            bench.dir.checkpoint().unwrap();
        }
        let fs = bench.fs.clone();
        let list = bench.log.segments.load_full();
        let segments: Vec<_> = list.iter().map(|s| (s.base, s.path.to_path_buf())).collect();
        drop((list, bench));
        fs.restart(Crash::Kill);
        let last = &segments[segments.len() - 1].1;
        let whole = fs.content(last).unwrap().len();
        let file = fs.as_fs().open(last, OpenHow::Write).unwrap();
        let mut cut_short = batch(99, 1, 100, 1000);
        let head = cut_short.first_chunk_mut::<HEADER_LEN>().unwrap();
        let (next, latest) = (offset(epochs.len() as i64), *epochs.last().unwrap());
        stamp(head, next, LeaderEpoch::new(latest));
        write_all_at(&*file, &cut_short[..torn], whole as u64).unwrap();
        drop(file);
        if let [.., (_, rolled), _] = segments.as_slice() && !all_sealed {
            fs.remove_file(&rolled.with_extension("seal")).unwrap();
        }
        let mut changed = 0;
        for (tag, bit) in flips.into_iter().filter(|(tag, _)| *tag < epochs.len()) {
            if synced && bit == 31 {
                // What is synced and sealed is looked at by who reads it, who takes a negative
                // epoch for damage up to the next entry of the index.
                continue;
            }
            let (base, log) = segments.iter().rfind(|(base, _)| *base <= offset(tag as i64)).unwrap();
            let at = (tag - base.value() as usize) * size;
            fs.flip(log, at + 15 - bit / 8, 1 << (bit % 8));
            changed += 1;
        }
        let count = epochs.len();
        let bench = Bench::led(fs, config(compact), latest);
        prop_assert!(bench.report.cut_bytes <= torn as u64);
        prop_assert_eq!(bench.log.log_end_offset(), offset(count as i64));
        let (found, refused) = served(&bench.log);
        prop_assert_eq!(found as i64 + refused, count as i64);
        // Two that tell the same lie may outvote one that does not; cut is nothing even then.
        if changed < 2 {
            prop_assert!(refused <= changed, "{:?}", bench.log.damage());
            bench.put_as(batch(count as u64, 1, 100, 1000), leader(latest));
        }
    }
}

/// Older metadata was put back beside a newer log: what leaders wrote since is not taken for
/// damage.
#[test]
fn batches_that_agree_are_believed_before_the_metadata() {
    for compact in [false, true] {
        let bench = Bench::new(config(compact));
        for tag in 0..4 {
            let epoch = if tag < 2 { 0 } else { 3 };
            bench.put_as(batch(tag, 1, 100, 1000), leader(epoch));
        }
        let fs = bench.fs.clone();
        drop(bench);
        fs.restart(Crash::Kill);
        let bench = Bench::led(fs, config(compact), 0);
        assert_eq!(served(&bench.log), (4, 0), "{compact}");
        let latest = bench.log.epoch_at(offset(3)).unwrap();
        assert_eq!(latest.value(), 3, "{compact}");
    }
}

#[test]
fn a_torn_tail_does_not_hide_a_raised_epoch() {
    for compact in [false, true] {
        let (fs, logs, size) = killed(compact);
        let last = &logs[logs.len() - 1];
        let length = fs.content(last).unwrap().len();
        raise(&fs, last, size, 1, (13, 4));
        let file = fs.as_fs().open(last, OpenHow::Write).unwrap();
        file.set_len((length - size + 40) as u64).unwrap();
        drop(file);
        let bench = Bench::led(fs, config(compact), 1);
        let next = offset(BATCHES as i64 - 1);
        assert_eq!(bench.log.log_end_offset(), next, "{compact}");
        assert_eq!(served(&bench.log), (BATCHES - 2, 1), "{compact}");
        assert_eq!(bench.log.epoch_at(next).unwrap().value(), 1, "{compact}");
        bench.put_as(batch(BATCHES as u64 - 1, 1, 100, 1000), leader(1));
        let bench = bench.reopen(config(compact));
        assert_eq!(served(&bench.log), (BATCHES - 1, 1), "{compact}");
    }
}
