//! `palisade consume --group` and `palisade group`, alone and beside a Java member.

use std::collections::BTreeSet;
use std::iter;
use std::time::Duration;

use palisade_tests::check::eventually;
use palisade_tests::dev::Dev;
use palisade_tests::node::Node;
use palisade_tests::process::{Process, Stream};
use palisade_tests::target::Target;
use palisade_tests::tools::{self, Java, Need};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rustix::process::Signal;
use serde_json::Value;

use crate::cli_data::Cli;
use crate::rdkafka::{config, create_topic};

const PATIENCE: Duration = Duration::from_secs(90);

fn lines(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("k{n}:v{n}\n")).collect()
}

/// Keyed lines, so that every partition gets some.
fn produce(cli: &Cli, topic: &str, range: std::ops::Range<u32>) {
    let file = cli.file("keyed", lines(range));
    let keyed = ["produce", topic, "--key-separator", ":", "--file", &file];
    cli.done(&keyed);
}

fn describe(cli: &Cli, group: &str) -> Value {
    cli.json(&["group", "describe", group])["groups"][0].clone()
}

/// Waits until each of `count` members has a share, and all shares together are `partitions`.
fn settled(cli: &Cli, group: &str, count: usize, partitions: usize) -> Value {
    eventually(&format!("{count} members"), PATIENCE, || {
        let (code, out, err) = cli.run(&["group", "describe", group, "--json"]);
        if code != 0 {
            return Err(format!("{out}\n{err}"));
        }
        let all: Value = serde_json::from_str(&out).map_err(|error| error.to_string())?;
        let described = all["groups"][0].clone();
        let none = Vec::new();
        let members = described["members"].as_array().unwrap_or(&none);
        let shares: Vec<usize> = members
            .iter()
            .map(|member| member["partitions"].as_array().map_or(0, Vec::len))
            .collect();
        let assigned: BTreeSet<String> = members
            .iter()
            .flat_map(|member| member["partitions"].as_array().into_iter().flatten())
            .map(ToString::to_string)
            .collect();
        let fits = described["state"] == "Stable"
            && shares.len() == count
            && shares.iter().sum::<usize>() == partitions
            && assigned.len() == partitions;
        match fits {
            true => Ok(described),
            false => Err(described.to_string()),
        }
    })
}

/// Waits until all processes together have printed these values and no others.
fn printed(processes: &[&Process], range: std::ops::Range<u32>) {
    let wanted: BTreeSet<String> = range.map(|n| format!("v{n}")).collect();
    eventually("all values", PATIENCE, || {
        let got: BTreeSet<String> = processes
            .iter()
            .flat_map(|process| process.stream(Stream::Out))
            .collect();
        match got == wanted {
            true => Ok(()),
            false => {
                let errors = processes
                    .iter()
                    .map(|process| process.stream(Stream::Err).join("\n"));
                let errors: String = errors.collect();
                Err(format!("{} of {}: {errors}", got.len(), wanted.len()))
            }
        }
    });
}

fn interrupted(process: &Process) {
    process.signal(Signal::INT);
    let exit = process.wait(PATIENCE);
    assert!(exit.success(), "{exit:?}: {}", process.output());
}

#[test]
fn a_group_goes_on_where_it_was() {
    let target = Target::start();
    for (number, access) in target.accesses().iter().enumerate().take(2) {
        let cli = Cli::new(access);
        let (topic, group) = (format!("goes-on-{number}"), format!("group-{number}"));
        create_topic(access, &topic, 3);
        produce(&cli, &topic, 0..300);
        let consume = ["consume", &topic, "--group", &group];
        let all = cli.done(&[&consume[..], &["--until-end"]].concat());
        assert_eq!(all.lines().count(), 300);
        let described = describe(&cli, &group);
        assert_eq!(described["state"], "Empty", "{described}");
        assert_eq!(described["lag"], 0, "{described}");
        let offsets = described["offsets"].as_array().expect("offsets");
        assert_eq!(offsets.len(), 3, "{described}");
        produce(&cli, &topic, 300..310);
        assert_eq!(describe(&cli, &group)["lag"], 10);
        let text = cli.done(&["group", "describe", &group]);
        assert!(text.contains("COMMITTED") && text.contains("LAG"), "{text}");

        // Exactly what was printed counts as read.
        let four = cli.done(&[&consume[..], &["--count", "4"]].concat());
        assert_eq!(describe(&cli, &group)["lag"], 6);
        let six = cli.done(&[&consume[..], &["--until-end"]].concat());
        let mut rest: Vec<&str> = four.lines().chain(six.lines()).collect();
        rest.sort_unstable();
        let wanted: Vec<String> = (300..310).map(|n| format!("v{n}")).collect();
        assert_eq!(rest, wanted);
    }
}

