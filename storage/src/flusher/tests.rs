//! Who waits for whom: rounds are run one by one, on a directory without threads.

use std::collections::HashSet;
use std::path::Path;

use super::*;
use crate::fs::FaultyFs;
use crate::log_dir::{LogDir, LogSpec};
use crate::observer::LogObserver;
use crate::testing::*;
use crate::types::{Offset, TopicId};

/// Logs that tell in which order they were synced.
struct Rig {
    fs: FaultyFs,
    dir: LogDir,
    logs: Vec<Arc<Log>>,
    synced: Arc<Mutex<Vec<usize>>>,
}

struct Teller(usize, Arc<Mutex<Vec<usize>>>);

impl LogObserver for Teller {
    fn durable(&self, _end: Offset) {
        self.1.lock().push(self.0);
    }
    fn failed(&self) {}
    fn log_start_advanced(&self, _start: Offset) {}
}

impl Rig {
    fn new(logs: usize) -> Self {
        let fs = FaultyFs::new();
        let dir = LogDir::open(Path::new(DIR), fs.as_fs(), manual()).unwrap();
        let synced = Arc::new(Mutex::default());
        let logs = (0..logs).map(|n| {
            let spec = LogSpec {
                dir_name: format!("t-{n}"),
                topic_id: TopicId::from_bytes([5; 16]),
                leader_epoch: None,
            };
            let teller = Arc::new(Teller(n, Arc::clone(&synced)));
            dir.open_log(spec, small(), teller, time(0)).unwrap().0
        });
        let logs = logs.collect();
        Self {
            fs,
            dir,
            logs,
            synced,
        }
    }

    fn append(&self, log: usize, asker: Asker) {
        let mut batch = batch(0, 1, 20, 1000);
        let (head, section) = batch.split_first_chunk_mut().unwrap();
        self.logs[log]
            .append_split(head, section, leader(0), asker, time(1000))
            .unwrap();
    }

    /// What the flusher's thread would work on now.
    fn next_round(&self) -> Option<Round> {
        self.dir.shared().flusher.poll()
    }

    /// Runs all rounds; gives the numbers of the logs in the order of their syncs since the start.
    fn drain(&self) -> Vec<usize> {
        while let Some(round) = self.next_round() {
            round.run();
        }
        self.synced.lock().clone()
    }
}

fn users() -> [Asker; 3] {
    ["mallory", "alice", "bob"].map(|name| Asker::user(&name))
}

#[test]
fn who_waits_for_one_log_waits_for_few_of_anothers() {
    const MANY: usize = 1000;
    let [mallory, alice, bob] = users();
    let rig = Rig::new(MANY + 2);
    for log in 0..MANY {
        rig.append(log, mallory);
    }
    let in_work = rig.next_round().unwrap();
    rig.append(MANY, alice);
    in_work.run();
    rig.append(MANY + 1, bob);

    let order = rig.drain();
    let before = |log| order.iter().position(|one| *one == log).unwrap();
    // What was in work, and one of each other line.
    assert!(before(MANY) <= ROUND + 1, "{}", before(MANY));
    assert!(before(MANY + 1) <= ROUND + 2, "{}", before(MANY + 1));
    let of_mallory = order.into_iter().filter(|log| *log < MANY);
    assert!(of_mallory.eq(0..MANY), "each once, in the order of asking");
}

#[test]
fn who_waits_for_many_logs_is_not_starved() {
    const MANY: usize = 200;
    let [mallory, alice, bob] = users();
    let rig = Rig::new(MANY + ROUND * 2);
    for log in 0..MANY {
        rig.append(log, mallory);
    }
    // Two others have more for each round than it takes.
    let mut rounds = 0;
    while rig.logs[..MANY]
        .iter()
        .any(|log| log.durable_end_offset() < offset(1))
    {
        for log in MANY..MANY + ROUND * 2 {
            rig.append(log, [alice, bob][log % 2]);
        }
        rig.next_round().unwrap().run();
        rounds += 1;
    }
    assert!(rounds <= MANY.div_ceil(ROUND / 3), "{rounds}");
}

#[test]
fn a_log_that_several_wait_for_is_synced_once() {
    const MANY: usize = 300;
    let [mallory, alice, bob] = users();
    let rig = Rig::new(MANY);
    for log in 0..MANY {
        rig.append(log, mallory);
    }
    let before = rig.fs.syncs();
    for asker in [alice, bob, mallory, alice, bob] {
        rig.append(MANY - 1, asker);
    }
    rig.next_round().unwrap().run();
    assert_eq!(rig.logs[MANY - 1].durable_end_offset(), offset(6));
    let mut order = rig.drain();
    order.sort_unstable();
    assert!(order.into_iter().eq(0..MANY));
    assert_eq!(rig.fs.syncs() - before, MANY as u64);
}

