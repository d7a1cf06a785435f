//! The released binary as a whole: how soon it serves, how much memory it holds, how large it is.
//!
//! Prints a line per figure. Ends with a failure only when something could not be measured.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use palisade::cli::client::ClientSettings;
use palisade::clock;
use palisade_benches::client::Client;
use palisade_benches::load::{self, Traffic};
use palisade_benches::node::{self, Place};
use palisade_benches::{figures, machine, payload};
use palisade_protocol::types::TopicId;
use tempfile::TempDir;

/// Starts that are measured.
const STARTS: usize = 11;
/// Bytes of traffic each way.
const TRAFFIC: u64 = 1_000_000_000;
/// Size of a produced batch.
const BATCH_BYTES: usize = 64 << 10;
/// Bytes of the batch of one small record.
const ONE_RECORD: usize = 180;
/// Round trips of one record.
const ROUND_TRIPS: usize = 500;

const ACKS_LEADER: i16 = 1;
const ACKS_ALL: i16 = -1;
const TOPIC: &str = "bench";

fn main() -> ExitCode {
    palisade_benches::run("node", measure)
}

/// The times of one start, each since the start of the process.
struct Start {
    serves: Duration,
    logged_in: Duration,
    produced: Duration,
    memory: u64,
}

fn measure() -> Result<()> {
    let binary = node::binary()?;
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = TempDir::with_prefix_in("node-", scratch)?;
    let place = Place {
        binary: &binary,
        dir: &dir,
    };
    let first = first_start(&place).with_context(|| log_of(&dir))?;
    machine::print(scratch);
    println!(
        "durability: `palisade dev`, palisade.log.flush.policy={}",
        first.flush_policy
    );
    println!("client: one connection, SASL_SSL, SCRAM-SHA-512, {STARTS} starts");
    println!();
    figures::heads();
    let size = fs::metadata(&binary)?.len();
    figures::once("size of the stripped binary", &megabytes(size), "15 MB");
    let text = format!("{:.2} ms", first.took.as_secs_f64() * 1e3);
    figures::once("first start ever (makes the keys) to serving", &text, "");
    starts(&place, &first).with_context(|| log_of(&dir))?;
    traffic(&place, first.topic).with_context(|| log_of(&dir))
}

/// What the first start left behind.
struct FirstStart {
    took: Duration,
    settings: ClientSettings,
    topic: TopicId,
    flush_policy: String,
}

/// The first start: keys, a topic, and the node's word on its durability.
fn first_start(place: &Place<'_>) -> Result<FirstStart> {
    let began = Instant::now();
    let mut node = place.spawn()?;
    let settings = node.wait()?;
    let took = began.elapsed();
    let mut client = Client::open(&settings)?;
    let topic = load::create_topic(&mut client, TOPIC)?;
    load::produce_one(&mut client, topic, ACKS_ALL, &one_record())?;
    let flush_policy = load::node_setting(&mut client, "palisade.log.flush.policy")
        .unwrap_or_else(|error| format!("unknown ({error:#})"));
    drop(client);
    node.stop()?;
    Ok(FirstStart {
        took,
        settings,
        topic,
        flush_policy,
    })
}

