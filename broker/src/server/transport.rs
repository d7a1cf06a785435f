//! A connection's byte stream, with or without TLS, driven by one task through poll functions.
//!
//! Reading and writing share one OpenSSL object and one task, so there is no lock, and a write is
//! never dropped half-way by a `select!`: what OpenSSL was given is in the socket's buffer.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use openssl::ssl::SslRef;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio_openssl::SslStream;

use super::socket::Socket;

/// Plaintext that fits one TLS record.
pub(crate) const RECORD: usize = 16 * 1024;

/// The byte stream below the frames.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Bytes as they are.
    Plain(Socket),
    /// TLS 1.2 or 1.3, server side.
    Tls(Box<SslStream<Socket>>),
}

impl Transport {
    /// The socket below.
    pub(crate) fn socket(&self) -> &Socket {
        match self {
            Transport::Plain(socket) => socket,
            Transport::Tls(stream) => stream.get_ref(),
        }
    }

    /// The socket below, to be told what is expected or to drain it.
    pub(crate) fn socket_mut(&mut self) -> &mut Socket {
        match self {
            Transport::Plain(socket) => socket,
            Transport::Tls(stream) => stream.get_mut(),
        }
    }

    /// The TLS session, when there is one.
    pub(crate) fn ssl(&self) -> Option<&SslRef> {
        match self {
            Transport::Plain(_) => None,
            Transport::Tls(stream) => Some(stream.ssl()),
        }
    }

    /// Reads into `buf` what is there, at most its free space; zero means the end of the stream.
    pub(crate) fn poll_read_buf(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut impl BufMut,
    ) -> Poll<io::Result<usize>> {
        // `read_buf` keeps no state between polls, so a fresh future each time loses nothing.
        match self {
            Transport::Plain(socket) => pin!(socket.read_buf(buf)).poll(cx),
            Transport::Tls(stream) => pin!(stream.read_buf(buf)).poll(cx),
        }
    }

    /// Encrypts `bytes`, at most one record of them, into the socket's buffer.
    ///
    /// Waits for the kernel before OpenSSL is called, never inside: OpenSSL would demand the same
    /// bytes at the same place again.
    pub(crate) fn poll_write_record(
        stream: &mut SslStream<Socket>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !stream.get_ref().has_room_for_record() {
            ready!(stream.get_mut().poll_drain(cx))?;
        }
        match Pin::new(stream).poll_write(cx, &bytes[..bytes.len().min(RECORD)])? {
            Poll::Ready(count) => Poll::Ready(Ok(count)),
            // Only a renegotiation could ask for input here, and those are refused.
            Poll::Pending => Poll::Ready(Err(io::Error::other("TLS write cannot go on"))),
        }
    }

    /// Waits until the kernel has everything that was written.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket_mut().poll_drain(cx)
    }

    /// Ends the TCP stream behind what was written, where no TLS session can say goodbye.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.socket_mut()).poll_shutdown(cx)
    }

    /// Says goodbye: TLS close_notify, then the end of the TCP stream.
    pub(crate) fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Transport::Tls(stream) => {
                if stream.get_ref().has_unsent() {
                    ready!(stream.get_mut().poll_drain(cx))?;
                }
                Pin::new(stream).poll_shutdown(cx)
            }
        }
    }
}
