//! Mistakes at the command line: said in words, before anything is done where that can be, and with
//! an exit status that tells.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use palisade_tests::dev::Dev;
use palisade_tests::paths;
use palisade_tests::tools;
use rustix::process::Signal;

use crate::cli_data::Cli;

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

/// The name of a code stands behind the words; programs find it, and its number, in JSON.
#[test]
fn codes_stand_behind_words() {
    let dev = Dev::start(&["--plaintext", "--topic", "orders"]);
    let cli = Cli::new(&dev.admin());
    let plain = cli.file("plain.properties", "security.protocol=PLAINTEXT\n");
    let nobody = Cli::with_file(&plain);
    let address = dev.text(&["listeners", "PLAINTEXT", "address"]);
    let at = ["--bootstrap", address];
    let no_right = "this user has no right to do that to the topic (TOPIC_AUTHORIZATION_FAILED)";
    for verb in ["create", "delete"] {
        let command = [&["topic", verb, "orders"][..], &at].concat();
        refused(&nobody, &command, 1, &format!("topic orders: {no_right}"));
    }
    let add = ["acl", "add", "allow User:x read topic:orders"];
    let words = "no right to do that to the cluster (CLUSTER_AUTHORIZATION_FAILED)";
    refused(&nobody, &[&add[..], &at].concat(), 1, words);

    let (code, out, err) = cli.run(&["topic", "create", "bad name", "--json"]);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    let said: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(said["error"]["name"], "INVALID_TOPIC_EXCEPTION", "{said}");
    assert_eq!(said["error"]["code"], 17, "{said}");
}

/// A port where somebody takes connections and says nothing.
#[test]
fn a_broker_that_never_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("its address").to_string();
    let dir = paths::scratch();
    let config = dir.path().join("silent.properties");
    paths::write_private(&config, format!("bootstrap.servers={address}\n"));
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
    // Waiting for it can be interrupted.
    let waiting = cli.spawn(&["consume", "t", "--timeout", "3600"]);
    let (met, _) = silent.accept().expect("a connection");
    waiting.signal(Signal::INT);
    let exit = waiting.wait(PATIENCE);
    assert!(!exit.success(), "{exit:?}: {}", waiting.output());
    drop(met);
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
