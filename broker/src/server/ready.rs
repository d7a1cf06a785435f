//! An authenticated connection at work: requests in, answers out in the order of the requests.
//!
//! One poll function drives everything the connection does at once: the ordered stage of the
//! newest request, the answers that are still waited for, the sender, the reader, the timers. No
//! half is ever dropped, so no partial write can be lost.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use palisade_auth::audit::{Action, Outcome as Recorded};
use tokio::time::Instant;

use super::connection::{Connection, End, Signal};
use super::frame_budget::Reservation;
use super::queue::{AnswerQueue, Moved};
use super::receive::{Frame, ReceiveError, Received};
use super::report;
use super::session::Session;
use crate::dispatch::{self, CloseReason, Outcome, Stage, Staged};
use crate::task::Budget;

/// How long answers in preparation are waited for after the peer ended its stream.
const GRACE: Duration = Duration::from_secs(5);
/// What the timer is set to when nothing has a deadline.
const FAR: Duration = Duration::from_secs(3600);

/// Serves requests until the connection ends.
pub(super) async fn serve(connection: &mut Connection, session: Arc<Session>) -> End {
    connection.place.judged();
    connection.transport.socket_mut().logged_in();
    connection.reader.logged_in(session.principal.clone());
    let _registered = connection.server.enter(&session, &connection.switch);
    let mut work = Work {
        connection,
        session,
        answers: AnswerQueue::new(),
        stage: None,
        closing: None,
        active_at: Instant::now(),
        progress: 0,
    };
    let end = std::future::poll_fn(|cx| work.poll(cx)).await;
    if !work.session.principal.is_anonymous() {
        report::session_event(
            work.connection,
            &work.session,
            Action::Logout,
            Recorded::Ok,
            None,
        );
    }
    end
}

/// How long a revoked session may finish what it had begun; new requests are not read.
const REVOKED_GRACE: Duration = Duration::from_secs(1);

struct Work<'a> {
    connection: &'a mut Connection,
    session: Arc<Session>,
    answers: AnswerQueue,
    /// The newest request, and its share of the frame budget.
    stage: Option<(Stage, Option<Reservation>)>,
    closing: Option<Closing>,
    active_at: Instant,
    progress: u64,
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug)]
enum Closing {
    /// The peer ended its stream.
    Peer(Instant),
    /// A request or the broker asked for it.
    Asked,
    /// The login is gone; what was begun has until then to be answered.
    Revoked(Instant),
}

impl Closing {
    /// When it ends even if answers are still waited for.
    fn until(self) -> Option<Instant> {
        match self {
            Closing::Peer(until) | Closing::Revoked(until) => Some(until),
            Closing::Asked => None,
        }
    }
}