#[test]
fn members_share_arrive_and_leave() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    let cli = Cli::new(&access);
    create_topic(&access, "share", 3);
    let consume = ["consume", "share", "--group", "shared"];
    let first = cli.spawn(&consume);
    settled(&cli, "shared", 1, 3);
    produce(&cli, "share", 0..50);
    printed(&[&first], 0..50);
    let second = cli.spawn(&consume);
    let described = settled(&cli, "shared", 2, 3);
    assert_eq!(described["assignor"], "range", "{described}");
    assert_eq!(described["members"][0]["client_id"], "palisade-cli");
    produce(&cli, "share", 50..100);
    printed(&[&first, &second], 0..100);
    interrupted(&second);
    settled(&cli, "shared", 1, 3);
    produce(&cli, "share", 100..150);
    printed(&[&first, &second], 0..150);

    // Whoever is killed is missed after its session, and what it had not committed comes again.
    let third = cli.spawn(&consume);
    settled(&cli, "shared", 2, 3);
    third.kill();
    settled(&cli, "shared", 1, 3);
    produce(&cli, "share", 150..200);
    printed(&[&first, &second, &third], 0..200);

    let (code, _, err) = cli.run(&["group", "delete", "shared"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("NON_EMPTY_GROUP"), "{err}");
    let reset = ["group", "reset-offsets", "shared", "--topic", "share"];
    let (code, _, err) = cli.run(&[&reset[..], &["--to", "earliest", "--execute"]].concat());
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("NON_EMPTY_GROUP"), "{err}");
    interrupted(&first);
    let described = describe(&cli, "shared");
    assert_eq!(described["state"], "Empty", "{described}");
    assert_eq!(described["lag"], 0, "{described}");
}

/// One group of this program and of Java's console consumer: each leads once.
#[test]
fn shares_a_group_with_java() {
    if !tools::have("shares_a_group_with_java", &[Need::Java(Java::V4)]) {
        return;
    }
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    let cli = Cli::new(&access);
    create_topic(&access, "mixed", 3);
    let dir = palisade_tests::paths::scratch();
    let properties = access.write_java(Java::V4.store(), dir.path(), "java.properties");
    let java = || {
        let mut command = Java::V4.command();
        command
            .arg(Java::V4.console_consumer())
            .args(["--bootstrap-server", &access.bootstrap])
            .args(["--topic", "mixed", "--group", "mixed", "--from-beginning"])
            .arg("--command-config")
            .arg(&properties);
        Process::spawn("console consumer", &mut command)
    };
    let consume = ["consume", "mixed", "--group", "mixed"];
    let ours = cli.spawn(&consume);
    settled(&cli, "mixed", 1, 3);
    let theirs = java();
    let described = settled(&cli, "mixed", 2, 3);
    assert!(
        described.to_string().contains("console-consumer"),
        "{described}"
    );
    produce(&cli, "mixed", 0..60);
    printed(&[&ours, &theirs], 0..60);
    // Without ours, Java leads; the next of ours follows it.
    interrupted(&ours);
    settled(&cli, "mixed", 1, 3);
    let again = cli.spawn(&consume);
    settled(&cli, "mixed", 2, 3);
    produce(&cli, "mixed", 60..120);
    printed(&[&ours, &theirs, &again], 0..120);
    interrupted(&again);
    theirs.terminate();
}

