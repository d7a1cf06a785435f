//! Starts on what is there already: ports, passwords, and how a start ends that nobody wants any more.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use palisade_protocol::ApiKey;
use palisade_protocol::batch::compression::Codec;
use palisade_tests::check::eventually;
use palisade_tests::dev::Dev;
use palisade_tests::kafka::ADMIN;
use palisade_tests::node::Node;
use palisade_tests::paths;
use palisade_tests::process::{Process, Stream, is_complaint};
use palisade_tests::requests;
use palisade_tests::tools;
use palisade_tests::wire::Connection;
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(60);

/// What `palisade dev` says when it hears a signal.
const STOPPING: &str = "stopping; Ctrl-C again ends it at once";

/// Partitions of a topic whose logs are opened one after the other.
const MANY: u8 = 40;

fn complaints(dev: &Dev) -> Vec<String> {
    let mut lines = dev.process().lines();
    lines.retain(|line| is_complaint(line));
    lines
}

/// A port that clients know is left to another process for one run, and taken again where it is free.
#[test]
fn a_busy_port_is_replaced_for_one_run() {
    let scratch = paths::scratch();
    let dir = tools::text(scratch.path());
    let start = || Dev::start(&["--data-dir", &dir]);
    let dev = start();
    let first = dev.text(&["bootstrap"]).to_owned();
    let ssl = dev.text(&["listeners", "SSL", "address"]).to_owned();
    assert!(dev.process().terminate().success());

    let held = TcpListener::bind(&first).expect("a port whose broker has ended");
    for _ in 0..2 {
        let dev = start();
        let other = dev.text(&["bootstrap"]);
        assert_ne!(other, first);
        assert_eq!(dev.text(&["listeners", "SSL", "address"]), ssl);
        let port = held.local_addr().expect("its address").port();
        let said = format!(
            "port {port} is in use by another process: a free one is taken for this run; \
             clients need the new address until a start finds {port} free"
        );
        let complaints = complaints(&dev);
        assert!(
            matches!(&complaints[..], [only] if only.ends_with(&said)),
            "{complaints:#?}"
        );
        // What is made for clients is for the broker that runs.
        let conf = fs::read_to_string(dev.file("librdkafka_conf")).expect("a file for clients");
        assert!(conf.contains(&format!("={other}\n")), "{conf}");
        assert!(dev.process().terminate().success());
    }
    drop(held);
    let dev = start();
    assert_eq!(dev.text(&["bootstrap"]), first);
    assert_eq!(complaints(&dev), [""; 0]);
}

/// A file of ports in which one stands twice, as they were written once, does not say that somebody has it.
#[test]
fn a_port_that_stands_twice() {
    let scratch = paths::scratch();
    let dir = tools::text(scratch.path());
    let start = || Dev::start(&["--data-dir", &dir]);
    let dev = start();
    let first = dev.text(&["bootstrap"]).to_owned();
    assert!(dev.process().terminate().success());
    let (_, port) = first.rsplit_once(':').expect("a port");
    let twice = format!("{{\"sasl_ssl\":{port},\"ssl\":{port},\"plaintext\":{port}}}");
    fs::write(scratch.path().join("dev/ports.json"), twice).expect("the file of ports");

    let mut announced = Vec::new();
    for _ in 0..2 {
        let dev = start();
        assert_eq!(dev.text(&["bootstrap"]), first);
        assert_eq!(complaints(&dev), [""; 0]);
        announced.push(dev.text(&["listeners", "SSL", "address"]).to_owned());
        assert!(dev.process().terminate().success());
    }
    assert_eq!(announced[0], announced[1]);
}

/// A start that ends because somebody has its port leaves the logs as a clean stop does, and so does one
/// that is not this directory's node at all.
#[test]
fn a_failed_start_costs_the_next_one_nothing() {
    let mut node = Node::prepare();
    let ssl = node.certificate().bootstrap;
    let busy = |node: &Node| {
        let held = TcpListener::bind(&ssl).expect("a port whose broker has ended");
        let said = node.refuses_to_start();
        let words = "another process listens there; stop that one";
        assert!(said.contains(words), "{said}");
        drop(held);
        said
    };
    let was_clean = |said: &str| {
        assert!(said.contains("last_stop=\"clean\""), "{said}");
        let scans = said.matches("scanned_bytes=").count();
        let none = said.matches("scanned_bytes=0 ").count();
        assert!(scans > 0 && scans == none, "{said}");
    };
    // A directory that nobody has served from yet.
    busy(&node);
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let id = requests::create_topic(&mut connection, "kept", 1, &[]).expect("a topic");
    let records = requests::batch(Codec::None, &["kept"], 1_700_000_000_000);
    let answer = requests::produce(&mut connection, "kept", id, -1, records);
    requests::check(answer.expect("an answer").error_code).expect("a record");
    was_clean(&node.terminate().join("\n"));

    was_clean(&busy(&node));
    was_clean(&busy(&node));
    node.set("node.id", "2");
    let said = node.refuses_to_start();
    assert!(said.contains("belongs to node 1"), "{said}");
    node.set("node.id", "1");
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let log = requests::read_all(&mut connection, "kept", id, 0).expect("the record");
    assert_eq!(log, [(0, b"kept".to_vec())]);
    was_clean(&node.terminate().join("\n"));
}

