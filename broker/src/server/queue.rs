//! The answers a connection owes, in the order of their requests.
//!
//! A request whose answer must wait (followers, min bytes, the controller) leaves a future here,
//! and the reader goes on: a later produce is appended while an earlier one waits for its
//! followers. The line is bounded in count and in bytes; past the bound the socket is not read.
//!
//! Each of them has a waker of its own, so that what is ready is found without asking the others:
//! the connection wakes for many reasons, and with a full line most answers are not among them.
//!
//! An answer that is large for the size of its question is *patient*: one of them is in the making
//! at a time, none is begun while finished ones fill the line or one before it is being sent, and
//! behind one that was not begun no request is read. Whoever asks and does not read so holds what
//! the line may hold and one answer more, whatever he asks; and what is asked of groups is asked in
//! the order of the requests, changes among them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use palisade_protocol::Chunk;
use parking_lot::Mutex;

use super::send::Sender;
use crate::dispatch::{Outcome, Pending};

/// Answers a connection may owe.
const MAX_ANSWERS: usize = 64;
/// Heap bytes of finished answers that wait for earlier ones.
const MAX_BYTES: usize = 1024 * 1024;
/// Bytes handed to the sender ahead of the kernel; enough to fill its buffers.
const SEND_AHEAD: usize = 64 * 1024;

/// The ordered answers.
pub(crate) struct AnswerQueue {
    answers: VecDeque<Answer>,
    /// Number of the oldest answer.
    first: u64,
    ready_bytes: usize,
    line: Arc<WakeLine>,
    /// Numbers being polled; kept for its memory.
    due: Vec<u64>,
    /// Numbers of patient answers that were not begun, oldest first.
    put_off: VecDeque<u64>,
    /// The patient answer that was begun and is not finished.
    making: Option<u64>,
}

enum Answer {
    Waiting(Pending, Arc<AnswerWaker>),
    Ready(Outcome, usize),
}

/// The answers that may be ready, and how to wake their connection.
#[derive(Default)]
struct WakeLine {
    state: Mutex<WakeState>,
}

#[derive(Default)]
struct WakeState {
    due: Vec<u64>,
    connection: Option<Waker>,
}

/// Wakes the connection for one answer.
struct AnswerWaker {
    number: u64,
    /// It stands in the line already.
    noted: AtomicBool,
    line: Arc<WakeLine>,
}

impl Wake for AnswerWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.noted.swap(true, Ordering::AcqRel) {
            return;
        }
        let connection = {
            let mut state = self.line.state.lock();
            state.due.push(self.number);
            state.connection.clone()
        };
        if let Some(connection) = connection {
            connection.wake();
        }
    }
}

/// What moving answers to the sender came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// Nothing could be moved.
    Nothing,
    /// At least one answer left the queue.
    Some,
    /// The connection must be closed once everything before this point is sent.
    Close,
}

impl AnswerQueue {
    /// Owes nothing.
    pub(crate) fn new() -> Self {
        AnswerQueue {
            answers: VecDeque::new(),
            first: 0,
            ready_bytes: 0,
            line: Arc::default(),
            due: Vec::new(),
            put_off: VecDeque::new(),
            making: None,
        }
    }

    /// Whether nothing is owed.
    pub(crate) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Whether another request may be read.
    pub(crate) fn has_room(&self) -> bool {
        let is_full = self.answers.len() >= MAX_ANSWERS || self.ready_bytes >= MAX_BYTES;
        self.put_off.is_empty() && !is_full
    }

    /// Appends a finished answer.
    pub(crate) fn push(&mut self, outcome: Outcome) {
        let bytes = heap_bytes(&outcome);
        self.ready_bytes += bytes;
        self.answers.push_back(Answer::Ready(outcome, bytes));
    }

    /// Appends an answer that is still to come.
    pub(crate) fn push_pending(&mut self, pending: Pending) {
        let number = self.push_waiting(pending);
        // It has to be polled once to learn of its waker.
        self.line.state.lock().due.push(number);
    }

