//! What the commands say when something is wrong: on which stream, with which status, and what to do about it.

use std::path::Path;
use std::time::Duration;

use palisade_tests::dev::Dev;
use palisade_tests::node::Node;
use palisade_tests::paths;
use palisade_tests::process::{Process, Stream};
use palisade_tests::requests;
use palisade_tests::tools;
use palisade_tests::wire::Connection;

use crate::cli_data::Cli;

const PATIENCE: Duration = Duration::from_secs(60);

/// The outcome of one command.
struct Said {
    code: Option<i32>,
    out: String,
    error: String,
}

fn palisade(arguments: &[&str]) -> Said {
    let process = Process::spawn("palisade", paths::palisade().args(arguments));
    let code = process.wait(PATIENCE).code();
    Said {
        code,
        out: process.stream(Stream::Out).join("\n"),
        error: process.stream(Stream::Err).join("\n"),
    }
}

fn refused(arguments: &[&str], code: i32, part: &str) {
    let said = palisade(arguments);
    assert!(
        said.code == Some(code) && said.out.is_empty() && said.error.contains(part),
        "{arguments:?}: {:?}\n{}\n---\n{}",
        said.code,
        said.out,
        said.error
    );
}

fn done(arguments: &[&str]) -> String {
    let said = palisade(arguments);
    assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.error);
    said.out
}

