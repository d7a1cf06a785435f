//! Sealed segments read again: what is found, what is done, and what must not be taken for damage.

use std::path::Path;

use super::damage::{sealed, served};
use crate::damage::Examined;
use crate::fs::Crash;
use crate::meta::CLEAN_FILE;
use crate::seal::Seal;
use crate::testing::*;
use crate::types::TimestampMs;
use crate::{
    CleanOptions, CleanedBy, DamagedRange, LogConfig, LogDir, Pace, ScrubStep, ScrubTotals,
    Scrubber,
};

/// Asks after each piece whether to go on.
struct Each<F>(F);

impl<F: FnMut() -> bool> Pace for Each<F> {
    fn spend(&mut self, _bytes: u64) -> bool {
        (self.0)()
    }
}

fn finish(scrubber: &mut Scrubber, pace: &mut dyn Pace) -> ScrubTotals {
    loop {
        if let ScrubStep::Finished(totals) = scrubber.step(time(1000), pace) {
            return totals;
        }
    }
}

fn pass(dir: &LogDir) -> ScrubTotals {
    finish(&mut dir.scrubber().unwrap(), &mut ())
}

/// Batches that readers get, and offsets that they are refused.
fn read(bench: &Bench) -> (usize, i64) {
    served(&bench.log)
}

#[test]
fn what_verifies_is_counted_and_left_alone() {
    let (fs, logs) = sealed();
    let bench = Bench::on(fs, small());
    let totals = pass(&bench.dir);
    let wanted = ScrubTotals {
        segments: logs.len() as u64 - 1,
        bytes: bench.log.size_bytes() - bench.log.segments.load().last().unwrap().tail().position,
        ..ScrubTotals::default()
    };
    assert_eq!(totals, wanted);
    assert_eq!(read(&bench), (60, 0));
}

#[test]
fn a_flipped_byte_is_refused_from_then_on_and_after_every_start() {
    let (fs, logs) = sealed();
    // A byte of a record, which no header tells of.
    fs.flip(&logs[1], 100, 1);
    let mut bench = Bench::on(fs.clone(), small());
    assert_eq!(
        bench.report.damaged_ranges, 0,
        "a clean start looks at no seal"
    );
    let totals = pass(&bench.dir);
    assert_eq!((totals.damaged_ranges, totals.doubtful_segments), (1, 0));
    let damage: Vec<DamagedRange> = bench.log.damage();
    assert_eq!(damage[0].to.distance(damage[0].from), 1);
    assert_eq!(read(&bench), (59, 1));
    assert_eq!(pass(&bench.dir).damaged_ranges, 1, "and again, not twice");
    for round in 0..4 {
        bench = match round {
            0 | 3 => bench.reopen(small()),
            1 => bench.crash(Crash::Kill, small()),
            _ => bench.crash(Crash::PowerLoss, small()),
        };
        assert_eq!(bench.log.damage(), damage, "round {round}");
        assert_eq!(read(&bench), (59, 1));
        bench.dir.run_pending();
        bench.dir.checkpoint().unwrap();
    }
    // The operator puts a copy in its place.
    bench.dir.close(1).unwrap();
    fs.flip(&logs[1], 100, 1);
    let bench = Bench::on(fs.clone(), small());
    assert_eq!(read(&bench), (60, 0));
    bench.dir.run_pending();
    let seal = Seal::load(&fs, &logs[1].with_extension("seal")).unwrap();
    assert!(!seal.unwrap().suspect);
    assert_eq!(pass(&bench.dir).segments, logs.len() as u64 - 1);
}

#[test]
fn a_mismatch_found_by_recovery_is_found_by_the_next_start_too() {
    let bench = Bench::new(small());
    bench.fill(0, 60);
    let path = bench.log.segments.load()[1].path.clone();
    bench.fs.flip(&path, 100, 1);
    // No checkpoint was written: all seals are compared.
    let mut bench = bench.crash(Crash::Kill, small());
    for _ in 0..3 {
        assert_eq!(bench.report.damaged_ranges, 1);
        assert_eq!(read(&bench), (59, 1));
        bench.dir.checkpoint().unwrap();
        bench = bench.reopen(small());
    }
}