fn dev(dir: &str) -> Command {
    let mut command = paths::palisade();
    command.args(["dev", "--port", "0", "--data-dir", dir]);
    command
}

/// A start that waits before each log for as long as the file `hold` is there.
fn held(command: &mut Command, hold: &Path) -> Process {
    fs::write(hold, "").expect("a file");
    command
        .env(
            "PALISADE_FAILPOINT",
            format!("open.before_log:hold={}", hold.display()),
        )
        .env("PALISADE_LOG", "info");
    let process = Process::spawn("palisade", command);
    process.wait_for_line(PATIENCE, |line| line.contains("log directory opened"));
    process
}

/// Logs of `many` that are sealed from end to end, as a clean stop leaves them.
fn sealed(data: &Path) -> Vec<u8> {
    let is_sealed = |index: &u8| {
        let log = data.join(format!("many-{index}"));
        let mut entries = fs::read_dir(log).expect("a log");
        entries.any(|entry| {
            let path = entry.expect("an entry").path();
            path.extension().is_some_and(|name| name == "seal")
        })
    };
    (0..MANY).filter(is_sealed).collect()
}

/// Takes the indexes of `many` away: a log that is opened without them is looked through, and is not
/// sealed then.
fn without_indexes(data: &Path) {
    for index in 0..MANY {
        let log = data.join(format!("many-{index}"));
        for entry in fs::read_dir(log).expect("a log") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|name| name == "index") {
                fs::remove_file(path).expect("an index");
            }
        }
    }
}

fn last_two(process: &Process) -> [String; 2] {
    let lines = process.stream(Stream::Out);
    let last = lines.last_chunk().expect("two lines");
    last.clone()
}

/// A signal ends a start between two logs, and Ctrl-C after it at once; what was acknowledged before is
/// there, and the logs that the start had not come to are as the last stop left them.
#[test]
fn a_start_that_is_called_off() {
    let scratch = paths::scratch();
    let (kept, hold) = (scratch.path().join("kept"), scratch.path().join("hold"));
    let dir = tools::text(&kept);
    let first = Dev::start(&["--data-dir", &dir]);
    let mut connection = Connection::open(&first.admin()).expect("a login");
    let id = requests::create_topic(&mut connection, "many", MANY.into(), &[]).expect("a topic");
    for index in 0..MANY {
        let records = requests::batch(Codec::None, &["kept"], 1_700_000_000_000);
        let request = requests::produce_request("many", id, index.into(), -1, records);
        let answer = connection.call(requests::newest(ApiKey::Produce), &request);
        let answer = answer.expect("an answer");
        let code = answer.responses[0].partition_responses[0].error_code;
        requests::check(code).expect("a record");
    }
    drop(connection);
    assert!(first.process().terminate().success());
    let shown = fs::canonicalize(&kept).expect("the directory");
    let shown = shown.display();
    let data = kept.join("data");
    let mut left = sealed(&data).len();
    assert_eq!(left, usize::from(MANY), "not every log is sealed");

    for signal in [Signal::TERM, Signal::INT] {
        without_indexes(&data);
        let one_thread = ["--override", "num.recovery.threads.per.data.dir=1"];
        let process = held(dev(&dir).args(one_thread), &hold);
        process.signal(signal);
        process.wait_for_line(PATIENCE, |line| line == STOPPING);
        fs::remove_file(&hold).expect("the file");
        let exit = process.wait(PATIENCE);
        assert!(exit.success(), "{}", process.output());
        let stays = format!("stopped; everything stays in {shown}");
        assert_eq!(process.stream(Stream::Out), [STOPPING, &stays]);
        // It opened the log that it was at, if it had come to one, and claims of none that it was closed.
        let before = std::mem::replace(&mut left, sealed(&data).len());
        assert!(before - left <= 1, "{before} {left}");
        assert!(!data.join("clean-shutdown").exists());
    }

    let process = held(&mut dev(&dir), &hold);
    process.signal(Signal::INT);
    process.wait_for_line(PATIENCE, |line| line == STOPPING);
    process.signal(Signal::INT);
    let exit = process.wait(PATIENCE);
    assert_eq!(exit.code(), Some(130), "{}", process.output());
    let stays =
        format!("ended at once; everything stays in {shown}, and the next start recovers it");
    assert_eq!(last_two(&process), [STOPPING, &stays]);

    without_indexes(&data);
    let again = Dev::start(&["--data-dir", &dir]);
    // Whatever log it opens shows it.
    assert_eq!(sealed(&data), [0; 0]);
    let mut connection = Connection::open(&again.admin()).expect("a login");
    let log = requests::read_all(&mut connection, "many", id, 0).expect("the record");
    assert_eq!(log, [(0, b"kept".to_vec())]);
    assert_eq!(complaints(&again), [""; 0]);
    assert!(again.process().terminate().success());
}

