//! The suites of librdkafka and franz-go, against the lists in `tests/suites`.
//!
//! What is listed as `PASS` runs with our own tests. `tests/suite` runs all of a suite, tells how each test went, and
//! fails where the list says otherwise.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use palisade_tests::access::{Login, Store};
use palisade_tests::paths;
use palisade_tests::suites::{self, Listed, Outcome, Verdict};
use palisade_tests::target::Target;
use palisade_tests::tools::{self, Java, Need};

/// What the suites ask of a broker: librdkafka's topics appear when they are written to, with four partitions, and its
/// tests of authorization add the only rules that there are.
const PROFILE: &[(&str, &str)] = &[
    ("auto.create.topics.enable", "true"),
    ("num.partitions", "4"),
    // Some tests count on members that come together being assigned together.
    ("group.initial.rebalance.delay.ms", "1000"),
    ("allow.everyone.if.no.acl.found", "true"),
    ("super.users", "User:admin;User:CN=admin"),
    ("group.consumer.min.session.timeout.ms", "6000"),
    ("group.consumer.session.timeout.ms", "6000"),
    ("group.consumer.min.heartbeat.interval.ms", "500"),
    ("group.consumer.heartbeat.interval.ms", "500"),
];
/// Tests of librdkafka side by side. They wait more than they work.
const AT_ONCE: usize = 4;

#[test]
fn librdkafka_over_sasl_ssl() {
    librdkafka("librdkafka_over_sasl_ssl", "sasl_ssl");
}

#[test]
fn librdkafka_over_plaintext() {
    librdkafka("librdkafka_over_plaintext", "plaintext");
}

#[test]
fn kgo_over_ssl() {
    kgo("kgo_over_ssl", "ssl");
}

#[test]
fn kgo_over_plaintext() {
    kgo("kgo_over_plaintext", "plaintext");
}

/// The way in that `tests/suite` asks for, if this run is one of its.
fn asked_for() -> Option<String> {
    std::env::var("PALISADE_SUITE").ok()
}

/// The names of what runs over that way in; `None` where `tests/suite` asks for another.
fn chosen(suite: &str, security: &str) -> Option<Vec<String>> {
    let asked = asked_for();
    if asked.as_ref().is_some_and(|way| way != security) {
        return None;
    }
    let only = std::env::var("PALISADE_SUITE_ONLY").unwrap_or_default();
    let runs = |line: &Listed| match line.verdict {
        Verdict::Pass => asked.is_some() || security != "plaintext" || line.of_way,
        Verdict::Slow | Verdict::Fail => asked.is_some(),
        Verdict::Skip => false,
    };
    let list = suites::list(suite, security).into_iter().filter(runs);
    let names = list.map(|line| line.name);
    let names: Vec<_> = names.filter(|name| name.contains(&only)).collect();
    (!names.is_empty()).then_some(names)
}

fn librdkafka(test: &str, security: &str) {
    let needs = [Need::Librdkafka, Need::Java(Java::V4)];
    let Some(names) = chosen("librdkafka", security) else {
        return;
    };
    if !tools::have(test, &needs) {
        return;
    }
    let (target, plaintext) = Target::start_with_plaintext(PROFILE);
    let dir = paths::scratch();
    let access = target.scram("SCRAM-SHA-512");
    let properties = access.write_java(Store::Pem, dir.path(), "admin.properties");
    // The suite's tools come in by the same door.
    let (settings, brokers) = match security {
        "plaintext" => {
            paths::write_private(&properties, "");
            let settings = vec![("bootstrap.servers", plaintext.clone())];
            (settings, plaintext)
        }
        _ => (access.librdkafka(), access.bootstrap.clone()),
    };
    kafka_scripts(dir.path(), &properties);
    let environment = [
        ("KAFKA_PATH", tools::text(dir.path())),
        ("BROKERS", brokers),
    ];
    let outcomes = suites::librdkafka(&names, &settings, &environment, AT_ONCE);
    judge("librdkafka", security, &outcomes);
}

/// Makes `bin/kafka-topics.sh` and `bin/kafka-acls.sh`, which run Kafka's tools with these properties.
fn kafka_scripts(dir: &Path, properties: &Path) {
    let bin = dir.join("bin");
    fs::create_dir(&bin).expect("a scratch directory can be made");
    for (script, class) in [
        ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand"),
        ("kafka-acls.sh", "org.apache.kafka.tools.AclCommand"),
    ] {
        let java = Java::V4.command();
        let mut line = "#!/bin/sh\nexec java".to_owned();
        for argument in java.get_args() {
            line += &format!(" '{}'", argument.display());
        }
        let properties = properties.display();
        line += &format!(" {class} --command-config {properties} \"$@\"\n");
        let path = bin.join(script);
        fs::write(&path, line).expect("a scratch file can be written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&path, mode).expect("the mode of an own file can be set");
    }
}

fn kgo(test: &str, security: &str) {
    let Some(names) = chosen("kgo", security) else {
        return;
    };
    if !tools::have(test, &[Need::Kgo]) {
        return;
    }
    let (target, plaintext) = Target::start_with_plaintext(PROFILE);
    let access = target.certificate();
    let Login::Certificate(identity) = &access.login else {
        unreachable!("asked for by certificate");
    };
    let records = if asked_for().is_some() {
        "50000"
    } else {
        "10000"
    };
    let mut environment = vec![("KGO_TEST_RECORDS", records.to_owned())];
    match security {
        "plaintext" => environment.push(("KGO_SEEDS", plaintext)),
        _ => environment.extend([
            ("KGO_SEEDS", access.bootstrap.clone()),
            (
                "KGO_TEST_TLS",
                format!(
                    "ca:{},cert:{},key:{}",
                    access.trust.display(),
                    identity.certificate.display(),
                    identity.key.display()
                ),
            ),
        ]),
    }
    judge("kgo", security, &suites::kgo(&names, &environment));
}

fn judge(suite: &str, security: &str, outcomes: &BTreeMap<String, Outcome>) {
    for (name, outcome) in outcomes {
        let word = match outcome.passed {
            Some(true) => "PASS",
            Some(false) => "FAIL",
            None => "SKIP",
        };
        let seconds = outcome.took.as_secs();
        println!("{name} {word} {seconds} s {}", outcome.said);
    }
    let passed = outcomes
        .values()
        .filter(|outcome| outcome.passed == Some(true));
    println!("{suite}: {} of {} passed", passed.count(), outcomes.len());
    let differences = suites::differences(&suites::list(suite, security), outcomes);
    assert!(
        differences.is_empty(),
        "not as tests/suites/{suite}.txt says: {differences:#?}"
    );
}