/// Groups of KIP-848, with a librdkafka member and without, are shown, moved and deleted alike.
#[test]
fn groups_of_the_consumer_protocol() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    let cli = Cli::new(&access);
    create_topic(&access, "modern", 3);
    produce(&cli, "modern", 0..30);
    let group = "modern-readers";
    let member: BaseConsumer = config(&access)
        .set("group.id", group)
        .set("group.protocol", "consumer")
        .set("client.id", "modern-reader")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    member.subscribe(&["modern"]).expect("subscribed");
    let mut seen = BTreeSet::new();
    eventually("thirty records", PATIENCE, || {
        if let Some(message) = member.poll(Duration::from_millis(100)) {
            let message = message.map_err(|error| error.to_string())?;
            seen.insert((message.partition(), message.offset()));
        }
        match seen.len() {
            30 => Ok(()),
            count => Err(format!("{count} records")),
        }
    });
    member
        .commit_consumer_state(CommitMode::Sync)
        .expect("committed");
    produce(&cli, "modern", 30..40);

    let listed = |state: &str, kind: &str| {
        let list = ["group", "list", "--state", state, "--type", kind];
        cli.json(&list)["groups"].clone()
    };
    let described = settled(&cli, group, 1, 3);
    assert_eq!(described["type"], "consumer", "{described}");
    assert_eq!(described["assignor"], "uniform", "{described}");
    assert_eq!(described["lag"], 10, "{described}");
    let only = &described["members"][0];
    assert_eq!(only["client_id"], "modern-reader", "{described}");
    let offsets = described["offsets"].as_array().expect("offsets");
    assert_eq!(offsets.len(), 3, "{described}");
    assert!(offsets.iter().all(|row| row["member"] == only["member"]));
    let there = serde_json::json!([{
        "group": group, "type": "consumer", "state": "Stable", "protocol_type": "consumer",
    }]);
    let stable = listed("stable", "Consumer");
    assert_eq!(lower_case(&stable), lower_case(&there));
    assert_eq!(listed("Stable", "classic"), serde_json::json!([]));
    let text = cli.done(&["group", "describe", group]);
    assert!(text.contains("modern:0,1,2"), "{text}");

    let reset = ["group", "reset-offsets", group, "--topic", "modern"];
    let reset = [&reset[..], &["--to", "earliest", "--execute"]].concat();
    for refused in [&["group", "delete", group][..], &reset] {
        let (code, _, err) = cli.run(refused);
        assert_eq!(code, 1, "{refused:?}: {err}");
        assert!(err.contains("NON_EMPTY_GROUP"), "{refused:?}: {err}");
    }
    drop(member);
    eventually("an empty group", PATIENCE, || {
        let described = describe(&cli, group);
        match described["state"] == "Empty" {
            true => Ok(()),
            false => Err(described.to_string()),
        }
    });
    cli.done(&reset);
    let described = describe(&cli, group);
    assert_eq!(described["type"], "consumer", "{described}");
    assert_eq!(described["lag"], 40, "{described}");
    cli.done(&["group", "delete", group]);
    let (code, _, err) = cli.run(&["group", "describe", group]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("there is no such group"), "{err}");
}

/// Text without its capitals: brokers write the names of types both ways.
fn lower_case(value: &Value) -> String {
    value.to_string().to_lowercase()
}

/// A member goes on after the death of its coordinator.
#[test]
fn consumes_through_a_kill() {
    let mut node = Node::start();
    let access = node.scram("SCRAM-SHA-512");
    let cli = Cli::new(&access);
    create_topic(&access, "kill", 2);
    let member = cli.spawn(&["consume", "kill", "--group", "kill"]);
    settled(&cli, "kill", 1, 2);
    produce(&cli, "kill", 0..50);
    printed(&[&member], 0..50);
    node.kill();
    node.run();
    produce(&cli, "kill", 50..100);
    printed(&[&member], 0..100);
    settled(&cli, "kill", 1, 2);
    interrupted(&member);
    assert_eq!(describe(&cli, "kill")["lag"], 0);
}

