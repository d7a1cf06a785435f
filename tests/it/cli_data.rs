//! `palisade produce` and `consume`: there and back, beside kcat, and through the node's death.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use palisade_tests::access::{Access, Store};
use palisade_tests::check::{eventually, same_lines};
use palisade_tests::dev::Dev;
use palisade_tests::node::Node;
use palisade_tests::paths;
use palisade_tests::process::{Process, Stream};
use palisade_tests::requests;
use palisade_tests::target::Target;
use palisade_tests::tools::{self, Need};
use palisade_tests::wire::Connection;
use serde_json::Value;
use tempfile::TempDir;

use crate::rdkafka::create_topic;

const PATIENCE: Duration = Duration::from_secs(90);

/// The commands of one user, with a directory for what they read.
pub(crate) struct Cli {
    config: PathBuf,
    dir: TempDir,
}

impl Cli {
    pub(crate) fn new(access: &Access) -> Cli {
        let dir = paths::scratch();
        let config = access.write_java(Store::Pem, dir.path(), "cli.properties");
        Cli { config, dir }
    }

    /// The same with settings that are there already.
    pub(crate) fn with_file(config: &str) -> Cli {
        Cli {
            config: config.into(),
            dir: paths::scratch(),
        }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = paths::palisade();
        command.args(arguments).arg("--command-config");
        command.arg(&self.config);
        command
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Process {
        Process::spawn("palisade", &mut self.command(arguments))
    }

    /// Runs a command to its end: status, standard output, standard error.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let process = self.spawn(arguments);
        let code = process.wait(PATIENCE).code();
        let code = code.unwrap_or_else(|| panic!("{arguments:?}: {}", process.output()));
        let [out, err] = [Stream::Out, Stream::Err].map(|stream| process.stream(stream).join("\n"));
        (code, out, err)
    }

    /// Runs a command that must succeed.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}\n{err}");
        out
    }

    /// Runs a command that must succeed and print JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let out = self.done(&[arguments, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, content).expect("a scratch file can be written");
        tools::text(&path)
    }
}

/// Runs to its end with a file as standard input, for output that is no text.
fn with_input(mut command: Command, input: &Path) -> Output {
    let input = File::open(input).expect("a scratch file can be read");
    let output = command.stdin(input).output();
    output.expect("the binary can be started")
}

#[test]
fn every_codec_there_and_back() {
    let target = Target::start();
    for (number, access) in target.accesses().iter().enumerate() {
        let cli = Cli::new(access);
        let topic = format!("codecs-{number}");
        create_topic(access, &topic, 1);
        let mut sent = String::new();
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let lines: String = (0..300)
                .map(|line| format!("key {line}=>{codec} {line} {}\n", "y".repeat(line)))
                .collect();
            sent += &lines.replace("=>", "|");
            let file = cli.file("input", &lines);
            let produce = ["produce", &topic, "--file", &file, "--key-separator", "=>"];
            let produce = [&produce[..], &["--compression", codec, "--header", "a=b"]].concat();
            let said = cli.json(&produce);
            assert_eq!(said["records"], 300, "{said}");
        }
        let consume = ["consume", &topic, "--until-end", "--format", "%k|%v\\n"];
        same_lines(access.kind(), &sent, &(cli.done(&consume) + "\n"));
        if tools::have("every_codec_there_and_back", &[Need::Kcat]) {
            let arguments = ["-C", "-t", &topic, "-p", "0", "-o", "beginning", "-e", "-q"];
            // Apache Kafka refuses SCRAM by librdkafka 2.0.2, whose nonces are wrong (CVE-2024-56128).
            let mut kcat = tools::kcat(&target.certificate(), &arguments);
            kcat.args(["-f", "%k|%s|%h\n", "-X", "check.crcs=true"]);
            let got = tools::run("kcat -C", &mut kcat, PATIENCE);
            same_lines("kcat", &sent.replace('\n', "|a=b\n"), &(got + "\n"));
        }
    }
}

