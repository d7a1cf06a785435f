//! Leader epochs that a flipped bit has raised at the end of a segment: no checksum of a batch
//! covers them, and what contradicts them lies in the next file.

use std::path::{Path, PathBuf};

use super::damage::served;
use crate::LogConfig;
use crate::fs::{Crash, FaultyFs, Fs};
use crate::testing::*;

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
    let mut bench = Bench::on(fs, config(compact));
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
