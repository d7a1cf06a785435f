use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::audit::{Class, LineInfo};

/// A file in memory that can be told to fail, keeping part of what was written.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    /// Space of the disk, nobody else's and this file's.
    sized: bool,
    free: u64,
    allocated: u64,
    /// The next append writes this many bytes and fails.
    fail_after: Option<usize>,
    truncate_fails: bool,
    /// So many syncs fail.
    sync_fails: u32,
}

impl AuditFile for Memory {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut content = self.0.lock();
        match content.fail_after.take() {
            Some(part) => {
                content.bytes.extend(&bytes[..part.min(bytes.len())]);
                Err(io::Error::other("disk full"))
            }
            None => {
                let end = content.bytes.len() + bytes.len();
                // Disks without a size are those that no test of space looks at.
                if content.sized {
                    content.take_space(end as u64)?;
                }
                content.bytes.extend(bytes);
                Ok(())
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut content = self.0.lock();
        match content.sync_fails.checked_sub(1) {
            Some(left) => {
                content.sync_fails = left;
                Err(io::Error::other("the device is gone"))
            }
            None => Ok(()),
        }
    }

    fn size(&mut self) -> io::Result<u64> {
        Ok(self.0.lock().bytes.len() as u64)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut content = self.0.lock();
        if std::mem::take(&mut content.truncate_fails) {
            return Err(io::Error::other("no"));
        }
        content.bytes.truncate(len as usize);
        let behind = content.allocated.saturating_sub(len);
        content.allocated -= behind;
        content.free += behind;
        Ok(())
    }

    fn allocate(&mut self, _from: u64, to: u64) -> io::Result<()> {
        self.0.lock().take_space(to)
    }

    fn allocated(&mut self) -> io::Result<u64> {
        Ok(self.0.lock().allocated)
    }

    fn free(&mut self) -> io::Result<u64> {
        Ok(self.0.lock().free)
    }

    fn tail(&mut self, max: u64) -> io::Result<Vec<u8>> {
        let content = self.0.lock();
        let from = content.bytes.len().saturating_sub(max as usize);
        Ok(content.bytes[from..].to_vec())
    }
}

impl Content {
    fn take_space(&mut self, to: u64) -> io::Result<()> {
        let more = to.saturating_sub(self.allocated);
        if more > self.free {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.free -= more;
        self.allocated += more;
        Ok(())
    }
}

impl Memory {
    fn cut(&self, bytes: usize) {
        let mut content = self.0.lock();
        let len = content.bytes.len() - bytes;
        content.bytes.truncate(len);
    }

