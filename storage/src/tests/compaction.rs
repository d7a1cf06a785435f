//! Single passes of the cleaner, step by step.

use std::sync::Arc;

use palisade_protocol::batch::{
    BATCH_HEADER_LEN, BatchBuilder, BatchHeader, BatchIter, Codec, RecordIter,
};

use crate::cleaner::CleanedBy;
use crate::fs::{Crash, FaultyFs};
use crate::producer_state::snapshot;
use crate::testing::*;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId};
use crate::{
    AppendAs, CleanOptions, Cleaned, EpochEnd, FlushPolicy, LogConfig, LogSpec, NoObserver,
    StorageError,
};

fn config() -> LogConfig {
    LogConfig {
        compact: true,
        delete: false,
        segment_bytes: 1000,
        index_interval_bytes: 150,
        delete_retention_ms: 500,
        min_cleanable_millionths: 500_000,
        ..small()
    }
}

/// A batch with one record.
fn keyed(key: &str, value: Option<&str>, timestamp: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    let value = value.map(str::as_bytes);
    builder
        .add(time(timestamp), Some(key.as_bytes()), value, &[])
        .unwrap();
    builder.build().unwrap().to_vec()
}

fn put(bench: &Bench, key: &str, value: &str, timestamp: i64) -> i64 {
    let value = format!("{value:>50}");
    let appended = bench.put(keyed(key, Some(&value), timestamp));
    appended.base_offset.value()
}

/// Fills segments with other keys, so that everything before is sealed.
fn fill(bench: &Bench, timestamp: i64) {
    (0..18).for_each(|n| {
        put(bench, &format!("filler {}", n % 3), "f", timestamp);
    });
    bench.dir.run_pending();
}

fn clean_at(bench: &Bench, now: i64) -> Cleaned {
    let end = bench.log.log_end_offset();
    bench
        .log
        .clean(end, time(now), &CleanOptions::default(), &mut ())
        .unwrap()
}

/// Offset, key and value of what can be read.
fn records(bench: &Bench) -> Vec<(i64, String, Option<String>)> {
    let log = &bench.log;
    let mut found = Vec::new();
    let mut from = log.log_start_offset();
    while from < log.log_end_offset() {
        let read = log.read(from, log.log_end_offset(), 1 << 20, true).unwrap();
        for item in BatchIter::new(read.slice.unwrap().as_ref()) {
            let (header, batch) = item.unwrap();
            let section = &batch[BATCH_HEADER_LEN..];
            for record in RecordIter::new(section, header.records_count) {
                let record = record.unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                found.push((
                    header.base_offset.value() + i64::from(record.offset_delta),
                    text(record.key.unwrap()),
                    record.value.map(|value| text(value).trim().to_owned()),
                ));
            }
        }
        from = read.next_offset;
    }
    found
}

fn of_key(bench: &Bench, key: &str) -> Vec<(i64, Option<String>)> {
    records(bench)
        .into_iter()
        .filter(|(_, found, _)| found == key)
        .map(|(at, _, value)| (at, value))
        .collect()
}

#[test]
fn the_last_record_of_a_key_stays_and_segments_are_merged() {
    let bench = Bench::new(config());
    for n in 0..60 {
        put(&bench, &format!("k{}", n % 4), &n.to_string(), 1000);
    }
    fill(&bench, 1000);
    let (before, end) = (bench.log.segment_count(), bench.log.log_end_offset());
    let cleaned = clean_at(&bench, 1000);
    assert_eq!(cleaned.by, CleanedBy::Done);
    assert_eq!(cleaned.segments_before, before - 1);
    // An input joins while even all of it would fit.
    assert_eq!(cleaned.segments_after, 2);
    assert_eq!(bench.log.segment_count(), 3);
    assert_eq!(cleaned.keys, 7);
    assert!(cleaned.bytes_after < cleaned.bytes_before / 4);
    for n in 0..4 {
        let key = format!("k{n}");
        assert_eq!(of_key(&bench, &key), [(56 + n, Some((56 + n).to_string()))]);
    }
    assert_eq!(bench.log.log_end_offset(), end);
    assert_eq!(bench.log.cleaned_up_to(), cleaned.up_to);
    // Nothing new came: there is nothing to do, also after a restart.
    assert_eq!(clean_at(&bench, 1000).by, CleanedBy::Nothing);
    let all = records(&bench);
    let bench = bench.reopen(config());
    assert_eq!(bench.report.scanned_bytes, 0);
    assert_eq!(records(&bench), all);
    assert_eq!(clean_at(&bench, 1000).by, CleanedBy::Nothing);
}

