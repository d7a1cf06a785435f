//! kafka-python, the version that many still pin and the newest one.

use std::time::Duration;

use palisade_tests::check::judge;
use palisade_tests::paths;
use palisade_tests::target::Target;
use palisade_tests::tools::{self, Need};

const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn kafka_python_2_0_2() {
    suite("kafka_python_2_0_2", "python-2.0.2");
}

#[test]
fn kafka_python_newest() {
    suite("kafka_python_newest", "python-new");
}

fn suite(test: &str, environment: &'static str) {
    if !tools::have(test, &[Need::Python(environment)]) {
        return;
    }
    let target = Target::start();
    for (number, access) in target.accesses().iter().enumerate() {
        let mut command = std::process::Command::new(tools::python(environment));
        command
            .arg(paths::root().join("tests/clients/python/suite.py"))
            .arg(access.kafka_python())
            .arg(format!("python{number}-"));
        let (_, output, all) = tools::attempt("suite.py", &mut command, PATIENCE);
        assert!(!output.is_empty(), "{all}");
        judge(
            &format!("{environment} over {}", access.kind()),
            &output,
            10,
            &[],
        );
    }
}

/// Each try hears why it was refused: the end of the stream does not come right behind the answer,
/// where this client takes it for a lost connection.
#[test]
fn wrong_password() {
    let environment = "python-new";
    if !tools::have("python::wrong_password", &[Need::Python(environment)]) {
        return;
    }
    let target = Target::start();
    let access =
        target
            .scram("SCRAM-SHA-512")
            .as_user("SCRAM-SHA-512", "admin", "not the password");
    let mut command = std::process::Command::new(tools::python(environment));
    command
        .arg(paths::root().join("tests/clients/python/wrong_password.py"))
        .arg(access.kafka_python());
    let ends = tools::run("wrong_password.py", &mut command, PATIENCE);
    assert_eq!(ends.lines().count(), 8, "{ends}");
    for end in ends.lines() {
        assert!(end.contains("SaslAuthenticationFailedError"), "{ends}");
    }
}