    /// Verifies the whole file and returns its lines.
    fn verified(&self) -> Vec<LineInfo> {
        let bytes = self.0.lock().bytes.clone();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        let lines: Vec<LineInfo> = text
            .lines()
            .map(|line| verify_line(line.as_bytes()).unwrap())
            .collect();
        for pair in lines.windows(2) {
            assert_eq!(pair[1].prev, pair[0].hash);
            if pair[0].stream == pair[1].stream {
                assert_eq!(pair[1].seq, pair[0].seq + 1);
                assert!(pair[1].at >= pair[0].at);
            } else {
                assert_eq!(pair[1].seq, 1);
            }
        }
        lines
    }
}

fn stream() -> StreamId {
    StreamId {
        cluster: "5L6g".into(),
        node: 3,
    }
}

fn at(seconds: i64) -> UnixMicros {
    UnixMicros::new(1_787_307_330_000_000 + seconds * 1_000_000)
}

fn event(action: Action) -> AuditEvent {
    AuditEvent::new(action, Outcome::Ok, AuditContext::default())
}

fn put<F: AuditFile>(
    writer: &mut AuditWriter<F>,
    batch: &[(UnixMicros, &AuditEvent)],
) -> Result<(), AppendError> {
    writer.append(batch, false)
}

fn open(file: &Memory) -> (AuditWriter<Memory>, Started) {
    open_at(file, 0)
}

fn open_at(file: &Memory, seconds: i64) -> (AuditWriter<Memory>, Started) {
    AuditWriter::open(file.clone(), &stream(), at(seconds)).unwrap()
}

fn actions(file: &Memory) -> Vec<String> {
    file.verified()
        .into_iter()
        .map(|line| line.action)
        .collect()
}

#[test]
fn the_first_line_begins_the_chain() {
    let file = Memory::default();
    let (mut writer, started) = open(&file);
    assert_eq!((started.boot, started.clean), (1, true));
    assert_eq!(writer.stream(), "5L6g/3/1");
    put(
        &mut writer,
        &[
            (at(1), &event(Action::LoginOk)),
            (at(2), &event(Action::Logout)),
        ],
    )
    .unwrap();
    let lines = file.verified();
    assert_eq!(lines[0].prev, NO_PREVIOUS);
    assert_eq!(actions(&file), ["start", "login_ok", "logout"]);
    assert_eq!(writer.head(), (3, lines[2].hash.as_str()));
}

#[test]
fn a_restart_continues_the_chain() {
    let file = Memory::default();
    let (mut writer, _) = open(&file);
    put(&mut writer, &[(at(1), &event(Action::Stop))]).unwrap();
    let (writer, started) = open_at(&file, 2);
    assert_eq!((started.boot, started.clean), (2, true));
    assert_eq!(writer.stream(), "5L6g/3/2");
    let (_, started) = open_at(&file, 3);
    assert_eq!((started.boot, started.clean), (3, false));
    // A clock that went back while the node was down.
    open_at(&file, -60);
    let expected = [
        "start",
        "stop",
        "start",
        "unclean_start",
        "unclean_start",
        "clock_step",
    ];
    assert_eq!(actions(&file), expected);
}

#[test]
fn a_torn_line_is_cut_wherever_it_is_torn() {
    let whole = Memory::default();
    let (mut writer, _) = open(&whole);
    let before = whole.0.lock().bytes.len();
    put(&mut writer, &[(at(1), &event(Action::LoginOk))]).unwrap();
    let line = whole.0.lock().bytes.len() - before;
    for missing in 1..=line {
        let file = Memory::default();
        file.0.lock().bytes = whole.0.lock().bytes.clone();
        file.cut(missing);
        let (_, started) = open_at(&file, 2);
        assert_eq!(started.boot, 2);
        assert!(!started.clean && !started.broken);
        let expected: &[&str] = if missing == 1 {
            // Only the line feed was missing: the event is whole.
            &["start", "login_ok", "unclean_start"]
        } else {
            &["start", "unclean_start"]
        };
        assert_eq!(actions(&file), expected, "{missing} bytes missing");
        let torn = if missing == 1 { 0 } else { line - missing };
        assert_eq!(started.torn_bytes, torn as u64);
    }
}

#[test]
fn a_file_with_nothing_but_a_torn_line_is_no_clean_start() {
    let file = Memory::default();
    file.0.lock().bytes = b"{\"v\":1,".to_vec();
    let (_, started) = open(&file);
    assert_eq!((started.clean, started.torn_bytes), (false, 7));
    assert_eq!(actions(&file), ["unclean_start"]);
}

#[test]
fn a_changed_last_line_breaks_the_chain_in_the_open() {
    let file = Memory::default();
    let (mut writer, _) = open(&file);
    put(&mut writer, &[(at(1), &event(Action::Stop))]).unwrap();
    let len = file.0.lock().bytes.len();
    file.0.lock().bytes[len - 10] ^= 1;
    let (_, started) = open(&file);
    assert!(started.broken && !started.clean);
    assert_eq!(started.boot, 2);
    let bytes = file.0.lock().bytes.clone();
    let text = String::from_utf8(bytes).unwrap();
    let last = text.lines().last().unwrap();
    assert!(last.contains("\"reason\":\"chain_broken\"") && last.contains(NO_PREVIOUS));
}

#[test]
fn a_failed_batch_leaves_no_trace_and_can_be_repeated() {
    for part in [0, 1, 100, 10_000] {
        for truncate_fails in [false, true] {
            let file = Memory::default();
            let (mut writer, _) = open(&file);
            file.0.lock().fail_after = Some(part);
            file.0.lock().truncate_fails = truncate_fails;
            let (one, two) = (event(Action::AclCreate), event(Action::AclDelete));
            let batch = [(at(1), &one), (at(2), &two)];
            assert!(put(&mut writer, &batch).is_err());
            put(&mut writer, &batch).unwrap();
            assert_eq!(actions(&file), ["start", "acl_create", "acl_delete"]);
        }
    }
}

#[test]
fn a_batch_that_was_not_synced_stands_in_the_file_once() {
    for truncate_fails in [false, true] {
        let file = Memory::default();
        let (mut writer, _) = open(&file);
        let (one, two) = (event(Action::LoginOk), event(Action::AclCreate));
        let batch = [(at(1), &one), (at(2), &two)];
        put(&mut writer, &batch).unwrap();
        writer.sync().unwrap();
        let head = writer.head();
        let (seq, hash) = (head.0, head.1.to_owned());

        let batch = [(at(3), &one), (at(4), &two)];
        file.0.lock().sync_fails = 3;
        for _ in 0..3 {
            put(&mut writer, &batch).unwrap();
            file.0.lock().truncate_fails = truncate_fails;
            assert!(writer.sync().is_err());
            assert_eq!(writer.head(), (seq, hash.as_str()));
        }
        put(&mut writer, &batch).unwrap();
        writer.sync().unwrap();
        let expected = ["start", "login_ok", "acl_create", "login_ok", "acl_create"];
        assert_eq!(actions(&file), expected);
    }
}

#[test]
fn what_was_never_synced_is_not_left_behind() {
    let file = Memory::default();
    let (mut writer, _) = open(&file);
    put(&mut writer, &[(at(1), &event(Action::LoginOk))]).unwrap();
    file.0.lock().sync_fails = 1;
    assert!(writer.sync().is_err());
    // The login was refused: its line would claim what did not happen.
    assert_eq!(actions(&file), ["start"]);
}

#[test]
fn time_never_goes_back() {
    let file = Memory::default();
    let (mut writer, _) = open(&file);
    let login = event(Action::LoginOk);
    put(
        &mut writer,
        &[(at(100), &login), (at(99), &login), (at(-3500), &login)],
    )
    .unwrap();
    put(&mut writer, &[(at(-3499), &login), (at(101), &login)]).unwrap();
    assert_eq!(
        actions(&file),
        [
            "start",
            "login_ok",
            "clock_step",
            "login_ok",
            "login_ok",
            "login_ok",
            "login_ok"
        ]
    );
    assert_eq!(file.verified().last().unwrap().at, at(101));
}

#[test]
fn a_real_file_is_private_and_survives() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let (mut writer, _) = AuditWriter::open_path(&path, &stream(), at(0)).unwrap();
    put(&mut writer, &[(at(1), &event(Action::Stop))]).unwrap();
    writer.sync().unwrap();
    drop(writer);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (_, started) = AuditWriter::open_path(&path, &stream(), at(2)).unwrap();
    assert_eq!((started.boot, started.clean), (2, true));
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 3);
    assert!(
        text.lines()
            .all(|line| verify_line(line.as_bytes()).is_ok())
    );
}