#[test]
fn a_fetch_in_a_gap_gets_what_follows() {
    let bench = Bench::new(config());
    (0..30).for_each(|n| {
        put(&bench, "k", &n.to_string(), 1000 + n);
    });
    (0..18).for_each(|_| {
        let value = format!("{:>50}", "f");
        bench.put_as(keyed("filler", Some(&value), 2000), leader(3));
    });
    bench.dir.run_pending();
    clean_at(&bench, 2000);
    let log = &bench.log;
    for from in 0..29 {
        let read = log
            .read(offset(from), log.log_end_offset(), 1, true)
            .unwrap();
        assert_eq!(read.start_offset, offset(29), "from {from}");
        let found = log.find_by_timestamp(time(1000 + from), log.log_end_offset());
        assert_eq!(found.unwrap().unwrap().offset, offset(29), "at {from}");
    }
    // Epochs do not depend on which records are left.
    let known = EpochEnd::Known {
        epoch: LeaderEpoch::new(0),
        end: offset(30),
    };
    assert_eq!(log.epoch_end(LeaderEpoch::new(0)), known);
    let newest = log.max_timestamp(log.log_end_offset()).unwrap().unwrap();
    assert_eq!(newest.timestamp, time(2000));
}

#[test]
fn a_tombstone_goes_after_its_horizon_and_hides_until_then() {
    let bench = Bench::new(config());
    put(&bench, "k", "old", 1000);
    bench.put(keyed("k", None, 1000));
    fill(&bench, 1000);
    clean_at(&bench, 2000);
    assert_eq!(of_key(&bench, "k"), [(1, None)]);
    fill(&bench, 2100);
    clean_at(&bench, 2499);
    assert_eq!(of_key(&bench, "k"), [(1, None)], "its horizon is 2500");
    fill(&bench, 2200);
    clean_at(&bench, 2500);
    assert_eq!(of_key(&bench, "k"), []);
    assert_eq!(bench.log.log_start_offset(), offset(0));
}

#[test]
fn append_times_are_those_of_records_that_are_left() {
    let bench = Bench::new(config());
    let mut builder = BatchBuilder::new(Codec::None);
    for key in ["gone", "left"] {
        builder
            .add(time(5), Some(key.as_bytes()), Some(&[b'v'; 40]), &[])
            .unwrap();
    }
    let mut batch = builder.build().unwrap().to_vec();
    let mut header = BatchHeader::parse(&batch).unwrap();
    header.attributes |= 1 << 3;
    header.max_timestamp = time(1500);
    let sealed = palisade_protocol::batch::seal(&header, &batch[BATCH_HEADER_LEN..]);
    batch[..BATCH_HEADER_LEN].copy_from_slice(&sealed);
    bench.put(batch);
    put(&bench, "gone", "again", 1600);
    fill(&bench, 1700);
    clean_at(&bench, 1700);
    let end = bench.log.log_end_offset();
    let found = bench
        .log
        .find_by_timestamp(time(1500), end)
        .unwrap()
        .unwrap();
    assert_eq!((found.offset, found.timestamp), (offset(1), time(1500)));
    let found = bench
        .log
        .find_by_timestamp(time(1501), end)
        .unwrap()
        .unwrap();
    assert_eq!((found.offset, found.timestamp), (offset(2), time(1600)));
}

#[test]
fn readers_keep_what_they_hold() {
    let bench = Bench::new(config());
    (0..40).for_each(|n| {
        put(&bench, "k", &n.to_string(), 1000);
    });
    fill(&bench, 1000);
    let log = &bench.log;
    let held = log
        .read(offset(0), log.log_end_offset(), 1 << 20, true)
        .unwrap();
    let slice = held.slice.unwrap();
    let before = slice.as_ref().to_vec();
    clean_at(&bench, 1000);
    assert_eq!(slice.as_ref(), before);
    let names: Vec<String> = {
        use crate::fs::Fs as _;
        let entries = bench.fs.list(bench.file("x").parent().unwrap()).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    };
    let left = |end: &str| names.iter().any(|name| name.ends_with(end));
    assert!(
        !left(".deleted") && !left(".cleaned") && !left(".swap"),
        "{names:?}"
    );
}

