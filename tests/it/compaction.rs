//! Compacted topics on a real node: what consumers see, a policy changed under way, and a process that dies while
//! it cleans.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use palisade_protocol::api::ApiKey;
use palisade_protocol::batch::builder::BatchBuilder;
use palisade_protocol::batch::compression::{Codec, decompress};
use palisade_protocol::batch::{BATCH_HEADER_LEN, BatchIter, RecordIter, verify_crc};
use palisade_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use palisade_protocol::text::Str;
use palisade_protocol::types::TimestampMs;
use palisade_protocol::uuid::Uuid;
use palisade_tests::check::{self, eventually};
use palisade_tests::node::Node;
use palisade_tests::paths;
use palisade_tests::requests::{self, newest};
use palisade_tests::target::Target;
use palisade_tests::tools::{self, Java, Need};
use palisade_tests::wire::Connection;

const TOPIC: &str = "compacted";
const PATIENCE: Duration = Duration::from_secs(120);
/// How many checks `Compacted.java` has.
const JAVA_CHECKS: usize = 12;

/// What a reader from the beginning finds.
#[derive(Debug, Default)]
struct View {
    /// Last value of each key; none where the last record is a tombstone.
    last: BTreeMap<String, Option<String>>,
    records: usize,
    end: i64,
}

/// A node whose cleaner looks often.
fn node() -> Node {
    let mut node = Node::prepare();
    node.set("palisade.log.flush.policy", "ack");
    node.set("log.cleaner.backoff.ms", "20");
    node
}

fn create(connection: &mut Connection, policy: &str) -> Uuid {
    let configs = [
        ("cleanup.policy", policy),
        ("segment.bytes", "8192"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "0"),
        ("file.delete.delay.ms", "0"),
        // The records bear an old date.
        ("retention.ms", "-1"),
    ];
    requests::create_topic(connection, TOPIC, 1, &configs).expect("a compacted topic")
}

/// Produces records in batches of twenty, each batch with the next codec.
fn produce(
    connection: &mut Connection,
    id: Uuid,
    records: &[(String, Option<String>)],
) -> std::io::Result<()> {
    for (number, some) in records.chunks(20).enumerate() {
        let mut builder = BatchBuilder::new(Codec::ALL[number % Codec::ALL.len()]);
        for (key, value) in some {
            let value = value.as_ref().map(|value| value.as_bytes());
            builder
                .add(
                    TimestampMs::new(1_700_000_000_000),
                    Some(key.as_bytes()),
                    value,
                    &[],
                )
                .expect("a small record");
        }
        let batch = builder.build().expect("a small batch").freeze();
        let answer = requests::produce(connection, TOPIC, id, -1, batch)?;
        requests::check(answer.error_code)?;
    }
    Ok(())
}

fn read(connection: &mut Connection, id: Uuid) -> View {
    let end = requests::latest_offset(connection, TOPIC).expect("an offset");
    let mut view = View {
        end,
        ..View::default()
    };
    let mut next = 0;
    while next < end {
        let data = requests::fetch(connection, TOPIC, id, next, 1000).expect("an answer");
        requests::check(data.error_code).expect("records");
        let records = data.records.expect("something below the end");
        let before = next;
        for batch in BatchIter::new(records.as_bytes()) {
            let (header, bytes) = batch.expect("a whole batch");
            assert!(verify_crc(bytes));
            assert!(header.next_offset().value() > next, "offsets go forward");
            next = header.next_offset().value();
            let codec = header.codec().expect("a codec");
            let section = match header.records_count {
                0 => continue,
                _ => decompress(codec, &bytes[BATCH_HEADER_LEN..], 1 << 20).expect("records"),
            };
            for record in RecordIter::new(&section, header.records_count) {
                let record = record.expect("a record");
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
                let key = text(record.key.expect("a key"));
                view.last.insert(key, record.value.map(text));
                view.records += 1;
            }
        }
        assert!(next > before, "a fetch below the end makes progress");
    }
    view
}

