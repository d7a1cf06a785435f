//! `palisade topic`, `user` and `acl`, against the node and against Apache Kafka.

use std::path::{Path, PathBuf};
use std::time::Duration;

use palisade_tests::access::{Access, Login, Store};
use palisade_tests::check::eventually;
use palisade_tests::kafka::ApacheKafka;
use palisade_tests::paths;
use palisade_tests::process::{Process, Stream};
use palisade_tests::target::Target;
use palisade_tests::tools::{self, Java, Need};
use palisade_tests::wire::Connection;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the binary; returns its exit status and what it printed.
fn palisade(config: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = paths::palisade();
    command.args(arguments).arg("--json");
    command.arg("--command-config").arg(config);
    let process = Process::spawn("palisade", &mut command);
    let exit = process.wait(PATIENCE);
    let printed = process.stream(Stream::Out).join("\n");
    let code = exit
        .code()
        .unwrap_or_else(|| panic!("{exit:?}: {}", process.output()));
    (code, printed)
}

/// Runs the binary, which must succeed, and returns the JSON it printed.
fn done(config: &Path, arguments: &[&str]) -> Value {
    let (code, printed) = palisade(config, arguments);
    assert_eq!(code, 0, "{arguments:?}: {printed}");
    serde_json::from_str(&printed)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {printed}"))
}

/// Runs a command until its output has, or no longer has, a text: other brokers apply a change after answering.
fn shows(config: &Path, arguments: &[&str], text: &str, wanted: bool) {
    eventually(&format!("{arguments:?}"), Duration::from_secs(15), || {
        let printed = done(config, arguments).to_string();
        match printed.contains(text) == wanted {
            true => Ok(()),
            false => Err(printed),
        }
    });
}

/// The three kinds of settings files that users have at hand.
fn configs(dir: &Path, scram: &Access, certificate: &Access) -> [PathBuf; 3] {
    let librdkafka: String = scram
        .librdkafka()
        .iter()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect();
    let conf = dir.join("librdkafka.conf");
    paths::write_private(&conf, librdkafka);
    [
        scram.write_java(Store::Pem, dir, "scram.properties"),
        certificate.write_java(Store::Pem, dir, "certificate.properties"),
        conf,
    ]
}

fn administrate(scram: &Access, certificate: &Access) {
    let dir = paths::scratch();
    for (number, config) in configs(dir.path(), scram, certificate).iter().enumerate() {
        topics(config, &format!("cli-{number}"));
        users(config, scram, dir.path(), &format!("cli-user-{number}"));
        rules(config, &format!("cli-rule-{number}"));
        mistakes(config);
    }
}

fn topics(config: &Path, name: &str) {
    let create = ["topic", "create", name, "--partitions", "2"];
    done(
        config,
        &[&create[..], &["--config", "retention.ms=1234567"]].concat(),
    );
    shows(config, &["topic", "list"], name, true);
    let (code, printed) = palisade(config, &create);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("TOPIC_ALREADY_EXISTS"), "{printed}");
    done(config, &[&create[..], &["--if-not-exists"]].concat());
    done(config, &["topic", "alter", name, "--partitions", "3"]);
    done(
        config,
        &["topic", "alter", name, "--config", "retention.ms=7654321"],
    );
    let describe = ["topic", "describe", name];
    shows(config, &describe, "7654321", true);
    shows(config, &describe, "1234567", false);
    done(
        config,
        &["topic", "alter", name, "--delete-config", "retention.ms"],
    );
    shows(config, &describe, "7654321", false);
    done(config, &["topic", "delete", name]);
    shows(config, &["topic", "list"], name, false);
}