#[test]
fn every_class_has_an_action_that_can_be_written() {
    let file = Memory::default();
    let (mut writer, _) = open(&file);
    for class in Class::VALUES {
        let action = Action::VALUES.iter().find(|a| a.class() == *class).unwrap();
        put(&mut writer, &[(at(1), &event(*action))]).unwrap();
    }
    assert_eq!(file.verified().len(), 1 + Class::VALUES.len());
}

/// A log on a disk with that much free space, and its reserve.
fn with_reserve(free: u64, wanted: u64) -> (Memory, AuditWriter<Memory>, u64) {
    let file = Memory::default();
    file.0.lock().sized = true;
    file.0.lock().free = free;
    let (mut writer, _) = open(&file);
    let reserve = writer.keep_free(wanted).unwrap();
    (file, writer, reserve)
}

#[test]
fn a_reserve_is_at_most_a_tenth_of_what_is_free() {
    let (file, _, reserve) = with_reserve(1_000_000, 10_000);
    assert_eq!(reserve, 10_000);
    let content = file.0.lock();
    let len = content.bytes.len() as u64;
    assert_eq!(content.allocated, len + 10_000);
    drop(content);
    let (file, _, reserve) = with_reserve(100_000, 1 << 40);
    let len = file.0.lock().bytes.len() as u64;
    assert_eq!(reserve, (100_000 - len) / 10);
}