#[test]
fn damage_that_was_sealed_in_shows_by_the_batches_own_checksums() {
    let bench = Bench::new(small());
    bench.fill(0, 3);
    let path = bench.log.segments.load()[0].path.clone();
    bench.dir.close(1).unwrap();
    let fs = bench.fs.clone();
    drop(bench);
    fs.flip(&path, 100, 1);
    // The segment is written on, and its seal covers the damage.
    let bench = Bench::on(fs, small());
    bench.fill(3, 57);
    assert_eq!(pass(&bench.dir).damaged_ranges, 1);
    assert_eq!(read(&bench), (59, 1));
}

#[test]
fn any_flip_in_a_header_costs_its_neighbourhood_and_no_more() {
    for at in 0..61 {
        for mask in [0x01, 0x80] {
            let bench = Bench::new(small());
            bench.fill(0, 60);
            let segment = bench.log.segments.load()[1].clone();
            let (base, tail) = (segment.base, segment.tail());
            let length = tail.position / tail.next.distance(base) as u64;
            let place = length as usize * 3 + at;
            bench.fs.flip(&segment.path, place, mask);
            segment.evict();
            drop(segment);
            let totals = pass(&bench.dir);
            assert!(
                totals.damaged_ranges > 0,
                "{mask:#x} at byte {at}: {totals:?}"
            );
            let (served, refused) = read(&bench);
            assert_eq!(served as i64 + refused, 60, "{mask:#x} at byte {at}");
            assert!(refused <= 4, "{mask:#x} at byte {at}: {refused} refused");
        }
    }
}

#[test]
fn a_segment_of_zeros_is_one_range() {
    let bench = Bench::new(small());
    bench.fill(0, 60);
    let segment = bench.log.segments.load()[1].clone();
    let (base, tail) = (segment.base, segment.tail());
    let count = tail.next.distance(base);
    // All but the first batch and the last.
    let length = tail.position as usize / count as usize;
    for at in length..tail.position as usize - length {
        let byte = bench.fs.content(&segment.path).unwrap()[at];
        bench.fs.flip(&segment.path, at, byte);
    }
    // The double's map is a copy from before the flip.
    segment.evict();
    drop(segment);
    assert!(pass(&bench.dir).damaged_ranges <= 2);
    let (served, refused) = read(&bench);
    assert_eq!(served as i64 + refused, 60);
    assert!(
        (count - 2..=count - 1).contains(&refused),
        "{refused} of {count}"
    );
    let found = bench.log.damage();
    let bench = bench.reopen(small());
    assert_eq!(bench.log.damage().len(), 1);
    assert!(
        found
            .iter()
            .any(|range| range.from == bench.log.damage()[0].from)
    );
    assert_eq!(read(&bench).0 as i64, 60 - (count - 2));
}

#[test]
fn a_wrong_leader_epoch_is_known_by_the_epochs_of_the_log() {
    let bench = Bench::new(small());
    bench.fill(0, 60);
    let segment = bench.log.segments.load()[1].clone();
    let tail = segment.tail();
    let length = tail.position / tail.next.distance(segment.base) as u64;
    // Of the last batch: no checksum of a batch covers it, and none follows that would look wrong.
    let place = (tail.position - length) as usize + 15;
    bench.fs.flip(&segment.path, place, 0x01);
    segment.evict();
    drop(segment);
    let totals = pass(&bench.dir);
    assert_eq!((totals.damaged_ranges, totals.doubtful_segments), (1, 0));
    let damage = bench.log.damage();
    assert_eq!(damage[0].to, tail.next);
    assert_eq!(read(&bench), (59, 1));
    // A start that looks at the batches alone does not see it, and must not forget it for that.
    let mut bench = bench;
    for _ in 0..2 {
        bench = bench.reopen(small());
        assert_eq!(bench.report.damaged_ranges, 1);
        assert_eq!(bench.log.damage(), damage);
        assert_eq!(read(&bench), (59, 1));
    }
}

