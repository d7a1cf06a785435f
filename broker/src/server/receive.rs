//! Takes request frames off a connection: a four-byte length, then that many bytes.
//!
//! A declared length is a claim, not a fact: memory grows with the bytes that arrived, and past
//! the first 64 KiB only after the whole length was reserved from the common budget.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use palisade_auth::principal::Principal;
use tokio::time::Instant;

use super::frame_budget::{FREE_BYTES, FrameBudget, Reservation};
use super::transport::Transport;

/// Bytes of the length prefix.
const PREFIX: usize = 4;
/// Memory for a frame of which nothing has arrived yet.
const FIRST_STEP: usize = 4 * 1024;
/// A frame buffer above this is given back once the connection rests.
const KEEP_WHILE_IDLE: usize = 16 * 1024;

/// A whole request frame, without its length prefix.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The request: header and body.
    pub(crate) bytes: Bytes,
    /// The frame's part of the common budget; to be held until its bytes are let go.
    pub(crate) reservation: Option<Reservation>,
}

/// What the stream gave.
#[derive(Debug)]
pub(crate) enum Received {
    /// A whole frame.
    Frame(Frame),
    /// The peer ended the stream; bytes of an incomplete frame were dropped.
    End,
}

/// Why no further frame can be taken from this connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The length prefix is negative.
    #[error("negative frame length {0}")]
    Negative(i32),
    /// The length prefix is zero: no header fits.
    #[error("empty frame")]
    Empty,
    /// The length prefix is above the limit of the connection's state.
    #[error("frame of {length} bytes, limit {limit}")]
    TooLong {
        /// The declared length.
        length: usize,
        /// The limit at that moment.
        limit: usize,
    },
    /// The socket or TLS failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reassembles frames, one at a time.
pub(crate) struct FrameReader {
    budget: FrameBudget,
    /// Who claims, once that is known.
    user: Option<Principal>,
    prefix: [u8; PREFIX],
    prefix_len: usize,
    length: Option<usize>,
    body: BytesMut,
    reserving: Option<Pin<Box<dyn Future<Output = Reservation> + Send>>>,
    reservation: Option<Reservation>,
    since: Option<Instant>,
}

impl FrameReader {
    /// A reader that stands between frames.
    pub(crate) fn new(budget: FrameBudget) -> Self {
        FrameReader {
            budget,
            user: None,
            prefix: [0; PREFIX],
            prefix_len: 0,
            length: None,
            body: BytesMut::new(),
            reserving: None,
            reservation: None,
            since: None,
        }
    }

    /// From the next frame on the claims are this user's.
    pub(crate) fn logged_in(&mut self, user: Principal) {
        self.user = Some(user);
    }

    /// When the first byte of the unfinished frame came; `None` between frames and while the
    /// budget, not the peer, is what the frame waits for.
    pub(crate) fn frame_since(&self) -> Option<Instant> {
        if self.reserving.is_some() {
            None
        } else {
            self.since
        }
    }

    /// Counts the time of an unfinished frame from now on: the peer could not finish it.
    pub(crate) fn restart_frame(&mut self) {
        if let Some(since) = &mut self.since {
            *since = Instant::now();
        }
    }

    /// Whether part of a frame has arrived.
    pub(crate) fn mid_frame(&self) -> bool {
        self.since.is_some()
    }

    /// The first bytes of the stream's last length prefix, to tell what kind of client spoke.
    pub(crate) fn prefix(&self) -> [u8; PREFIX] {
        self.prefix
    }

    /// Takes the next frame of at most `limit` bytes.
    ///
    /// Nothing is lost when a pending call is not repeated for a while.
    ///
    /// # Errors
    /// See [`ReceiveError`]; the stream has lost its rhythm and must be closed.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        limit: usize,
    ) -> Poll<Result<Received, ReceiveError>> {
        let length = match self.length {
            Some(length) => length,
            None => match ready!(self.poll_length(cx, transport, limit))? {
                Some(length) => length,
                None => return Poll::Ready(Ok(Received::End)),
            },
        };
        while self.body.len() < length {
            if self.body.len() >= FREE_BYTES && self.reservation.is_none() {
                ready!(self.poll_reserve(cx, length));
            }
            // The first bytes of a long frame come without reservation, the rest with it.
            let until = if self.reservation.is_some() {
                length
            } else {
                length.min(FREE_BYTES)
            };
            let missing = until - self.body.len();
            self.grow(missing, transport.socket().buffered());
            transport.socket_mut().expect(missing);
            let mut target = (&mut self.body).limit(missing);
            if ready!(transport.poll_read_buf(cx, &mut target))? == 0 {
                return Poll::Ready(Ok(Received::End));
            }
        }
        let bytes = self.body.split_to(length).freeze();
        self.length = None;
        self.prefix_len = 0;
        self.since = None;
        transport.socket_mut().expect(1);
        Poll::Ready(Ok(Received::Frame(Frame {
            bytes,
            reservation: self.reservation.take(),
        })))
    }

    fn poll_length(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        limit: usize,
    ) -> Poll<Result<Option<usize>, ReceiveError>> {
        while self.prefix_len < PREFIX {
            transport.socket_mut().expect(1);
            let mut target = &mut self.prefix[self.prefix_len..];
            match transport.poll_read_buf(cx, &mut target)? {
                Poll::Ready(0) => return Poll::Ready(Ok(None)),
                Poll::Ready(count) => {
                    self.prefix_len += count;
                    self.since.get_or_insert_with(Instant::now);
                }
                Poll::Pending => {
                    if self.body.capacity() > KEEP_WHILE_IDLE {
                        self.body = BytesMut::new();
                    }
                    return Poll::Pending;
                }
            }
        }
        let declared = i32::from_be_bytes(self.prefix);
        let length = usize::try_from(declared).map_err(|_| ReceiveError::Negative(declared))?;
        if length == 0 {
            return Poll::Ready(Err(ReceiveError::Empty));
        }
        if length > limit {
            return Poll::Ready(Err(ReceiveError::TooLong { length, limit }));
        }
        self.length = Some(length);
        Poll::Ready(Ok(Some(length)))
    }

    fn poll_reserve(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<()> {
        let (budget, user) = (&self.budget, &self.user);
        let wait = self
            .reserving
            .get_or_insert_with(|| Box::pin(budget.clone().reserve(user.clone(), length)));
        let reservation = ready!(wait.as_mut().poll(cx));
        self.reserving = None;
        self.reservation = Some(reservation);
        // The wait was ours, not the peer's: its time for the frame starts over.
        self.since = Some(Instant::now());
        Poll::Ready(())
    }

    /// Makes room for some of the `missing` bytes, in proportion to what has arrived.
    fn grow(&mut self, missing: usize, buffered: usize) {
        // At the start of a frame always, so that a scrap left by the last one is not filled up by
        // a read of its own.
        if self.body.is_empty() || self.body.capacity() == self.body.len() {
            let step = FIRST_STEP
                .max(buffered)
                .max(self.body.len().saturating_mul(3));
            self.body.reserve(missing.min(step));
        }
    }
}

impl std::fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameReader")
            .field("length", &self.length)
            .field("received", &self.body.len())
            .finish_non_exhaustive()
    }
}
