//! The TCP socket as OpenSSL sees it: buffers below TLS in both directions.
//!
//! Receiving: bytes are taken from the kernel in large pieces, and the kernel is told how many
//! bytes the current frame still lacks (`SO_RCVLOWAT`), so that a sleeping connection is woken
//! once per tens of KiB and not once per packet (performance.md §1.9). The buffer comes from a
//! pool and is held only while bytes wait in it.
//!
//! Sending: TLS records are gathered up to 64 KiB. A write into this buffer never waits in the
//! middle of a record: the caller looks at [`Socket::has_room_for_record`] before it lets OpenSSL
//! make one, so OpenSSL never sees "try again with the same bytes".

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::buffers::{BufferPool, Pooled};
use super::sockopt;

/// Bytes asked from the kernel at once after login.
pub(crate) const RECEIVE_BUFFER: usize = 64 * 1024;
/// The same before login, when the peer has proven nothing.
const RECEIVE_BUFFER_BEFORE_LOGIN: usize = 4 * 1024;
/// A TLS record with full content, and what encryption adds to it (2 KiB is TLS 1.2's bound).
const FULL_RECORD: usize = 16 * 1024 + 2 * 1024;
/// Four records, and room for the odd alert or key update OpenSSL writes by itself.
pub(crate) const SEND_BUFFER: usize = 64 * 1024 + FULL_RECORD;
/// Past this the buffer goes to the kernel before another record is made.
const SEND_MARK: usize = SEND_BUFFER - FULL_RECORD;
/// Plaintext that may hide in the receive buffer or inside OpenSSL: one record and change.
const TLS_SLACK: usize = 17 * 1024;
/// Highest low-water mark; the kernel's own receive buffer must hold it with ease.
const LOW_WATER_MAX: usize = 48 * 1024;

/// Buffers that all connections of a broker share.
#[derive(Clone, Debug)]
pub(crate) struct SocketPools {
    receive: BufferPool,
    send: BufferPool,
}

impl SocketPools {
    /// Pools that keep at most `keep` idle buffers each.
    pub(crate) fn new(keep: usize) -> Self {
        SocketPools {
            receive: BufferPool::new(RECEIVE_BUFFER, keep),
            send: BufferPool::new(SEND_BUFFER, keep),
        }
    }
}

/// A TCP connection with pooled buffers; plaintext listeners use it as it is, TLS sits on top.
#[derive(Debug)]
pub(crate) struct Socket {
    tcp: TcpStream,
    pools: SocketPools,
    received: Window,
    logged_in: bool,
    tls: bool,
    low_water: usize,
    wanted: usize,
    unsent: Window,
    progress: u64,
}

/// A buffer and the part of it that holds bytes under way.
#[derive(Debug, Default)]
struct Window {
    buffer: Option<Pooled>,
    start: usize,
    end: usize,
}

impl Window {
    fn len(&self) -> usize {
        self.end - self.start
    }

