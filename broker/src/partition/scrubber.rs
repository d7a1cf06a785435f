//! The scrubbers: one thread per log directory that reads sealed segments again, so that damage is
//! found before a client meets it.
//!
//! What is read, and what follows from damage, is [`palisade_storage::Scrubber`]'s. Here are the
//! time between passes (`palisade.log.scrub.interval.ms`), the bytes per second
//! (`palisade.log.scrub.bytes.per.second`), and threads that come last for the processor. Between
//! two passes such a thread sleeps.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use palisade_protocol::types::TimestampMs;
use palisade_storage::{Pace, ScrubStep, ScrubTotals, Scrubber, StorageError};
use parking_lot::{Condvar, Mutex};
use tracing::{debug, error, info, warn};

use super::replica_manager::ReplicaManager;
use super::tab::Tab;
use crate::config::ScrubSettings;

/// Longest sleep before another look at the clock, which may have been set.
const LONGEST_SLEEP: Duration = Duration::from_secs(6 * 3600);

/// Niceness of the threads: anybody else goes first.
const NICE: i32 = 19;

/// The running scrubbers; dropping them stops them.
#[derive(Debug)]
pub struct Scrubbers {
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
}

/// Whether to stop.
#[derive(Debug, Default)]
struct Stop {
    stopping: Mutex<bool>,
    told: Condvar,
}

impl Stop {
    /// Waits until `deadline`; false when it is time to stop.
    fn wait(&self, deadline: Instant) -> bool {
        let mut stopping = self.stopping.lock();
        while !*stopping {
            if self.told.wait_until(&mut stopping, deadline).timed_out() {
                return !*stopping;
            }
        }
        false
    }
}

impl Scrubbers {
    /// Starts a thread for each directory; none without settings.
    ///
    /// # Errors
    /// When a newer release has written the progress of an earlier pass, or the system has no
    /// thread to give.
    pub fn start(
        replicas: &ReplicaManager,
        settings: Option<ScrubSettings>,
        now: fn() -> TimestampMs,
    ) -> Result<Scrubbers, StartScrubError> {
        let mut scrubbers = Scrubbers {
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let Some(settings) = settings else {
            return Ok(scrubbers);
        };
        for (number, directory) in replicas.directories().iter().enumerate() {
            let mut work = Work {
                scrubber: directory.storage().scrubber()?,
                path: directory.storage().path().to_owned(),
                settings,
                pace: Allowance {
                    stop: Arc::clone(&scrubbers.stop),
                    tab: Tab::default(),
                    rate: settings.bytes_per_second as f64,
                },
                now,
            };
            let thread = std::thread::Builder::new().name(format!("scrub-{number}"));
            scrubbers.threads.push(thread.spawn(move || {
                if catch_unwind(AssertUnwindSafe(|| work.run())).is_err() {
                    error!("a scrubber has panicked; segments are not read again any more");
                }
            })?);
        }
        Ok(scrubbers)
    }
}

impl Drop for Scrubbers {
    /// Ends passes at their next step and waits for the threads; blocks for that long.
    fn drop(&mut self) {
        *self.stop.stopping.lock() = true;
        self.stop.told.notify_all();
        for thread in self.threads.drain(..) {
            // Its panic was told when it happened.
            let _ = thread.join();
        }
    }
}

/// The scrubbers did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartScrubError {
    /// The progress of an earlier pass.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A thread.
    #[error(transparent)]
    Thread(#[from] std::io::Error),
}

/// What one thread does.
struct Work {
    scrubber: Scrubber,
    path: PathBuf,
    settings: ScrubSettings,
    pace: Allowance,
    now: fn() -> TimestampMs,
}

impl Work {
    fn run(&mut self) {
        // Refused, the work is done all the same. Without a number it is this thread that is meant.
        let _ = rustix::process::setpriority_process(None, NICE);
        while self.pace.stop.wait(self.next()) {
            let now = (self.now)();
            if self.due(now) > now {
                continue;
            }
            if let ScrubStep::Finished(totals) = self.scrubber.step(now, &mut self.pace) {
                self.tell(totals);
            }
        }
        self.scrubber.store((self.now)());
    }

    fn due(&self, now: TimestampMs) -> TimestampMs {
        let interval = i64::try_from(self.settings.interval.as_millis()).unwrap_or(i64::MAX);
        self.scrubber.due(interval, now)
    }

    /// When to look at the clock again.
    fn next(&self) -> Instant {
        let now = (self.now)();
        let left = self.due(now).value().saturating_sub(now.value());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        Instant::now() + left.min(LONGEST_SLEEP)
    }

    fn tell(&self, totals: ScrubTotals) {
        let path = self.path.display();
        let ScrubTotals {
            segments,
            bytes,
            damaged_ranges,
            doubtful_segments,
            skipped_segments,
        } = totals;
        if skipped_segments > 0 {
            warn!(%path, skipped_segments, "sealed segments not read: no file descriptors");
        }
        if damaged_ranges > 0 || doubtful_segments > 0 {
            error!(
                %path, segments, bytes, damaged_ranges, doubtful_segments,
                "sealed segments read again, some are damaged: each was named when it was found"
            );
        } else if segments > 0 {
            info!(%path, segments, bytes, "sealed segments read again, all verify");
        } else {
            debug!(%path, "no sealed segments to read again");
        }
    }
}

/// What one thread may read per second.
struct Allowance {
    stop: Arc<Stop>,
    tab: Tab,
    rate: f64,
}

impl Pace for Allowance {
    fn spend(&mut self, bytes: u64) -> bool {
        let now = Instant::now();
        // Without a wait it still hears of the end.
        let until = self.tab.pay(bytes, self.rate, now).unwrap_or(now);
        self.stop.wait(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(rate: f64) -> (Arc<Stop>, Allowance) {
        let stop = Arc::<Stop>::default();
        let allowance = Allowance {
            stop: Arc::clone(&stop),
            tab: Tab::default(),
            rate,
        };
        (stop, allowance)
    }

    #[test]
    fn a_low_rate_makes_a_pass_wait_and_a_stop_ends_the_wait() {
        let (stop, mut allowance) = allowance(1e-9);
        let (done, waited) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || {
            let went_on = allowance.spend(1 << 30);
            done.send(went_on).unwrap();
        });
        *stop.stopping.lock() = true;
        stop.told.notify_all();
        assert!(!waited.recv().unwrap());
        waiting.join().unwrap();
    }

    #[test]
    fn a_high_rate_lets_it_go_on_until_it_is_stopped() {
        let (stop, mut allowance) = allowance(f64::INFINITY);
        assert!(allowance.spend(1 << 30) && allowance.spend(1 << 30));
        *stop.stopping.lock() = true;
        assert!(!allowance.spend(1));
    }
}
