//! `palisade dev`: one command gives a secured broker and settings that clients can use as they are.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use palisade_tests::dev::Dev;
use palisade_tests::node::Node;
use palisade_tests::paths;
use palisade_tests::process::{Process, Stream, is_complaint};
use palisade_tests::requests;
use palisade_tests::tools::{self, Java, Need};
use palisade_tests::wire::Connection;
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(60);

/// The files made for clients work as they are, each in the hands of the client it is for.
#[test]
fn client_files() {
    let needs = [Need::Kcat, Need::Java(Java::V4), Need::Java(Java::V28)];
    if !tools::have("dev::client_files", &needs) {
        return;
    }
    let rule = "allow User:client READ,WRITE topic:orders";
    let dev = Dev::start(&["--topic", "orders:2", "--acl", rule]);
    for name in ["librdkafka_conf", "librdkafka_mtls_conf"] {
        let mut list = Command::new("kcat");
        list.arg("-F")
            .arg(dev.file(name))
            .args(["-L", "-t", "orders"]);
        let listed = tools::run("kcat -L", &mut list, PATIENCE);
        assert!(
            listed.contains("topic \"orders\" with 2 partitions"),
            "{name}: {listed}"
        );
    }
    for name in ["java_properties", "java_mtls_properties"] {
        let properties = fs::read_to_string(dev.file(name)).expect("a file made for clients");
        let bootstrap = properties
            .lines()
            .find_map(|line| line.strip_prefix("bootstrap.servers="))
            .expect("an address");
        for (java, class) in [
            (Java::V4, "org.apache.kafka.tools.TopicCommand"),
            (Java::V28, "kafka.admin.TopicCommand"),
        ] {
            let mut command = java.command();
            command
                .arg(class)
                .args(["--bootstrap-server", bootstrap, "--list"])
                .arg("--command-config")
                .arg(dev.file(name));
            let listed = tools::run(class, &mut command, PATIENCE);
            assert_eq!(listed, "orders", "{java:?} {name}");
        }

        let mut command = paths::palisade();
        command
            .args(["topic", "list", "--command-config"])
            .arg(dev.file(name));
        let listed = tools::run("palisade topic list", &mut command, PATIENCE);
        assert!(listed.contains("orders"), "{name}: {listed}");
    }
}

/// Secured as in production: others cannot read the files, strangers get no rights, and nothing is left behind.
#[test]
fn secured_and_gone() {
    let dev = Dev::start(&["--user", "alice:alice-secret"]);
    let mode = |path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(dev.file("client_key_pem")), 0o600);
    assert_eq!(mode(dev.file("java_properties")), 0o600);

    let mut admin = Connection::open(&dev.admin()).expect("the administrator's login");
    requests::create_topic(&mut admin, "mine", 1, &[]).expect("the administrator may");
    let alice = dev
        .admin()
        .as_user("SCRAM-SHA-512", "alice", "alice-secret");
    for stranger in [alice, dev.client()] {
        let mut connection = Connection::open(&stranger).expect("a login");
        requests::create_topic(&mut connection, "theirs", 1, &[]).expect_err("no rights");
    }

    let data = dev.text(&["data_dir"]).to_owned();
    assert!(fs::exists(&data).expect("a path"));
    let exit = dev.process().terminate();
    assert!(exit.success(), "{}", dev.process().output());
    assert!(
        !fs::exists(&data).expect("a path"),
        "{data} was left behind"
    );
    let noise: Vec<_> = dev
        .process()
        .lines()
        .into_iter()
        .filter(|line| is_complaint(line))
        .collect();
    assert!(noise.is_empty(), "{noise:#?}");
}