fn users(config: &Path, scram: &Access, dir: &Path, name: &str) {
    let mechanism = "SCRAM-SHA-512";
    let password = dir.join("password");
    paths::write_private(&password, "a secret of 1 user\n");
    let password = tools::text(&password);
    let login =
        |name: &str, password: &str| Connection::open(&scram.as_user(mechanism, name, password));
    assert!(login(name, "a secret of 1 user").is_err());
    done(
        config,
        &["user", "create", name, "--password-file", &password],
    );
    eventually("the new user's login", Duration::from_secs(15), || {
        login(name, "a secret of 1 user").map_err(|error| error.to_string())
    });
    assert!(login(name, "another secret").is_err());
    shows(config, &["user", "list"], name, true);
    done(config, &["user", "delete", name]);
    shows(config, &["user", "list"], name, false);
    eventually(
        "the end of the user's logins",
        Duration::from_secs(15),
        || match login(name, "a secret of 1 user") {
            Ok(_) => Err("logged in".to_owned()),
            Err(_) => Ok(()),
        },
    );
}

fn rules(config: &Path, name: &str) {
    let rule = format!("allow User:{name} READ,WRITE topic:{name}-* from 127.0.0.1");
    done(config, &["acl", "add", &rule]);
    let list = ["acl", "list", "--principal", &format!("User:{name}")];
    shows(config, &list, &format!("{name}-"), true);
    done(config, &["acl", "remove", &rule]);
    shows(config, &list, &format!("{name}-"), false);
}

fn mistakes(config: &Path) {
    let (code, printed) = palisade(config, &["topic", "delete", "never-made"]);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{printed}");
    let (code, printed) = palisade(config, &["acl", "add", "allow nobody to do anything"]);
    assert_eq!(code, 2, "{printed}");
}

/// Whoever may not see users hears so at once, and what is needed.
fn nobody(scram: &Access) {
    let dir = paths::scratch();
    let admin = scram.write_java(Store::Pem, dir.path(), "admin.properties");
    let password = dir.path().join("password");
    paths::write_private(&password, "cli-secret");
    let create = ["user", "create", "cli-nobody", "--password-file"];
    done(&admin, &[&create[..], &[&tools::text(&password)]].concat());
    shows(&admin, &["user", "list"], "cli-nobody", true);
    let nobody = scram.as_user("SCRAM-SHA-512", "cli-nobody", "cli-secret");
    let config = nobody.write_java(Store::Pem, dir.path(), "nobody.properties");
    for command in [&["user", "list"][..], &["user", "delete", "x"]] {
        let (code, printed) = palisade(&config, command);
        assert_eq!(code, 1, "{command:?}: {printed}");
        let words = "DESCRIBE on the cluster is needed";
        assert!(printed.contains(words), "{command:?}: {printed}");
    }
}

#[test]
fn administers_the_node() {
    let target = Target::start();
    administrate(&target.scram("SCRAM-SHA-512"), &target.certificate());
    nobody(&target.scram("SCRAM-SHA-512"));
}

#[test]
fn administers_apache_kafka() {
    if !tools::have("administers_apache_kafka", &[Need::Java(Java::V4)]) {
        return;
    }
    let kafka = ApacheKafka::start();
    administrate(&kafka.scram("SCRAM-SHA-512"), &kafka.certificate());
    nobody(&kafka.scram("SCRAM-SHA-512"));
}

/// A refused login and a port where nobody listens end with a status of their own.
#[test]
fn no_login() {
    let target = Target::start();
    let dir = paths::scratch();
    let admin = target.scram("SCRAM-SHA-512");
    let Login::Scram { user, .. } = &admin.login else {
        unreachable!("asked for SCRAM");
    };
    let wrong = admin.as_user("SCRAM-SHA-512", user, "not the password");
    let config = wrong.write_java(Store::Pem, dir.path(), "wrong.properties");
    let (code, printed) = palisade(&config, &["topic", "list"]);
    assert_eq!(code, 3, "{printed}");
    assert!(!printed.contains("not the password"), "{printed}");
    let words = format!("no user {user}, a wrong password, or no credential for SCRAM-SHA-512");
    assert!(printed.contains(&words), "{printed}");

    let nobody = Access {
        bootstrap: format!("127.0.0.1:{}", paths::free_port()),
        ..admin
    };
    let config = nobody.write_java(Store::Pem, dir.path(), "nobody.properties");
    let (code, printed) = palisade(&config, &["topic", "list"]);
    assert_eq!(code, 3, "{printed}");
}
