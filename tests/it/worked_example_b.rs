//! A REST proxy with two users under default deny: who may do what, and the exact exception of each refusal.
//!
//! The table is worked example B of the authorization rules, as Apache Kafka 4.3.1 answers it.

use std::time::Duration;

use palisade_tests::check::judge;
use palisade_tests::paths;
use palisade_tests::target::Target;
use palisade_tests::tools::{self, Java, Need};

const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn java_4() {
    example("worked_example_b::java_4", Java::V4);
}

#[test]
fn java_2_8() {
    example("worked_example_b::java_2_8", Java::V28);
}

fn example(test: &str, java: Java) {
    if !tools::have(test, &[Need::Java(java)]) {
        return;
    }
    let target = Target::start();
    let dir = paths::scratch();
    let access = target.scram("SCRAM-SHA-512");
    let mut command = java.command();
    command
        .arg("ExampleB")
        .arg(access.write_java(java.store(), dir.path(), "admin.properties"));
    // Until the broker has group coordinators, the rows that need one cannot be asked.
    let checks = if target.serves_groups() {
        command.arg("groups");
        26
    } else {
        24
    };
    let (_, output, all) = tools::attempt("ExampleB", &mut command, PATIENCE);
    assert!(!output.is_empty(), "{all}");
    judge(&format!("example B by {java:?}"), &output, checks, &[]);
}