fn text(key: impl std::fmt::Display, value: impl std::fmt::Display) -> (String, Option<String>) {
    (key.to_string(), Some(format!("{value} {}", "x".repeat(60))))
}

/// Three rounds of fifty keys, the last ten of which are deleted then.
fn rounds(connection: &mut Connection, id: Uuid) {
    for round in 0..3 {
        let records: Vec<_> = (0..1000)
            .map(|n| text(format!("key {}", n % 50), round))
            .collect();
        produce(connection, id, &records).expect("acknowledged");
    }
    let tombstones: Vec<_> = (40..50).map(|n| (format!("key {n}"), None)).collect();
    produce(connection, id, &tombstones).expect("acknowledged");
}

/// Goes on producing a few keys until the cleaner has left only what must stay of the others.
fn until_clean(connection: &mut Connection, id: Uuid) -> View {
    let mut filler = 0;
    eventually("a clean log", PATIENCE, || {
        filler += 1;
        let records: Vec<_> = (0..200)
            .map(|n| text(format!("filler {}", n % 5), filler))
            .collect();
        produce(connection, id, &records).map_err(|error| error.to_string())?;
        let view = read(connection, id);
        for n in 0..40 {
            let (_, wanted) = text("", 2);
            assert_eq!(view.last.get(&format!("key {n}")), Some(&wanted), "key {n}");
        }
        let mut deleted = (40..50).filter_map(|n| view.last.get(&format!("key {n}")));
        assert!(deleted.all(Option::is_none), "a deleted key has come back");
        let gone = (40..50).all(|n| !view.last.contains_key(&format!("key {n}")));
        if gone && view.records < 600 {
            Ok(view)
        } else {
            Err(format!("{} records, tombstones gone: {gone}", view.records))
        }
    })
}

#[test]
fn the_last_value_of_each_key_stays() {
    let mut node = node();
    node.run();
    let access = node.certificate();
    let mut connection = Connection::open(&access).expect("a login");
    let id = create(&mut connection, "compact");
    rounds(&mut connection, id);
    let view = until_clean(&mut connection, id);

    if tools::have("compaction, seen by kcat", &[Need::Kcat]) {
        let mut kcat = tools::kcat(
            &access,
            &[
                "-C",
                "-t",
                TOPIC,
                "-p",
                "0",
                "-o",
                "beginning",
                "-e",
                "-q",
                "-f",
                "%o\t%k\t%s\n",
            ],
        );
        kcat.args(["-X", "check.crcs=true"]);
        let got = tools::run("kcat -C", &mut kcat, Duration::from_secs(60));
        let mut last = BTreeMap::new();
        let mut before = -1;
        for line in got.lines() {
            let mut parts = line.splitn(3, '\t');
            let offset: i64 = parts.next().expect("an offset").parse().expect("a number");
            assert!(offset > before, "offsets go forward: {line}");
            before = offset;
            let (key, value) = (parts.next().expect("a key"), parts.next().expect("a value"));
            last.insert(key.to_owned(), Some(value.to_owned()));
        }
        assert_eq!(last, view.last);
        assert_eq!(before + 1, view.end);
    }

    node.terminate();
    node.run();
    let mut connection = Connection::open(&access).expect("a login");
    let again = read(&mut connection, id);
    assert_eq!((again.last, again.end), (view.last, view.end));
    until_clean(&mut connection, id);
}

#[test]
fn java_4_finds_its_state() {
    java("java_4_finds_its_state", Java::V4);
}

#[test]
fn java_2_8_finds_its_state() {
    java("java_2_8_finds_its_state", Java::V28);
}

