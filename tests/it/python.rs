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