/// With a directory of its own everything is there again after a restart, certificates and password included.
#[test]
fn kept_directory() {
    let dir = paths::scratch();
    let kept = dir.path().join("kept").display().to_string();
    let dev = Dev::start(&["--data-dir", &kept]);
    let before = dev.admin();
    let mut connection = Connection::open(&before).expect("a login");
    requests::create_topic(&mut connection, "kept", 1, &[]).expect("a topic");
    assert!(dev.process().terminate().success());

    let dev = Dev::start(&["--data-dir", &kept]);
    let mut after = dev.admin();
    after.login = before.login;
    let mut connection = Connection::open(&after).expect("the same password");
    assert_eq!(
        requests::latest_offset(&mut connection, "kept").expect("the topic"),
        0
    );
}

/// Whoever changes the administrator's password keeps a broker that starts, and is told what no longer fits.
#[test]
fn changed_password() {
    let dir = paths::scratch();
    let kept = dir.path().join("kept").display().to_string();
    let dev = Dev::start(&["--data-dir", &kept]);
    let password = dir.path().join("password");
    paths::write_private(&password, "a password of my own\n");
    let mut change = paths::palisade();
    change
        .args(["user", "create", "admin", "--password-file"])
        .arg(&password)
        .arg("--command-config")
        .arg(dev.file("java_properties"));
    tools::run("palisade user create", &mut change, PATIENCE);
    assert!(dev.process().terminate().success());

    let dev = Dev::start(&["--data-dir", &kept]);
    assert!(dev.lacks(&["admin", "password"]));
    let remembered = dir.path().join("kept/dev/admin.password");
    let remembered = fs::canonicalize(&remembered).expect("the file that was made");
    let hint = format!("Write it to {}, or remove that file", remembered.display());
    dev.process()
        .wait_for_line(PATIENCE, |line| line.contains(&hint));
    let admin = dev.by_scram("admin", "a password of my own");
    Connection::open(&admin).expect("the new password");
    assert!(dev.process().terminate().success());

    // Told the password, it makes good settings of it again.
    fs::copy(&password, &remembered).expect("a file to write to");
    let dev = Dev::start(&["--data-dir", &kept]);
    Connection::open(&dev.admin()).expect("the password that was written there");
    assert!(dev.process().terminate().success());

    fs::remove_file(&remembered).expect("a file to remove");
    let dev = Dev::start(&["--data-dir", &kept]);
    Connection::open(&dev.admin()).expect("a password made anew");
    Connection::open(&admin).expect_err("the old one");
    assert!(dev.process().terminate().success());
}

/// The second broker on a directory touches nothing and names the first one.
#[test]
fn two_on_one_directory() {
    let dir = paths::scratch();
    let kept = dir.path().join("kept");
    let dev = Dev::start(&["--data-dir", &tools::text(&kept)]);
    let mut command = paths::palisade();
    command
        .args(["dev", "--bind", "0.0.0.0", "--data-dir"])
        .arg(&kept);
    let second = Process::spawn("palisade dev", &mut command);
    assert_eq!(second.wait(PATIENCE).code(), Some(1));
    let kept = fs::canonicalize(&kept).expect("the directory");
    let expected = format!(
        "{} is in use by another palisade dev, process {};",
        kept.display(),
        dev.process().id()
    );
    let said = second.stream(Stream::Err).join("\n");
    assert!(said.contains(&expected), "{said}");
    Connection::open(&dev.admin()).expect("the first one goes on");
}