    /// The same for one that may be large: nothing is done for it before its time comes.
    pub(crate) fn push_patient(&mut self, pending: Pending) {
        let number = self.push_waiting(pending);
        self.put_off.push_back(number);
    }

    fn push_waiting(&mut self, pending: Pending) -> u64 {
        let number = self.first + self.answers.len() as u64;
        let waker = Arc::new(AnswerWaker {
            number,
            noted: AtomicBool::new(true),
            line: Arc::clone(&self.line),
        });
        self.answers.push_back(Answer::Waiting(pending, waker));
        number
    }

    /// Hands finished answers, oldest first, to the sender.
    pub(crate) fn hand_over(&mut self, sender: &mut Sender) -> Moved {
        let mut moved = Moved::Nothing;
        while sender.backlog() < SEND_AHEAD {
            let Some(Answer::Ready(..)) = self.answers.front() else {
                break;
            };
            let Some(Answer::Ready(outcome, bytes)) = self.answers.pop_front() else {
                break;
            };
            self.first += 1;
            self.ready_bytes -= bytes;
            moved = Moved::Some;
            match outcome {
                Outcome::Response(chunks) => sender.push(chunks),
                Outcome::NoResponse => {}
                Outcome::Close(reason) => {
                    tracing::debug!(?reason, "request closes its connection");
                    self.first += self.answers.len() as u64;
                    self.answers.clear();
                    self.put_off.clear();
                    self.making = None;
                    self.ready_bytes = 0;
                    return Moved::Close;
                }
            }
        }
        moved
    }

    /// Polls the answers that were woken, and those that never were polled; `unsent` are the bytes
    /// that were handed over and have not left.
    ///
    /// Whichever is ready, not only the oldest: an answer may hold a place in some other line (an
    /// append, a fetch session, a mailbox) and must not stand still because of its neighbours here.
    /// Patient ones hold none before they are begun.
    pub(crate) fn poll_due(&mut self, cx: &mut Context<'_>, unsent: usize) {
        let mut due = std::mem::take(&mut self.due);
        {
            let mut state = self.line.state.lock();
            match &state.connection {
                Some(known) if known.will_wake(cx.waker()) => {}
                _ => state.connection = Some(cx.waker().clone()),
            }
            std::mem::swap(&mut due, &mut state.due);
        }
        for number in due.drain(..) {
            self.poll_answer(number);
        }
        self.due = due;
        while let Some(number) = self.next_patient(unsent) {
            self.put_off.pop_front();
            self.making = Some(number);
            self.poll_answer(number);
        }
    }

    /// The patient answer whose time has come.
    fn next_patient(&self, unsent: usize) -> Option<u64> {
        let number = *self.put_off.front()?;
        // The oldest is made whatever waits behind it, which would never leave otherwise.
        let has_room = number == self.first || self.ready_bytes < MAX_BYTES;
        (self.making.is_none() && unsent == 0 && has_room).then_some(number)
    }

    fn poll_answer(&mut self, number: u64) {
        let place = number.checked_sub(self.first);
        let place = place.and_then(|place| usize::try_from(place).ok());
        let Some(answer) = place.and_then(|place| self.answers.get_mut(place)) else {
            return;
        };
        let Answer::Waiting(pending, waker) = answer else {
            return;
        };
        // From here on a wake counts again: what it tells of may be missed by this poll.
        waker.noted.swap(false, Ordering::AcqRel);
        let waker = Waker::from(Arc::clone(waker));
        if let Poll::Ready(outcome) = Pin::new(pending).poll(&mut Context::from_waker(&waker)) {
            let bytes = heap_bytes(&outcome);
            self.ready_bytes += bytes;
            *answer = Answer::Ready(outcome, bytes);
            if self.making == Some(number) {
                self.making = None;
            }
        }
    }
}