/// What the broker refuses goes to standard error in words, with the code's name behind them.
#[test]
fn refusals() {
    let dev = Dev::start(&["--topic", "one:2", "--topic", "two"]);
    let config = tools::text(&dev.file("java_properties"));
    let with = |words: &[&'static str]| [words, &["--command-config"][..]].concat();
    let refuses = |words: &[&'static str], code, part| {
        refused(&[&with(words)[..], &[&config]].concat(), code, part);
    };
    let does = |words: &[&'static str]| done(&[&with(words)[..], &[&config]].concat());
    let gone =
        "topic nope: there is no such topic, or no right to see it (UNKNOWN_TOPIC_OR_PARTITION)";
    refuses(&["topic", "describe", "nope"], 1, gone);
    refuses(&["topic", "delete", "nope"], 1, gone);
    refuses(&["topic", "create", "one"], 1, "topic one: ");
    refuses(
        &["user", "delete", "nope"],
        1,
        "user nope: has no such credential; palisade user list shows all (RESOURCE_NOT_FOUND)",
    );
    refuses(
        &["acl", "add", "allow User:x describe cluster:mine"],
        2,
        "there is one cluster resource; write cluster",
    );
    refuses(
        &["acl", "remove", "allow User:x read topic:none"],
        1,
        "allow User:x read topic:none: there is no such ACL",
    );
    let described = does(&["topic", "describe"]);
    let heads: Vec<_> = described
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split('\t').next())
        .collect();
    assert_eq!(heads, ["one", "two"]);
    does(&["acl", "add", "allow User:x describe cluster:*"]);
    let listed = does(&["acl", "list", "--resource", "cluster:kafka-cluster"]);
    assert_eq!(listed, "allow User:x describe cluster");
    let described = palisade(&[
        "topic",
        "describe",
        "one",
        "nope",
        "--command-config",
        &config,
    ]);
    assert_eq!(described.code, Some(1));
    assert!(described.out.starts_with("one\t"), "{}", described.out);
    assert!(described.error.contains(gone), "{}", described.error);
}

/// A client of the wrong protocol is told which one that port may speak.
#[test]
fn wrong_protocol() {
    let dev = Dev::start(&["--plaintext"]);
    let address = |listener: &str| dev.text(&["listeners", listener, "address"]).to_owned();
    let dir = paths::scratch();
    let list = |bootstrap: &str, config: Option<&str>, part: &str| {
        let mut arguments = vec!["topic", "list", "--bootstrap", bootstrap];
        let path = dir.path().join("client.properties");
        let path = tools::text(&path);
        if let Some(config) = config {
            paths::write_private(Path::new(&path), config);
            arguments.extend(["--command-config", &path]);
        }
        refused(&arguments, 3, part);
    };
    let trust = format!(
        "ssl.truststore.type=PEM\nssl.truststore.location={}\n",
        tools::text(&dev.file("ca_pem"))
    );
    let scram = "sasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config=\
                 org.apache.kafka.common.security.scram.ScramLoginModule required \
                 username=\"x\" password=\"y\";\n";
    for listener in ["SASL_SSL", "SSL"] {
        list(
            &address(listener),
            None,
            "may speak TLS; set security.protocol",
        );
    }
    let tls = format!("security.protocol=SSL\n{trust}");
    list(&address("PLAINTEXT"), Some(&tls), "may not speak TLS");
    list(&address("SASL_SSL"), Some(&tls), "may ask for a login");
    list(&address("SSL"), Some(&tls), "asks for a client certificate");
    let login = format!("security.protocol=SASL_PLAINTEXT\n{scram}");
    list(
        &address("PLAINTEXT"),
        Some(&login),
        "the listener takes no login",
    );
    let strange = "security.protocol=PLAINTEXT\n";
    list("nobody.invalid:1", Some(strange), "nobody.invalid:1: ");
}

/// Settings of a client are checked like those of a node: an unknown key names its neighbour.
#[test]
fn client_settings() {
    let dir = paths::scratch();
    let path = dir.path().join("client.properties");
    paths::write_private(
        &path,
        "bootstrap.servers=127.0.0.1:1\nacks=all\nsecurity.protocl=PLAINTEXT\n",
    );
    let path = tools::text(&path);
    refused(
        &["topic", "list", "--command-config", &path],
        2,
        &format!("{path}: unknown key security.protocl; did you mean security.protocol?"),
    );
}

/// The lines of a node's life have plain values, each under a name: starts, traffic, stops, a kill.
#[test]
fn lines_of_the_log() {
    let mut node = Node::prepare();
    node.env("KAFKA_NUM_PARTITONS", "3");
    node.env("KAFKA_HEAP_OPTS", "-Xmx1g");
    node.allow("environment variables that are no keys");
    let mut lines = Vec::new();
    node.run();
    node.create_admin();
    let mut admin = Connection::open(&node.certificate()).expect("the administrator's login");
    requests::create_topic(&mut admin, "orders", 2, &[]).expect("a topic");
    let cli = Cli::new(&node.scram("SCRAM-SHA-512"));
    cli.done(&["produce", "orders", "--file", &cli.file("one", "1\n")]);
    cli.done(&["consume", "orders", "--group", "g", "--until-end"]);
    drop(admin);
    lines.extend(node.terminate());
    node.run();
    cli.done(&["produce", "orders", "--file", &cli.file("two", "2\n")]);
    lines.extend(node.process().lines());
    node.kill();
    node.run();
    lines.extend(node.terminate());
    for said in [
        "environment variables that are no keys: KAFKA_HEAP_OPTS, KAFKA_NUM_PARTITONS (did you mean \
         KAFKA_NUM_PARTITIONS?)",
        "audit log opened boot=1 clean=true torn_bytes=0 broken=false reserve=",
        "audit log opened boot=3 clean=false torn_bytes=",
        "metadata log opened created=true scanned_bytes=0 cut_bytes=0 ",
        "partition logs opened logs=",
        "listening listener=SSL protocol=SSL address=127.0.0.1:",
        "serving cluster_id=",
        "stopping",
        "stopped",
    ] {
        assert!(
            lines.iter().any(|line| line.contains(said)),
            "{said}: {lines:#?}"
        );
    }
    // As Rust prints a structure, an enumeration, a tuple and a list.
    for shape in [" { ", "(", "=["] {
        let mut shown = lines.iter().filter(|line| !line.contains("did you mean"));
        assert_eq!(shown.find(|line| line.contains(shape)), None, "{shape}");
    }
}

/// A log directory that cannot be made is named, with what stands in its way.
#[test]
fn log_directories_that_cannot_be_made() {
    let scratch = paths::scratch();
    let missing = scratch.path().join("missing");
    let below = missing.join("data");
    for (dir, words) in [
        (
            Path::new("/proc/palisade"),
            "log.dirs: /proc/palisade cannot be made: No such file or directory".to_owned(),
        ),
        (
            &*below,
            format!(
                "log.dirs: {} cannot be made: {} is not there; make it first",
                below.display(),
                missing.display()
            ),
        ),
    ] {
        let mut node = Node::prepare();
        node.set("log.dirs", tools::text(dir));
        let said = node.refuses_to_start();
        assert!(said.contains(&words), "{said}");
    }
    // One that cannot be used, too.
    let mut node = Node::prepare();
    node.set("log.dirs", "/proc");
    let said = node.refuses_to_start();
    assert!(said.contains("log.dirs: open /proc"), "{said}");
}

/// Who mends a configuration hears of the log directory at once, not when all the rest is mended.
#[test]
fn log_directories_beside_other_problems() {
    let scratch = paths::scratch();
    let missing = tools::text(&scratch.path().join("missing/server.pem"));
    let good = scratch.path().join("data");
    for (dir, words) in [
        (
            Path::new("/proc/palisade"),
            "log.dirs: /proc/palisade cannot be made: No such file or directory",
        ),
        (
            Path::new("/dev/null"),
            "log.dirs: /dev/null is not a directory",
        ),
        (&good, ""),
    ] {
        let mut node = Node::prepare();
        node.set("log.dirs", tools::text(dir));
        node.set("ssl.keystore.location", missing.as_str());
        let said = node.refuses_to_start();
        assert!(said.contains(&missing), "{said}");
        assert!(said.contains(words), "{said}");
        let count = said.contains("configuration: 2 problems");
        assert_eq!(count, !words.is_empty(), "{said}");
    }
    assert!(!good.exists(), "made for a node that does not start");
}

/// `palisade dev` says what it cannot do before it makes anything.
#[test]
fn dev_arguments() {
    let bind = "--bind \"nonsense.invalid\": cannot listen there";
    refused(&["dev", "--bind", "nonsense.invalid"], 2, bind);
    refused(
        &["dev", "--override", "listeners=PLAINTEXT://:9092"],
        2,
        "--override listeners: --bind, --port and --plaintext choose",
    );
    refused(
        &["dev", "--override", "sasl.enabled.mechanisms=SCRAM-SHA-256"],
        2,
        "log in with SCRAM-SHA-512; keep it among them",
    );
    refused(
        &["dev", "--override", "num.partitons=3"],
        2,
        "--override: unknown key num.partitons; did you mean num.partitions?",
    );
    refused(
        &["dev", "--user", "a:b", "--user", "a:c"],
        2,
        "--user a is given more than once on the command line",
    );
    refused(
        &["dev", "--acl", "deny user:a read topic:x"],
        2,
        "write User:a; letters count in it",
    );
    let help = done(&["dev", "--help"]);
    for part in [
        "RULE: allow|deny PRINCIPAL OPERATION",
        "'allow User:alice read,write topic:orders'",
        "9092",
        "palisade dev --data-dir",
    ] {
        assert!(help.contains(part), "no {part} in:\n{help}");
    }
}
