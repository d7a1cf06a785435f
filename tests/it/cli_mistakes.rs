//! Mistakes at the command line: said in words, before anything is done where that can be, and with
//! an exit status that tells.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use palisade_tests::dev::Dev;
use palisade_tests::door::Door;
use palisade_tests::node::Node;
use palisade_tests::paths;
use palisade_tests::process::{Process, Stream, heed};
use palisade_tests::tools;
use rustix::process::Signal;
use tokio::signal::unix::SignalKind;

use crate::cli_data::Cli;
use crate::rdkafka::create_topic;

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a command that must fail with these words on standard error and nothing on standard output.
fn refused(cli: &Cli, arguments: &[&str], status: i32, words: &str) {
    let (code, out, err) = cli.run(arguments);
    assert_eq!(code, status, "{arguments:?}: {out}\n{err}");
    assert!(err.contains(words), "{arguments:?}: {err}");
    assert_eq!(out, "", "{arguments:?}");
}

#[test]
fn what_is_named_twice() {
    let dev = Dev::start(&["--topic", "twice", "--topic", "other"]);
    let cli = Cli::new(&dev.admin());
    let set = ["--config", "retention.ms=1000"];
    let twice = "retention.ms: the key is given more than once";
    for more in [
        ["--config", "retention.ms=2000"],
        ["--delete-config", "retention.ms"],
    ] {
        let alter = [&["topic", "alter", "twice"][..], &set, &more].concat();
        refused(&cli, &alter, 2, twice);
    }
    let create = [&["topic", "create", "new"][..], &set, &set].concat();
    refused(&cli, &create, 2, twice);

    let deleted = cli.done(&["topic", "delete", "twice", "other", "twice"]);
    assert_eq!(deleted, "deleted twice\ndeleted other");
}

/// The topic is told from one that an earlier start has made.
#[test]
fn a_topic_that_dev_is_told_of_twice() {
    for other in ["orders:5", "orders:2"] {
        let mut command = paths::palisade();
        command.args([
            "dev", "--port", "0", "--topic", "orders:2", "--topic", other,
        ]);
        let process = Process::spawn("palisade dev", &mut command);
        assert_eq!(process.wait(PATIENCE).code(), Some(2), "{other}");
        let said = process.lines();
        let words = "palisade: --topic orders is given more than once on the command line";
        assert_eq!(said, [words], "{other}");
    }
}

/// The name of a code stands behind the words; programs find it, and its number, in JSON.
#[test]
fn codes_stand_behind_words() {
    let dev = Dev::start(&["--plaintext", "--topic", "orders"]);
    let cli = Cli::new(&dev.admin());
    let plain = cli.file("plain.properties", "security.protocol=PLAINTEXT\n");
    let nobody = Cli::with_file(&plain);
    let address = dev.text(&["listeners", "PLAINTEXT", "address"]);
    let at = ["--bootstrap", address];
    for (verb, right) in [
        ("create", "CREATE"),
        ("delete", "DELETE"),
        ("describe", "DESCRIBE"),
    ] {
        let command = [&["topic", verb, "orders"][..], &at].concat();
        let words = format!(
            "topic orders: Topic authorization failed; {right} on the topic is needed \
             (TOPIC_AUTHORIZATION_FAILED)"
        );
        refused(&nobody, &command, 1, &words);
    }
    let add = ["acl", "add", "allow User:x read topic:orders"];
    let words = "Cluster authorization failed; ALTER on the cluster is needed \
                 (CLUSTER_AUTHORIZATION_FAILED)";
    refused(&nobody, &[&add[..], &at].concat(), 1, words);
    cli.done(&["acl", "add", "allow User:ANONYMOUS describe topic:orders"]);
    let reset = ["group", "reset-offsets", "g", "--topic", "orders"];
    let reset = [&reset[..], &["--to", "latest"]].concat();
    for (command, right) in [
        (&["consume", "orders", "--group", "g"][..], "READ"),
        (&["group", "describe", "g"], "DESCRIBE"),
        (&["group", "delete", "g"], "DELETE"),
        (&reset, "DESCRIBE"),
        (&[&reset[..], &["--execute"]].concat(), "READ"),
    ] {
        let words = format!(
            "group g: Group authorization failed; {right} on the group is needed \
             (GROUP_AUTHORIZATION_FAILED)"
        );
        refused(&nobody, &[command, &at].concat(), 1, &words);
    }
    let file = cli.file("lines", "a\n");
    for (command, right) in [
        (&["consume", "orders"][..], "READ"),
        (
            &["produce", "orders", "--acks", "1", "--file", &file],
            "WRITE",
        ),
    ] {
        let (code, out, err) = nobody.run(&[command, &at].concat());
        let words = format!(
            "orders-0: Topic authorization failed; {right} on the topic is needed \
             (TOPIC_AUTHORIZATION_FAILED)"
        );
        assert!(code == 1 && err.contains(&words), "{command:?}: {out}{err}");
    }

    let words = "Cluster authorization failed; WRITE on a topic, or IDEMPOTENT_WRITE on the cluster, is \
                 needed (CLUSTER_AUTHORIZATION_FAILED)";
    let produce = ["produce", "orders", "--file", &file];
    refused(&nobody, &[&produce[..], &at].concat(), 1, words);

    let (code, out, err) = cli.run(&["topic", "create", "bad name", "--json"]);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    let said: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(said["error"]["name"], "INVALID_TOPIC_EXCEPTION", "{said}");
    assert_eq!(said["error"]["code"], 17, "{said}");
}