/// Keyed records and tombstones by a Java producer, and what a Java consumer makes of them once they are cleaned.
fn java(test: &str, java: Java) {
    if !tools::have(test, &[Need::Java(java)]) {
        return;
    }
    let target = Target::start_with(&[("log.cleaner.backoff.ms", "20")]);
    let dir = paths::scratch();
    let access = target.scram("SCRAM-SHA-512");
    let properties = access.write_java(java.store(), dir.path(), "client.properties");
    let mut command = java.command();
    command.arg("Compacted").arg(properties).arg("java-");
    let (_, output, all) = tools::attempt("Compacted", &mut command, PATIENCE * 2);
    assert!(!output.is_empty(), "{all}");
    check::judge(&format!("{java:?}"), &output, JAVA_CHECKS, &[]);
}

fn set_policy(connection: &mut Connection, policy: &str) {
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 2,
            resource_name: Str::from(TOPIC),
            configs: vec![AlterableConfig {
                name: Str::from("cleanup.policy"),
                config_operation: 0,
                value: Some(Str::copy(policy)),
            }],
        }],
        validate_only: false,
    };
    let version = newest(ApiKey::IncrementalAlterConfigs);
    let answer = connection.call(version, &request).expect("an answer");
    requests::check(answer.responses[0].error_code).expect("altered");
}

#[test]
fn a_policy_changes_under_way() {
    let mut node = node();
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let id = create(&mut connection, "delete");
    rounds(&mut connection, id);
    let before = read(&mut connection, id);
    assert_eq!(before.records as i64, before.end, "nothing is cleaned yet");
    set_policy(&mut connection, "compact,delete");
    let view = until_clean(&mut connection, id);

    // A log with gaps is none with damage, whatever its policy is by now.
    set_policy(&mut connection, "delete");
    node.kill();
    node.run();
    let mut connection = Connection::open(&node.certificate()).expect("a login");
    let again = read(&mut connection, id);
    assert_eq!((again.last, again.end), (view.last, view.end));
}

#[test]
fn killed_while_cleaning() {
    let points = [
        "clean.before_create",
        "clean.before_sync",
        "clean.before_indexes",
        "clean.before_commit",
        "clean.after_commit",
        "clean.before_place",
        "clean.after_place",
        "clean.before_checkpoint",
    ];
    for point in points {
        let mut node = node();
        node.env("PALISADE_FAILPOINT", format!("{point}:abort"));
        let process = node.spawn();
        let access = node.certificate();
        let mut connection = eventually("a login", Duration::from_secs(30), || {
            Connection::open(&access).map_err(|error| error.to_string())
        });
        let id = create(&mut connection, "compact");
        let mut acknowledged: BTreeMap<String, u32> = BTreeMap::new();
        let mut sent = 0;
        loop {
            sent += 1;
            let key = format!("key {}", sent % 7);
            if produce(&mut connection, id, &[text(&key, sent)]).is_err() {
                break;
            }
            acknowledged.insert(key, sent);
            assert!(sent < 100_000, "{point} was never passed");
        }
        let exit = process.wait(Duration::from_secs(30));
        assert_eq!(exit.signal(), Some(6), "{point}:\n{}", process.output());

        node.env("PALISADE_FAILPOINT", "");
        node.run();
        let mut connection = Connection::open(&access).expect("a login after the kill");
        let view = read(&mut connection, id);
        for (key, number) in &acknowledged {
            let value = view
                .last
                .get(key)
                .expect("an acknowledged key")
                .as_ref()
                .expect("a value");
            let found: u32 = value
                .split(' ')
                .next()
                .expect("a number")
                .parse()
                .expect("a number");
            // The record that was not acknowledged may be there too.
            assert!(
                found == *number || found == sent,
                "{point}: {key} is {found} of {number}"
            );
        }
        let records: Vec<_> = (0..2000)
            .map(|n| text(format!("key {}", n % 7), sent + 1))
            .collect();
        produce(&mut connection, id, &records).expect("acknowledged");
        eventually("a clean log", PATIENCE, || {
            match read(&mut connection, id).records {
                few if few < 1000 => Ok(()),
                many => Err(format!("{many} records")),
            }
        });
        node.terminate();
    }
}
