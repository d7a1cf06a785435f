//! A read from the disk stops its own connection and no other, even where one thread serves them all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::Duration;

use palisade_protocol::api::ApiKey;
use palisade_protocol::batch::compression::Codec;
use palisade_protocol::messages::fetch::FetchRequest;
use palisade_protocol::uuid::Uuid;
use palisade_tests::check::eventually;
use palisade_tests::node::Node;
use palisade_tests::requests::{self, newest};
use palisade_tests::tools;
use palisade_tests::wire::Connection;
use rustix::fs::{Advice, fadvise};

const COLD_RECORDS: usize = 10;
const HOT_FETCHES: usize = 50;

fn fill(connection: &mut Connection, topic: &str, records: usize) -> Uuid {
    let id = requests::create_topic(connection, topic, 1, &[]).expect("a topic");
    let value = vec![5; 200_000];
    for _ in 0..records {
        let batch = requests::batch(Codec::None, &[&value], 1_700_000_000_000);
        let answer = requests::produce(connection, topic, id, -1, batch).expect("an answer");
        assert!(!answer.error_code.is_error());
    }
    id
}

/// The segments below `dir` in folders whose name begins with `topic`.
fn segments(dir: &Path, topic: &str) -> Vec<PathBuf> {
    let entries = |path: &Path| {
        let entries = fs::read_dir(path).expect("a directory of the node's");
        entries.map(|entry| entry.expect("an entry").path())
    };
    entries(dir)
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            path.is_dir() && name.is_some_and(|name| name.starts_with(topic))
        })
        .flat_map(|path| entries(&path).collect::<Vec<_>>())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect()
}

/// Bytes of the files that are in memory, and bytes of them in all.
fn residency(files: &[PathBuf]) -> (u64, u64) {
    let mut command = Command::new("fincore");
    command.args(["--bytes", "--noheadings", "--output", "RES,SIZE"]);
    let table = tools::run("fincore", command.args(files), Duration::from_secs(10));
    let mut sums = (0, 0);
    for row in table.lines() {
        let numbers: Vec<u64> = row
            .split_whitespace()
            .map(|number| number.parse().expect("a number of bytes"))
            .collect();
        sums.0 += numbers[0];
        sums.1 += numbers[1];
    }
    sums
}

/// Drops the pages of files from memory, most of them at least. A segment that was written and never read is not
/// mapped yet, so nothing but its writing holds them.
fn evict(files: &[PathBuf]) {
    assert!(!files.is_empty(), "no segment was found");
    eventually("pages leave the memory", Duration::from_secs(20), || {
        for path in files {
            let file = File::open(path).expect("a segment");
            file.sync_all().expect("a sync");
            fadvise(&file, 0, None, Advice::DontNeed).expect("advice");
        }
        match residency(files) {
            (resident, all) if resident < all / 2 => Ok(()),
            (resident, all) => Err(format!("{resident} of {all} bytes stay")),
        }
    });
}

#[test]
fn hot_fetches_pass_a_cold_one() {
    let mut node = Node::prepare();
    let hold = node.dir().join("hold");
    node.set("palisade.log.flush.policy", "ack");
    node.env("TOKIO_WORKER_THREADS", "1");
    node.env(
        "PALISADE_FAILPOINT",
        format!("read.before_populate:hold={}", hold.display()),
    );
    node.run();
    let access = node.certificate();
    let mut connection = Connection::open(&access).expect("a login");
    let cold = fill(&mut connection, "cold", COLD_RECORDS);
    let hot = fill(&mut connection, "hot", 1);

    evict(&segments(&node.dir().join("data"), "cold"));
    // Hot is what has been read before: its segment is open and mapped.
    requests::read_all(&mut connection, "hot", hot, 0).expect("the hot record");
    fs::write(&hold, "").expect("a scratch file can be written");
    // Asked before the hot ones; another thread takes the answer, whenever it is whole.
    let mut asking = Connection::open(&access).expect("a login");
    let version = newest(ApiKey::Fetch);
    let request = requests::fetch_request("cold", cold, 0, 1000);
    let correlation_id = asking.ask(version, &request).expect("sent");
    let (done, outcome) = channel();
    let reader = thread::spawn(move || {
        let answer = asking.answer::<FetchRequest>(version, correlation_id);
        let answer = answer.expect("an answer");
        let values = requests::values(&answer.responses[0].partitions[0], 0);
        done.send(values.expect("whole batches").len())
    });
    for _ in 0..HOT_FETCHES {
        let data = requests::fetch(&mut connection, "hot", hot, 0, 1000).expect("an answer");
        assert_eq!(requests::values(&data, 0).expect("a batch").len(), 1);
    }
    let early = outcome.try_recv();
    assert_eq!(early, Err(TryRecvError::Empty), "nothing cold was read");

    fs::remove_file(&hold).expect("the scratch file can go");
    assert_eq!(outcome.recv(), Ok(COLD_RECORDS));
    reader.join().expect("the reader").expect("received");
}