/// A port where somebody takes connections and says nothing.
#[test]
fn a_broker_that_never_answers() {
    let dir = paths::scratch();
    let config = dir.path().join("silent.properties");
    let silent = || {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = silent.local_addr().expect("its address").to_string();
        paths::write_private(&config, format!("bootstrap.servers={address}\n"));
        (silent, address)
    };
    let (_silent, address) = silent();
    let cli = Cli::with_file(&tools::text(&config));
    let words = format!("no answer from {address} in time");
    for command in [
        &["produce", "t"][..],
        &["consume", "t"],
        &["topic", "list"],
        &["group", "describe", "g"],
    ] {
        let arguments = [command, &["--timeout", "1"]].concat();
        refused(&cli, &arguments, 3, &words);
    }
    // Waiting for it can be interrupted. At the first there are connections of the others still.
    let (silent, _) = silent();
    heed(SignalKind::interrupt());
    let waiting = cli.spawn(&["consume", "t", "--timeout", "3600"]);
    let (met, _) = silent.accept().expect("a connection");
    waiting.signal(Signal::INT);
    let exit = waiting.wait(PATIENCE);
    assert!(!exit.success(), "{exit:?}: {}", waiting.output());
    drop(met);
}

/// Names that nobody knows, and ports that somebody has: said with what to do.
#[test]
fn addresses_that_cannot_be_used() {
    let dir = paths::scratch();
    let config = dir.path().join("plain.properties");
    paths::write_private(&config, "security.protocol=PLAINTEXT\n");
    let cli = Cli::with_file(&tools::text(&config));
    let words =
        "no-such-host.invalid:9092: this machine knows no address of that host; is its name";
    for command in [&["topic", "list"][..], &["consume", "t"]] {
        let at = ["--bootstrap", "no-such-host.invalid:9092"];
        refused(&cli, &[command, &at].concat(), 3, words);
    }

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let mut dev = paths::palisade();
    dev.args(["dev", "--port", &port.to_string()]);
    let dev = Process::spawn("palisade dev", &mut dev);
    assert_eq!(dev.wait(PATIENCE).code(), Some(1));
    let words = format!(
        "cannot bind \"127.0.0.1\" port {port}: another process listens there; stop that one, or \
         choose another port (palisade dev: --port"
    );
    let said = dev.stream(Stream::Err).join("\n");
    assert!(said.contains(&words), "{said}");
}