#[test]
fn a_segment_whose_batches_all_verify_is_told_of_and_served() {
    let bench = Bench::new(small());
    bench.fill(0, 60);
    let segment = bench.log.segments.load()[1].clone();
    let seal = segment.seal_info().unwrap();
    let wrong = Seal {
        log_crc: seal.log_crc ^ 1,
        ..seal
    };
    segment.set_sealed(wrong);
    drop(segment);
    let totals = pass(&bench.dir);
    assert_eq!((totals.damaged_ranges, totals.doubtful_segments), (0, 1));
    assert_eq!(read(&bench), (60, 0));
    // No start takes it for sound, whatever ended the one before.
    let mut bench = bench;
    for round in 0..4 {
        bench = match round {
            0 | 3 => bench.reopen(small()),
            1 => bench.crash(Crash::Kill, small()),
            _ => bench.crash(Crash::PowerLoss, small()),
        };
        assert_eq!(bench.report.damaged_ranges, 0, "round {round}");
        assert_eq!(read(&bench), (60, 0));
        bench.dir.run_pending();
        assert_eq!(pass(&bench.dir).doubtful_segments, 1, "round {round}");
    }
    // The operator keeps it as it is.
    let seal = bench.log.segments.load()[1].path.with_extension("seal");
    bench.dir.close(1).unwrap();
    bench.fs.as_fs().remove_file(&seal).unwrap();
    let fs = bench.fs.clone();
    drop(bench);
    let bench = Bench::on(fs, small());
    bench.dir.run_pending();
    assert_eq!(pass(&bench.dir).doubtful_segments, 0);
    assert_eq!(read(&bench), (60, 0));
}

#[test]
fn a_doubtful_last_segment_behind_a_damaged_one_is_not_gone_on_with() {
    let bench = Bench::new(small());
    bench.fill(0, 60);
    let segments = bench.log.segments.load_full();
    let damaged = segments[1].path.clone();
    let sealed = segments.last().unwrap().path.with_extension("seal");
    drop(segments);
    bench.dir.close(1).unwrap();
    let fs = bench.fs.clone();
    drop(bench);
    // Without mark and checkpoint all seals are compared.
    for file in [CLEAN_FILE, "recovery-point-checkpoint"] {
        fs.as_fs().remove_file(&Path::new(DIR).join(file)).unwrap();
    }
    fs.flip(&damaged, 100, 0x01);
    fs.as_fs()
        .remove_file(&damaged.with_extension("seal"))
        .unwrap();
    let seal = Seal::load(&fs, &sealed).unwrap().unwrap();
    let wrong = Seal {
        log_crc: seal.log_crc ^ 1,
        ..seal
    };
    wrong.store(&fs, &sealed).unwrap();
    let bench = Bench::on(fs, small());
    assert_eq!(read(&bench), (59, 1));
    bench.put(batch(60, 1, 20, 1000));
    assert!(Seal::load(&bench.fs, &sealed).unwrap().unwrap().suspect);
    bench.dir.run_pending();
    assert_eq!(pass(&bench.dir).doubtful_segments, 1);
}