impl Work<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match self.connection.signals.poll(cx) {
            Poll::Ready(Signal::End) => return Poll::Ready(End::Now),
            Poll::Ready(Signal::Drain) => self.close_when_settled(),
            // Whoever changes the own password is still told that it worked.
            Poll::Ready(Signal::Revoked) => {
                let until = Instant::now() + REVOKED_GRACE;
                let before = self.closing.and_then(Closing::until);
                let until = before.map_or(until, |before| before.min(until));
                self.closing = Some(Closing::Revoked(until));
            }
            Poll::Pending => {}
        }
        let mut budget = Budget::start();
        loop {
            let mut moved = self.poll_answers(cx);
            match self.poll_send(cx) {
                Ok(sent) => moved |= sent,
                Err(end) => return Poll::Ready(end),
            }
            match self.poll_receive(cx) {
                Ok(None) => {}
                Ok(Some(bytes)) => {
                    moved = true;
                    if budget.spend(bytes) {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Err(end) => return Poll::Ready(end),
            }
            if self.is_settled() {
                match self.closing {
                    Some(Closing::Peer(_)) => return Poll::Ready(End::Peer),
                    Some(Closing::Asked | Closing::Revoked(_)) => {
                        return Poll::Ready(self.farewell());
                    }
                    None => {}
                }
            }
            if !moved {
                return self.poll_timer(cx);
            }
        }
    }

    /// Advances the newest request and the answers; true when one got further.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        if let Some((stage, _)) = &mut self.stage
            && let Poll::Ready(staged) = Pin::new(stage).poll(cx)
        {
            self.stage = None;
            match staged {
                Staged::Done(outcome) => self.answers.push(outcome),
                Staged::Pending(pending) => self.answers.push_pending(pending),
                Staged::Patient(pending) => self.answers.push_patient(pending),
            }
            moved = true;
        }
        let unsent = self.connection.sender.backlog();
        self.answers.poll_due(cx, unsent);
        // What these requests led to is in the audit log before anybody learns of it.
        let held = self.connection.hold.is_waiting();
        if self.connection.hold.poll(cx).is_pending() {
            return moved;
        }
        if held {
            // What it had begun to send was not looked at meanwhile.
            self.connection.reader.restart_frame();
        }
        match self.answers.hand_over(&mut self.connection.sender) {
            Moved::Nothing => {}
            Moved::Some => moved = true,
            Moved::Close => {
                self.stage = None;
                self.close_when_settled();
                moved = true;
            }
        }
        moved
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let connection = &mut *self.connection;
        let had = !connection.sender.is_empty();
        if !had && !connection.transport.socket().has_unsent() {
            return Ok(false);
        }
        match connection.sender.poll_send(cx, &mut connection.transport) {
            Poll::Ready(Ok(())) => Ok(had),
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "connection failed while sending");
                Err(End::Broken)
            }
            Poll::Pending => Ok(false),
        }
    }

    /// Reads the next request when there is room for it; `Some` tells how many bytes it had.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Result<Option<usize>, End> {
        let connection = &mut *self.connection;
        let busy = self.stage.is_some() || self.closing.is_some() || connection.hold.is_waiting();
        if busy || !(connection.reader.mid_frame() || self.answers.has_room()) {
            return Ok(None);
        }
        let limit = connection.server.service.limits().request_max_bytes;
        match connection
            .reader
            .poll_frame(cx, &mut connection.transport, limit)
        {
            Poll::Pending => Ok(None),
            Poll::Ready(Ok(Received::Frame(frame))) => {
                let bytes = frame.bytes.len();
                self.begin(frame);
                Ok(Some(bytes))
            }
            Poll::Ready(Ok(Received::End)) => {
                self.closing = Some(Closing::Peer(Instant::now() + GRACE));
                Ok(Some(0))
            }
            Poll::Ready(Err(ReceiveError::Io(error))) => {
                tracing::debug!(%error, "connection failed while receiving");
                Err(End::Broken)
            }
            Poll::Ready(Err(error)) => {
                let words = report::note_foreign_protocol(connection);
                let action = match error {
                    ReceiveError::TooLong { .. } => Action::OversizeFrame,
                    _ => Action::Malformed,
                };
                report::session_event(connection, &self.session, action, Recorded::Denied, words);
                tracing::debug!(%error, peer = %connection.peer, "unacceptable frame");
                // What was asked before is answered first.
                self.close_when_settled();
                Ok(Some(0))
            }
        }
    }

    /// Starts a request, or notes how it fails.
    fn begin(&mut self, frame: Frame) {
        self.active_at = Instant::now();
        match self.stage(frame.bytes) {
            Ok(stage) => self.stage = Some((stage, frame.reservation)),
            Err(outcome) => {
                if let Outcome::Close(reason) = &outcome {
                    let action = match reason {
                        CloseReason::Header(_) => Action::Malformed,
                        _ => Action::ScopeViolation,
                    };
                    report::session_event(
                        self.connection,
                        &self.session,
                        action,
                        Recorded::Denied,
                        None,
                    );
                    self.close_when_settled();
                }
                self.answers.push(outcome);
            }
        }
    }

    fn stage(&self, frame: Bytes) -> Result<Stage, Outcome> {
        let (key, header, body) = dispatch::admit(frame)?;
        let service = Arc::clone(&self.connection.server.service);
        service.begin(Arc::clone(&self.session), key, header, body)
    }

    /// Takes nothing new and ends once all is answered, or sooner where that was settled before.
    fn close_when_settled(&mut self) {
        self.closing.get_or_insert(Closing::Asked);
    }

    /// How a settled connection ends.
    fn farewell(&self) -> End {
        let moved = self.connection.transport.socket().progress() != self.progress;
        let quiet = self.connection.server.parting.quiet;
        match moved || self.active_at.elapsed() < quiet {
            true => End::Now,
            false => End::Quiet,
        }
    }

    /// Whether every request is answered and every answer is with the kernel.
    fn is_settled(&self) -> bool {
        self.stage.is_none()
            && self.answers.is_empty()
            && self.connection.sender.is_empty()
            && !self.connection.transport.socket().has_unsent()
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let progress = self.connection.transport.socket().progress();
        if progress != self.progress {
            self.progress = progress;
            self.active_at = Instant::now();
        }
        loop {
            let deadline = self.deadline();
            let now = Instant::now();
            if deadline.is_some_and(|at| at <= now) {
                tracing::debug!(peer = %self.connection.peer, "connection timed out");
                return Poll::Ready(if self.is_settled() {
                    self.farewell()
                } else {
                    End::Broken
                });
            }
            let until = deadline.unwrap_or(now + FAR);
            let timer = &mut self.connection.timer;
            // A timer that rings too early is merely set again: activity moves the deadline on
            // every request, and re-arming each time would cost more.
            if timer.is_elapsed() || timer.deadline() > until {
                timer.as_mut().reset(until);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// The earliest instant at which waiting is over.
    fn deadline(&self) -> Option<Instant> {
        let limits = self.connection.server.service.limits();
        let settled = self.is_settled();
        let unsent =
            !self.connection.sender.is_empty() || self.connection.transport.socket().has_unsent();
        // A request in work is not idleness; a peer that takes no bytes is. So is one that is read
        // no more, for it has asked so much, or the connection closes, or the audit log holds it
        // back: nobody can see any longer whether it is there.
        let unheard =
            !self.answers.has_room() || self.closing.is_some() || self.connection.hold.is_waiting();
        let idle = limits
            .idle
            .filter(|_| settled || unsent || unheard)
            .map(|idle| self.active_at + idle);
        let frame = self
            .connection
            .reader
            .frame_since()
            // While the audit log holds it back, its bytes are not looked at.
            .filter(|_| !self.connection.hold.is_waiting())
            .map(|since| since + limits.frame);
        let grace = self.closing.and_then(Closing::until);
        [idle, frame, grace].into_iter().flatten().min()
    }
}
