//! A gigabyte of keyed records compacted by a whole node while a client produces and fetches beside
//! it: the time of the pass, the memory it takes, and what it does to the client.
//!
//! The topic is filled while its policy is `delete`; setting it to `compact` starts the cleaner. The
//! same traffic on another topic is measured before, during and after: compare only these three.
//! `PALISADE_BENCH_COMPACTION_MIB` sets another size, `PALISADE_BENCH_BINARY` another build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use palisade::cli::client::ClientSettings;
use palisade::clock;
use palisade_benches::client::Client;
use palisade_benches::node::{self, Node};
use palisade_benches::payload::{self, Noise};
use palisade_benches::{figures, load, machine};
use palisade_protocol::batch::{BatchBuilder, Codec};
use palisade_protocol::types::TopicId;
use tempfile::TempDir;

/// Bytes of a value, records in a batch, and different keys in each MiB of records.
const VALUE_BYTES: usize = 1000;
const BATCH_RECORDS: usize = 512;
const KEYS_PER_MIB: u64 = 200;
/// Bytes that the traffic produces and fetches at a time.
const TRAFFIC_BYTES: usize = 16 << 10;
/// How long the traffic is measured without the cleaner, before and after.
const ALONE: Duration = Duration::from_secs(10);
/// Pause of the traffic between two round trips.
const PAUSE: Duration = Duration::from_millis(1);
/// How often the node's memory is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Longest pass.
const PATIENCE: Duration = Duration::from_secs(600);

const KEYED: &str = "keyed";
const BESIDE: &str = "beside";
const ACKS_LEADER: i16 = 1;
const ACKS_ALL: i16 = -1;
const SEGMENT_BYTES: &str = "67108864";

fn main() -> ExitCode {
    palisade_benches::run("cleaning", measure)
}

fn measure() -> Result<()> {
    let binary = node::binary()?;
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mib = std::env::var("PALISADE_BENCH_COMPACTION_MIB")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1024_u64);
    machine::print(scratch);
    println!("binary: {}", binary.display());
    println!(
        "client: one connection, SASL_SSL, {} KiB produced with acks=all and fetched again, pause {PAUSE:?}",
        TRAFFIC_BYTES >> 10
    );
    for policy in ["os", "ack"] {
        let dir = TempDir::with_prefix_in("cleaning-", scratch)?;
        let log = dir.path().join("log");
        let data = dir.path().join("data");
        println!();
        println!("durability: palisade.log.flush.policy={policy}");
        let settings = [
            format!("palisade.log.flush.policy={policy}"),
            "log.cleaner.backoff.ms=50".to_owned(),
        ];
        let node = Node::spawn_with(&binary, &data, &log, &settings)?;
        compact(node, &data, mib).with_context(|| node::end_of_log(&log))?;
    }
    Ok(())
}

/// What the pass took.
struct Pass {
    time: Duration,
    memory_on_top: u64,
    cpu: f64,
}

fn compact(mut node: Node, data: &Path, mib: u64) -> Result<()> {
    let settings = node.wait()?;
    let mut client = Client::open(&settings)?;
    let beside = load::create_topic(&mut client, BESIDE)?;
    let configs = [
        ("cleanup.policy", "delete"),
        ("segment.bytes", SEGMENT_BYTES),
        ("file.delete.delay.ms", "0"),
    ];
    let keyed = load::create_topic_with(&mut client, KEYED, 1, &configs)?;
    fill(&mut client, keyed, mib)?;
    let log = KeyedLog::find(data)?;
    let filled = log.bytes()?;

    let alone = || -> Result<()> {
        thread::sleep(ALONE);
        Ok(())
    };
    let ((), mut before) = Traffic::beside(&settings, beside, alone)?;
    let (pass, mut during) = Traffic::beside(&settings, beside, || {
        let memory = node.anonymous_memory()?;
        let cpu = node.cpu_seconds()?;
        let began = Instant::now();
        load::alter_topic(&mut client, KEYED, "cleanup.policy", "compact")?;
        let mut peak = memory;
        while !log.is_clean()? {
            ensure!(began.elapsed() < PATIENCE, "the pass does not end");
            peak = peak.max(node.anonymous_memory()?);
            thread::sleep(LOOK);
        }
        Ok(Pass {
            time: began.elapsed(),
            memory_on_top: peak - memory,
            cpu: node.cpu_seconds()? - cpu,
        })
    })?;
    let ((), mut after) = Traffic::beside(&settings, beside, alone)?;

    figures::heads();
    let sizes = format!("{} -> {} MiB", filled >> 20, log.bytes()? >> 20);
    figures::once("compaction, bytes of the log", &sizes, "");
    let time = format!("{:.1} s", pass.time.as_secs_f64());
    figures::once("compaction, from the new policy to a clean log", &time, "");
    let cpu = format!("{:.1} s", pass.cpu);
    figures::once(
        "  the node's processor time meanwhile, traffic included",
        &cpu,
        "",
    );
    let memory = format!("{:.1} MiB", mebibytes(pass.memory_on_top));
    figures::once("compaction, anonymous memory on top", &memory, "64 MiB");
    println!();
    figures::tail_heads();
    for (name, traffic) in [
        ("before", &mut before),
        ("during", &mut during),
        ("after", &mut after),
    ] {
        let count = traffic.produces.len();
        figures::tail(
            &format!("produce, {name} ({count} round trips)"),
            &mut traffic.produces,
        );
        figures::tail(&format!("fetch, {name}"), &mut traffic.fetches);
    }
    drop(client);
    node.stop()
}

