//! `palisade dev`: one command gives a secured broker and settings that clients can use as they are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use palisade_tests::dev::Dev;
use palisade_tests::paths;
use palisade_tests::process::{Process, Stream};
use palisade_tests::requests;
use palisade_tests::tools::{self, Java, Need};
use palisade_tests::wire::Connection;

const PATIENCE: Duration = Duration::from_secs(60);

/// The files made for clients work as they are, each in the hands of the client it is for.
#[test]
fn client_files() {
    if !tools::have("dev::client_files", &[Need::Kcat, Need::Java(Java::V4)]) {
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
        let mut command = Java::V4.command();
        command
            .arg("org.apache.kafka.tools.TopicCommand")
            .args(["--bootstrap-server", bootstrap, "--list"])
            .arg("--command-config")
            .arg(dev.file(name));
        assert_eq!(
            tools::run("TopicCommand", &mut command, PATIENCE),
            "orders",
            "{name}"
        );

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
        .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "))
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

/// Without `--json` a person reads how to connect and what to type next.
#[test]
fn readable_block() {
    let mut command = paths::palisade();
    command.args(["dev", "--port", "0"]);
    let process = Process::spawn("palisade dev", &mut command);
    process.wait_for_line(Duration::from_secs(30), |line| line.contains("Ctrl-C"));
    let text = process.stream(Stream::Out).join("\n");
    for part in [
        "SASL_SSL",
        "127.0.0.1:",
        "admin",
        "type next",
        "kcat",
        "palisade topic",
    ] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    assert!(process.terminate().success());
}