#[test]
fn lags_and_ratio_decide_when() {
    let bench = Bench::new(LogConfig {
        min_compaction_lag_ms: 100,
        ..config()
    });
    (0..40).for_each(|_| {
        put(&bench, "k", "v", 1000);
    });
    fill(&bench, 1000);
    let end = bench.log.log_end_offset();
    let dirtiness = |now| bench.log.dirtiness(end, time(now));
    assert_eq!(dirtiness(1099), None, "too young");
    let found = dirtiness(1100).unwrap();
    assert_eq!((found.clean_bytes, found.millionths), (0, 1_000_000));
    assert!(found.is_due);
    assert!(
        bench.log.dirtiness(offset(3), time(1100)).is_none(),
        "not stable"
    );
    clean_at(&bench, 1100);
    (0..40).for_each(|n| {
        put(&bench, &format!("k{n}"), "v", 1100);
    });
    fill(&bench, 1100);
    clean_at(&bench, 1200);
    put(&bench, "k", "v", 1200);
    fill(&bench, 1200);
    let found = bench
        .log
        .dirtiness(bench.log.log_end_offset(), time(1300))
        .unwrap();
    assert!(found.clean_bytes > 0 && found.millionths < 500_000 && !found.is_due);
    bench.log.set_config(LogConfig {
        max_compaction_lag_ms: 50,
        ..config()
    });
    let found = bench
        .log
        .dirtiness(bench.log.log_end_offset(), time(1300))
        .unwrap();
    assert!(found.is_due, "overdue");
    bench.log.set_config(LogConfig {
        compact: false,
        ..config()
    });
    assert_eq!(clean_at(&bench, 9000).by, CleanedBy::Nothing);
}

#[test]
fn damage_ends_the_cleaning_and_is_told() {
    // In the records, and in a base offset, which no batch's checksum covers.
    for (at, mask) in [(90, 1), (7, 1)] {
        let bench = Bench::new(config());
        (0..40).for_each(|n| {
            put(&bench, "k", &n.to_string(), 1000);
        });
        fill(&bench, 1000);
        let before = bench.log.segment_count();
        bench
            .fs
            .flip(&bench.file("00000000000000000000.log"), at, mask);
        let end = bench.log.log_end_offset();
        let cleaned = bench
            .log
            .clean(end, time(1000), &CleanOptions::default(), &mut ());
        assert!(
            matches!(cleaned, Err(StorageError::Corrupt { .. })),
            "{cleaned:?}"
        );
        assert_eq!(bench.log.segment_count(), before);
        assert_eq!(bench.log.dirtiness(end, time(1000)), None);
        assert_eq!(clean_at(&bench, 1000).by, CleanedBy::Nothing);
    }
}

/// What a client calls gzip and is not: the checksum is right, the records are not to be had.
#[test]
fn a_batch_that_does_not_open_is_named_by_its_own_offsets() {
    let bench = Bench::new(config());
    put(&bench, "k", "before", 1000);
    let mut garbage = batch(7, 5, 20, 1000);
    garbage[22] |= Codec::Gzip.id() as u8;
    let crc = crc32c::crc32c(&garbage[21..]);
    garbage[17..21].copy_from_slice(&crc.to_be_bytes());
    bench.put(garbage);
    put(&bench, "k", "behind", 1000);
    fill(&bench, 1000);
    let end = bench.log.log_end_offset();
    let cleaned = bench
        .log
        .clean(end, time(1000), &CleanOptions::default(), &mut ());
    let Err(StorageError::Corrupt {
        from, to, reason, ..
    }) = cleaned
    else {
        panic!("{cleaned:?}");
    };
    assert_eq!((from, to), (offset(1), offset(6)));
    assert_eq!(reason, "does not decompress");
}

#[test]
fn without_room_a_pass_waits() {
    let bench = Bench::new(config());
    (0..40).for_each(|n| {
        put(&bench, "k", &n.to_string(), 1000);
    });
    fill(&bench, 1000);
    bench.fs.set_capacity(bench.fs.used() + 100);
    assert_eq!(clean_at(&bench, 1000).by, CleanedBy::NoRoom);
    bench.fs.set_capacity(1 << 30);
    assert_eq!(clean_at(&bench, 1000).by, CleanedBy::Done);
}