/// Keys go where librdkafka's rendering of Java's partitioner sends them.
#[test]
fn keys_have_kafkas_partitions() {
    if !tools::have("keys_have_kafkas_partitions", &[Need::Kcat]) {
        return;
    }
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    let cli = Cli::new(&access);
    let lines: String = (0..200).map(|key| format!("k{key}\tv\n")).collect();
    let file = cli.file("keys", &lines);
    let placed = |topic: &str| {
        let consume = ["consume", topic, "--until-end", "--format", "%k %p\\n"];
        let mut lines: Vec<String> = cli.done(&consume).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    for topic in ["keys-ours", "keys-kcat"] {
        create_topic(&access, topic, 7);
    }
    cli.done(&[
        "produce",
        "keys-ours",
        "--file",
        &file,
        "--key-separator",
        "\t",
    ]);
    let arguments = ["-P", "-t", "keys-kcat", "-K", "\t", "-l", &file];
    let mut kcat = tools::kcat(&target.certificate(), &arguments);
    kcat.args(["-X", "topic.partitioner=murmur2"]);
    tools::run("kcat -P", &mut kcat, PATIENCE);
    let ours = placed("keys-ours");
    assert_eq!(ours.len(), 200);
    assert_eq!(ours, placed("keys-kcat"));
}

/// Records without keys are spread as Java's are, not one partition after the other.
#[test]
fn lines_without_keys_reach_every_partition() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    let cli = Cli::new(&access);
    create_topic(&access, "spread", 6);
    let lines: String = (0..9000).map(|n| format!("line {n:04}\n")).collect();
    let file = cli.file("lines", &lines);
    cli.done(&["produce", "spread", "--file", &file]);
    let got = cli.done(&["consume", "spread", "--until-end", "--format", "%p %v\\n"]);
    let (partitions, mut values): (BTreeSet<&str>, Vec<&str>) =
        got.lines().filter_map(|line| line.split_once(' ')).unzip();
    let every: BTreeSet<&str> = ["0", "1", "2", "3", "4", "5"].into();
    assert_eq!(partitions, every);
    values.sort_unstable();
    assert!(lines.lines().eq(values));
}

#[test]
fn places_to_begin_and_to_end() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    let cli = Cli::new(&access);
    create_topic(&access, "places", 2);
    let rows: String = (0..10)
        .map(|n| {
            let (partition, time) = (n % 2, 1_000_000 + n * 1000);
            format!("{{\"value\":\"v{n}\",\"partition\":{partition},\"timestamp\":{time}}}\n")
        })
        .collect();
    let file = cli.file("rows", rows);
    cli.done(&["produce", "places", "--json-input", "--file", &file]);
    let read = |arguments: &[&str]| {
        let consume = ["consume", "places", "--until-end"];
        let mut lines: Vec<String> = cli
            .done(&[&consume[..], arguments].concat())
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(read(&[]).len(), 10);
    for place in ["earliest", "beginning"] {
        assert_eq!(read(&["--from", place]).len(), 10, "{place}");
    }
    for place in ["latest", "end"] {
        assert_eq!(read(&["--from", place]).len(), 0, "{place}");
    }
    for place in ["offset:4", "4", "-1"] {
        assert_eq!(read(&["--from", place]), ["v8", "v9"], "{place}");
    }
    for place in ["time:1007000", "@1007000"] {
        assert_eq!(read(&["--from", place]), ["v7", "v8", "v9"], "{place}");
    }
    let time = "@1970-01-01T00:16:48Z";
    assert_eq!(read(&["--from", time]), ["v8", "v9"]);
    let second = read(&["--partition", "1"]);
    assert_eq!(second, ["v1", "v3", "v5", "v7", "v9"]);
    let three = ["--partition", "0", "--count", "3"];
    assert_eq!(read(&three), ["v0", "v2", "v4"]);
    let committed = read(&["--isolation", "read_committed"]);
    assert_eq!(committed.len(), 10);
}

/// Where there is no such offset, reading goes on at the nearest one and says so, as the clients of
/// Kafka do; also where it ends at once.
#[test]
fn places_outside_the_log() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    let cli = Cli::new(&access);
    create_topic(&access, "outside", 1);
    let file = cli.file("rows", "a\nb\n");
    cli.done(&["produce", "outside", "--file", &file]);
    let said = "palisade: outside-0: offset 99999999 is beyond the end of the log; going on at 2";
    let all = ["consume", "outside", "--until-end", "--from"];
    let (code, out, err) = cli.run(&[&all[..], &["99999999"]].concat());
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(err.contains(said), "{err}");
    // The end itself is a place to wait at.
    let (code, _, err) = cli.run(&[&all[..], &["2"]].concat());
    assert_eq!((code, err.as_str()), (0, ""));

    let waiting = cli.spawn(&["consume", "outside", "--from", "99999999", "--count", "1"]);
    waiting.wait_for_line(PATIENCE, |line| line == said);
    cli.done(&["produce", "outside", "--file", &cli.file("more", "c\n")]);
    assert!(waiting.wait(PATIENCE).success(), "{}", waiting.output());
    assert_eq!(waiting.stream(Stream::Out), ["c"]);
}

