//! Sends encoded responses: one writer per connection, never abandoned half-way.
//!
//! Record bytes are slices of mapped segments. They go out in pieces of 256 KiB; right before a
//! piece is touched its residency is probed, and a cold one is read in by a helper thread, so
//! that no worker ever waits for a disk inside an encryption or a system call.
//!
//! Under TLS small parts are gathered so that a response's header shares a record with what
//! follows it: two small records would be two wake-ups for the client. Plaintext goes out as a
//! vectored write with no copy.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use palisade_protocol::Chunk;
use tokio_openssl::SslStream;

use super::populate::{PopulatePool, Populated};
use super::socket::Socket;
use super::transport::{RECORD, Transport};

/// Record bytes probed and sent at once.
const PIECE: usize = 256 * 1024;
/// Bytes offered to the kernel in one plaintext write.
const WRITE_MAX: usize = 1024 * 1024;
/// Parts of one vectored write.
const SLICES: usize = 16;
/// Bytes sent before the connection gives way to others.
const BURST: usize = 256 * 1024;

/// The bytes a connection has yet to send, in order.
#[derive(Debug)]
pub(crate) struct Sender {
    queue: VecDeque<Outgoing>,
    staged: Vec<u8>,
    staged_from: usize,
    populate: Arc<PopulatePool>,
}

#[derive(Debug)]
struct Outgoing {
    chunk: Chunk,
    at: usize,
    /// Bytes before this are in memory.
    warm_until: usize,
    /// A helper's work on the piece that starts at `warm_until`, and where it ends.
    warming: Option<(usize, Populated)>,
}

impl Sender {
    /// A sender with nothing to send.
    pub(crate) fn new(populate: Arc<PopulatePool>) -> Self {
        Sender {
            queue: VecDeque::new(),
            staged: Vec::new(),
            staged_from: 0,
            populate,
        }
    }

    /// Appends one encoded response.
    pub(crate) fn push(&mut self, response: Vec<Chunk>) {
        let parts = response.into_iter().map(|chunk| Outgoing {
            chunk,
            at: 0,
            warm_until: 0,
            warming: None,
        });
        self.queue.extend(parts.filter(|part| part.len() > 0));
    }

    /// Bytes pushed and not yet handed to the transport.
    pub(crate) fn backlog(&self) -> usize {
        let queued: usize = self.queue.iter().map(|part| part.len() - part.at).sum();
        queued + self.staged.len() - self.staged_from
    }