/// Where others may replace keys and password no broker is secured by them.
#[test]
fn a_directory_that_others_may_write() {
    let scratch = paths::scratch();
    let dir = fs::canonicalize(scratch.path()).expect("the directory");
    let set = |mode| fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).expect("a mode");
    set(0o777);
    let mut command = paths::palisade();
    command.args(["dev", "--data-dir"]).arg(&dir);
    let refused = Process::spawn("palisade dev", &mut command);
    let exit = refused.wait(PATIENCE);
    assert_eq!(exit.code(), Some(2), "{}", refused.output());
    let shown = dir.display();
    let expected = format!(
        "palisade: {shown} can be written by everybody (mode 0777), who could replace the keys and \
         the password that are kept there; chmod go-w {shown}"
    );
    assert_eq!(refused.stream(Stream::Err), [expected]);
    assert_eq!(fs::read_dir(&dir).expect("it").count(), 0);
    // Nobody replaces what is another's in a sticky one, but may have made `dev` there before.
    set(0o1777);
    let dev = dir.join("dev");
    fs::create_dir(&dev).expect("a directory");
    fs::set_permissions(&dev, fs::Permissions::from_mode(0o777)).expect("a mode");
    let mut command = paths::palisade();
    command.args(["dev", "--data-dir"]).arg(&dir);
    let refused = Process::spawn("palisade dev", &mut command);
    assert_eq!(refused.wait(PATIENCE).code(), Some(2));
    fs::remove_dir(&dev).expect("nothing in it");
    // As umask 002 makes them, for a group of one.
    for mode in [0o1777, 0o775] {
        set(mode);
        let dev = Dev::start(&["--data-dir", &tools::text(&dir)]);
        assert!(dev.process().terminate().success());
    }
}

/// A second broker in somebody's log directory, with users and keys of its own, is what nobody wants.
#[test]
fn a_log_directory_of_another_node() {
    let scratch = paths::scratch();
    let dir = fs::canonicalize(scratch.path()).expect("the directory");
    let (theirs, home) = (dir.join("theirs"), dir.join("home"));
    let kept = tools::text(&home);
    let mut node = Node::prepare();
    node.set("log.dirs", tools::text(&theirs));
    node.run();
    node.terminate();
    let before = Dev::start(&["--data-dir", &kept]);
    assert!(before.process().terminate().success());
    for (logs, instead) in [
        (theirs, "`palisade start --config FILE`".to_owned()),
        (home.join("data"), format!("--data-dir {kept}")),
    ] {
        let refused = Process::spawn("palisade dev", dev(&["--data-dir"]).arg(&logs));
        let exit = refused.wait(PATIENCE);
        assert_eq!(exit.code(), Some(2), "{}", refused.output());
        let said = refused.stream(Stream::Err).join("\n");
        let there = format!("palisade: {} holds the logs of a", logs.display());
        assert!(
            said.starts_with(&there) && said.contains(&instead),
            "{said}"
        );
        assert!(!logs.join("dev").exists(), "{said}");
    }
    let after = Dev::start(&["--data-dir", &kept]);
    let id = ["cluster_id"];
    assert_eq!(after.text(&id), before.text(&id));
}

/// A broker whose block for people is complete.
fn readable(command: &mut Command) -> (Process, String) {
    let process = Process::spawn("palisade dev", command);
    process.wait_for_line(Duration::from_secs(30), |line| line.starts_with("Ctrl-C"));
    let text = process.stream(Stream::Out).join("\n");
    (process, text)
}

fn dev(arguments: &[&str]) -> Command {
    let mut command = paths::palisade();
    command.arg("dev").args(arguments);
    command
}

/// Without `--json` a person reads how to connect and what to type next: each line of it works as it
/// stands.
#[test]
fn readable_block() {
    if !tools::have("dev::readable_block", &[Need::Kcat]) {
        return;
    }
    let compacted = ["--override", "log.cleanup.policy=compact"];
    let two = ["--topic", "zeta", "--topic", "alpha"];
    for (more, topic) in [
        (&[][..], "orders"),
        (&["--topic", "bills:2"], "bills"),
        // Of those that were declared the first, whatever they are called, and with keys where it wants them.
        (&[&two[..], &compacted].concat(), "zeta"),
        (&compacted, "orders"),
    ] {
        let arguments = [&["--port", "0"][..], more].concat();
        let (process, text) = readable(&mut dev(&arguments));
        for part in ["SASL_SSL", "127.0.0.1:", "user admin, password "] {
            assert!(text.contains(part), "no {part} in:\n{text}");
        }
        let (_, next) = text.split_once("type next:\n").expect("what to type next");
        let (next, _) = next.split_once("\n\n").expect("an end of it");
        // Kafka's own tools are tried elsewhere: here nobody has them on the path.
        let ours = next
            .lines()
            .filter(|line| !line.contains("kafka-topics.sh"));
        let ran: Vec<String> = ours
            .map(|line| {
                assert!(line.contains(topic), "{line}");
                let mut shell = Command::new("sh");
                shell.args(["-c", line]);
                tools::run(line, &mut shell, PATIENCE)
            })
            .collect();
        let read = ran.iter().filter(|said| said.contains("hello")).count();
        assert_eq!(read, 2, "{ran:#?}");
        assert!(process.terminate().success());
    }
}

