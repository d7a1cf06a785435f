//! A bounded queue in front of the writer. What it cannot take waits with the connection that
//! caused it, or is counted; the count is written before anything that comes later
//! (spec/security.md §5.2, never drop silently).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::aggregate::Aggregator;
use super::event::{Cause, Gap};
use super::overflow::{Held, Overflow};
use super::{Action, AuditContext, AuditEvent, AuditSink, Class, Outcome, UnixMicros};

/// The part of the bound that only classes which fail closed may use: a flood of denials must
/// not keep people from logging in. One eighth.
const RESERVE: usize = 8;

/// An event's time is told anew when it comes into its line so much later than it happened.
const LATE_MICROS: i64 = 1_000_000;

/// The place of an event among those of its kind: what fails closed overtakes the rest while the
/// disk is full. Durable once everything of its kind up to it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    fails_closed: bool,
    number: u64,
}

/// An event with the moment it was taken.
#[derive(Debug, Clone)]
pub struct Stamped {
    /// Its place.
    pub ticket: Ticket,
    /// When it was taken; if later events are in their lines already, the time of those.
    pub at: UnixMicros,
    /// The event.
    pub event: AuditEvent,
    weight: usize,
    /// The clock had just gone back.
    stepped: bool,
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
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Stamped>,
    /// Weight of all that is not confirmed.
    bytes: usize,
    /// Weight of what waits with its connections.
    held: usize,
    allowed_fails_closed: bool,
    fail_closed: Line,
    others: Line,
    /// Times of the last event that was taken, and of the last that was given to the writer.
    pushed_at: Option<UnixMicros>,
    given_at: Option<UnixMicros>,
    repeated: Aggregator,
    cause: Cause,
    lost: BTreeMap<(Class, Cause), Gap>,
    lost_total: BTreeMap<Class, u64>,
    closed: bool,
}

/// Numbers of the events of one kind.
#[derive(Default)]
struct Line {
    last: u64,
    durable: u64,
}

impl AuditQueue {
    /// Makes a queue that holds about `limit` bytes of lines, and lets at most as many more wait
    /// with their connections; `now` is the clock.
    pub fn new(limit: usize, now: impl Fn() -> UnixMicros + Send + Sync + 'static) -> Self {
        Self {
            limit,
            now: Box::new(now),
            state: Mutex::default(),
            filled: Condvar::new(),
        }
    }

    /// Says that permitted questions fail closed too: then the last part of the bound is theirs as
    /// well, and what a full disk has left.
    #[must_use]
    pub fn with_allowed_failing_closed(self, closed: bool) -> Self {
        self.state.lock().allowed_fails_closed = closed;
        self
    }

    /// Takes an event if there is room. The caller decides what a full queue means: logins and
    /// changes are refused, readers stop reading, others count.
    ///
    /// # Errors
    /// The event; nothing was counted.
    pub fn offer(&self, mut event: AuditEvent) -> Result<Ticket, Held> {
        event.context.overflow = None;
        let at = (self.now)();
        let mut state = self.state.lock();
        let fails_closed = state.fails_closed(event.class());
        let Some(event) = state.repeated.admit(event, at) else {
            // Counted; a line tells how often within a minute.
            let number = state.line(fails_closed).last;
            return Ok(Ticket {
                fails_closed,
                number,
            });
        };
        let held = Held {
            weight: event.weight(),
            event: Box::new(event),
            at,
        };
        self.put(&mut state, held, at)
    }

    /// As [`offer`](Self::offer), for an event that found no room before.
    ///
    /// # Errors
    /// The event; nothing was counted.
    pub fn offer_again(&self, held: Held) -> Result<Ticket, Held> {
        let at = (self.now)();
        self.put(&mut self.state.lock(), held, at)
    }

    fn put(&self, state: &mut State, held: Held, at: UnixMicros) -> Result<Ticket, Held> {
        if state.closed || !self.has_room(state, held.class(), held.weight) {
            return Err(held);
        }
        state.report_gaps(at);
        let mut event = *held.event;
        if is_late(held.at, at) {
            tell_moment(&mut event, held.at);
        }
        let ticket = state.push(at, event, held.weight);
        self.filled.notify_one();
        Ok(ticket)
    }

    fn has_room(&self, state: &State, class: Class, weight: usize) -> bool {
        let limit = match state.fails_closed(class) {
            true => self.limit,
            false => self.limit - self.limit / RESERVE,
        };
        // The largest event there is may be larger than a small bound: it goes alone.
        let is_alone = state.bytes == 0 && limit > 0;
        is_alone || state.bytes.saturating_add(weight) <= limit
    }

