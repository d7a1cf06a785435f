//! The timers of one shard: one heap, in which most entries never move.
//!
//! A heartbeat moves its member's deadline in a map and touches no heap: the entry stays where it
//! was, and is put back further behind when it comes up early. Cancelling is lazy as well.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use tokio::time::Instant;

use super::decision::{TimerChange, TimerKey};

/// Stale entries that are tolerated however few live ones there are.
const TOLERATED: usize = 1024;

/// All timers of a shard.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Keys of the entries in the heap, by number; of stale ones too.
    queued: HashMap<u64, TimerKey>,
    armed: HashMap<TimerKey, Armed>,
    next: u64,
}

/// A timer that runs.
#[derive(Debug)]
struct Armed {
    deadline: Instant,
    /// Where its entry stands in the heap, never behind the deadline.
    queued_at: Instant,
    number: u64,
}

impl Timers {
    /// Sets or cancels a timer.
    pub(crate) fn change(&mut self, change: TimerChange, now: Instant) {
        match change {
            TimerChange::Set { key, after } => self.set(key, now + after),
            TimerChange::Cancel { key } => {
                self.armed.remove(&key);
            }
        }
    }

    fn set(&mut self, key: TimerKey, deadline: Instant) {
        if let Some(armed) = self.armed.get_mut(&key)
            && armed.queued_at <= deadline
        {
            armed.deadline = deadline;
            return;
        }
        self.queue(key, deadline, deadline);
        if self.heap.len() > TOLERATED + 2 * self.armed.len() {
            self.sweep();
        }
    }

    fn queue(&mut self, key: TimerKey, deadline: Instant, at: Instant) {
        let number = self.next;
        self.next += 1;
        self.heap.push(Reverse((at, number)));
        self.queued.insert(number, key.clone());
        let armed = Armed {
            deadline,
            queued_at: at,
            number,
        };
        self.armed.insert(key, armed);
    }

    /// Forgets the entries that nobody waits for any more.
    fn sweep(&mut self) {
        let armed = &self.armed;
        let queued = &mut self.queued;
        self.heap.retain(|Reverse((_, number))| {
            let key = queued.get(number);
            let lives = key
                .and_then(|key| armed.get(key))
                .is_some_and(|armed| armed.number == *number);
            if !lives {
                queued.remove(number);
            }
            lives
        });
    }

    /// When to look again; early rather than late.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes a timer that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<TimerKey> {
        while let Some(Reverse((at, number))) = self.heap.peek().copied() {
            if at > now {
                return None;
            }
            self.heap.pop();
            let Some(key) = self.queued.remove(&number) else {
                continue;
            };
            let Some(armed) = self.armed.get(&key).filter(|armed| armed.number == number) else {
                continue;
            };
            if armed.deadline > now {
                let deadline = armed.deadline;
                self.queue(key, deadline, deadline);
                continue;
            }
            self.armed.remove(&key);
            return Some(key);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(member: &'static str) -> TimerKey {
        TimerKey::Session {
            group: "g".into(),
            member: member.into(),
        }
    }

    fn set(member: &'static str, seconds: u64) -> TimerChange {
        TimerChange::Set {
            key: key(member),
            after: Duration::from_secs(seconds),
        }
    }

    fn cancel(member: &'static str) -> TimerChange {
        TimerChange::Cancel { key: key(member) }
    }

    fn due(timers: &mut Timers, now: Instant) -> Vec<TimerKey> {
        std::iter::from_fn(|| timers.pop_due(now)).collect()
    }

    #[test]
    fn timers_go_off_once_in_their_order() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        for change in [
            set("late", 9),
            set("early", 3),
            set("gone", 1),
            cancel("gone"),
        ] {
            timers.change(change, start);
        }
        assert_eq!(due(&mut timers, at(2)), []);
        assert_eq!(due(&mut timers, at(3)), [key("early")]);
        assert_eq!(due(&mut timers, at(10)), [key("late")]);
        assert_eq!(due(&mut timers, at(99)), []);
        assert_eq!(timers.next_look(), None);
    }

    #[test]
    fn a_timer_moves_in_both_directions() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        timers.change(set("m", 5), start);
        timers.change(set("m", 5), at(4));
        assert_eq!(due(&mut timers, at(8)), []);
        assert_eq!(due(&mut timers, at(9)), [key("m")]);
        timers.change(set("m", 300), at(10));
        timers.change(set("m", 2), at(10));
        assert_eq!(due(&mut timers, at(12)), [key("m")]);
        assert_eq!(due(&mut timers, at(999)), []);
    }

    #[test]
    fn heartbeats_leave_the_heap_alone() {
        let start = Instant::now();
        let mut timers = Timers::default();
        for beat in 0..10_000 {
            timers.change(set("m", 45), start + Duration::from_secs(beat / 1000));
        }
        assert_eq!(timers.heap.len(), 1);
    }

    #[test]
    fn cancelled_timers_do_not_pile_up() {
        let start = Instant::now();
        let mut timers = Timers::default();
        for _ in 0..10_000 {
            timers.change(set("m", 300), start);
            timers.change(cancel("m"), start);
        }
        assert!(timers.heap.len() <= TOLERATED + 2, "{}", timers.heap.len());
        assert_eq!(timers.heap.len(), timers.queued.len());
    }
}