/// A broker that falls silent in the middle: no record is waited for longer than was asked.
#[test]
fn a_broker_that_falls_silent() {
    let dev = Dev::start(&["--topic", "silent"]);
    let cli = Cli::new(&dev.admin());
    let pipe = cli.file("unused", "").replace("unused", "pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    let producer = cli.spawn(&["produce", "silent", "--file", &pipe, "--timeout", "2"]);
    let mut input = File::options().write(true).open(&pipe).expect("a pipe");
    writeln!(input, "first").expect("the producer reads");
    let consume = ["consume", "silent", "--count", "1"];
    assert_eq!(cli.done(&consume), "first");
    dev.process().signal(Signal::STOP);
    writeln!(input, "second").expect("the producer reads");
    let exit = producer.wait(PATIENCE);
    dev.process().signal(Signal::CONT);
    let said = producer.output();
    assert_eq!(exit.code(), Some(3), "{said}");
    assert!(said.contains("silent: 1 record"), "{said}");
    let words = "1 record not acknowledged, the first in line 2: no answer from 127.0.0.1";
    assert!(said.contains(words), "{said}");
}

/// Without a terminal nobody is asked for a password: it is said how to give one.
#[test]
fn a_password_from_nowhere() {
    let dev = Dev::start(&[]);
    let cli = Cli::new(&dev.admin());
    let words = "standard input is empty, and no terminal: write the password to it, or give \
                 --password-file FILE";
    refused(&cli, &["user", "create", "alice"], 2, words);
}

/// A broker that takes connections and says nothing any more is waited for once, not once more for each
/// thing that could be asked of it.
#[test]
fn a_consumer_whose_broker_falls_silent() {
    let mut node = Node::prepare();
    let door = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = door.local_addr().expect("its address").to_string();
    node.advertise(&address).run();
    node.create_admin();
    create_topic(&node.certificate(), "silent", 1);
    let mut access = node.scram("SCRAM-SHA-512");
    let door = Door::open(door, &access.bootstrap);
    access.bootstrap = address.clone();
    let cli = Cli::new(&access);
    cli.done(&["produce", "silent", "--file", &cli.file("one", "first\n")]);
    let consumer = cli.spawn(&["consume", "silent", "--timeout", "2"]);
    consumer.wait_for_line(PATIENCE, |line| line == "first");
    door.fall_silent();
    let exit = consumer.wait(PATIENCE);
    let said = consumer.stream(Stream::Err).join("\n");
    assert_eq!(exit.code(), Some(3), "{said}");
    assert_eq!(door.came_late(), 0, "{said}");
    assert_eq!(said, format!("palisade: no answer from {address} in time"));
}

/// The credential that a command came with may be the last that can repair what it does.
#[test]
fn one_s_own_credential() {
    let dev = Dev::start(&["--user", "alice:secret"]);
    let admin = Cli::new(&dev.admin());
    let own = "this command logs in with that credential itself";
    for more in [&[][..], &["--mechanism", "SCRAM-SHA-512"]] {
        let delete = [&["user", "delete", "admin"][..], more].concat();
        refused(&admin, &delete, 2, own);
    }
    // Another mechanism, named twice, and another user lock nobody out.
    let other = [
        "--mechanism",
        "SCRAM-SHA-256",
        "--mechanism",
        "SCRAM-SHA-256",
    ];
    admin.done(&[&["user", "delete", "admin"][..], &other].concat());
    admin.done(&["user", "delete", "alice"]);
    admin.done(&["user", "delete", "admin", "--force"]);
    let (code, out, err) = admin.run(&["user", "list"]);
    assert_eq!(code, 3, "{out}\n{err}");
}

/// What would be taken, and silently mean nothing, is refused.
#[test]
fn words_that_would_find_nothing() {
    let dev = Dev::start(&[]);
    let cli = Cli::new(&dev.admin());
    for (arguments, words) in [
        (
            &["acl", "list", "--principal", "alice"][..],
            "expected Type:name",
        ),
        (
            &["group", "list", "--state", "dizzy"],
            "expected one of PreparingRebalance",
        ),
        (
            &["group", "list", "--type", "dizzy"],
            "expected one of classic",
        ),
        (
            &["acl", "add", "allow User:x read topic:a,topic:b"],
            "one rule is about one resource",
        ),
        (
            &["acl", "add", "allow User:x read topic:a*b"],
            "the name of a topic has letters",
        ),
        (&["acl", "add", "deny user:x read topic:a"], "write User:x"),
    ] {
        refused(&cli, arguments, 2, words);
    }
    assert_eq!(cli.done(&["group", "list", "--state", "stable"]), "");
}

/// Whoever adds several rules hears of all that are none, and none is added.
#[test]
fn every_rule_that_is_none_is_named() {
    let dev = Dev::start(&[]);
    let cli = Cli::new(&dev.admin());
    let good = "allow User:x read topic:a";
    let rules = [good, "permit User:x read topic:a", "allow x read topic:a"];
    for verb in ["add", "remove"] {
        let (code, out, err) = cli.run(&[&["acl", verb][..], &rules].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        let said: Vec<&str> = err.lines().collect();
        let wanted = [
            "palisade: 2 of 3 arguments are no rules",
            "  permit User:x read topic:a: \"permit\": expected allow or deny",
            "  allow x read topic:a: \"x\": expected Type:name, for example User:alice, or User:* \
             for everyone",
        ];
        assert_eq!(said, wanted);
    }
    let (code, _, err) = cli.run(&["acl", "add", "permit User:x read topic:a"]);
    assert_eq!(code, 2);
    let words = "palisade: permit User:x read topic:a: \"permit\": expected allow or deny";
    assert_eq!(err.trim_end(), words);
    assert_eq!(cli.done(&["acl", "list"]), "");

    let wrong = ["permit User:x read topic:a", "allow x read topic:a"];
    for (rules, count) in [(&[good, wrong[0], wrong[1]][..], 3), (&wrong[..1], 1)] {
        let rules = rules.iter().flat_map(|rule| ["--acl", rule]);
        let mut command = paths::palisade();
        command.args(["dev", "--port", "0"]).args(rules);
        let process = Process::spawn("palisade dev", &mut command);
        assert_eq!(process.wait(PATIENCE).code(), Some(2), "{count}");
        let said = process.lines().join("\n");
        let wanted = match count {
            1 => format!(
                "palisade: --acl: {}: \"permit\": expected allow or deny",
                wrong[0]
            ),
            _ => format!(
                "palisade: --acl: 2 of 3 arguments are no rules\n  {}: \"permit\": expected allow or \
                 deny\n  {}: \"x\": expected Type:name, for example User:alice, or User:* for \
                 everyone",
                wrong[0], wrong[1]
            ),
        };
        assert_eq!(said, wanted);
    }
}

/// Whoever types no more than `palisade start` hears where a configuration is looked for.
#[test]
fn a_start_without_a_configuration() {
    let file = paths::scratch();
    let file = file.path().join("empty.properties");
    File::create(&file).expect("a file");
    let hint = "without --config FILE only the environment and --override are read";
    for (config, is_hinted) in [(None, true), (Some(&file), false)] {
        let mut command = paths::palisade();
        command.arg("start");
        if let Some(file) = config {
            command.arg("--config").arg(file);
        }
        let process = Process::spawn("palisade start", &mut command);
        assert_eq!(process.wait(PATIENCE).code(), Some(2), "{config:?}");
        let said = process.lines().join("\n");
        assert!(said.contains("listeners is not set"), "{said}");
        assert_eq!(said.contains(hint), is_hinted, "{said}");
    }
}

/// Output that cannot be written is a failure; a reader that has seen enough is none.
#[test]
fn standard_output() {
    let dev = Dev::start(&["--topic", "output"]);
    let cli = Cli::new(&dev.admin());
    let lines: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    let file = cli.file("lines", lines);
    cli.done(&["produce", "output", "--file", &file]);
    for arguments in [
        &["topic", "list"][..],
        &["consume", "output"],
        &["consume", "output", "--group", "output"],
        &["group", "describe", "output", "--watch=1"],
    ] {
        let full = File::options()
            .write(true)
            .open("/dev/full")
            .expect("Linux");
        let said = cli
            .command(arguments)
            .stdout(full)
            .output()
            .expect("it runs");
        let error = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(
            error.contains("standard output: No space left"),
            "{arguments:?}: {error}"
        );

        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let said = cli
            .command(arguments)
            .stdout(writer)
            .output()
            .expect("it runs");
        let error = String::from_utf8_lossy(&said.stderr);
        assert_eq!(
            (said.status.code(), &*error),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
    // What nobody got is not committed.
    let described = cli.json(&["group", "describe", "output"]);
    assert_eq!(
        described["groups"][0]["offsets"][0]["committed"], 0,
        "{described}"
    );
}

/// With --json every command prints one object, whatever becomes of it; consume one a line.
#[test]
fn one_object_from_every_verb() {
    let dev = Dev::start(&["--topic", "objects:2"]);
    let cli = Cli::new(&dev.admin());
    let long = "x".repeat(10 << 20);
    let big = cli.file("big", format!("fits\n{long}\n"));
    let bytes = cli.file("bytes", b"\xff\xfe\n\n");
    let nothing = cli.file("nothing", "");
    let password = cli.file("password", "secret");
    let rule = "allow User:x read topic:objects";
    let reset = ["group", "reset-offsets", "g", "--topic", "objects", "--to"];
    for (arguments, status) in [
        (&["produce", "objects", "--file", &bytes][..], 0),
        (&["produce", "objects", "--file", &nothing], 0),
        (&["produce", "objects", "--file", &big], 1),
        (&["produce", "objects", "--file", "/nowhere"], 2),
        (&["produce", "objects", "--json-input", "--file", &bytes], 1),
        (&["produce", "bad name", "--file", &bytes], 1),
        (&["topic", "create", "more", "--partitions", "2"], 0),
        (&["topic", "create", "more"], 1),
        (&["topic", "create", "more", "--if-not-exists"], 0),
        (&["topic", "create", ""], 1),
        (&["topic", "list", "--internal"], 0),
        (&["topic", "describe", "more", "none"], 1),
        (&["topic", "alter", "more", "--partitions", "3"], 0),
        (&["topic", "alter", "more", "--config", "none=1"], 1),
        (&["topic", "delete", "more", "none"], 1),
        (&["user", "create", "x", "--password-file", &password], 0),
        (&["user", "create", "", "--password-file", &password], 1),
        (&["user", "list"], 0),
        (&["user", "delete", "x"], 0),
        (&["user", "delete", "x"], 1),
        (&["acl", "add", rule], 0),
        (&["acl", "list"], 0),
        (&["acl", "remove", rule], 0),
        (&["acl", "remove", rule], 1),
        (&[&reset[..], &["earliest", "--execute"]].concat(), 0),
        (&[&reset[..], &["shift:-1", "--execute"]].concat(), 0),
        (&["group", "list"], 0),
        (&["group", "describe", "g", "none"], 1),
        (&["group", "delete", "g", "none"], 1),
    ] {
        let (code, out, _) = cli.run(&[arguments, &["--json"]].concat());
        assert_eq!(code, status, "{arguments:?}: {out}");
        let said: serde_json::Value = serde_json::from_str(&out)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"));
        assert!(said.is_object(), "{arguments:?}: {out}");
    }
    let printed = cli.done(&["consume", "objects", "--until-end", "--json"]);
    assert_eq!(printed.lines().count(), 3, "{printed}");
    for line in printed.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("an object a line");
    }
}

/// What a cluster keeps in topics of its own is not forgotten for a slip.
#[test]
fn a_topic_of_the_cluster_s_own() {
    let dev = Dev::start(&["--topic", "mine"]);
    let cli = Cli::new(&dev.admin());
    cli.done(&["consume", "mine", "--group", "g", "--until-end"]);
    let delete = ["topic", "delete", "mine", "__consumer_offsets"];
    let words = "with it goes every group and the offsets it has committed; --force deletes it";
    refused(&cli, &delete, 2, words);
    assert_eq!(cli.done(&["topic", "list"]), "mine\t1");
    let deleted = cli.done(&[&delete[..], &["--force"]].concat());
    assert_eq!(deleted, "deleted mine\ndeleted __consumer_offsets");
}

/// A rule that changes nothing, and rules that whoever gets the name next would have.
#[test]
fn rules_that_are_there_already() {
    let dev = Dev::start(&["--user", "dave:secret"]);
    let cli = Cli::new(&dev.admin());
    let rules = [
        "allow User:dave read topic:x",
        "allow User:dave read topic:y",
    ];
    let add = |rules: &[&str]| cli.done(&[&["acl", "add"][..], rules].concat());
    assert_eq!(add(&rules[..1]), "added allow User:dave read topic:x");
    let said = add(&rules);
    let expected =
        "there already: allow User:dave read topic:x\nadded allow User:dave read topic:y";
    assert_eq!(said, expected);
    let delete = ["user", "delete", "dave"];
    let one = [&delete[..], &["--mechanism", "SCRAM-SHA-256"]].concat();
    assert_eq!(cli.done(&one), "deleted SCRAM-SHA-256 of dave");
    let expected = "deleted SCRAM-SHA-512 of dave\n\
                    an ACL of it stays: allow User:dave read topic:x\n\
                    an ACL of it stays: allow User:dave read topic:y";
    assert_eq!(cli.done(&delete), expected);
}

/// Each command's help is about itself.
#[test]
fn what_a_timeout_is_for() {
    let produced = "a record that cannot be delivered is tried for as long";
    let consumed = "a partition that cannot be read is tried for as long";
    for (verb, words) in [
        ("produce", Some(produced)),
        ("consume", Some(consumed)),
        ("topic", None),
        ("group", None),
    ] {
        let help = paths::palisade().args([verb, "--help"]).output();
        let help = String::from_utf8(help.expect("it runs").stdout).expect("text");
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            help.contains("Longest wait for one answer"),
            "{verb}: {help}"
        );
        for one in [produced, consumed] {
            assert_eq!(help.contains(one), words == Some(one), "{verb}: {help}");
        }
    }
}