fn transactional(key: &str, sequence: i32) -> Vec<u8> {
    let id = ProducerId::new(9);
    let mut builder = BatchBuilder::new(Codec::None)
        .producer(id, ProducerEpoch::new(0), sequence)
        .transactional(true);
    builder
        .add(time(1000), Some(key.as_bytes()), Some(&[b'v'; 40]), &[])
        .unwrap();
    builder.build().unwrap().to_vec()
}

fn marker(commit: bool) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None)
        .producer(ProducerId::new(9), ProducerEpoch::new(0), -1)
        .transactional(true)
        .control(true);
    let key = [0, 0, 0, u8::from(commit)];
    builder
        .add(time(1000), Some(&key), Some(&[0, 0, 0, 0, 0, 1]), &[])
        .unwrap();
    builder.build().unwrap().to_vec()
}

#[test]
fn an_aborted_record_replaces_nothing() {
    let bench = Bench::new(config());
    put(&bench, "k", "committed", 1000);
    bench.put(transactional("k", 0));
    bench.put(marker(false));
    (1..9).for_each(|n| {
        bench.put(transactional("other", n));
    });
    bench.put(marker(true));
    fill(&bench, 1000);
    clean_at(&bench, 1000);
    assert_eq!(of_key(&bench, "k"), [(0, Some("committed".to_owned()))]);
    // Its data is gone, its marker and entry are not: the horizon is set by the next pass.
    let aborted = |bench: &Bench| {
        let end = bench.log.log_end_offset();
        bench
            .log
            .aborted_transactions(Offset::ZERO, end)
            .unwrap()
            .len()
    };
    assert_eq!(aborted(&bench), 1);
    fill(&bench, 1000);
    clean_at(&bench, 2000);
    assert_eq!(aborted(&bench), 1);
    fill(&bench, 1000);
    clean_at(&bench, 3000);
    assert_eq!(aborted(&bench), 0, "marker and entry go together");
    assert_eq!(of_key(&bench, "k"), [(0, Some("committed".to_owned()))]);
}

/// Path of the only transaction index there is.
fn transaction_index(bench: &Bench) -> std::path::PathBuf {
    let entries = bench.fs.as_fs().list(&bench.file("")).unwrap();
    let mut names = entries.iter().map(|entry| entry.name.as_str());
    let name = names.find(|name| name.ends_with(".txnindex"));
    bench.file(name.expect("a transaction index"))
}

#[test]
fn a_lost_transaction_index_is_made_again_from_the_records() {
    for earlier in [false, true] {
        let bench = Bench::new(config());
        put(&bench, "k", "committed", 1000);
        bench.put(transactional("k", 0));
        if earlier {
            // The marker stands in another segment than the data.
            fill(&bench, 1000);
        }
        bench.put(marker(false));
        fill(&bench, 1000);
        let path = transaction_index(&bench);
        let content = bench.fs.content(&path).unwrap();
        bench.fs.flip(&path, 20, 1);
        assert_eq!(clean_at(&bench, 1000).by, CleanedBy::Done);
        assert_eq!(of_key(&bench, "k"), [(0, Some("committed".to_owned()))]);
        let path = transaction_index(&bench);
        assert_eq!(bench.fs.content(&path).unwrap(), content);
    }
}

#[test]
fn a_transaction_index_that_found_no_room_is_made_again_by_the_next_pass() {
    let bench = Bench::new(config());
    put(&bench, "k", "committed", 1000);
    bench.put(transactional("k", 0));
    bench.put(marker(false));
    fill(&bench, 1000);
    bench.fs.flip(&transaction_index(&bench), 20, 1);
    bench.fs.refuse_growth_at(bench.fs.growths());
    assert_eq!(clean_at(&bench, 1000).by, CleanedBy::Overtaken);
    assert_eq!(clean_at(&bench, 1000).by, CleanedBy::Done);
    assert_eq!(of_key(&bench, "k"), [(0, Some("committed".to_owned()))]);
}

