//! The answers a connection owes, in the order of their requests.
//!
//! A request whose answer must wait (followers, min bytes, the controller) leaves a future here,
//! and the reader goes on: a later produce is appended while an earlier one waits for its
//! followers. The line is bounded in count and in bytes; past the bound the socket is not read.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use palisade_protocol::Chunk;

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
    ready_bytes: usize,
}

enum Answer {
    Waiting(Pending),
    Ready(Outcome, usize),
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
            ready_bytes: 0,
        }
    }

    /// Whether nothing is owed.
    pub(crate) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Whether another request may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.answers.len() < MAX_ANSWERS && self.ready_bytes < MAX_BYTES
    }

    /// Appends a finished answer.
    pub(crate) fn push(&mut self, outcome: Outcome) {
        let bytes = heap_bytes(&outcome);
        self.ready_bytes += bytes;
        self.answers.push_back(Answer::Ready(outcome, bytes));
    }

    /// Appends an answer that is still to come.
    pub(crate) fn push_pending(&mut self, pending: Pending) {
        self.answers.push_back(Answer::Waiting(pending));
    }

    /// Polls what waits and hands finished answers, oldest first, to the sender.
    pub(crate) fn poll_move(&mut self, cx: &mut Context<'_>, sender: &mut Sender) -> Moved {
        // All of them, not only the oldest: an answer may hold a place in some other line (an
        // append, a fetch session) and must not stand still because of its neighbours here.
        for answer in &mut self.answers {
            if let Answer::Waiting(pending) = answer
                && let Poll::Ready(outcome) = Pin::new(pending).poll(cx)
            {
                let bytes = heap_bytes(&outcome);
                self.ready_bytes += bytes;
                *answer = Answer::Ready(outcome, bytes);
            }
        }
        let mut moved = Moved::Nothing;
        while sender.backlog() < SEND_AHEAD {
            let Some(Answer::Ready(..)) = self.answers.front() else {
                break;
            };
            let Some(Answer::Ready(outcome, bytes)) = self.answers.pop_front() else {
                break;
            };
            self.ready_bytes -= bytes;
            moved = Moved::Some;
            match outcome {
                Outcome::Response(chunks) => sender.push(chunks),
                Outcome::NoResponse => {}
                Outcome::Close(reason) => {
                    tracing::debug!(?reason, "request closes its connection");
                    self.answers.clear();
                    self.ready_bytes = 0;
                    return Moved::Close;
                }
            }
        }
        moved
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