#[test]
fn a_mismatch_that_only_a_start_meets_is_kept_too() {
    let bench = Bench::new(small());
    for tag in 0..60 {
        let epoch = i32::from(tag >= 24);
        bench.put_as(batch(tag, 1, 100, 1000), leader(epoch));
        bench.dir.run_pending();
    }
    let segment = bench.log.segments.load()[1].clone();
    let (path, tail) = (segment.path.clone(), segment.tail());
    let length = tail.position / tail.next.distance(segment.base) as u64;
    assert_eq!(tail.next, offset(24));
    drop(segment);
    // The leader epoch of its last batch is that of the next segment, which so does not contradict
    // it; those of the log have not been written yet.
    let place = (tail.position - length) as usize + 15;
    bench.fs.flip(&path, place, 0x01);
    // Without a checkpoint all seals are compared.
    let mut bench = bench.crash(Crash::Kill, small());
    for round in 0..3 {
        let seal = Seal::load(&bench.fs, &path.with_extension("seal")).unwrap();
        assert!(seal.unwrap().suspect, "round {round}");
        bench.dir.run_pending();
        assert_eq!(pass(&bench.dir).doubtful_segments, 1, "round {round}");
        assert_eq!(read(&bench), (60, 0));
        bench.dir.checkpoint().unwrap();
        bench = bench.reopen(small());
    }
}

#[test]
fn progress_that_cannot_be_read_is_progress_lost() {
    let bench = Bench::new(small());
    bench.fill(0, 60);
    let sealed = bench.log.segment_count() as u64 - 1;
    pass(&bench.dir);
    let file = Path::new("/logs/scrub-checkpoint");
    bench.fs.spoil(file, 0..1);
    let mut scrubber = bench.dir.scrubber().unwrap();
    assert_eq!(scrubber.due(1000, time(7)), time(7), "a new pass");
    assert_eq!(finish(&mut scrubber, &mut ()).segments, sealed);
    // Its end was written to a file that can be read.
    let scrubber = bench.dir.scrubber().unwrap();
    assert_eq!(scrubber.due(1000, time(1500)), time(2000));
}

#[test]
fn a_pass_goes_on_where_the_last_start_left_it() {
    let mut bench = Bench::new(small());
    bench.fill(0, 60);
    bench.dir.checkpoint().unwrap();
    let sealed = bench.log.segment_count() - 1;
    let mut done = 0;
    loop {
        let mut scrubber = bench.dir.scrubber().unwrap();
        let now = TimestampMs::new(5);
        assert_eq!(scrubber.due(1000, now), now, "under way");
        if done == 2 {
            let stopped = scrubber.step(now, &mut Each(|| false));
            assert_eq!(stopped, ScrubStep::Stopped);
            scrubber = bench.dir.scrubber().unwrap();
        }
        match scrubber.step(now, &mut ()) {
            ScrubStep::Segment => done += 1,
            ScrubStep::Finished(_) => break,
            ScrubStep::Stopped => panic!("nobody asked for that"),
        }
        scrubber.store(now);
        bench = bench.crash(Crash::PowerLoss, small());
    }
    assert_eq!(done, sealed, "each once");
    let scrubber = bench.dir.scrubber().unwrap();
    assert_eq!(scrubber.due(1000, time(7)), time(1005));
    assert_eq!(
        scrubber.due(1000, time(-9000)),
        time(-8000),
        "a clock set back"
    );
    // Progress that does not read is progress lost, and no more.
    bench.fs.flip(Path::new("/logs/scrub-checkpoint"), 12, 1);
    let mut scrubber = bench.dir.scrubber().unwrap();
    assert_eq!(finish(&mut scrubber, &mut ()).segments, sealed as u64);
}

#[test]
fn a_log_that_grows_does_not_hold_up_the_pass() {
    let bench = Bench::new(small());
    bench.fill(0, 60);
    let mut tag = 60;
    let mut scrubber = bench.dir.scrubber().unwrap();
    let sealed = bench.log.segment_count() as u64 - 1;
    let mut pace = Each(|| {
        bench.fill(tag, 30);
        tag += 30;
        true
    });
    let totals = finish(&mut scrubber, &mut pace);
    assert!(totals.segments <= sealed + 1, "{totals:?}");
}

/// Several segments of more than one piece each.
fn large() -> Bench {
    let config = LogConfig {
        segment_bytes: 1 << 20,
        ..small()
    };
    let bench = Bench::new(config);
    for tag in 0..30 {
        bench.put(batch(tag, 1, 100_000, 1000));
        bench.dir.run_pending();
    }
    bench
}