#[test]
fn without_its_transaction_index_a_segment_is_not_cleaned() {
    let bench = Bench::new(config());
    put(&bench, "k", "committed", 1000);
    bench.put(transactional("k", 0));
    fill(&bench, 1000);
    bench.put(marker(false));
    fill(&bench, 1000);
    let path = transaction_index(&bench);
    bench.fs.flip(&path, 20, 1);
    // Which producers had a transaction open at the front of the segment is lost too.
    let snapshot = path.with_extension("snapshot");
    bench.fs.as_fs().remove_file(&snapshot).unwrap();
    let end = bench.log.log_end_offset();
    let cleaned = bench
        .log
        .clean(end, time(1000), &CleanOptions::default(), &mut ());
    let Err(StorageError::Corrupt { path: named, .. }) = cleaned else {
        panic!("{cleaned:?}");
    };
    assert_eq!(*named, *path);
    assert_eq!(bench.log.dirtiness(end, time(1000)), None, "no more passes");
    assert_eq!(bench.log.damage(), [], "all of it is served");
}

#[test]
fn gaps_are_no_damage_under_another_policy() {
    let bench = Bench::new(config());
    (0..40).for_each(|n| {
        put(&bench, &format!("k{}", n % 9), &n.to_string(), 1000);
    });
    fill(&bench, 1000);
    clean_at(&bench, 1000);
    let all = records(&bench);
    let deleting = LogConfig {
        compact: false,
        ..config()
    };
    // Without its seal the segment is looked through batch by batch.
    let seal = bench.file("00000000000000000000.seal");
    bench.fs.flip(&seal, 20, 1);
    let bench = bench.crash(Crash::PowerLoss, deleting);
    assert_eq!(bench.log.damage(), []);
    assert_eq!(records(&bench), all);
}

#[test]
fn a_cut_in_a_gap_ends_the_log_there() {
    let bench = Bench::new(config());
    (0..40).for_each(|n| {
        put(&bench, "k", &n.to_string(), 1000);
    });
    fill(&bench, 1000);
    clean_at(&bench, 1000);
    bench.log.truncate_to(offset(20)).unwrap();
    assert_eq!(bench.log.log_end_offset(), offset(20));
    assert_eq!(bench.log.cleaned_up_to(), offset(20));
    assert_eq!(put(&bench, "k", "new", 1000), 20);
    assert_eq!(of_key(&bench, "k"), [(20, Some("new".to_owned()))]);
}

#[test]
fn a_follower_takes_over_a_cleaned_log() {
    let bench = Bench::new(config());
    (0..40).for_each(|n| {
        put(&bench, &format!("k{}", n % 9), &n.to_string(), 1000);
    });
    fill(&bench, 1000);
    clean_at(&bench, 1000);
    let follower = Bench::on(
        FaultyFs::new(),
        LogConfig {
            flush_policy: FlushPolicy::Ack,
            ..config()
        },
    );
    let (mut from, end) = (offset(0), bench.log.log_end_offset());
    while from < end {
        let read = bench.log.read(from, end, 500, true).unwrap();
        for item in BatchIter::new(read.slice.unwrap().as_ref()) {
            let (_, batch) = item.unwrap();
            follower.put_as(batch.to_vec(), AppendAs::Replica);
        }
        from = read.next_offset;
    }
    follower.dir.run_pending();
    assert_eq!(follower.log.log_end_offset(), end);
    assert_eq!(records(&follower), records(&bench));
    let follower = follower.crash(Crash::PowerLoss, config());
    assert_eq!(follower.log.log_end_offset(), end);
    assert_eq!(records(&follower), records(&bench));
}

/// Offsets of the producer snapshots on disk, lowest first.
fn snapshots(bench: &Bench) -> Vec<i64> {
    let entries = bench.fs.as_fs().list(&bench.file("")).unwrap();
    let offset = |name: &str| snapshot::offset_of(name).map(|offset| offset.value());
    let mut found: Vec<i64> = entries.iter().filter_map(|e| offset(&e.name)).collect();
    found.sort_unstable();
    found
}

/// Sequence `n` of producer 9, as its record number `n`.
fn sequenced(n: i32) -> Vec<u8> {
    let mut builder =
        BatchBuilder::new(Codec::None).producer(ProducerId::new(9), ProducerEpoch::new(0), n);
    builder
        .add(time(1000), Some(b"key"), Some(&[b'v'; 80]), &[])
        .unwrap();
    builder.build().unwrap().to_vec()
}