/// What the block says of rights and ports is so.
#[test]
fn rights_and_ports_as_they_are() {
    // A port whose neighbour below is free.
    let (_held, port) = (0..100)
        .find_map(|_| {
            let held = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = held.local_addr().expect("its address").port() - 1;
            let is_free = TcpListener::bind(("127.0.0.1", port)).is_ok();
            is_free.then_some((held, port))
        })
        .expect("two neighbours");
    let port_text = port.to_string();
    let open = ["--plaintext", "--acl", "allow User:ANONYMOUS read topic:*"];
    let (process, text) = readable(&mut dev(&[&["--port", &port_text][..], &open].concat()));
    let taken = port + 1;
    for part in [
        "User:ANONYMOUS, may do what the ACLs allow it",
        "User:client, no rights until an ACL gives them",
        &format!("port {taken} is in use by another process: a free one was taken instead"),
    ] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    assert!(process.terminate().success());

    let mut command = dev(&["--json", "--port", &port_text]);
    let process = Process::spawn("palisade dev", &mut command);
    process.wait_for_line(Duration::from_secs(30), |line| line.starts_with('{'));
    assert!(process.terminate().success());
    let said = process.stream(Stream::Err);
    let words = format!("port {taken} is in use by another process: a free one was taken instead");
    assert!(
        matches!(&said[..], [only] if only.contains(" WARN ") && only.ends_with(&words)),
        "{said:#?}"
    );

    let all = [
        "--plaintext",
        "--override",
        "super.users=User:admin;User:ANONYMOUS",
    ];
    let (process, text) = readable(&mut dev(&[&["--port", "0"][..], &all].concat()));
    assert!(text.contains("User:ANONYMOUS, may do everything"), "{text}");
    assert!(!text.contains("in use"), "{text}");
    assert!(process.terminate().success());
}

/// Ctrl-C is answered at once, and in the end it is said what became of the data.
#[test]
fn an_end_with_words() {
    let scratch = paths::scratch();
    let kept = scratch.path().join("kept");
    let kept = tools::text(&kept);
    let arguments = ["--port", "0", "--data-dir", &kept];
    let shown = || fs::canonicalize(&kept).expect("the directory");
    let stopping = "stopping; Ctrl-C again ends it at once";
    let last_two = |process: &Process| {
        let lines = process.stream(Stream::Out);
        lines[lines.len() - 2..].to_vec()
    };

    let (process, text) = readable(&mut dev(&["--port", "0"]));
    let data = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("data "));
    let data = data.and_then(|data| data.trim().split_once(" (temporary"));
    let (data, _) = data.expect("the directory");
    process.signal(Signal::INT);
    assert!(process.wait(PATIENCE).success(), "{}", process.output());
    assert_eq!(
        last_two(&process),
        [stopping, &format!("stopped; removed {data}")]
    );
    assert!(!fs::exists(data).expect("a path"));

    let (process, _) = readable(&mut dev(&arguments));
    process.signal(Signal::INT);
    assert!(process.wait(PATIENCE).success(), "{}", process.output());
    let stays = format!("stopped; everything stays in {}", shown().display());
    assert_eq!(last_two(&process), [stopping, &stays]);

    // Somebody who does not want to wait need not, and finds all of it the next time.
    let hold = scratch.path().join("hold");
    fs::write(&hold, "").expect("a file");
    let hold = format!("close.before_marker:hold={}", hold.display());
    let (process, _) = readable(dev(&arguments).env("PALISADE_FAILPOINT", &hold));
    process.signal(Signal::INT);
    process.wait_for_line(PATIENCE, |line| line == stopping);
    process.signal(Signal::INT);
    let exit = process.wait(PATIENCE);
    assert_eq!(exit.code(), Some(130), "{}", process.output());
    let dir = shown();
    let stays = format!(
        "ended at once; everything stays in {}, and the next start recovers it",
        dir.display()
    );
    assert_eq!(last_two(&process), [stopping, &stays]);
    let (process, _) = readable(&mut dev(&arguments));
    assert!(process.terminate().success());

    let mut node = Node::prepare();
    node.env("PALISADE_FAILPOINT", &hold).run();
    let node = node.allow("interrupted again: not closed, the next start recovers");
    node.process().signal(Signal::INT);
    let is_stopping = |line: &str| line.ends_with("stopping");
    node.process().wait_for_line(PATIENCE, is_stopping);
    node.process().signal(Signal::INT);
    assert_eq!(node.process().wait(PATIENCE).code(), Some(130));
}