#[test]
fn a_round_syncs_a_log_once_however_many_wait_for_it() {
    const SHARED: usize = 0;
    const OWN: usize = 3;
    const CROWD: usize = 50;
    let crowd: Vec<Asker> = (0..CROWD).map(|n| Asker::user(&n)).collect();
    let rig = Rig::new(2 + CROWD * OWN);
    let numbers = |round: &Round| {
        let number = |log| rig.logs.iter().position(|one| Arc::ptr_eq(one, log));
        round.sync.iter().filter_map(number).collect::<Vec<_>>()
    };
    for asker in &crowd {
        rig.append(SHARED, *asker);
    }
    rig.append(1, users()[0]);
    let round = rig.next_round().unwrap();
    assert_eq!(numbers(&round), [SHARED, 1]);
    // Who asks before the sync is in time for it.
    rig.append(SHARED, crowd[0]);
    round.run();
    assert_eq!(rig.logs[SHARED].durable_end_offset(), offset(51));

    rig.drain();
    for (n, asker) in crowd.iter().enumerate() {
        rig.append(SHARED, *asker);
        (0..OWN).for_each(|own| rig.append(2 + n * OWN + own, *asker));
    }
    let round = numbers(&rig.next_round().unwrap());
    assert_eq!(round.len(), ROUND, "what is not synced twice makes room");
    assert_eq!(round.iter().collect::<HashSet<_>>().len(), ROUND);
    let of_each = |n: usize| {
        let own = 2 + n * OWN..2 + (n + 1) * OWN;
        round.iter().filter(|log| own.contains(*log)).count()
    };
    assert!((0..CROWD).all(|n| (1..=2).contains(&of_each(n))), "in turn");
}

/// Whatever comes when: what is not durable stands in a line, and of each line a round takes its
/// share.
#[test]
fn each_round_takes_a_share_of_each_line() {
    const LOGS: usize = 150;
    let askers: Vec<Asker> = (0..5_u8).map(|n| Asker::user(&n)).collect();
    let rig = Rig::new(LOGS);
    // xorshift64
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % bound as u64) as usize
    };
    let mut in_work = None;
    for step in 0..300 {
        for _ in 0..below(200) {
            // The first has many logs, the last a few.
            let asker = below(5);
            rig.append(below(LOGS >> asker), askers[asker]);
        }
        if let Some(round) = in_work.take() {
            Round::run(round);
        }
        let (promised, standing) = {
            let state = rig.dir.shared().flusher.state.lock();
            let share = ROUND / state.lines.len().max(1);
            let firsts = state
                .lines
                .values()
                .flat_map(|line| line.iter().take(share));
            let promised: Vec<_> = firsts
                .map(|log| (Arc::clone(log), log.log_end_offset()))
                .collect();
            let all = || state.lines.values().flatten().map(address);
            assert_eq!(all().count(), state.standing.len(), "once in each line");
            (promised, all().collect::<HashSet<_>>())
        };
        for log in &rig.logs {
            let durable = log.durable_end_offset() == log.log_end_offset();
            assert!(durable || standing.contains(&address(log)), "step {step}");
        }
        let Some(round) = rig.next_round() else {
            continue;
        };
        assert!(round.sync.len() <= ROUND);
        if below(2) == 0 {
            in_work = Some(round);
            continue;
        }
        round.run();
        for (log, end) in promised {
            assert!(log.durable_end_offset() >= end, "step {step}");
        }
    }
    in_work.into_iter().for_each(Round::run);
    rig.drain();
    let state = rig.dir.shared().flusher.state.lock();
    assert!(state.lines.is_empty() && state.turns.is_empty() && state.standing.is_empty());
    for log in &rig.logs {
        assert_eq!(log.durable_end_offset(), log.log_end_offset());
    }
}

#[test]
fn after_a_failed_sync_the_other_lines_are_not_synced() {
    let [mallory, alice, _] = users();
    let rig = Rig::new(100);
    for log in 0..100 {
        rig.append(log, [mallory, alice][log % 2]);
    }
    rig.fs.fail_sync_at(rig.fs.syncs() + 10);
    assert_eq!(rig.drain().len(), 10);
    assert!(rig.dir.is_offline());
}