/// The same for a configured node, and for a temporary directory, which goes.
#[test]
fn other_starts_that_are_called_off() {
    let mut node = Node::prepare();
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    requests::create_topic(&mut connection, "many", 3, &[]).expect("a topic");
    node.terminate();
    let hold = node.dir().join("hold");
    let failpoint = format!("open.before_log:hold={}", hold.display());
    node.env("PALISADE_FAILPOINT", failpoint);
    let starting = || {
        fs::write(&hold, "").expect("a file");
        let process = node.spawn();
        process.wait_for_line(PATIENCE, |line| line.contains("log directory opened"));
        process.signal(Signal::INT);
        process.wait_for_line(PATIENCE, |line| line.ends_with("stopping"));
        process
    };
    let process = starting();
    fs::remove_file(&hold).expect("the file");
    assert!(process.wait(PATIENCE).success(), "{}", process.output());
    let lines = process.lines();
    let served = |line: &&String| line.contains("listening") || line.contains("serving");
    assert_eq!(lines.iter().find(served), None);
    let process = starting();
    process.signal(Signal::INT);
    assert_eq!(process.wait(PATIENCE).code(), Some(130));
    fs::remove_file(&hold).expect("the file");
    node.run();
    node.terminate();

    let scratch = paths::scratch();
    let hold = scratch.path().join("hold");
    fs::write(&hold, "").expect("a file");
    let temporary = scratch.path().join("temporary");
    fs::create_dir(&temporary).expect("a directory");
    let mut command = paths::palisade();
    command.args(["dev", "--port", "0"]);
    command.env("PALISADE_LOG", "info");
    let failpoint = format!("durable.before_sync:hold={}", hold.display());
    command.env("PALISADE_FAILPOINT", failpoint);
    let process = Process::spawn("palisade dev", command.env("TMPDIR", &temporary));
    process.wait_for_line(PATIENCE, |line| line.contains("log directory opened"));
    process.signal(Signal::TERM);
    process.wait_for_line(PATIENCE, |line| line == STOPPING);
    fs::remove_file(&hold).expect("the file");
    assert!(process.wait(PATIENCE).success(), "{}", process.output());
    let said = process.stream(Stream::Out);
    assert!(
        matches!(&said[..], [_, end] if end.starts_with("stopped; removed ")),
        "{said:#?}"
    );
    assert_eq!(fs::read_dir(&temporary).expect("it").count(), 0);
}

/// An empty `TMPDIR` is none: nothing is made, and then left, in the working directory.
#[test]
fn no_name_for_temporary_directories() {
    let scratch = paths::scratch();
    let mut command = paths::palisade();
    command.args(["dev", "--json", "--port", "0"]);
    command.env("TMPDIR", "").current_dir(scratch.path());
    let process = Process::spawn("palisade dev", &mut command);
    let said = process.wait_for_line(PATIENCE, |line| line.starts_with('{'));
    assert_eq!(fs::read_dir(scratch.path()).expect("it").count(), 0);
    assert!(said.contains("\"data_dir\":\"/tmp/palisade-dev-"), "{said}");
    assert!(process.terminate().success());
}