#[test]
fn a_page_that_the_disk_does_not_give_back_costs_the_batch_it_is_in() {
    let bench = large();
    let segment = bench.log.segments.load()[1].clone();
    let (path, length) = (segment.path.clone(), 100_000);
    assert!(segment.tail().position > 5 * length);
    // In the middle of its third batch.
    let page = (length * 5 / 2 / 4096 * 4096) as usize;
    bench.fs.spoil(&path, page..page + 4096);
    segment.evict();
    let lost = segment.base.value() + 2;
    drop(segment);
    let totals = pass(&bench.dir);
    assert_eq!((totals.damaged_ranges, totals.doubtful_segments), (1, 0));
    let damage = bench.log.damage();
    assert_eq!(damage[0].from..damage[0].to, offset(lost)..offset(lost + 1));
    assert_eq!(read(&bench), (29, 1));
    let seal = Seal::load(&bench.fs, &path.with_extension("seal")).unwrap();
    assert!(seal.unwrap().suspect, "the next start looks for itself");
}

#[test]
fn what_is_cut_or_removed_meanwhile_is_no_damage() {
    for how in ["cut", "cut elsewhere", "removed", "deleted"] {
        let bench = large();
        let mut pieces = 0;
        let mut pace = Each(|| {
            pieces += 1;
            if pieces == 1 {
                match how {
                    "cut" => bench.log.truncate_to(offset(5)).unwrap(),
                    "cut elsewhere" => bench.log.truncate_to(offset(15)).unwrap(),
                    "removed" => {
                        bench.log.delete_records_before(offset(15)).unwrap();
                    }
                    _ => bench.dir.delete_log(&bench.log).unwrap(),
                }
                bench.dir.run_pending();
            }
            true
        });
        let totals = finish(&mut bench.dir.scrubber().unwrap(), &mut pace);
        assert_eq!(
            (totals.damaged_ranges, totals.doubtful_segments),
            (0, 0),
            "{how}"
        );
        assert!(bench.log.damage().is_empty(), "{how}");
    }
}

fn fill_one_key(bench: &Bench) {
    for tag in 0..60 {
        let mut builder =
            palisade_protocol::batch::BatchBuilder::new(palisade_protocol::batch::Codec::None);
        builder
            .add(time(1000), Some(b"key"), Some(&[tag; 100]), &[])
            .unwrap();
        bench.put(builder.build().unwrap().to_vec());
        bench.dir.run_pending();
    }
}

#[test]
fn a_segment_that_was_cleaned_meanwhile_is_not_judged_any_more() {
    let compacted = LogConfig {
        compact: true,
        min_cleanable_millionths: 0,
        ..small()
    };
    let bench = Bench::new(compacted);
    fill_one_key(&bench);
    let before = bench.log.segments.load()[0].clone();
    let end = bench.log.log_end_offset();
    let cleaned = bench
        .log
        .clean(end, time(2000), &CleanOptions::default(), &mut ())
        .unwrap();
    assert_eq!(cleaned.by, CleanedBy::Done);
    assert!(cleaned.segments_after > 0);
    // The name leads to other bytes now.
    let examined = bench.log.examine(before, &mut ()).unwrap();
    assert_eq!(examined, Examined::NotListed);
    let totals = pass(&bench.dir);
    assert_eq!((totals.damaged_ranges, totals.doubtful_segments), (0, 0));
}

/// A bench with a flipped byte in the third batch of its second segment, and that segment.
fn flipped() -> (Bench, std::sync::Arc<crate::segment::Segment>) {
    let bench = Bench::new(small());
    bench.fill(0, 60);
    let segment = bench.log.segments.load()[1].clone();
    let tail = segment.tail();
    let length = tail.position / tail.next.distance(segment.base) as u64;
    bench.fs.flip(&segment.path, length as usize * 2 + 100, 1);
    (bench, segment)
}