#[test]
fn offsets_are_reset_and_groups_deleted() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    let cli = Cli::new(&access);
    create_topic(&access, "reset", 2);
    let rows: String = (0..20)
        .map(|n| {
            let (partition, time) = (n % 2, 1_000_000 + n * 1000);
            format!("{{\"value\":\"v{n}\",\"partition\":{partition},\"timestamp\":{time}}}\n")
        })
        .collect();
    let file = cli.file("rows", rows);
    cli.done(&["produce", "reset", "--json-input", "--file", &file]);
    let group = "reset-me";
    cli.done(&["consume", "reset", "--group", group, "--until-end"]);
    let committed = || {
        let described = describe(&cli, group);
        let offsets = described["offsets"].as_array().expect("offsets").clone();
        let of = |row: &Value| row["committed"].as_i64().expect("a committed offset");
        offsets.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(committed(), [10, 10]);
    let reset = |topic: &str, to: &str, more: &[&str]| {
        let arguments = [
            "group",
            "reset-offsets",
            group,
            "--topic",
            topic,
            "--to",
            to,
        ];
        cli.json(&[&arguments[..], more].concat())
    };
    let said = reset("reset", "earliest", &[]);
    assert_eq!(said["executed"], false, "{said}");
    assert_eq!(said["offsets"][0]["after"], 0, "{said}");
    assert_eq!(committed(), [10, 10]);
    for (topic, to, expected) in [
        ("reset", "earliest", [0, 0]),
        ("reset:1", "latest", [0, 10]),
        ("reset", "offset:4", [4, 4]),
        ("reset:0", "shift:+3", [7, 4]),
        ("reset", "shift:-5", [2, 0]),
        ("reset", "offset:99", [10, 10]),
        ("reset", "time:1005000", [3, 2]),
        ("reset", "time:1970-01-01T00:16:50Z", [5, 5]),
        ("reset", "time:2000-01-01T00:00:00Z", [10, 10]),
        // As `consume --from` has them.
        ("reset", "beginning", [0, 0]),
        ("reset", "-3", [7, 7]),
        ("reset", "4", [4, 4]),
        ("reset", "@1005000", [3, 2]),
        ("reset", "end", [10, 10]),
    ] {
        reset(topic, to, &["--execute"]);
        assert_eq!(committed(), expected, "{topic} {to}");
    }
    let text = cli.done(&[
        "group",
        "reset-offsets",
        group,
        "--all-topics",
        "--to",
        "earliest",
    ]);
    assert!(text.contains("--execute"), "{text}");

    let listed = |more: &[&str]| {
        cli.json(&[&["group", "list"][..], more].concat())
            .to_string()
    };
    assert!(listed(&[]).contains(group));
    assert!(listed(&["--state", "Empty", "--type", "classic"]).contains(group));
    assert!(!listed(&["--state", "Stable"]).contains(group));
    assert!(!listed(&["--type", "consumer"]).contains(group));

    // A watch shows it again and again, and ends in peace.
    let watch = cli.spawn(&["group", "describe", group, "--watch=1", "--json"]);
    eventually("two pictures", PATIENCE, || {
        match watch.stream(Stream::Out).len() {
            0 | 1 => Err(watch.output()),
            _ => Ok(()),
        }
    });
    interrupted(&watch);

    cli.done(&["group", "delete", group]);
    assert!(!listed(&[]).contains(group));
    for verb in ["describe", "delete"] {
        let (code, out, err) = cli.run(&["group", verb, group]);
        assert_eq!(code, 1, "{verb}: {out}\n{err}");
        assert!(err.contains("there is no such group"), "{verb}: {err}");
    }
}

/// What lies outside the log is clipped, as by Kafka's tool, and said.
#[test]
fn a_reset_outside_the_log_is_told() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    let cli = Cli::new(&access);
    create_topic(&access, "outside", 1);
    let file = cli.file("lines", "a\nb\n");
    cli.done(&["produce", "outside", "--file", &file]);
    let reset = |to: &str, more: &[&str]| {
        let arguments = [
            "group",
            "reset-offsets",
            "fresh",
            "--topic",
            "outside",
            "--to",
        ];
        let (code, out, err) = cli.run(&[&arguments[..], &[to], more].concat());
        assert_eq!(code, 0, "{to}: {out}\n{err}");
        (out, err)
    };
    let (out, err) = reset("offset:7", &[]);
    assert_eq!(
        err,
        "palisade: outside-0: offset 7 is beyond the end of the log; 2 takes its place"
    );
    assert!(
        out.contains("group fresh is not there; its first offsets make it"),
        "{out}"
    );
    let (out, _) = reset("offset:7", &["--execute", "--json"]);
    let said: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&said["existed"], &said["executed"]),
        (&false.into(), &true.into())
    );
    let row = &said["offsets"][0];
    assert_eq!(
        (&row["asked"], &row["after"]),
        (&7.into(), &2.into()),
        "{said}"
    );
    assert_eq!(describe(&cli, "fresh")["offsets"][0]["committed"], 2);

    let (out, err) = reset("shift:-5", &["--execute"]);
    assert!(
        err.contains("offset -3 is before the first offset of the log; 0 takes"),
        "{err}"
    );
    assert!(!out.contains("not there"), "{out}");
    let (_, err) = reset("offset:1", &["--execute"]);
    assert_eq!(err, "");
    let (_, err) = reset("time:2100-01-01T00:00:00Z", &["--execute"]);
    assert_eq!(
        err,
        "palisade: outside-0: no record is as late as that time; the end of the log, 2, takes its \
         place"
    );
    let (_, err) = reset("time:2000-01-01T00:00:00Z", &[]);
    assert_eq!(err, "");

    let all = [
        "group",
        "reset-offsets",
        "nobody",
        "--all-topics",
        "--to",
        "earliest",
    ];
    let (code, out, err) = cli.run(&all);
    assert_eq!(code, 1, "{out}");
    assert!(err.contains("group nobody: nothing is committed"), "{err}");
}