/// Starts again and again over the same directory.
fn starts(place: &Place<'_>, first: &FirstStart) -> Result<()> {
    let batch = one_record();
    let mut starts = Vec::with_capacity(STARTS);
    let mut early = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        // A client that waits for the node's word.
        let began = Instant::now();
        let mut node = place.spawn()?;
        let settings = node.wait()?;
        let serves = began.elapsed();
        let mut client = Client::open(&settings)?;
        let logged_in = began.elapsed();
        load::produce_one(&mut client, first.topic, ACKS_ALL, &batch)?;
        let produced = began.elapsed();
        starts.push(Start {
            serves,
            logged_in,
            produced,
            memory: node.anonymous_memory()?,
        });
        drop(client);
        node.stop()?;

        // A client that knows the address from before, as after a restart.
        let began = Instant::now();
        let mut node = place.spawn()?;
        let mut client = Client::open_patiently(&first.settings)?;
        load::produce_one(&mut client, first.topic, ACKS_ALL, &batch)?;
        early.push(began.elapsed());
        drop(client);
        node.wait()?;
        node.stop()?;
    }
    let column =
        |part: fn(&Start) -> Duration| -> Vec<Duration> { starts.iter().map(part).collect() };
    figures::durations(
        "start to the node's word that it serves",
        &mut column(|start| start.serves),
        "",
    );
    figures::durations(
        "start to login (TLS, SCRAM)",
        &mut column(|start| start.logged_in),
        "",
    );
    figures::durations(
        "start to first authenticated produce (acks=all)",
        &mut column(|start| start.produced),
        "50 ms",
    );
    figures::durations(
        "  the same by a client that retries meanwhile",
        &mut early,
        "50 ms",
    );
    let mut memory: Vec<u64> = starts.iter().map(|start| start.memory).collect();
    figures::megabytes("anonymous resident memory then", &mut memory, "20 MB");
    Ok(())
}

/// Runs the traffic through one node and watches its memory and processor time.
fn traffic(place: &Place<'_>, topic: TopicId) -> Result<()> {
    let mut node = place.spawn()?;
    let settings = node.wait()?;
    let mut client = Client::open(&settings)?;
    round_trips(&mut client, topic)?;

    let batch = payload::batch(BATCH_BYTES, clock::now()).freeze();
    let before = node.cpu_seconds()?;
    let produced = load::produce(&mut client, topic, ACKS_LEADER, &batch, TRAFFIC)?;
    let between = node.cpu_seconds()?;
    let memory = node.anonymous_memory()?;
    let name = "anonymous resident memory after 1 GB of traffic";
    figures::once(name, &megabytes(memory), "20 MB");
    report(
        "produce, 64 KiB batches, acks=1, 5 in flight",
        produced,
        between - before,
    );

    let fetched = load::fetch(&mut client, topic, produced.offset, TRAFFIC)?;
    let after = node.cpu_seconds()?;
    let memory = node.anonymous_memory()?;
    let name = "anonymous resident memory after 1 GB fetched as well";
    figures::once(name, &megabytes(memory), "20 MB");
    report("fetch, 1 MiB each, 1 in flight", fetched, after - between);
    drop(client);
    node.stop()
}

/// One record after the other, each waited for.
fn round_trips(client: &mut Client, topic: TopicId) -> Result<()> {
    let batch = one_record();
    for (acks, name) in [(ACKS_LEADER, "1"), (ACKS_ALL, "all")] {
        let mut times = Vec::with_capacity(ROUND_TRIPS);
        for _ in 0..ROUND_TRIPS {
            let began = Instant::now();
            load::produce_one(client, topic, acks, &batch)?;
            times.push(began.elapsed());
        }
        let name = format!("round trip of one record, acks={name}");
        figures::durations(&name, &mut times, "");
    }
    Ok(())
}

fn report(name: &str, traffic: Traffic, cpu: f64) {
    #[allow(clippy::cast_precision_loss, reason = "shown with two digits")]
    let gigabytes = traffic.bytes as f64 / 1e9;
    let speed = format!("{:.2} GB/s", gigabytes / traffic.time.as_secs_f64());
    figures::once(name, &speed, "");
    let spent = format!("{:.2} s/GB", cpu / gigabytes);
    figures::once("  the broker's processor time for it", &spent, "");
}

fn one_record() -> Bytes {
    payload::batch(ONE_RECORD, clock::now()).freeze()
}

fn megabytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "shown with two digits")]
    let megabytes = bytes as f64 / 1e6;
    format!("{megabytes:.2} MB")
}

fn log_of(dir: &TempDir) -> String {
    node::end_of_log(&dir.path().join("log"))
}