/// What a killed broker left in the temporary directory goes with the next start; what lives stays.
#[test]
fn leftovers_of_the_dead() {
    let scratch = paths::scratch();
    let start = || {
        let mut command = dev(&["--port", "0"]);
        readable(command.env("TMPDIR", scratch.path())).0
    };
    let left = || -> Vec<String> {
        let entries = fs::read_dir(scratch.path()).expect("a directory");
        entries
            .map(|entry| tools::text(&entry.expect("an entry").path()))
            .collect()
    };
    let dead = start();
    dead.kill();
    let [of_dead] = &left()[..] else {
        panic!("{:?}", left());
    };
    let heir = start();
    let said = format!("palisade: removed {of_dead}: left by a palisade dev that was killed");
    heir.wait_for_line(PATIENCE, |line| line == said);
    let [of_heir] = &left()[..] else {
        panic!("{:?}", left());
    };
    assert_ne!(of_heir, of_dead);
    let third = start();
    assert!(third.terminate().success());
    assert_eq!(third.stream(Stream::Err), [""; 0]);
    assert_eq!(left(), std::slice::from_ref(of_heir));
    heir.kill();

    // Whoever starts on what is left keeps it, killed or not.
    let arguments = ["--port", "0", "--data-dir", of_heir];
    let mut command = dev(&arguments);
    let (keeper, _) = readable(command.env("TMPDIR", scratch.path()));
    assert!(start().terminate().success());
    keeper.kill();
    assert!(start().terminate().success());
    assert_eq!(left(), std::slice::from_ref(of_heir));
}

/// A copy of what a killed broker left, and what a node was started in, are somebody's own.
#[test]
fn what_was_taken_over_is_no_leftover() {
    let scratch = paths::scratch();
    let start = || {
        let mut command = dev(&["--port", "0"]);
        readable(command.env("TMPDIR", scratch.path())).0
    };
    let dead = start();
    dead.kill();
    let mut entries = fs::read_dir(scratch.path()).expect("a directory");
    let left = entries
        .next()
        .expect("what it left")
        .expect("an entry")
        .path();
    let copy = scratch.path().join("palisade-dev-copy");
    let mut copying = Command::new("cp");
    copying.arg("-a").args([&left, &copy]);
    tools::run("cp -a", &mut copying, PATIENCE);

    let mut node = Node::prepare();
    node.set("log.dirs", tools::text(&left.join("data")));
    node.run();
    node.terminate();
    assert!(start().terminate().success());
    for kept in [left, copy] {
        assert!(kept.join("data/meta.properties").exists(), "{kept:?}");
        assert!(kept.join("dev").exists(), "{kept:?}");
    }
}