    /// Whether every pushed byte was handed to the transport.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.staged.len() == self.staged_from
    }

    /// Sends as much as goes; ready when the kernel has everything that was pushed.
    ///
    /// # Errors
    /// The connection or the source of records failed; part of a response may have left, so the
    /// connection must be closed.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
    ) -> Poll<io::Result<()>> {
        match transport {
            Transport::Plain(socket) => self.poll_plain(cx, socket),
            Transport::Tls(stream) => self.poll_tls(cx, stream),
        }
    }

    fn poll_plain(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<io::Result<()>> {
        let mut burst = 0;
        while let Some(front) = self.queue.front_mut() {
            ready!(front.poll_warm(cx, &self.populate))?;
            let mut parts = 0;
            let mut total = 0;
            for part in self.queue.iter_mut().take(SLICES) {
                if total >= WRITE_MAX || !part.is_warm() {
                    break;
                }
                parts += 1;
                total += part.warm().len();
                if !part.is_warm_to_its_end() {
                    // What follows may not overtake the cold rest of this part.
                    break;
                }
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            for (slice, part) in slices.iter_mut().zip(self.queue.iter().take(parts)) {
                *slice = IoSlice::new(part.warm());
            }
            let sent = ready!(socket.poll_send_vectored(cx, &slices[..parts]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(sent);
            burst += sent;
            if burst >= BURST && !self.queue.is_empty() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_tls(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut SslStream<Socket>,
    ) -> Poll<io::Result<()>> {
        let mut burst = 0;
        while !self.is_empty() {
            if burst >= BURST {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.staged.is_empty() && self.poll_stage(cx)?.is_pending() {
                // What was encrypted so far need not wait for the disk.
                let _ = stream.get_mut().poll_drain(cx)?;
                return Poll::Pending;
            }
            if self.staged.is_empty() {
                let front = self
                    .queue
                    .front()
                    .expect("not empty, and nothing is staged");
                let sent = ready!(Transport::poll_write_record(stream, cx, front.warm()))?;
                self.advance(sent);
                burst += sent;
            } else {
                let rest = &self.staged[self.staged_from..];
                let sent = ready!(Transport::poll_write_record(stream, cx, rest))?;
                self.staged_from += sent;
                burst += sent;
                if self.staged_from == self.staged.len() {
                    self.staged.clear();
                    self.staged_from = 0;
                }
            }
        }
        self.staged = Vec::new();
        stream.get_mut().poll_drain(cx)
    }

    /// Gathers small parts into one record; stages nothing when the front fills a record itself.
    fn poll_stage(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(front) = self.queue.front_mut() {
            if self.staged.is_empty() {
                ready!(front.poll_warm(cx, &self.populate))?;
                if front.warm().len() >= RECORD {
                    return Poll::Ready(Ok(()));
                }
            } else if front.poll_warm(cx, &self.populate)?.is_pending() {
                return Poll::Ready(Ok(()));
            }
            let count = front.warm().len().min(RECORD - self.staged.len());
            self.staged.extend_from_slice(&front.warm()[..count]);
            self.advance(count);
            if self.staged.len() == RECORD {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let front = self.queue.front_mut().expect("only queued bytes are sent");
            let step = count.min(front.len() - front.at);
            front.at += step;
            count -= step;
            if front.at == front.len() {
                self.queue.pop_front();
            }
        }
    }
}

impl Outgoing {
    fn len(&self) -> usize {
        match &self.chunk {
            Chunk::Bytes(bytes) => bytes.len(),
            Chunk::Records(source) => source.len(),
        }
    }

    /// The bytes that can be touched without waiting.
    fn warm(&self) -> &[u8] {
        match &self.chunk {
            Chunk::Bytes(bytes) => &bytes[self.at..],
            Chunk::Records(source) => source.slice(self.at..self.warm_until),
        }
    }

    /// Whether nothing of it is left to be read in.
    fn is_warm_to_its_end(&self) -> bool {
        match &self.chunk {
            Chunk::Bytes(_) => true,
            Chunk::Records(source) => self.warm_until == source.len(),
        }
    }

    /// Probes the next piece; starts nothing.
    fn is_warm(&mut self) -> bool {
        let Chunk::Records(source) = &self.chunk else {
            return true;
        };
        if self.at < self.warm_until {
            return true;
        }
        let until = source.len().min(self.at + PIECE);
        let warm = self.warming.is_none() && source.is_resident(self.at..until);
        if warm {
            self.warm_until = until;
        }
        warm
    }

    /// Waits until the next piece is in memory.
    fn poll_warm(&mut self, cx: &mut Context<'_>, pool: &PopulatePool) -> Poll<io::Result<()>> {
        if self.is_warm() {
            return Poll::Ready(Ok(()));
        }
        let Chunk::Records(source) = &self.chunk else {
            return Poll::Ready(Ok(()));
        };
        let piece = |from: usize| from..source.len().min(from + PIECE);
        let (until, wait) = self.warming.get_or_insert_with(|| {
            let range = piece(self.at);
            (range.end, pool.populate(Arc::clone(source), range))
        });
        let done = ready!(Pin::new(wait).poll(cx));
        done.unwrap_or_else(|_| Err(io::Error::other("the records could not be read")))?;
        self.warm_until = *until;
        // A cold reader goes on to colder bytes: they are read while these are sent.
        let next = piece(self.warm_until);
        self.warming = (!next.is_empty() && !source.is_resident(next.clone()))
            .then(|| (next.end, pool.populate(Arc::clone(source), next)));
        Poll::Ready(Ok(()))
    }
}