#[test]
fn a_closer_look_costs_what_the_pace_allows_and_ends_with_it() {
    let (bench, segment) = flipped();
    let (path, size) = (segment.path.clone(), segment.tail().position);
    segment.evict();
    drop(segment);
    let mut scrubber = bench.dir.scrubber().unwrap();
    assert_eq!(scrubber.step(time(1), &mut ()), ScrubStep::Segment);
    // The first look at the second one ends at the damage, before it asks.
    let stopped = scrubber.step(time(1), &mut Each(|| false));
    assert_eq!(stopped, ScrubStep::Stopped);
    assert!(bench.log.damage().is_empty(), "nothing was judged");
    let seal = Seal::load(&bench.fs, &path.with_extension("seal")).unwrap();
    assert!(!seal.unwrap().suspect);
    // The same step again.
    let mut read = 0;
    let mut pace = Spent(&mut read);
    assert_eq!(scrubber.step(time(1), &mut pace), ScrubStep::Segment);
    assert_eq!(read, size);
    assert_eq!(bench.log.damage().len(), 1);
    let list = bench.log.segments.load_full();
    let segment = list.iter().find(|segment| segment.path == path).unwrap();
    assert!(!segment.is_mapped(), "read past the mapping");
}

/// Counts bytes.
struct Spent<'a>(&'a mut u64);

impl Pace for Spent<'_> {
    fn spend(&mut self, bytes: u64) -> bool {
        *self.0 += bytes;
        true
    }
}

#[test]
fn a_segment_that_changes_under_a_closer_look_is_not_judged() {
    type Event = fn(&Bench, from: i64);
    let events: [(&str, Event, Examined); 4] = [
        (
            "the log starts behind the damage",
            |bench, base| {
                bench.log.delete_records_before(offset(base + 4)).unwrap();
            },
            Examined::Outlived,
        ),
        (
            "retention",
            |bench, _| {
                bench.log.delete_records_before(offset(50)).unwrap();
            },
            Examined::NotListed,
        ),
        (
            "a cut in it",
            |bench, base| bench.log.truncate_to(offset(base + 4)).unwrap(),
            Examined::NotListed,
        ),
        (
            "deletion",
            |bench, _| bench.dir.delete_log(&bench.log).unwrap(),
            Examined::NotListed,
        ),
    ];
    for (name, event, wanted) in events {
        let (bench, segment) = flipped();
        let (base, path) = (segment.base.value(), segment.path.clone());
        let mut asked = 0;
        let mut pace = Each(|| {
            asked += 1;
            if asked == 1 {
                event(&bench, base);
            }
            true
        });
        let examined = bench.log.examine(segment, &mut pace).unwrap();
        assert_eq!(examined, wanted, "{name}");
        assert!(asked > 0, "{name}");
        assert!(bench.log.damage().is_empty(), "{name}");
        let seal = Seal::load(&bench.fs, &path.with_extension("seal")).unwrap();
        assert!(seal.is_none_or(|seal| !seal.suspect), "{name}");
    }
}

#[test]
fn a_segment_that_was_cleaned_under_a_closer_look_is_not_judged() {
    let compacted = LogConfig {
        compact: true,
        min_cleanable_millionths: 0,
        ..small()
    };
    let bench = Bench::new(compacted);
    fill_one_key(&bench);
    let segment = bench.log.segments.load()[0].clone();
    let end = bench.log.log_end_offset();
    let mut asked = 0;
    let mut pace = Each(|| {
        asked += 1;
        if asked == 1 {
            let options = CleanOptions::default();
            let cleaned = bench.log.clean(end, time(2000), &options, &mut ());
            assert_eq!(cleaned.unwrap().by, CleanedBy::Done);
        }
        true
    });
    let examined = bench.log.examine(segment, &mut pace);
    assert_eq!(examined.unwrap(), Examined::NotListed);
}