/// A watch waits for a group that is not there, and says that it does.
#[test]
fn a_watch_waits_for_its_group() {
    let target = Target::start();
    let access = target.scram("SCRAM-SHA-512");
    let cli = Cli::new(&access);
    let words = "group later: there is no such group (GROUP_ID_NOT_FOUND)";
    let watch = |more: &[&str]| {
        let watch = cli.spawn(&[&["group", "describe", "later", "--watch=1"][..], more].concat());
        watch.wait_for_line(PATIENCE, |line| line.contains(words));
        watch
    };
    let in_vain = watch(&[]);
    in_vain.signal(Signal::INT);
    let exit = in_vain.wait(PATIENCE);
    assert_eq!(exit.code(), Some(1), "{}", in_vain.output());
    assert_eq!(in_vain.stream(Stream::Out), [""; 0]);

    let watch = watch(&[]);
    create_topic(&access, "later", 1);
    let reset = ["group", "reset-offsets", "later", "--topic", "later"];
    cli.done(&[&reset[..], &["--to", "earliest", "--execute"]].concat());
    watch.wait_for_line(PATIENCE, |line| line.starts_with("later\t"));
    assert_ne!(watch.stream(Stream::Out)[0], "", "{}", watch.output());
    interrupted(&watch);
}

/// GNU `timeout` signals its child and then the group that the child is in: one wish, heard twice.
#[test]
fn two_signals_at_once_are_one() {
    let dev = Dev::start(&["--topic", "twice"]);
    let cli = Cli::new(&dev.admin());
    produce(&cli, "twice", 0..10);
    let member = cli.spawn(&["consume", "twice", "--group", "once"]);
    member.wait_for_line(PATIENCE, |line| line == "v9");
    // Stopped, it finds both of them when it goes on.
    for signal in [Signal::STOP, Signal::TERM, Signal::INT, Signal::CONT] {
        member.signal(signal);
    }
    let exit = member.wait(PATIENCE);
    let said = member.stream(Stream::Err).join("\n");
    assert!(exit.success(), "{exit:?}: {said}");
    let described = describe(&cli, "once");
    assert_eq!(described["state"], "Empty", "{described}");
    assert_eq!(described["lag"], 0, "{described}");
}

/// Whoever asks twice waits for nobody, and hears what is lost by that, if something is.
#[test]
fn a_second_signal_ends_at_once() {
    let dev = Dev::start(&["--topic", "late"]);
    let cli = Cli::new(&dev.admin());
    let words = "interrupted before the group knew where reading had come to";
    let rounds = (0..).map(|n| (format!("knows not {n}"), true));
    for (group, has_read) in iter::once(("knows".to_owned(), false)).chain(rounds) {
        produce(&cli, "late", 0..10);
        let consume = ["consume", "late", "--group", &group];
        if !has_read {
            cli.done(&[&consume[..], &["--until-end"]].concat());
        }
        let member = cli.spawn(&consume);
        match has_read {
            true => drop(member.wait_for_line(PATIENCE, |line| line == "v9")),
            false => drop(settled(&cli, &group, 1, 1)),
        }
        // A slow machine may have come to the commit that is made every five seconds.
        if has_read && describe(&cli, &group)["lag"] == 0 {
            member.terminate();
            continue;
        }
        dev.process().signal(Signal::STOP);
        let exit = eventually("its end", PATIENCE, || {
            member.signal(Signal::INT);
            member.exit().ok_or_else(|| "still there".to_owned())
        });
        dev.process().signal(Signal::CONT);
        member.wait(PATIENCE);
        let said = member.stream(Stream::Err).join("\n");
        assert_eq!(exit.success(), !has_read, "{group}: {exit:?}: {said}");
        assert_eq!(said.contains(words), has_read, "{group}: {said}");
        if has_read {
            break;
        }
    }
}
