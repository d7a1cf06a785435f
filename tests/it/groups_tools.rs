//! Kafka's own command line tools for groups, over SASL_SSL.

use std::time::Duration;

use palisade_tests::access::Store;
use palisade_tests::check::judge;
use palisade_tests::paths;
use palisade_tests::target::Target;
use palisade_tests::tools::{self, Java, Need};

use crate::groups_clients::SETTINGS;

/// How many checks `Tools.java` has of each protocol, and how many besides.
const CHECKS: [usize; 2] = [11, 23];

/// The console consumer, kafka-consumer-groups, kafka-get-offsets, consumer-perf-test and VerifiableConsumer.
#[test]
fn tools_4() {
    if !tools::have("tools_4", &[Need::Java(Java::V4)]) {
        return;
    }
    let target = Target::start_with(SETTINGS);
    let dir = paths::scratch();
    let access = target.scram("SCRAM-SHA-512");
    let properties = access.write_java(Store::Pem, dir.path(), "admin.properties");
    let mut command = Java::V4.command();
    command.arg("Tools").arg(properties).arg("classic");
    if target.serves_consumer_protocol() {
        command.arg("consumer");
    }
    let protocols = 1 + usize::from(target.serves_consumer_protocol());
    let (_, output, all) = tools::attempt("Tools", &mut command, Duration::from_secs(300));
    assert!(!output.is_empty(), "{all}");
    let [of_each, besides] = CHECKS;
    judge("tools", &output, besides + protocols * of_each, &[]);
}
