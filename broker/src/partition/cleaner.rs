//! The cleaners of compacted partitions: threads of their own, never a connection's task.
//!
//! Each cleaner takes the partition with the largest dirty share that is due, goes over it once and
//! looks again; with nothing to do it waits for `log.cleaner.backoff.ms`. All of them share one
//! allowance of bytes per second. What may be cleaned ends at the last stable offset.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use palisade_protocol::types::TimestampMs;
use palisade_storage::{CleanOptions, Cleaned, CleanedBy, Pace, StorageError};
use parking_lot::{Condvar, Mutex};
use tracing::{debug, error, info, warn};

use super::replica::Replica;
use super::replica_manager::ReplicaManager;
use super::tab::Tab;
use crate::config::CleanerSettings;

/// What the threads yield to others, of at most 19. On a busy machine a cleaner still gets about a
/// tenth of a processor: it swaps segments under a log's locks, and who waits for those must not
/// wait for an idle moment.
const NICE: i32 = 10;

/// The running cleaners; dropping them stops them.
#[derive(Debug)]
pub struct Cleaners {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A partition, by topic and index.
type Place = (Arc<str>, i32);

struct Shared {
    replicas: Arc<ReplicaManager>,
    settings: CleanerSettings,
    pass: CleanOptions,
    now: fn() -> TimestampMs,
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    /// Partitions in work.
    busy: HashSet<Place>,
    /// Why partitions are not cleaned, as it was told: once, until a pass succeeds.
    told: HashMap<Place, String>,
    tab: Tab,
}

impl Cleaners {
    /// Starts the threads.
    ///
    /// # Errors
    /// That of the system, which has no thread to give.
    pub fn start(
        replicas: Arc<ReplicaManager>,
        settings: CleanerSettings,
        now: fn() -> TimestampMs,
    ) -> std::io::Result<Cleaners> {
        let pass = CleanOptions {
            map_bytes: settings.map_bytes / settings.threads.max(1),
            map_load: settings.map_load,
            buffer_bytes: settings.buffer_bytes,
        };
        let shared = Arc::new(Shared {
            replicas,
            settings,
            pass,
            now,
            state: Mutex::default(),
            woken: Condvar::new(),
        });
        let mut cleaners = Cleaners {
            threads: Vec::new(),
            shared,
        };
        for number in 0..cleaners.shared.settings.threads {
            let shared = Arc::clone(&cleaners.shared);
            let thread = std::thread::Builder::new().name(format!("cleaner-{number}"));
            cleaners
                .threads
                .push(thread.spawn(move || shared.guarded())?);
        }
        Ok(cleaners)
    }
}

impl Drop for Cleaners {
    /// Ends passes at their next step and waits for the threads; blocks for that long.
    fn drop(&mut self) {
        self.shared.state.lock().stopping = true;
        self.shared.woken.notify_all();
        for thread in self.threads.drain(..) {
            // Its panic was told when it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Compaction that ends in silence would be found by a full disk.
    fn guarded(&self) {
        if catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
            error!("a cleaner has panicked; it cleans nothing any more");
        }
    }

    fn run(&self) {
        // Refused, the work is done all the same. Without a number it is this thread that is meant.
        let _ = rustix::process::setpriority_process(None, NICE);
        let mut worked = true;
        loop {
            if !worked && !self.wait(Instant::now() + self.settings.backoff) {
                return;
            }
            let Some(replica) = self.take() else {
                if self.state.lock().stopping {
                    return;
                }
                worked = false;
                continue;
            };
            worked = self.clean(&replica);
            self.state.lock().busy.remove(&place(&replica));
        }
    }

    /// Waits until `deadline`; false when the cleaners are to stop.
    fn wait(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.stopping {
            if self.woken.wait_until(&mut state, deadline).timed_out() {
                return !state.stopping;
            }
        }
        false
    }

    /// The due partition with the largest dirty share that nobody works on.
    fn take(&self) -> Option<Arc<Replica>> {
        let mut state = self.state.lock();
        if state.stopping {
            return None;
        }
        let now = (self.now)();
        let replicas = self.replicas.replicas();
        if !state.told.is_empty() {
            // Those of topics that are gone are forgotten.
            let there: HashSet<Place> = replicas.iter().map(|one| place(one)).collect();
            state.told.retain(|told, _| there.contains(told));
        }
        let (_, dirtiest) = replicas
            .into_iter()
            .filter(|replica| !replica.is_offline() && !state.busy.contains(&place(replica)))
            .filter_map(|replica| {
                let dirtiness = replica.log.dirtiness(replica.last_stable_offset(), now)?;
                dirtiness.is_due.then_some((dirtiness.millionths, replica))
            })
            .max_by_key(|(millionths, _)| *millionths)?;
        state.busy.insert(place(&dirtiest));
        Some(dirtiest)
    }

    /// Cleans one partition; answers whether another look is worth it at once.
    fn clean(&self, replica: &Replica) -> bool {
        let stable = replica.last_stable_offset();
        let mut pace = Allowance { shared: self };
        let done = replica
            .log
            .clean(stable, (self.now)(), &self.pass, &mut pace);
        let (topic, partition) = (&replica.topic, replica.index);
        match done {
            Ok(cleaned) => self.tell(replica, &cleaned),
            Err(StorageError::Offline | StorageError::Poisoned) => {
                debug!(%topic, %partition, "log went offline while it was cleaned");
                true
            }
            Err(
                error @ (StorageError::Corrupt { .. }
                | StorageError::Io {
                    operation: "read", ..
                }),
            ) => {
                error!(%topic, %partition, %error, "damaged log is not cleaned any more");
                true
            }
            Err(error) => {
                match self.is_news(replica, &error.to_string()) {
                    true => warn!(%topic, %partition, %error, "log not cleaned"),
                    false => debug!(%topic, %partition, %error, "log not cleaned again"),
                }
                false
            }
        }
    }

    /// Whether nobody was told yet that this partition is not cleaned for that reason.
    fn is_news(&self, replica: &Replica, reason: &str) -> bool {
        let told = &mut self.state.lock().told;
        let before = told.insert(place(replica), reason.to_owned());
        before.is_none_or(|before| before != reason)
    }

    fn tell(&self, replica: &Replica, cleaned: &Cleaned) -> bool {
        let (topic, partition) = (&replica.topic, replica.index);
        match cleaned.by {
            CleanedBy::Done => {
                self.state.lock().told.remove(&place(replica));
                info!(
                    %topic,
                    %partition,
                    up_to = %cleaned.up_to,
                    keys = cleaned.keys,
                    records_before = cleaned.records_before,
                    records_after = cleaned.records_after,
                    bytes_before = cleaned.bytes_before,
                    bytes_after = cleaned.bytes_after,
                    segments_before = cleaned.segments_before,
                    segments_after = cleaned.segments_after,
                    "log cleaned"
                );
                true
            }
            CleanedBy::NoRoom => {
                match self.is_news(replica, "no room") {
                    true => warn!(%topic, %partition, "no room to clean the log"),
                    false => debug!(%topic, %partition, "still no room to clean the log"),
                }
                false
            }
            CleanedBy::Nothing | CleanedBy::Stopped | CleanedBy::Overtaken => false,
        }
    }
}

/// The share of one pass in the bytes per second.
struct Allowance<'a> {
    shared: &'a Shared,
}

impl Pace for Allowance<'_> {
    fn spend(&mut self, bytes: u64) -> bool {
        let rate = self.shared.settings.max_bytes_per_second;
        let mut state = self.shared.state.lock();
        let until = state.tab.pay(bytes, rate, Instant::now());
        let stopping = state.stopping;
        drop(state);
        match until {
            Some(until) => self.shared.wait(until),
            None => !stopping,
        }
    }
}

fn place(replica: &Replica) -> Place {
    (Arc::clone(&replica.topic), replica.index.value())
}
