//! What the commands say when something is wrong: on which stream, with which status, and what to do about it.

use std::path::Path;
use std::time::Duration;

use palisade_tests::dev::Dev;
use palisade_tests::paths;
use palisade_tests::process::{Process, Stream};
use palisade_tests::tools;

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