#[test]
fn snapshots_go_with_their_segments() {
    let bench = Bench::new(config());
    (0..200).for_each(|n| {
        bench.put(sequenced(n));
    });
    bench.dir.run_pending();
    let before = snapshots(&bench);
    assert!(before.len() > 20, "one for each segment: {before:?}");
    clean_at(&bench, 1000);
    let (left, segments) = (snapshots(&bench), bench.log.segment_count());
    assert!(left.len() < segments, "{left:?} for {segments} segments");
    // One that an older pass left behind, and the rolled segments of a later one.
    let lost = bench.file(&format!("{:020}.snapshot", before[3]));
    let last = bench.file(&format!("{:020}.snapshot", left[0]));
    bench.fs.replace(&lost, &bench.fs.content(&last).unwrap());
    assert_eq!(snapshots(&bench).len(), left.len() + 1);
    let bench = bench.reopen(config());
    assert!(!snapshots(&bench).contains(&before[3]), "gone at the start");
    // What the producer did is known all the same, after a crash too.
    let bench = bench.crash(Crash::PowerLoss, config());
    assert_eq!(bench.put(sequenced(199)).base_offset, offset(199));
    assert_eq!(bench.put(sequenced(200)).base_offset, offset(200));
}

#[test]
fn the_oldest_snapshot_of_a_segment_without_its_own_stays() {
    let bench = Bench::new(config());
    (0..200).for_each(|n| {
        bench.put(sequenced(n));
    });
    bench.dir.run_pending();
    let before = snapshots(&bench);
    // The first segment is now a later one, and its snapshot is not there.
    bench.log.delete_records_before(offset(before[2])).unwrap();
    let missing = bench.file(&format!("{:020}.snapshot", before[2]));
    bench.fs.as_fs().remove_file(&missing).unwrap();
    clean_at(&bench, 1000);
    let left = snapshots(&bench);
    assert_eq!(left.first(), Some(&before[3]));
    assert!(left.len() <= bench.log.segment_count(), "{left:?}");
}

#[test]
fn a_page_that_the_disk_does_not_give_back_ends_the_cleaning_of_its_log_alone() {
    let bench = Bench::new(config());
    (0..30).for_each(|n| {
        put(&bench, "k", &n.to_string(), 1000);
    });
    fill(&bench, 1000);
    let end = bench.log.log_end_offset();
    let segment = bench.log.segments.load()[1].clone();
    let length = keyed("k", Some(&format!("{:>50}", "")), 1000).len();
    // In the record of its second batch.
    bench.fs.spoil(&segment.path, length + 70..length + 80);
    segment.evict();
    let lost = segment.base.value() + 1;
    drop(segment);
    let cleaned = bench
        .log
        .clean(end, time(1000), &CleanOptions::default(), &mut ());
    let error = cleaned.unwrap_err();
    let is_read =
        |error| matches!(error, StorageError::Io { operation, .. } if operation == "read");
    assert!(is_read(error));
    assert!(!bench.dir.is_offline());
    let damage = bench.log.damage();
    assert_eq!(damage.len(), 1);
    assert_eq!(damage[0].from..damage[0].to, offset(lost)..offset(lost + 1));
    assert_eq!(bench.log.dirtiness(end, time(1000)), None);
    let behind = bench.log.read(offset(lost + 1), end, 1, true).unwrap();
    assert_eq!(behind.start_offset, offset(lost + 1));
    put(&bench, "k", "last", 1000);
    let spec = LogSpec {
        dir_name: "u-0".into(),
        topic_id: TopicId::from_bytes([6; 16]),
        leader_epoch: None,
    };
    let (other, _) = bench
        .dir
        .open_log(spec, config(), Arc::new(NoObserver), time(0))
        .unwrap();
    other
        .append(&mut keyed("k", Some("v"), 1000), leader(0), time(1000))
        .unwrap();
    drop(other);
    // Marked in its seal, it is the first thing that the next start looks at.
    let bench = bench.crash(Crash::Kill, config());
    assert_eq!(bench.log.damage()[0].from, offset(lost));
    assert_eq!(bench.log.dirtiness(end, time(1000)), None);
}