/// Who cannot log in for want of an audit log is not told to look at certificates.
#[test]
fn an_audit_log_that_cannot_be_written() {
    let scratch = paths::scratch();
    let dir = tools::text(scratch.path());
    assert!(
        Dev::start(&["--data-dir", &dir])
            .process()
            .terminate()
            .success()
    );
    // A login fails, or what comes before the first one.
    for declared in [&[][..], &["--user", "bob:secret"]] {
        let mut command = dev(&dir);
        command
            .args(["--override", "palisade.audit.block.max.ms=200"])
            .args(declared)
            .env("PALISADE_FAILPOINT", "audit.before_write:error");
        let process = Process::spawn("palisade dev", &mut command);
        assert_eq!(process.wait(PATIENCE).code(), Some(1));
        let path = fs::canonicalize(scratch.path()).expect("the directory");
        let expected = format!(
            "palisade: the audit log {}/data/audit/audit.log cannot be written (failpoint), and \
             nobody logs in without a line in it; see that its disk has room",
            path.display()
        );
        let said = process.stream(Stream::Err);
        assert_eq!(said.last(), Some(&expected), "{said:#?}");
    }
}

/// A password that is given again is left alone, another one takes its place, and that is said.
#[test]
fn a_user_who_is_there_already() {
    let scratch = paths::scratch();
    let dir = tools::text(scratch.path());
    let changes = || {
        let audit = scratch.path().join("data/audit/audit.log");
        let lines = fs::read_to_string(audit).expect("the audit log");
        lines.matches("\"action\":\"scram_upsert\"").count()
    };
    let start = |user: &str| Dev::start(&["--data-dir", &dir, "--user", user]);
    let dev = start("alice:one");
    assert_eq!(complaints(&dev), [""; 0]);
    assert!(dev.process().terminate().success());
    let made = changes();
    assert!(made > 0);

    let dev = start("alice:one");
    Connection::open(&dev.by_scram("alice", "one")).expect("the password of before");
    assert_eq!(complaints(&dev), [""; 0]);
    assert!(dev.process().terminate().success());
    assert_eq!(changes(), made);

    let dev = start("alice:other");
    Connection::open(&dev.by_scram("alice", "other")).expect("the new password");
    let complaints = complaints(&dev);
    let said = "the password of alice was set anew: --user gives another one than it had";
    assert!(
        matches!(&complaints[..], [only] if only.ends_with(said)),
        "{complaints:#?}"
    );
    assert!(dev.process().terminate().success());
    assert!(changes() > made);
}

/// Nobody waits with an end until what a killed broker left is removed.
#[test]
fn leftovers_hold_up_no_end() {
    let scratch = paths::scratch();
    let (temporary, hold) = (
        scratch.path().join("temporary"),
        scratch.path().join("hold"),
    );
    fs::create_dir(&temporary).expect("a directory");
    fs::write(&hold, "").expect("a file");
    let start = || {
        let mut command = paths::palisade();
        command.args(["dev", "--json", "--port", "0"]);
        let failpoint = format!("leftovers.before_remove:hold={}", hold.display());
        command.env("PALISADE_FAILPOINT", failpoint);
        let process = Process::spawn("palisade dev", command.env("TMPDIR", &temporary));
        process.wait_for_line(PATIENCE, |line| line.starts_with('{'));
        process
    };
    start().kill();
    let mut left = fs::read_dir(&temporary).expect("it");
    let left = left
        .next()
        .expect("what was left")
        .expect("an entry")
        .path();
    let mark = fs::metadata(left.join(".temporary")).expect("a mark").ino();
    let process = start();
    eventually("the removal", PATIENCE, || {
        let locks = fs::read_to_string("/proc/locks").expect("all locks");
        let (pid, mark) = (format!(" {} ", process.id()), format!(":{mark} "));
        let mut of_both = locks
            .lines()
            .filter(|line| line.contains(&pid) && line.contains(&mark));
        of_both.next().map(drop).ok_or(locks.clone())
    });
    assert!(process.terminate().success());
    assert!(left.exists() && hold.exists());
}

/// Users without ACLs have no rights once `super.users` names nobody, and nobody may give them any.
#[test]
fn a_cluster_in_which_nobody_has_any_right_says_so() {
    const SAID: &str = "there are users, but no ACLs, and super.users names nobody";
    let mut node = Node::prepare();
    node.allow(SAID);
    let said = |node: &mut Node| {
        node.run();
        let lines = node.terminate();
        let said = lines.iter().filter(|line| line.contains(SAID));
        said.count()
    };
    assert_eq!(said(&mut node), 0, "the first user is made");
    assert_eq!(said(&mut node), 0, "somebody has every right");
    node.unset("super.users");
    assert_eq!(said(&mut node), 1);
    node.set("super.users", format!("User:CN={ADMIN}")).run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    // To read a topic.
    let rule = requests::allow(ADMIN, 2, "t", 3);
    requests::add_acls(&mut connection, vec![rule]).expect("an ACL");
    drop(connection);
    node.terminate();
    node.unset("super.users");
    assert_eq!(said(&mut node), 0, "somebody has a right");
}
