//! A bounded queue in front of the writer. What it cannot take is counted, and the count is
//! written before anything that comes later (spec/security.md §5.2, never drop silently).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::aggregate::Aggregator;
use super::event::Gap;
use super::{Action, AuditContext, AuditEvent, AuditSink, Class, Outcome, UnixMicros};

/// The part of the bound that only classes which fail closed may use: a flood of denials must
/// not keep people from logging in. One eighth.
const RESERVE: usize = 8;

/// The place of an event in the queue; durable once everything up to it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The queue has no room; the event comes back.
#[derive(Debug)]
pub struct Full(pub Box<AuditEvent>);

/// An event with the moment it was taken.
#[derive(Debug, Clone)]
pub struct Stamped {
    /// Its place.
    pub ticket: Ticket,
    /// When it was taken.
    pub at: UnixMicros,
    /// The event.
    pub event: AuditEvent,
    weight: usize,
}

/// The queue between those who cause events and the thread that writes them.
///
/// That thread calls [`take`](Self::take), writes, syncs, and calls
/// [`confirm`](Self::confirm). Events count against the bound until they are confirmed.
pub struct AuditQueue {
    limit: usize,
    now: Box<dyn Fn() -> UnixMicros + Send + Sync>,
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Stamped>,
    /// Weight of all that is not confirmed, and of each event taken but not confirmed.
    bytes: usize,
    taken: VecDeque<(Ticket, usize)>,
    last: u64,
    durable: u64,
    repeated: Aggregator,
    lost: BTreeMap<Class, Gap>,
    lost_total: BTreeMap<Class, u64>,
    closed: bool,
}

impl AuditQueue {
    /// Makes a queue that holds about `limit` bytes of lines; `now` is the clock.
    pub fn new(limit: usize, now: impl Fn() -> UnixMicros + Send + Sync + 'static) -> Self {
        Self {
            limit,
            now: Box::new(now),
            state: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
        }
    }

    /// Takes an event if there is room. The caller decides what a full queue means: logins and
    /// changes are refused, readers stop reading, others count.
    ///
    /// # Errors
    /// `Full` with the event; nothing was counted.
    pub fn offer(&self, event: AuditEvent) -> Result<Ticket, Full> {
        let at = (self.now)();
        let mut state = self.state.lock();
        let Some(event) = state.repeated.admit(event, at) else {
            // Counted; a line tells how often within a minute.
            return Ok(Ticket(state.last));
        };
        let weight = event.weight();
        let limit = if event.class().fails_closed() {
            self.limit
        } else {
            self.limit - self.limit / RESERVE
        };
        if state.closed || state.bytes.saturating_add(weight) > limit {
            return Err(Full(Box::new(event)));
        }
        state.report_gaps(at);
        let ticket = state.push(at, event, weight);
        drop(state);
        self.filled.notify_one();
        Ok(ticket)
    }

    /// Counts an event that found no room.
    pub fn count(&self, class: Class) {
        let at = (self.now)();
        let mut state = self.state.lock();
        let gap = state.lost.entry(class).or_insert(Gap {
            class,
            count: 0,
            first: at,
            last: at,
        });
        gap.count += 1;
        gap.last = at;
        *state.lost_total.entry(class).or_default() += 1;
    }

    /// Takes everything that waits, gaps included; waits up to `patience` for something.
    ///
    /// The thread calls it at least every second, so that what was aggregated gets told.
    /// Empty after the patience ran out, or when the queue is closed and drained.
    pub fn take(&self, patience: Duration) -> Vec<Stamped> {
        let mut state = self.state.lock();
        if state.waiting.is_empty() && state.lost.is_empty() && !state.closed {
            self.filled.wait_for(&mut state, patience);
        }
        let at = (self.now)();
        state.report_gaps(at);
        state.report_repeated(at);
        let taken: Vec<Stamped> = state.waiting.drain(..).collect();
        let weights = taken.iter().map(|event| (event.ticket, event.weight));
        state.taken.extend(weights);
        taken
    }

    /// Tells that everything up to this event is on stable storage.
    pub fn confirm(&self, upto: Ticket) {
        let mut state = self.state.lock();
        while let Some((ticket, weight)) = state.taken.front().copied() {
            if ticket > upto {
                break;
            }
            state.taken.pop_front();
            state.bytes -= weight;
        }
        state.durable = state.durable.max(upto.0);
        drop(state);
        self.written.notify_all();
    }

    /// Tells whether an event is on stable storage.
    pub fn is_durable(&self, ticket: Ticket) -> bool {
        self.state.lock().durable >= ticket.0
    }

    /// Waits until an event is on stable storage; false when the patience ran out.
    pub fn wait_durable(&self, ticket: Ticket, patience: Duration) -> bool {
        let mut state = self.state.lock();
        if state.durable < ticket.0 {
            self.written
                .wait_while_for(&mut state, |state| state.durable < ticket.0, patience);
        }
        state.durable >= ticket.0
    }

    /// Takes a last event, behind everything that was counted or aggregated, and no more: only a
    /// log that ends with `stop` was closed cleanly.
    pub fn finish(&self, last: AuditEvent) {
        let at = (self.now)();
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        state.closed = true;
        state.report_gaps(at);
        state.report_repeated(at);
        let weight = last.weight();
        state.push(at, last, weight);
        drop(state);
        self.filled.notify_all();
    }

    /// Tells whether the queue is closed.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Bytes that are not confirmed, for the metric.
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// Events of a class that were only counted, since the start.
    pub fn lost_total(&self, class: Class) -> u64 {
        let state = self.state.lock();
        state.lost_total.get(&class).copied().unwrap_or_default()
    }

    /// Tells whether something was counted that is not in the queue as a gap yet.
    pub fn is_gapped(&self) -> bool {
        !self.state.lock().lost.is_empty()
    }
}

impl AuditSink for AuditQueue {
    fn record(&self, event: AuditEvent) {
        if let Err(Full(event)) = self.offer(event) {
            self.count(event.class());
        }
    }
}

impl State {
    fn push(&mut self, at: UnixMicros, event: AuditEvent, weight: usize) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        self.bytes += weight;
        self.waiting.push_back(Stamped {
            ticket,
            at,
            event,
            weight,
        });
        ticket
    }

    /// Puts what was aggregated in line, once its window is over or the queue is closed.
    fn report_repeated(&mut self, at: UnixMicros) {
        let events = if self.closed {
            self.repeated.all()
        } else {
            self.repeated.expired(at)
        };
        for event in events {
            let weight = event.weight();
            self.push(at, event, weight);
        }
    }

    /// Puts what was counted in line, beyond the bound: there are six classes at most.
    fn report_gaps(&mut self, at: UnixMicros) {
        for (class, gap) in std::mem::take(&mut self.lost) {
            let mut event =
                AuditEvent::new(Action::AuditGap, Outcome::Error, AuditContext::default())
                    .with_reason("queue_full")
                    .with_detail(format!("{} events were counted, not kept", class.name()));
            event.gap = Some(gap);
            let weight = event.weight();
            self.push(at, event, weight);
        }
    }
}

#[cfg(test)]
mod tests;