/// What `consume --json` prints, `produce --json-input` takes; bytes that are no text survive.
#[test]
fn objects_and_bytes_survive() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    let cli = Cli::new(&access);
    create_topic(&access, "bytes", 1);
    create_topic(&access, "bytes-again", 1);
    let rows = concat!(
        r#"{"key":"k","value_base64":"AP/+Cg==","headers":[{"key":"h","value_base64":"/w=="}]}"#,
        "\n",
        r#"{"key_base64":"gA==","value":null,"headers":[{"key":"n","value":null}]}"#,
        "\n",
        r#"{"value":"text","timestamp":5}"#,
        "\n",
    );
    let file = cli.file("rows", rows);
    cli.done(&["produce", "bytes", "--json-input", "--file", &file]);
    let printed = cli.done(&["consume", "bytes", "--until-end", "--json"]);
    let file = cli.file("printed", format!("{printed}\n"));
    let produce = cli.command(&["produce", "bytes-again", "--json-input"]);
    let output = with_input(produce, Path::new(&file));
    assert!(output.status.success(), "{output:?}");
    let again = cli.done(&["consume", "bytes-again", "--until-end", "--json"]);
    assert_eq!(again.replace("bytes-again", "bytes"), printed);
    let first: Value =
        serde_json::from_str(printed.lines().next().expect("three lines")).expect("a JSON object");
    assert_eq!(first["value_base64"], "AP/+Cg==", "{first}");

    let nothing = cli.file("nothing", "");
    let consume = cli.command(&["consume", "bytes", "--until-end", "--format", "%v"]);
    let output = with_input(consume, Path::new(&nothing));
    assert_eq!(output.stdout, b"\x00\xff\xfe\ntext");
}

#[test]
fn acknowledgements_and_nulls() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    let cli = Cli::new(&access);
    create_topic(&access, "acks", 1);
    let file = cli.file("lines", "a:1\nb:NULL\nNULL:3");
    for acks in ["all", "1", "0"] {
        let produce = ["produce", "acks", "--file", &file, "--acks", acks];
        let nulls = ["--key-separator", ":", "--null-marker", "NULL"];
        cli.done(&[&produce[..], &nulls].concat());
    }
    let consume = ["consume", "acks", "--count", "9", "--null-marker", "-"];
    let lines = cli.done(&[&consume[..], &["--format", "%k:%v "]].concat());
    assert_eq!(lines, "a:1 b:- -:3 ".repeat(3));
}

#[test]
fn mistakes_have_words_and_a_status() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    let cli = Cli::new(&access);
    create_topic(&access, "mistakes", 1);
    let file = cli.file("lines", "a\n");
    for (arguments, status, word) in [
        (
            &["produce", "missing", "--file", &file][..],
            1,
            "`palisade topic create missing` makes one (UNKNOWN_TOPIC_OR_PARTITION)",
        ),
        (&["consume", "missing"], 1, "UNKNOWN_TOPIC_OR_PARTITION"),
        (
            &["consume", "mistakes", "--partition", "7"],
            1,
            "no partition 7",
        ),
        (
            &["produce", "mistakes", "--partition", "7", "--file", &file],
            1,
            "line 1: the topic has no partition 7",
        ),
        (
            &["produce", "mistakes", "--file", "/nowhere"],
            2,
            "/nowhere",
        ),
        (&["consume", "mistakes", "--from", "soon"], 2, "expected"),
        (&["consume", "mistakes", "--format", "%q"], 2, "%q"),
    ] {
        let (code, out, err) = cli.run(arguments);
        assert_eq!(code, status, "{arguments:?}: {out}\n{err}");
        assert!(err.contains(word), "{arguments:?}: {err}");
        assert_eq!(
            out.lines()
                .filter(|line| line.contains("palisade:"))
                .count(),
            0
        );
    }

    // No slip of the pen deletes what a key has; the line that says null does.
    let lines = "{\"key\":\"k\",\"vlaue\":\"v\"}\n{}\n{\"key\":\"n\",\"value\":null}\n";
    let file = cli.file("slips", lines);
    let produce = ["produce", "mistakes", "--json-input", "--file", &file];
    let (code, out, err) = cli.run(&produce);
    assert_eq!(code, 1, "{out}\n{err}");
    let words = "2 records refused, the first in line 1: unknown key vlaue; did you mean value?";
    assert!(err.contains(words), "{err}");

    // One line too long and one without a separator; the others arrive.
    let lines = format!("a=1\nnothing\nb={}\nc=3\n", "x".repeat(2 << 20));
    let file = cli.file("lines", lines);
    let produce = [
        "produce",
        "mistakes",
        "--file",
        &file,
        "--key-separator",
        "=",
    ];
    let (code, out, err) = cli.run(&produce);
    assert_eq!(code, 1, "{out}\n{err}");
    assert!(
        err.contains("2 records refused, the first in line 2"),
        "{err}"
    );
    let there = ["consume", "mistakes", "--until-end", "--format", "%k"];
    assert_eq!(cli.done(&there), "nac");
}