    fn filled(&self) -> &[u8] {
        self.buffer
            .as_ref()
            .map_or(&[][..], |buffer| &buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        assert!(self.start <= self.end, "consumed more than there was");
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    fn release(&mut self) {
        if self.len() == 0 {
            self.buffer = None;
        }
    }
}

impl Socket {
    /// Wraps an accepted connection; `tls` says whether OpenSSL will sit on top.
    pub(crate) fn new(tcp: TcpStream, pools: SocketPools, tls: bool) -> Self {
        Socket {
            tcp,
            pools,
            received: Window::default(),
            logged_in: false,
            tls,
            low_water: 1,
            wanted: 1,
            unsent: Window::default(),
            progress: 0,
        }
    }

    /// Acknowledges now what was received, instead of with the next answer.
    ///
    /// A client without TCP_NODELAY (librdkafka) holds its first request back until the end of its
    /// handshake is acknowledged, and without session tickets nothing of ours carries that.
    pub(crate) fn acknowledge(&self) {
        // A refusal costs the client 40 ms and nothing else.
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.tcp, true);
    }

    /// Allows the large receive buffer from now on.
    pub(crate) fn logged_in(&mut self) {
        self.logged_in = true;
        self.received.release();
    }

    /// Tells how many plaintext bytes the current frame still lacks (1 between frames).
    ///
    /// The value is only a lower bound of what must still come, so nothing waits that could have
    /// gone on; the end of the stream and errors wake the task regardless.
    pub(crate) fn expect(&mut self, missing: usize) {
        let certain = if self.tls {
            missing.saturating_sub(TLS_SLACK)
        } else {
            missing
        };
        self.wanted = certain.clamp(1, LOW_WATER_MAX);
    }

    /// Bytes received and not yet taken; they are in memory already, whatever a frame claims.
    pub(crate) fn buffered(&self) -> usize {
        self.received.len()
    }

    /// Bytes moved to or from the kernel so far; it stands still when the peer does nothing.
    pub(crate) fn progress(&self) -> u64 {
        self.progress
    }

    /// Whether OpenSSL may make a full record without waiting for the kernel.
    pub(crate) fn has_room_for_record(&self) -> bool {
        self.unsent.end <= SEND_MARK
    }

    /// Whether bytes wait to be sent.
    pub(crate) fn has_unsent(&self) -> bool {
        self.unsent.len() > 0
    }

    /// Hands the gathered records to the kernel; ready when none is left.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent.len() > 0 {
            let sent = ready!(Pin::new(&mut self.tcp).poll_write(cx, self.unsent.filled()))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.progress += sent as u64;
            self.unsent.consume(sent);
        }
        self.unsent.release();
        Poll::Ready(Ok(()))
    }

    /// Sends `slices` straight to the kernel, past the gathering buffer (plaintext only).
    pub(crate) fn poll_send_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        debug_assert!(!self.has_unsent(), "gathered bytes must leave first");
        let sent = ready!(Pin::new(&mut self.tcp).poll_write_vectored(cx, slices))?;
        self.progress += sent as u64;
        Poll::Ready(Ok(sent))
    }

    /// Reads and throws away what the peer still sends; ready at the end of the stream.
    pub(crate) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.received = Window::default();
        let mut scrap = [0_u8; 4096];
        let mut target = ReadBuf::new(&mut scrap);
        ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut target))?;
        Poll::Ready(Ok(target.filled().len()))
    }

    /// Ends the sending direction, so that the peer sees an orderly end of the stream.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn take_receive_buffer(&self) -> Pooled {
        if self.logged_in {
            self.pools.receive.take()
        } else {
            Pooled::lone(RECEIVE_BUFFER_BEFORE_LOGIN)
        }
    }

    /// Called when the task is about to sleep for want of input.
    fn rest(&mut self) -> io::Result<()> {
        self.received.release();
        if self.wanted != self.low_water {
            // When the new mark is already reached the kernel signals at once, so nothing is
            // lost between the failed read and this call.
            sockopt::set_receive_low_water(self.tcp.as_fd(), self.wanted)?;
            self.low_water = self.wanted;
        }
        Ok(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.received.len() == 0 {
            if out.remaining() >= RECEIVE_BUFFER {
                // A large plaintext body needs no detour.
                let before = out.filled().len();
                let polled = Pin::new(&mut this.tcp).poll_read(cx, out);
                this.progress += (out.filled().len() - before) as u64;
                if polled.is_pending() {
                    this.rest()?;
                }
                return polled;
            }
            if this.received.buffer.is_none() {
                // Asked first, so that an idle connection does not even borrow a buffer.
                if this.tcp.poll_read_ready(cx)?.is_pending() {
                    this.rest()?;
                    return Poll::Pending;
                }
                this.received.buffer = Some(this.take_receive_buffer());
            }
            let buffer = this.received.buffer.as_mut().expect("taken above");
            let mut target = ReadBuf::new(buffer);
            match Pin::new(&mut this.tcp).poll_read(cx, &mut target)? {
                Poll::Ready(()) => {
                    this.received.start = 0;
                    this.received.end = target.filled().len();
                    this.progress += this.received.end as u64;
                }
                Poll::Pending => {
                    this.rest()?;
                    return Poll::Pending;
                }
            }
        }
        let count = this.received.len().min(out.remaining());
        out.put_slice(&this.received.filled()[..count]);
        this.received.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    /// Takes bytes into the gathering buffer; waits only when even its reserve is full.
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.unsent.end == SEND_BUFFER {
            ready!(this.poll_drain(cx))?;
        }
        let pools = &this.pools;
        let buffer = this.unsent.buffer.get_or_insert_with(|| pools.send.take());
        let count = bytes.len().min(SEND_BUFFER - this.unsent.end);
        buffer[this.unsent.end..this.unsent.end + count].copy_from_slice(&bytes[..count]);
        this.unsent.end += count;
        Poll::Ready(Ok(count))
    }

    /// Starts sending and never waits: OpenSSL would take a pending flush for a broken stream.
    ///
    /// The connection itself waits with [`Socket::poll_drain`].
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        this.poll_end(cx)
    }
}
