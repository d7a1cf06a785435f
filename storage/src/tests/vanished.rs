//! Files that somebody took away: noticed, never made anew.

use std::path::Path;

use crate::fs::{Crash, FaultyFs, Fs};
use crate::testing::*;
use crate::types::{BrokerId, PartitionIndex, TopicId, Uuid};
use crate::{FlushPolicy, FoundLog, LogConfig, LogDir, MetaProperties, StorageError};

fn meta() -> MetaProperties {
    MetaProperties {
        cluster_id: "c".into(),
        node_id: BrokerId::new(1),
        directory_id: Uuid::from_bytes([1; 16]),
    }
}

/// Several segments, stopped cleanly.
fn stopped(config: LogConfig) -> FaultyFs {
    let bench = Bench::new(config);
    bench.fill(0, 60);
    bench.log.note_high_watermark(offset(60));
    bench.dir.close(1).unwrap();
    bench.fs.clone()
}

fn files(fs: &FaultyFs) -> Vec<std::path::PathBuf> {
    let dir = Path::new(DIR).join(LOG);
    let names = fs.list(&dir).unwrap_or_default().into_iter();
    let mut paths: Vec<_> = names.map(|entry| dir.join(entry.name)).collect();
    paths.sort_unstable();
    paths
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

fn remove(fs: &FaultyFs, wanted: impl Fn(&str) -> bool) {
    for path in files(fs) {
        if wanted(path.extension().unwrap_or_default().to_str().unwrap()) {
            fs.remove_file(&path).unwrap();
        }
    }
    fs.sync_dir(&Path::new(DIR).join(LOG)).unwrap();
}

/// Takes files away.
type Loss = fn(&FaultyFs);

#[test]
fn a_log_without_its_records_is_refused_at_every_start() {
    let losses: [(&str, Loss); 4] = [
        ("directory", |fs| {
            remove(fs, |_| true);
            fs.remove_dir(&Path::new(DIR).join(LOG)).unwrap();
        }),
        ("content", |fs| remove(fs, |_| true)),
        ("segments", |fs| remove(fs, |extension| extension == "log")),
        ("bytes", |fs| {
            for path in files(fs) {
                if is_log(&path) {
                    fs.replace(&path, b"");
                }
            }
        }),
    ];
    for (what, lose) in losses {
        let fs = stopped(small());
        lose(&fs);
        let left = files(&fs);
        for crash in [Crash::Kill, Crash::PowerLoss] {
            let error = Bench::try_on(fs.clone(), small()).err();
            let error = error.unwrap_or_else(|| panic!("{what} lost, and opened"));
            assert!(
                matches!(&error, StorageError::RecordsGone { to, .. } if *to == offset(60)),
                "{what}: {error}"
            );
            assert_eq!(files(&fs), left, "{what}: nothing is touched");
            fs.restart(crash);
        }
        let dir = LogDir::open(Path::new(DIR), fs.as_fs(), manual()).unwrap();
        assert!(dir.remembers(LOG, TopicId::from_bytes([5; 16])));
        assert!(
            !dir.remembers(LOG, TopicId::from_bytes([6; 16])),
            "another topic"
        );
        assert!(!dir.remembers("t-1", TopicId::from_bytes([5; 16])));
    }
}

#[test]
fn an_operator_gives_lost_records_up_and_no_offset_comes_twice() {
    for emptied in [false, true] {
        let fs = stopped(small());
        let dir = Path::new(DIR).join(LOG);
        remove(&fs, |extension| !emptied || extension == "log");
        if emptied {
            fs.replace(&dir.join("00000000000000000000.log"), b"");
        } else {
            fs.remove_dir(&dir).unwrap();
            fs.create_dir(&dir).unwrap();
            fs.sync_dir(Path::new(DIR)).unwrap();
        }
        assert!(Bench::try_on(fs.clone(), small()).is_err());
        fs.replace(&dir.join("accept-loss"), b"");
        for step in 0..12 {
            // Interrupted anywhere, it is as before or done.
            fs.crash_at(fs.operations() + step);
            let _ = Bench::try_on(fs.clone(), small());
            fs.restart(Crash::PowerLoss);
        }
        let mut bench = Bench::on(fs, small());
        for round in 0..2 {
            assert_eq!(bench.report.damaged_ranges, 0);
            assert_eq!(bench.log.log_start_offset(), offset(60));
            assert_eq!(bench.log.log_end_offset(), offset(60 + 3 * round));
            assert_eq!(bench.log.noted_high_watermark(), offset(60));
            bench.fill(0, 3);
            bench = bench.crash(Crash::PowerLoss, small());
        }
        assert_eq!(read_all(&bench.log)[0], (60, 1, 0));
    }
    // Where nothing is lost the file does not wait for the day that something is.
    let fs = stopped(small());
    let file = Path::new(DIR).join(LOG).join("accept-loss");
    fs.replace(&file, b"");
    let bench = Bench::on(fs.clone(), small());
    assert_eq!(read_all(&bench.log).len(), 60);
    assert!(!fs.exists(&file).unwrap());
}

#[test]
fn what_may_be_empty_is_opened() {
    // Never synced: a power cut takes it, which the policy allows.
    let unsynced = LogConfig {
        flush_policy: FlushPolicy::Os,
        ..small()
    };
    let bench = Bench::new(unsynced.clone());
    bench.put(batch(1, 1, 100, 1000));
    bench.log.note_high_watermark(offset(1));
    bench.dir.checkpoint().unwrap();
    let bench = bench.crash(Crash::PowerLoss, unsynced);
    assert_eq!(bench.log.log_end_offset(), offset(0));

    // All records deleted: the offsets go on.
    let bench = Bench::new(small());
    bench.fill(0, 60);
    bench.log.delete_records_before(offset(60)).unwrap();
    bench.dir.run_pending();
    let mut bench = bench.reopen(small());
    for _ in 0..2 {
        assert_eq!(bench.log.log_end_offset(), offset(60));
        bench = bench.crash(Crash::PowerLoss, small());
    }

    // Compaction may take all that is below the active segment.
    let fs = stopped(small());
    let last = files(&fs).into_iter().rfind(|path| is_log(path)).unwrap();
    remove(&fs, |extension| extension != "metadata");
    fs.replace(&last.with_file_name("00000000000000000060.log"), b"");
    let compacted = LogConfig {
        compact: true,
        ..small()
    };
    let bench = Bench::on(fs, compacted);
    assert_eq!(bench.log.log_end_offset(), offset(60));
}

#[test]
fn lost_first_segments_are_damage_and_no_log_start() {
    let fs = stopped(small());
    let first = Path::new(DIR).join(LOG).join("00000000000000000000.log");
    for extension in ["log", "seal", "index", "timeindex"] {
        fs.remove_file(&first.with_extension(extension)).unwrap();
    }
    let bench = Bench::on(fs, small());
    assert_eq!(bench.log.log_start_offset(), offset(0));
    let damage = bench.log.damage();
    assert_eq!(damage.len(), 1);
    assert_eq!(damage[0].from, offset(0));
    let error = bench
        .log
        .read(offset(0), offset(60), 100, true)
        .unwrap_err();
    assert!(matches!(error, StorageError::Corrupt { .. }), "{error}");
    let read = bench.log.read(damage[0].to, offset(60), 100, true).unwrap();
    assert_eq!(read.start_offset, damage[0].to);
    // An operator moves past it.
    bench.log.delete_records_before(damage[0].to).unwrap();
    bench.dir.run_pending();
    let bench = bench.reopen(small());
    assert_eq!(bench.report.damaged_ranges, 0);
}

#[test]
fn retention_goes_past_an_emptied_segment() {
    let fs = stopped(small());
    let logs = || files(&fs).into_iter().filter(|path| is_log(path));
    let emptied = logs().nth(1).unwrap();
    let (all, last) = (logs().count(), logs().next_back().unwrap());
    assert!(all > 3);
    fs.replace(&emptied, b"");
    let tight = LogConfig {
        retention_bytes: Some(1),
        ..small()
    };
    let bench = Bench::on(fs.clone(), tight);
    bench.log.apply_retention(offset(60), time(2000)).unwrap();
    bench.dir.run_pending();
    assert_eq!(logs().collect::<Vec<_>>(), [last]);
    assert_eq!(bench.log.log_end_offset(), offset(60));
}

#[test]
fn an_identity_is_not_given_twice() {
    let fs = FaultyFs::new();
    let dir = LogDir::open(Path::new(DIR), fs.as_fs(), manual()).unwrap();
    dir.set_meta(meta()).unwrap();
    drop(dir);
    let bench = Bench::on(fs, small());
    bench.fill(0, 3);
    bench.dir.close(1).unwrap();
    let fs = bench.fs.clone();
    drop(bench);
    fs.remove_file(&Path::new(DIR).join("meta.properties"))
        .unwrap();
    let dir = LogDir::open(Path::new(DIR), fs.as_fs(), manual()).unwrap();
    let error = dir.set_meta(meta()).unwrap_err();
    assert!(matches!(error, StorageError::MetaMissing { .. }), "{error}");
    assert_eq!(dir.meta(), None);
    drop(dir);
    // The checkpoints alone tell it too.
    remove(&fs, |_| true);
    fs.remove_dir(&Path::new(DIR).join(LOG)).unwrap();
    let dir = LogDir::open(Path::new(DIR), fs.as_fs(), manual()).unwrap();
    assert!(dir.set_meta(meta()).is_err());
}

#[test]
fn a_stray_log_is_kept_and_seen_no_more() {
    let long = format!("{}-12", "x".repeat(249));
    for name in [LOG, &long] {
        let fs = stopped(small());
        let (old, new) = (Path::new(DIR).join(LOG), Path::new(DIR).join(name));
        fs.rename(&old, &new).unwrap();
        let dir = LogDir::open(Path::new(DIR), fs.as_fs(), manual()).unwrap();
        let found: FoundLog = dir.list().unwrap().remove(0);
        let (_, partition) = name.rsplit_once('-').unwrap();
        assert_eq!(
            found.partition,
            PartitionIndex::new(partition.parse().unwrap())
        );
        let kept_as = dir.set_aside(&found).unwrap();
        assert!(
            kept_as.len() <= 255 && kept_as.ends_with("-stray"),
            "{kept_as}"
        );
        assert!(kept_as.contains(&format!("-{partition}.")), "{kept_as}");
        drop(dir);
        fs.restart(Crash::PowerLoss);
        let dir = LogDir::open(Path::new(DIR), fs.as_fs(), manual()).unwrap();
        dir.run_pending();
        assert!(dir.list().unwrap().is_empty());
        let kept = fs.list(&Path::new(DIR).join(&kept_as)).unwrap();
        assert!(kept.iter().any(|entry| entry.name.ends_with(".log")));
    }
}
