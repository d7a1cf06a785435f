use super::*;
use crate::fs::write_all_at;
use crate::sync::PublishedEnd;

fn file(fs: &FaultyFs, name: &str) -> Arc<dyn FsFile> {
    fs.open(Path::new(name), OpenHow::Create).unwrap()
}

#[test]
fn unsynced_bytes_and_names_are_lost() {
    let fs = FaultyFs::new();
    let a = file(&fs, "/a");
    write_all_at(&*a, b"one", 0).unwrap();
    a.sync().unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    write_all_at(&*a, b"two", 3).unwrap();
    let b = file(&fs, "/b");
    write_all_at(&*b, b"x", 0).unwrap();
    b.sync().unwrap();
    fs.restart(Crash::PowerLoss);
    assert_eq!(fs.content(Path::new("/a")).unwrap(), b"one");
    assert!(
        fs.content(Path::new("/b")).is_none(),
        "its directory was not synced"
    );
    assert!(a.size().is_err(), "handles of an earlier life are dead");
}

#[test]
fn a_kill_keeps_the_page_cache() {
    let fs = FaultyFs::new();
    write_all_at(&*file(&fs, "/a"), b"one", 0).unwrap();
    fs.restart(Crash::Kill);
    assert_eq!(fs.content(Path::new("/a")).unwrap(), b"one");
}

#[test]
fn a_failed_sync_loses_the_bytes_though_the_next_one_succeeds() {
    let fs = FaultyFs::new();
    let a = file(&fs, "/a");
    fs.sync_dir(Path::new("/")).unwrap();
    write_all_at(&*a, b"lost", 0).unwrap();
    fs.fail_sync_at(0);
    assert!(a.sync().is_err());
    a.sync().unwrap();
    fs.restart(Crash::PowerLoss);
    assert_eq!(fs.content(Path::new("/a")).unwrap(), [0; 4]);
}

#[test]
fn torn_crashes_differ_by_seed_and_repeat() {
    let outcome = |seed| {
        let fs = FaultyFs::new();
        let a = file(&fs, "/a");
        fs.sync_dir(Path::new("/")).unwrap();
        write_all_at(&*a, &[7; 8 * SECTOR], 0).unwrap();
        fs.restart(Crash::Torn { seed });
        fs.content(Path::new("/a")).unwrap()
    };
    assert_eq!(outcome(5), outcome(5));
    assert!((0..20).any(|seed| outcome(seed) != outcome(seed + 1)));
}

#[test]
fn a_full_disk_shortens_then_refuses() {
    let fs = FaultyFs::new();
    fs.set_capacity(10);
    let a = file(&fs, "/a");
    assert_eq!(a.write_at(&[1; 8], 0).unwrap(), 8);
    assert_eq!(a.write_at(&[1; 8], 8).unwrap(), 2);
    assert_eq!(
        a.write_at(&[1; 8], 10).unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    a.set_len(4).unwrap();
    assert!(a.allocate(0, 20).is_err());
    assert_eq!(fs.used(), 10, "a failed allocation keeps what it got");
    a.set_len(4).unwrap();
    assert_eq!(fs.used(), 4);
}

#[test]
fn operations_stop_at_the_crash() {
    let fs = FaultyFs::new();
    let a = file(&fs, "/a");
    fs.crash_at(fs.operations() + 1);
    a.sync().unwrap();
    assert!(a.sync().is_err());
    assert!(fs.is_crashed());
    assert!(fs.list(Path::new("/")).is_err());
}

#[test]
#[should_panic(expected = "under a reader")]
fn shrinking_a_mapped_file_is_caught() {
    let fs = FaultyFs::new();
    let a = file(&fs, "/a");
    write_all_at(&*a, &[1; 100], 0).unwrap();
    let _region = a.map(1000, Arc::new(PublishedEnd::new(100))).unwrap();
    let _ = a.set_len(50);
}