    /// Counts an event that found no room.
    pub fn count(&self, class: Class) {
        let at = (self.now)();
        self.state.lock().count(class, at);
    }

    /// Offers everything that waits in `overflow` once more; true when it need not wait any longer.
    pub fn retry(&self, overflow: &Overflow) -> bool {
        let mut events = overflow.take().into_iter();
        while let Some(held) = events.next() {
            let weight = held.weight;
            if let Err(held) = self.offer_again(held) {
                overflow.put_back(std::iter::once(held).chain(events).collect());
                return false;
            }
            self.state.lock().held -= weight;
        }
        // What was only marked, for want of memory, waits for the same.
        let probe = AuditEvent::new(Action::Denied, Outcome::Denied, AuditContext::default());
        let has_room = self.has_room(&self.state.lock(), probe.class(), probe.weight());
        has_room && overflow.release()
    }

    /// Counts what waits in `overflow`, but for the events of classes that `stays` names; true when
    /// there are such.
    pub fn give_up(&self, overflow: &Overflow, stays: impl Fn(Class) -> bool) -> bool {
        let events = overflow.take();
        let (stay, go): (Vec<_>, Vec<_>) = events.into_iter().partition(|e| stays(e.class()));
        self.forget(go);
        if stay.is_empty() {
            overflow.release();
            return false;
        }
        overflow.put_back(stay);
        true
    }

    /// Counts what waits in `overflow`; whatever comes later is counted at once.
    pub fn close(&self, overflow: &Overflow) {
        self.forget(overflow.close());
    }

    fn forget(&self, events: Vec<Held>) {
        if events.is_empty() {
            return;
        }
        let at = (self.now)();
        let mut state = self.state.lock();
        for held in events {
            state.held -= held.weight;
            state.count(held.class(), at);
        }
    }

    /// Lets an event wait with its connection, or counts it.
    fn set_aside(&self, held: Held, overflow: Option<&Overflow>) {
        let at = (self.now)();
        let (class, weight) = (held.class(), held.weight);
        let mut state = self.state.lock();
        let Some(overflow) = overflow.filter(|_| !state.closed) else {
            return state.count(class, at);
        };
        // Beyond the bound the connection waits all the same, but its event is counted.
        let fits = state.held.saturating_add(weight) <= self.limit;
        let kept = overflow.keep(fits.then_some(held)) && fits;
        match kept {
            true => state.held += weight,
            false => state.count(class, at),
        }
    }

    /// Says why the writer is stuck, or that it is not: the cause of what is counted from now on.
    pub fn stalled(&self, cause: Cause) {
        self.state.lock().cause = cause;
    }

    /// Takes everything that waits, gaps included; waits up to `patience` for something.
    ///
    /// The thread calls it at least every minute, so that what was aggregated gets told.
    /// Empty after the patience ran out, or when the queue is closed and drained.
    pub fn take(&self, patience: Duration) -> Vec<Stamped> {
        self.take_those(patience, false)
    }

    /// As [`take`](Self::take), but only what fails closed: all that a full disk has room for. From
    /// a closed queue it takes everything.
    pub fn take_fail_closed(&self, patience: Duration) -> Vec<Stamped> {
        self.take_those(patience, true)
    }

    fn take_those(&self, patience: Duration, only_fail_closed: bool) -> Vec<Stamped> {
        let mut state = self.state.lock();
        let wanted = |event: &Stamped| event.ticket.fails_closed || !only_fail_closed;
        let is_told = only_fail_closed || state.lost.is_empty();
        if !state.waiting.iter().any(wanted) && is_told && !state.closed {
            self.filled.wait_for(&mut state, patience);
        }
        // Nothing may come behind the last event.
        let only_fail_closed = only_fail_closed && !state.closed;
        let wanted = |event: &Stamped| event.ticket.fails_closed || !only_fail_closed;
        let at = (self.now)();
        // On a full disk the counters go on: gaps are told before what fails closed, which `offer`
        // sees to, and lines that cannot be written do not pile up.
        if !only_fail_closed && !state.closed {
            state.report_gaps(at);
            state.report_repeated(at);
        }
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        for event in std::mem::take(&mut state.waiting) {
            match wanted(&event) {
                true => taken.push(event),
                false => left.push_back(event),
            }
        }
        state.waiting = left;
        for stamped in &mut taken {
            state.even_out(stamped);
        }
        taken
    }