/// A producer outlives the death of its broker: every line arrives, and only once.
#[test]
fn produces_through_a_kill() {
    let mut node = Node::start();
    let access = node.scram("SCRAM-SHA-512");
    let cli = Cli::new(&access);
    create_topic(&access, "kill", 3);
    let lines: String = (0..400_000).map(|n| format!("line {n:06}\n")).collect();
    let file = cli.file("many", &lines);
    let producer = cli.spawn(&["produce", "kill", "--file", &file]);
    eventually("some records", PATIENCE, || {
        let mut connection = Connection::open(&access).map_err(|error| error.to_string())?;
        match requests::latest_offset(&mut connection, "kill") {
            Ok(0) => Err("none yet".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    });
    node.kill();
    node.run();
    assert!(producer.wait(PATIENCE).success(), "{}", producer.output());
    let got = cli.done(&["consume", "kill", "--until-end"]);
    let mut got: Vec<&str> = got.lines().collect();
    got.sort_unstable();
    assert_eq!(got.len(), 400_000);
    assert!(lines.lines().eq(got));
}

/// A consumer whose node is gone says so soon, and at its end what was wrong.
#[test]
fn consumes_from_a_node_that_is_gone() {
    for more in [&[][..], &["--group", "g"]] {
        let mut node = Node::start();
        let access = node.scram("SCRAM-SHA-512");
        let cli = Cli::new(&access);
        create_topic(&access, "gone", 1);
        cli.done(&["produce", "gone", "--file", &cli.file("one", "first\n")]);
        let consume = ["consume", "gone", "--timeout", "4"];
        let consumer = cli.spawn(&[&consume[..], more].concat());
        consumer.wait_for_line(PATIENCE, |line| line == "first");
        node.kill();
        let exit = consumer.wait(PATIENCE);
        let said = consumer.stream(Stream::Err);
        assert_eq!(exit.code(), Some(3), "{more:?}: {said:?}");
        let [trying, last] = &said[..] else {
            panic!("{more:?}: {said:?}");
        };
        assert!(trying.ends_with("; trying for 4 s"), "{more:?}: {said:?}");
        assert!(
            last.contains("no broker listens there"),
            "{more:?}: {said:?}"
        );
    }
}

/// What `consume --format` prints goes back in by the same letters.
#[test]
fn separators_that_are_hard_to_type() {
    let dev = Dev::start(&["--topic", "tabs"]);
    let cli = Cli::new(&dev.admin());
    let format = r"%k\t\x1f%v";
    let file = cli.file("lines", "k\t\u{1f}v\n");
    let produce = ["produce", "tabs", "--file", &file, "--key-separator"];
    cli.done(&[&produce[..], &[r"\t\x1f"]].concat());
    let consume = ["consume", "tabs", "--until-end", "--format"];
    assert_eq!(cli.done(&[&consume[..], &[format]].concat()), "k\t\u{1f}v");
    let (code, out, err) = cli.run(&[&produce[..], &[r"\q"]].concat());
    assert_eq!(code, 2, "{out}\n{err}");
    assert!(err.contains(r"a \ is followed by"), "{err}");
}