fn heap_bytes(outcome: &Outcome) -> usize {
    let Outcome::Response(chunks) = outcome else {
        return 0;
    };
    let bytes = chunks.iter().map(|chunk| match chunk {
        Chunk::Bytes(bytes) => bytes.len(),
        // Slices of a mapping: they hold pages of the cache, not memory of ours.
        Chunk::Records(_) => 0,
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use palisade_protocol::ApiKey;
    use tokio::sync::oneshot;

    use super::*;
    use crate::dispatch::Guarded;
    use crate::server::populate::PopulatePool;

    type Push = fn(&mut AnswerQueue, Pending);

    /// A queue of as many answers that wait, the switch of each, and a count of all polls.
    fn waiting(count: usize) -> (AnswerQueue, Vec<oneshot::Sender<()>>, Arc<AtomicUsize>) {
        waiting_as(AnswerQueue::push_pending, count)
    }

    fn waiting_as(
        push: Push,
        count: usize,
    ) -> (AnswerQueue, Vec<oneshot::Sender<()>>, Arc<AtomicUsize>) {
        let polls = Arc::new(AtomicUsize::new(0));
        let mut queue = AnswerQueue::new();
        let mut switches = Vec::new();
        for _ in 0..count {
            let (switch, mut switched) = oneshot::channel();
            switches.push(switch);
            let polls = Arc::clone(&polls);
            let answer = std::future::poll_fn(move |cx| {
                polls.fetch_add(1, Ordering::Relaxed);
                Pin::new(&mut switched)
                    .poll(cx)
                    .map(|_| Outcome::NoResponse)
            });
            let answer = Guarded::new(ApiKey::OffsetFetch, answer, Outcome::Close);
            push(&mut queue, answer);
        }
        (queue, switches, polls)
    }

    fn poll_move(queue: &mut AnswerQueue, cx: &mut Context<'_>, sender: &mut Sender) -> Moved {
        queue.poll_due(cx, 0);
        queue.hand_over(sender)
    }

    fn sender() -> Sender {
        Sender::new(Arc::new(PopulatePool::new(1)))
    }

    #[test]
    fn only_what_was_woken_is_polled() {
        let (mut queue, mut switches, polls) = waiting(50);
        let mut sender = sender();
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(poll_move(&mut queue, &mut cx, &mut sender), Moved::Nothing);
        assert_eq!(polls.swap(0, Ordering::Relaxed), 50);
        assert_eq!(poll_move(&mut queue, &mut cx, &mut sender), Moved::Nothing);
        assert_eq!(polls.load(Ordering::Relaxed), 0, "nothing happened");

        // The last first: it is done, and waits for its turn.
        switches.pop().unwrap().send(()).unwrap();
        assert_eq!(poll_move(&mut queue, &mut cx, &mut sender), Moved::Nothing);
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        for switch in switches {
            switch.send(()).unwrap();
            assert_eq!(poll_move(&mut queue, &mut cx, &mut sender), Moved::Some);
        }
        assert!(queue.is_empty());
        assert_eq!(polls.load(Ordering::Relaxed), 50, "one poll per answer");
    }

    #[test]
    fn patient_answers_are_not_made_for_a_peer_that_does_not_read() {
        const LARGE: usize = MAX_BYTES / 2;
        let made = Arc::new(AtomicUsize::new(0));
        let mut queue = AnswerQueue::new();
        for _ in 0..50 {
            let made = Arc::clone(&made);
            let answer = async move {
                made.fetch_add(1, Ordering::Relaxed);
                Outcome::Response(vec![Chunk::Bytes(vec![0; LARGE].into())])
            };
            queue.push_patient(Guarded::new(ApiKey::OffsetFetch, answer, Outcome::Close));
        }
        let mut cx = Context::from_waker(Waker::noop());
        let mut made_at_once = Vec::new();
        while !queue.is_empty() {
            let before = made.load(Ordering::Relaxed);
            queue.poll_due(&mut cx, 0);
            made_at_once.push(made.load(Ordering::Relaxed) - before);
            // A peer that takes one answer: the next is not handed over before that has left.
            assert_eq!(queue.hand_over(&mut sender()), Moved::Some);
        }
        assert_eq!(made.load(Ordering::Relaxed), 50);
        assert_eq!(made_at_once[0], 2, "as many as the line may hold");
        assert!(made_at_once.iter().all(|count| *count <= 2));
    }

    #[test]
    fn one_patient_answer_is_in_the_making() {
        let (mut queue, switches, polls) = waiting_as(AnswerQueue::push_patient, 20);
        let mut cx = Context::from_waker(Waker::noop());
        for (made, switch) in switches.into_iter().enumerate() {
            assert_eq!(
                poll_move(&mut queue, &mut cx, &mut sender()),
                Moved::Nothing
            );
            assert_eq!(polls.swap(0, Ordering::Relaxed), 1, "after {made}");
            assert_eq!(queue.has_room(), made == 19, "nothing is read behind one");
            switch.send(()).unwrap();
            queue.poll_due(&mut cx, 1);
            assert_eq!(
                polls.swap(0, Ordering::Relaxed),
                1,
                "the one that was woken"
            );
            assert_eq!(queue.hand_over(&mut sender()), Moved::Some);
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn no_patient_answer_is_begun_before_what_it_follows_has_left() {
        let (mut queue, switches, polls) = waiting_as(AnswerQueue::push_patient, 1);
        let mut cx = Context::from_waker(Waker::noop());
        queue.poll_due(&mut cx, 1);
        assert_eq!(polls.load(Ordering::Relaxed), 0);
        queue.poll_due(&mut cx, 0);
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        drop(switches);
        assert_eq!(poll_move(&mut queue, &mut cx, &mut sender()), Moved::Some);
        assert!(queue.is_empty());
    }

    /// It may have a place in a mailbox by now, which others wait for.
    #[test]
    fn a_patient_answer_that_was_begun_is_polled_in_a_full_line() {
        let (mut queue, switches, polls) = waiting_as(AnswerQueue::push_patient, 2);
        let mut cx = Context::from_waker(Waker::noop());
        queue.poll_due(&mut cx, 0);
        queue.push(Outcome::Response(vec![Chunk::Bytes(
            vec![0; MAX_BYTES].into(),
        )]));
        drop(switches);
        queue.poll_due(&mut cx, 1);
        assert_eq!(polls.load(Ordering::Relaxed), 2, "the first, twice");
        assert_eq!(queue.hand_over(&mut sender()), Moved::Some);
        queue.poll_due(&mut cx, 0);
        assert_eq!(
            polls.load(Ordering::Relaxed),
            3,
            "the oldest, full as it is"
        );
        assert_eq!(queue.hand_over(&mut sender()), Moved::Some);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_others_wait_for_is_made_in_a_full_line() {
        let (mut queue, switches, polls) = waiting(3);
        queue.push(Outcome::Response(vec![Chunk::Bytes(
            vec![0; MAX_BYTES].into(),
        )]));
        let mut cx = Context::from_waker(Waker::noop());
        queue.poll_due(&mut cx, 0);
        polls.store(0, Ordering::Relaxed);
        switches.into_iter().for_each(|s| s.send(()).unwrap());
        queue.poll_due(&mut cx, 0);
        assert_eq!(polls.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_woken_answer_wakes_its_connection() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let connection = Waker::from(Arc::clone(&count));
        let (mut queue, switches, _) = waiting(3);
        let mut sender = sender();
        let mut cx = Context::from_waker(&connection);
        assert_eq!(poll_move(&mut queue, &mut cx, &mut sender), Moved::Nothing);
        for switch in switches {
            switch.send(()).unwrap();
        }
        assert_eq!(count.0.load(Ordering::Relaxed), 3);
        assert_eq!(poll_move(&mut queue, &mut cx, &mut sender), Moved::Some);
        assert!(queue.is_empty());
    }
}