/// What is shown to be typed next writes to a topic that takes it: a compacted one wants keys.
#[test]
fn a_compacted_topic_is_no_example() {
    let scratch = paths::scratch();
    let dir = tools::text(scratch.path());
    let arguments = ["--port", "0", "--data-dir", &dir];
    let first = [&arguments[..], &["--topic", "abc"]].concat();
    let (process, text) = readable(&mut dev(&first));
    assert!(text.contains(" -t abc"), "{text}");
    let properties = scratch.path().join("dev/client.properties");
    let mut alter = paths::palisade();
    alter.args([
        "topic",
        "alter",
        "abc",
        "--config",
        "cleanup.policy=compact",
    ]);
    alter.arg("--command-config").arg(properties);
    tools::run("topic alter", &mut alter, PATIENCE);
    assert!(process.terminate().success());
    let (process, text) = readable(&mut dev(&arguments));
    assert!(text.contains(" -t orders"), "{text}");
    assert!(process.terminate().success());
}

/// A directory that is started again shows the topic that it was told of first, as long as there is one.
#[test]
fn the_topic_of_before() {
    let scratch = paths::scratch();
    let dir = tools::text(scratch.path());
    let arguments = ["--port", "0", "--data-dir", &dir];
    let properties = tools::text(&scratch.path().join("dev/client.properties"));
    let topic = |words: &[&str]| {
        let mut command = paths::palisade();
        command.arg("topic").args(words);
        command.args(["--command-config", &properties]);
        tools::run("palisade topic", &mut command, PATIENCE);
    };
    let starts = |more: &[&str], shown: &str, then: &[&[&str]]| {
        let (process, text) = readable(&mut dev(&[&arguments[..], more].concat()));
        assert!(text.contains(shown), "no {shown} in:\n{text}");
        let is_there = !text.contains("topic create ");
        then.iter().for_each(|words| topic(words));
        assert!(process.terminate().success());
        is_there
    };
    let two = ["--topic", "zeta", "--topic", "alpha"];
    assert!(starts(&two, " -t zeta\n", &[]));
    assert!(starts(&[], " -t zeta\n", &[&["delete", "zeta"]]));
    let compact = ["alter", "orders", "--config", "cleanup.policy=compact"];
    let then = [&["delete", "alpha"][..], &["create", "orders"], &compact];
    assert!(starts(&[], " -t alpha\n", &then));
    assert!(starts(&[], "echo key:hello | kcat ", &[]));
}

/// Whoever presses Ctrl-C twice waits for no removal either; the next start does what is left of it.
#[test]
fn a_removal_that_nobody_waits_for() {
    let scratch = paths::scratch();
    let temporary = scratch.path().join("temporary");
    fs::create_dir(&temporary).expect("a directory");
    let hold = scratch.path().join("hold");
    for is_stopped in [true, false] {
        fs::write(&hold, "").expect("a file");
        let mut command = dev(&["--port", "0"]);
        let failpoint = format!("home.before_remove:hold={}", hold.display());
        command.env("PALISADE_FAILPOINT", failpoint);
        command
            .env("PALISADE_LOG", "info")
            .env("TMPDIR", &temporary);
        let (process, _) = readable(&mut command);
        let mut entries = fs::read_dir(&temporary).expect("a directory");
        let entry = entries.next().expect("that of the broker");
        let path = entry.expect("an entry").path();
        process.signal(Signal::INT);
        process.wait_for_line(PATIENCE, |line| match is_stopped {
            true => line.ends_with(" stopped"),
            false => line.ends_with("again ends it at once"),
        });
        process.signal(Signal::INT);
        assert_eq!(process.wait(PATIENCE).code(), Some(130));
        let left = format!(
            "ended at once; the next palisade dev removes {}",
            path.display()
        );
        let said = process.stream(Stream::Out);
        assert_eq!(said.last(), Some(&left), "{said:#?}");

        fs::remove_file(&hold).expect("the file");
        let mut command = dev(&["--port", "0"]);
        let (heir, _) = readable(command.env("TMPDIR", &temporary));
        heir.wait_for_line(PATIENCE, |line| {
            line.contains(&*path.display().to_string()) && line.contains("removed ")
        });
        assert!(!path.exists());
        assert!(heir.terminate().success());
    }
}