#[test]
fn a_full_disk_leaves_the_reserve_to_whom_it_is_for() {
    let (file, mut writer, _) = with_reserve(1_000_000, 10_000);
    let line = event(Action::TopicCreate);
    let mut second = 0;
    // Somebody else fills the disk.
    file.0.lock().free = 0;
    let refused = loop {
        second += 1;
        assert!(second < 100);
        if let Err(error) = writer.append(&[(at(second), &line)], false) {
            break error;
        }
    };
    assert!(matches!(refused, AppendError::OnlyReserve { .. }) && refused.is_full());
    assert!(!writer.refill(2048));
    let mut kept = 0;
    let refused = loop {
        second += 1;
        match writer.append(&[(at(second), &line)], true) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::Io(_)) && refused.is_full());
    assert!(kept > 10_000 / 1024, "{kept} lines");
    // What is left is too small for a line, and still the log's.
    assert!(writer.reserve_left() < 1024);

    file.0.lock().free = 1_000_000;
    assert!(writer.refill(2048));
    put(&mut writer, &[(at(second), &line)]).unwrap();
    assert!(writer.reserve_left() >= 10_000);
    file.verified();
}

#[test]
fn the_reserve_of_the_process_before_is_found() {
    let (file, writer, reserve) = with_reserve(1_000_000, 10_000);
    drop(writer);
    file.0.lock().free = 0;
    // Its first line already stands in the reserve.
    let (mut writer, _) = open(&file);
    let left = writer.keep_free(10_000).unwrap();
    assert!(left > 0 && left < reserve, "{left}");
    let line = event(Action::LoginOk);
    assert!(writer.append(&[(at(1), &line)], false).is_err());
    writer.append(&[(at(1), &line)], true).unwrap();
}

#[test]
fn without_a_reserve_nothing_is_asked_for() {
    let (file, mut writer, reserve) = with_reserve(100_000, 0);
    assert_eq!(reserve, 0);
    put(&mut writer, &[(at(1), &event(Action::Denied))]).unwrap();
    let content = file.0.lock();
    assert_eq!(content.allocated, content.bytes.len() as u64);
}

#[test]
fn a_reserve_that_is_wanted_no_more_is_given_back() {
    const MIB: u64 = 1 << 20;
    for wanted in [0, MIB] {
        let (file, writer, reserve) = with_reserve(100 * MIB, 4 * MIB);
        assert_eq!(reserve, 4 * MIB);
        drop(writer);
        // Too little for a tenth of it: a smaller reserve is none the smaller for that.
        file.0.lock().free = 0;
        let (mut writer, _) = open(&file);
        assert_eq!(writer.keep_free(wanted).unwrap(), wanted);
        let content = file.0.lock();
        assert_eq!(content.allocated, content.bytes.len() as u64 + wanted);
        drop(content);
        put(&mut writer, &[(at(1), &event(Action::Denied))]).unwrap();
        assert!(writer.reserve_left() >= wanted);
    }
}
