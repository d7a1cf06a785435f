//! Ten thousand groups with a hundred thousand committed offsets in a whole node: the memory they
//! take on the way there, the processor time at rest, and how soon they are back after a restart.
//!
//! `PALISADE_BENCH_BINARY` measures another build.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use palisade_benches::client::{Client, accepted};
use palisade_benches::coordinator::{self, patiently};
use palisade_benches::node::{self, Node, Place};
use palisade_benches::{figures, load, machine};
use palisade_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use palisade_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use palisade_protocol::{ErrorCode, Str, frame};
use tempfile::TempDir;

/// How many groups there are when the memory is looked at.
const STEPS: [usize; 4] = [1_250, 2_500, 5_000, 10_000];
/// Offsets of each group.
const PARTITIONS: i32 = 10;
/// Commits on their way at once.
const PIPELINE: usize = 100;
/// Groups that are asked for after a restart: enough that every partition of the offsets' topic,
/// of which there are fifty, has some of them.
const ASKED: usize = 1_000;
/// How long the node is left alone.
const REST: Duration = Duration::from_secs(20);

const TOPIC: &str = "groups";
const OFFSET_COMMIT_VERSION: i16 = 8;
const OFFSET_FETCH_VERSION: i16 = 7;

fn main() -> ExitCode {
    palisade_benches::run("groups", measure)
}

fn measure() -> Result<()> {
    let binary = node::binary()?;
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = TempDir::with_prefix_in("groups-", scratch)?;
    let place = Place {
        binary: &binary,
        dir: &dir,
    };
    machine::print(scratch);
    println!("binary: {}", binary.display());
    println!("client: one connection, SASL_SSL, {PARTITIONS} offsets a group, all in one commit");
    println!();
    figures::heads();
    let log = dir.path().join("log");
    let node = fill(&place).with_context(|| node::end_of_log(&log))?;
    node.stop()?;
    restart(&place, "a clean stop")?.kill()?;
    restart(&place, "a kill")?.stop()
}

/// Commits step by step, and leaves the node alone at the end.
fn fill(place: &Place<'_>) -> Result<Node> {
    let mut node = place.spawn()?;
    let mut client = Client::open(&node.wait()?)?;
    load::create_topic_with(&mut client, TOPIC, PARTITIONS, &[])?;
    coordinator::find(&mut client, &group(0))?;
    patiently(|| Ok((committed(&mut client, 0)?.0, ())))?;
    rest(&node, 0)?;
    let empty = node.anonymous_memory()?;
    let none = format!("{:.2} MB", megabytes(empty));
    figures::once("anonymous memory without groups", &none, "");
    let mut done = 0;
    for step in STEPS {
        let (began, cpu) = (Instant::now(), node.cpu_seconds()?);
        commit(&mut client, done..step)?;
        let (time, cpu) = (began.elapsed(), node.cpu_seconds()? - cpu);
        let memory = node.anonymous_memory()?.saturating_sub(empty);
        let name = format!("{step} groups: memory on top");
        figures::once(&name, &format!("{:.2} MB", megabytes(memory)), "");
        let each = memory / u64::try_from(step)?;
        figures::once("  of each group", &format!("{each} B"), "");
        let count = u32::try_from(step - done)?;
        let (time, cpu) = (time / count, cpu * 1e6 / f64::from(count));
        figures::once("  a commit, time", &format!("{time:.0?}"), "");
        figures::once("  a commit, processor", &format!("{cpu:.0} us"), "");
        done = step;
    }
    rest(&node, done)?;
    Ok(node)
}

/// Prints what the node spends while nobody asks it for anything.
fn rest(node: &Node, groups: usize) -> Result<()> {
    let cpu = node.cpu_seconds()?;
    thread::sleep(REST);
    let share = (node.cpu_seconds()? - cpu) / REST.as_secs_f64() * 100.0;
    let name = format!("processor at rest for {REST:?}, {groups} groups");
    figures::once(&name, &format!("{share:.2} %"), "");
    Ok(())
}

/// Starts again; prints when the offsets can be had, and what the node holds then.
fn restart(place: &Place<'_>, after: &str) -> Result<Node> {
    let log = place.dir.path().join("log");
    start_again(place, after).with_context(|| node::end_of_log(&log))
}

fn start_again(place: &Place<'_>, after: &str) -> Result<Node> {
    let began = Instant::now();
    let mut node = place.spawn()?;
    let mut client = Client::open(&node.wait()?)?;
    let serves = began.elapsed();
    let all: Vec<i64> = (0..i64::from(PARTITIONS)).collect();
    for number in 0..ASKED {
        let offsets = patiently(|| committed(&mut client, number))?;
        ensure!(offsets == all, "group {number} came back as {offsets:?}");
    }
    let loaded = began.elapsed();
    let milliseconds = |time: Duration| format!("{:.0} ms", time.as_secs_f64() * 1e3);
    figures::once(
        &format!("start after {after} to login"),
        &milliseconds(serves),
        "",
    );
    let name = format!("  to the offsets of {ASKED} groups, asked one by one");
    figures::once(&name, &milliseconds(loaded), "");
    let memory = node.anonymous_memory()?;
    let memory = format!("{:.2} MB", megabytes(memory));
    figures::once("  anonymous memory then, in all", &memory, "");
    Ok(node)
}

fn group(number: usize) -> Str {
    Str::from(format!("group-{number}"))
}

/// Commits all offsets of each group.
fn commit(client: &mut Client, groups: std::ops::Range<usize>) -> Result<()> {
    for chunk in groups.collect::<Vec<_>>().chunks(PIPELINE) {
        for number in chunk {
            let partitions = (0..PARTITIONS).map(|index| OffsetCommitRequestPartition {
                partition_index: index,
                committed_offset: i64::from(index),
                ..OffsetCommitRequestPartition::default()
            });
            let request = OffsetCommitRequest {
                group_id: group(*number),
                topics: vec![OffsetCommitRequestTopic {
                    name: Str::from(TOPIC),
                    partitions: partitions.collect(),
                    ..OffsetCommitRequestTopic::default()
                }],
                ..OffsetCommitRequest::default()
            };
            let frame = frame::encode_request(OFFSET_COMMIT_VERSION, 0, Some("bench"), &request)?;
            client.send(&frame)?;
        }
        for _ in chunk {
            let answer = client.receive()?;
            let (_, answer) =
                frame::decode_response::<OffsetCommitRequest>(OFFSET_COMMIT_VERSION, answer)?;
            for row in answer.topics.iter().flat_map(|topic| &topic.partitions) {
                accepted(row.error_code, "OffsetCommit")?;
            }
        }
    }
    Ok(())
}

/// The offsets of a group, and the code that came with them.
fn committed(client: &mut Client, number: usize) -> Result<(ErrorCode, Vec<i64>)> {
    let request = OffsetFetchRequest {
        group_id: group(number),
        topics: Some(vec![OffsetFetchRequestTopic {
            name: Str::from(TOPIC),
            partition_indexes: (0..PARTITIONS).collect(),
        }]),
        ..OffsetFetchRequest::default()
    };
    let answer = client.call(OFFSET_FETCH_VERSION, &request)?;
    let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let offsets = rows.map(|row| row.committed_offset).collect();
    Ok((answer.error_code, offsets))
}

#[allow(clippy::cast_precision_loss, reason = "shown with two digits")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
