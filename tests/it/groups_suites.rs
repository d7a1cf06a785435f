//! The suites of librdkafka and franz-go, against the lists in `tests/suites`.
//!
//! What is listed as `PASS` runs with our own tests, as `suites.rs` says. `tests/suite` runs all of a suite, tells how each test went, and
//! fails where the list says otherwise.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use palisade_tests::access::{Access, Login, Store};
use palisade_tests::paths;
use palisade_tests::suites::{self, Listed, Outcome, Verdict};
use palisade_tests::target::Target;
use palisade_tests::tools::{self, Java, Need};
use palisade_tests::tunnel::Tunnel;

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

/// A run of a suite: whose list, by which way in.
#[derive(Clone, Copy)]
struct Run {
    /// The suite, or its other mode: the name of a list in `tests/suites`.
    list: &'static str,
    security: &'static str,
    /// Whether our own tests run all that the list says passes, not only what it says of this way in.
    whole: bool,
}

impl Run {
    const fn new(list: &'static str, security: &'static str) -> Run {
        Run {
            list,
            security,
            whole: false,
        }
    }

    const fn whole(list: &'static str, security: &'static str) -> Run {
        Run {
            list,
            security,
            whole: true,
        }
    }

    /// The names of what runs; `None` where `tests/suite` asks for another way in.
    fn chosen(self) -> Option<Vec<String>> {
        let asked = asked_for();
        if asked.as_ref().is_some_and(|way| way != self.security) {
            return None;
        }
        let only = std::env::var("PALISADE_SUITE_ONLY").unwrap_or_default();
        let runs = |line: &Listed| match line.verdict {
            Verdict::Pass => asked.is_some() || self.whole || line.of_way,
            Verdict::Slow | Verdict::Fail => asked.is_some(),
            Verdict::Skip => false,
        };
        let list = suites::list(self.list, self.security);
        let names = list.into_iter().filter(runs).map(|line| line.name);
        let names: Vec<_> = names.filter(|name| name.contains(&only)).collect();
        (!names.is_empty()).then_some(names)
    }

    /// Where the logs of this run lie below `target/suites`.
    fn logs(self) -> String {
        format!("{}/{}", self.list, self.security)
    }
}

#[test]
fn librdkafka_over_sasl_ssl() {
    let run = Run::whole("librdkafka", "sasl_ssl");
    librdkafka("librdkafka_over_sasl_ssl", run, "classic");
}

#[test]
fn librdkafka_over_plaintext() {
    let run = Run::new("librdkafka", "plaintext");
    librdkafka("librdkafka_over_plaintext", run, "classic");
}

#[test]
fn librdkafka_consumer_over_sasl_ssl() {
    let run = Run::new("librdkafka_consumer", "sasl_ssl");
    librdkafka("librdkafka_consumer_over_sasl_ssl", run, "consumer");
}

#[test]
fn librdkafka_consumer_over_plaintext() {
    let run = Run::whole("librdkafka_consumer", "plaintext");
    librdkafka("librdkafka_consumer_over_plaintext", run, "consumer");
}

#[test]
fn kgo_over_ssl() {
    kgo("kgo_over_ssl", Run::whole("kgo", "ssl"));
}

#[test]
fn kgo_over_sasl_ssl() {
    kgo("kgo_over_sasl_ssl", Run::new("kgo", "sasl_ssl"));
}

#[test]
fn kgo_over_plaintext() {
    kgo("kgo_over_plaintext", Run::new("kgo", "plaintext"));
}

/// The way in that `tests/suite` asks for, if this run is one of its.
fn asked_for() -> Option<String> {
    std::env::var("PALISADE_SUITE").ok()
}

fn librdkafka(test: &str, run: Run, protocol: &str) {
    let needs = [Need::Librdkafka, Need::Java(Java::V4)];
    let Some(names) = run.chosen() else {
        return;
    };
    if !tools::have(test, &needs) {
        return;
    }
    let (mut target, plaintext) = Target::start_with_plaintext(PROFILE);
    if let Target::Palisade(node) = &mut target {
        // Of the tests that fail, as the list has it.
        node.allow("transactional producer refused");
    }
    let dir = paths::scratch();
    let access = target.scram("SCRAM-SHA-512");
    let properties = access.write_java(Store::Pem, dir.path(), "admin.properties");
    // The suite's tools come in by the same door.
    let (settings, brokers) = match run.security {
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
        ("TEST_CONSUMER_GROUP_PROTOCOL", protocol.to_owned()),
    ];
    let outcomes = suites::librdkafka(&names, &settings, &environment, AT_ONCE, &run.logs());
    judge(run, &outcomes);
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

/// Its tests know TLS with certificates, and no login over TLS: for SASL_SSL a tunnel logs in for them.
fn kgo(test: &str, run: Run) {
    let Some(names) = run.chosen() else {
        return;
    };
    if !tools::have(test, &[Need::Kgo]) {
        return;
    }
    let records = if asked_for().is_some() {
        "50000"
    } else {
        "10000"
    };
    let mut environment = vec![("KGO_TEST_RECORDS", records.to_owned())];
    let (_target, _tunnel) = match run.security {
        "plaintext" => {
            let (target, plaintext) = Target::start_with_plaintext(PROFILE);
            environment.push(("KGO_SEEDS", plaintext));
            (target, None)
        }
        "ssl" => {
            let (target, _) = Target::start_with_plaintext(PROFILE);
            environment.extend(kgo_by_certificate(&target.certificate()));
            (target, None)
        }
        _ => {
            let door = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = door.local_addr().expect("an address").to_string();
            let target = Target::start_behind(&address, PROFILE);
            let tunnel = Tunnel::open(door, &target.scram("SCRAM-SHA-512"));
            environment.push(("KGO_SEEDS", address));
            (target, Some(tunnel))
        }
    };
    judge(run, &suites::kgo(&names, &environment, &run.logs()));
}

fn kgo_by_certificate(access: &Access) -> [(&'static str, String); 2] {
    let Login::Certificate(identity) = &access.login else {
        unreachable!("asked for by certificate");
    };
    let files = format!(
        "ca:{},cert:{},key:{}",
        access.trust.display(),
        identity.certificate.display(),
        identity.key.display()
    );
    [
        ("KGO_SEEDS", access.bootstrap.clone()),
        ("KGO_TEST_TLS", files),
    ]
}

fn judge(run: Run, outcomes: &BTreeMap<String, Outcome>) {
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
    let list = run.list;
    println!("{list}: {} of {} passed", passed.count(), outcomes.len());
    let differences = suites::differences(&suites::list(list, run.security), outcomes);
    assert!(
        differences.is_empty(),
        "not as tests/suites/{list}.txt says: {differences:#?}"
    );
}