/// Produces records of random keys.
fn fill(client: &mut Client, topic: TopicId, mib: u64) -> Result<()> {
    let mut noise = Noise::default();
    let value = noise.bytes(VALUE_BYTES);
    let now = clock::now();
    let mut bytes = 0;
    while bytes < mib << 20 {
        let mut builder = BatchBuilder::new(Codec::None);
        for _ in 0..BATCH_RECORDS {
            let key = (noise.next_u64() % (mib * KEYS_PER_MIB)).to_be_bytes();
            builder.add(now, Some(&key), Some(&value), &[])?;
        }
        let batch = builder.build()?.freeze();
        bytes += u64::try_from(batch.len())?;
        load::produce_one(client, topic, ACKS_LEADER, &batch)?;
    }
    Ok(())
}

/// The keyed topic's log on disk.
struct KeyedLog {
    folder: PathBuf,
    checkpoint: PathBuf,
    /// First offset of the active segment, which is not cleaned.
    active: i64,
}

impl KeyedLog {
    fn find(data: &Path) -> Result<Self> {
        let data = data.join("data");
        let folder = data.join(format!("{KEYED}-0"));
        let bases = segments(&folder)?.into_iter().map(|(base, _)| base);
        Ok(Self {
            active: bases.max().context("no segment")?,
            checkpoint: data.join("cleaner-offset-checkpoint"),
            folder,
        })
    }

    fn bytes(&self) -> Result<u64> {
        Ok(segments(&self.folder)?.iter().map(|(_, size)| size).sum())
    }

    /// Whether a pass has come as far as the active segment.
    fn is_clean(&self) -> Result<bool> {
        // The file appears with the first pass of any log.
        let text = fs::read_to_string(&self.checkpoint).unwrap_or_default();
        let own = format!("{KEYED}-0 ");
        let Some(line) = text.lines().find(|line| line.starts_with(&own)) else {
            return Ok(false);
        };
        let end = line.rsplit(' ').next().unwrap_or_default();
        Ok(end.parse::<i64>()? >= self.active)
    }
}

/// First offset and size of each segment.
fn segments(folder: &Path) -> Result<Vec<(i64, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let base = name.to_str().and_then(|name| name.strip_suffix(".log"));
        if let Some(base) = base.and_then(|base| base.parse().ok()) {
            // The cleaner may have taken it away since.
            found.push((base, entry.metadata().map_or(0, |data| data.len())));
        }
    }
    Ok(found)
}

/// How long produces and fetches took.
#[derive(Default)]
struct Traffic {
    produces: Vec<Duration>,
    fetches: Vec<Duration>,
}

impl Traffic {
    /// Produces a batch and fetches it, again and again, while `work` goes on.
    fn beside<T>(
        settings: &ClientSettings,
        topic: TopicId,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Self)> {
        let mut client = Client::open(settings)?;
        let batch = payload::batch(TRAFFIC_BYTES, clock::now()).freeze();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let traffic = scope.spawn(|| Self::run(&mut client, topic, &batch, &done));
            let outcome = work();
            done.store(true, Ordering::Release);
            let traffic = traffic
                .join()
                .map_err(|_| anyhow!("the client panicked"))??;
            Ok((outcome?, traffic))
        })
    }

    fn run(client: &mut Client, topic: TopicId, batch: &Bytes, done: &AtomicBool) -> Result<Self> {
        let mut traffic = Self::default();
        let size = u64::try_from(batch.len())?;
        while !done.load(Ordering::Acquire) {
            let began = Instant::now();
            let offset = load::produce_one(client, topic, ACKS_ALL, batch)?;
            traffic.produces.push(began.elapsed());
            let fetched = load::fetch(client, topic, offset, size)?;
            traffic.fetches.push(fetched.time);
            thread::sleep(PAUSE);
        }
        Ok(traffic)
    }
}

#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