    /// Takes back events that were not written, in front of everything that waits.
    pub fn put_back(&self, events: Vec<Stamped>) {
        let mut state = self.state.lock();
        state.given_at = events.first().map(|event| event.at).or(state.given_at);
        for event in events.into_iter().rev() {
            state.waiting.push_front(event);
        }
    }

    /// Tells that these events, as they were taken, are on stable storage.
    pub fn confirm(&self, written: &[Stamped]) {
        let mut state = self.state.lock();
        for event in written {
            state.bytes -= event.weight;
            let line = state.line(event.ticket.fails_closed);
            line.durable = line.durable.max(event.ticket.number);
        }
    }

    /// Tells whether an event is on stable storage.
    pub fn is_durable(&self, ticket: Ticket) -> bool {
        self.state.lock().is_durable(ticket)
    }

    /// Takes an event of the log itself, in front of everything that waits and beyond the bound:
    /// there are few of them.
    pub fn note(&self, event: AuditEvent) {
        let at = (self.now)();
        let mut state = self.state.lock();
        let weight = event.weight();
        let stamped = state.stamp(at, event, weight);
        state.waiting.push_front(stamped);
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
}

impl AuditSink for AuditQueue {
    fn record(&self, mut event: AuditEvent) {
        let overflow = event.context.overflow.take();
        if let Err(held) = self.offer(event) {
            self.set_aside(held, overflow.as_deref());
        }
    }
}

impl State {
    fn fails_closed(&self, class: Class) -> bool {
        class.fails_closed() || (self.allowed_fails_closed && class == Class::AuthzAllowed)
    }

    fn line(&mut self, fails_closed: bool) -> &mut Line {
        match fails_closed {
            true => &mut self.fail_closed,
            false => &mut self.others,
        }
    }

    fn is_durable(&self, ticket: Ticket) -> bool {
        let line = match ticket.fails_closed {
            true => &self.fail_closed,
            false => &self.others,
        };
        line.durable >= ticket.number
    }

    fn push(&mut self, at: UnixMicros, event: AuditEvent, weight: usize) -> Ticket {
        let stamped = self.stamp(at, event, weight);
        let ticket = stamped.ticket;
        self.waiting.push_back(stamped);
        ticket
    }

    fn stamp(&mut self, at: UnixMicros, event: AuditEvent, weight: usize) -> Stamped {
        let fails_closed = self.fails_closed(event.class());
        let line = self.line(fails_closed);
        line.last += 1;
        let number = line.last;
        self.bytes += weight;
        let before = self.pushed_at.replace(at);
        Stamped {
            ticket: Ticket {
                fails_closed,
                number,
            },
            at,
            event,
            weight,
            stepped: before.is_some_and(|before| is_late(at, before)),
        }
    }

    fn count(&mut self, class: Class, at: UnixMicros) {
        let cause = self.cause;
        let gap = self.lost.entry((class, cause)).or_insert(Gap {
            class,
            count: 0,
            first: at,
            last: at,
            cause,
        });
        gap.count += 1;
        gap.last = at;
        *self.lost_total.entry(class).or_default() += 1;
    }

    /// Moves the time of an event that others overtook to theirs, and says when it happened: only a
    /// step of the clock goes back in the log.
    fn even_out(&mut self, stamped: &mut Stamped) {
        if let Some(given) = self.given_at.filter(|_| !stamped.stepped)
            && stamped.at < given
        {
            if is_late(stamped.at, given) {
                tell_moment(&mut stamped.event, stamped.at);
            }
            stamped.at = given;
        }
        // The mark stays: an event that is put back is evened out once more.
        self.given_at = Some(stamped.at);
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

    /// Puts what was counted in line, beyond the bound: classes and causes are few.
    fn report_gaps(&mut self, at: UnixMicros) {
        for ((class, cause), gap) in std::mem::take(&mut self.lost) {
            let mut event =
                AuditEvent::new(Action::AuditGap, Outcome::Error, AuditContext::default())
                    .with_reason(cause.name())
                    .with_detail(format!("{} events were counted, not kept", class.name()));
            event.gap = Some(gap);
            let weight = event.weight();
            self.push(at, event, weight);
        }
    }
}

/// Adds to an event's words when it happened.
fn tell_moment(event: &mut AuditEvent, at: UnixMicros) {
    let happened = format!("happened at {at}");
    event.detail = Some(match event.detail.take() {
        Some(words) => format!("{words}; {happened}"),
        None => happened,
    });
}

fn is_late(at: UnixMicros, before: UnixMicros) -> bool {
    before.value().saturating_sub(at.value()) >= LATE_MICROS
}

#[cfg(test)]
mod tests;
