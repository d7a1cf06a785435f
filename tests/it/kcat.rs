//! Debian's kcat (librdkafka 2.0.2): every codec there and back, by each way in.

use std::fs;
use std::time::Duration;

use palisade_tests::check::same_lines;
use palisade_tests::paths;
use palisade_tests::target::Target;
use palisade_tests::tools::{self, Need};

use crate::rdkafka::create_topic;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn kcat() {
    if !tools::have("kcat", &[Need::Kcat]) {
        return;
    }
    let target = Target::start();
    let dir = paths::scratch();
    for (number, access) in target.accesses().iter().enumerate() {
        let topic = format!("kcat-{number}");
        create_topic(access, &topic, 1);
        let listing = tools::run("kcat -L", &mut tools::kcat(access, &["-L"]), PATIENCE);
        assert!(
            listing.contains(&format!("topic \"{topic}\" with 1 partitions")),
            "{listing}"
        );

        let mut sent = String::new();
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let lines: String = (0..300)
                .map(|line| format!("key {line}\t{codec} {line} {}\n", "y".repeat(line)))
                .collect();
            let input = dir.path().join("input");
            fs::write(&input, &lines).expect("a scratch file can be written");
            sent += &lines;
            let input = tools::text(&input);
            let mut produce = tools::kcat(
                access,
                &[
                    "-P", "-t", &topic, "-p", "0", "-K", "\t", "-z", codec, "-l", &input,
                ],
            );
            // Idempotence and acknowledgements by all replicas are not the old default.
            produce.args(["-X", "enable.idempotence=true", "-X", "acks=all"]);
            tools::run("kcat -P", &mut produce, PATIENCE);
        }
        let mut consume = tools::kcat(
            access,
            &[
                "-C",
                "-t",
                &topic,
                "-p",
                "0",
                "-o",
                "beginning",
                "-e",
                "-q",
                "-K",
                "\t",
            ],
        );
        // CRC checks are off by default in librdkafka.
        consume.args(["-X", "check.crcs=true"]);
        let got = tools::run("kcat -C", &mut consume, PATIENCE);
        same_lines(access.kind(), &sent, &got);

        let offset = tools::run(
            "kcat -Q",
            &mut tools::kcat(access, &["-Q", "-t", &format!("{topic}:0:-1")]),
            PATIENCE,
        );
        assert!(offset.contains("offset 1500"), "{offset}");
    }
}
