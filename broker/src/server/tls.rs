//! The TLS side of an accepted connection: handshake, and what it says about the peer.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use openssl::error::ErrorStack;
use openssl::ssl::{self, Ssl};
use tokio_openssl::SslStream;

use super::listener::ListenerState;
use super::socket::Socket;
use super::transport::Transport;

/// Why a handshake did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// It took too long.
    #[error("handshake timed out")]
    Late,
    /// The peer went away before it was over.
    #[error("peer closed during the handshake")]
    Gone,
    /// What came first is not TLS: likely a Kafka client that was not told to use it.
    #[error("not TLS")]
    Plaintext,
    /// What came first is HTTP.
    #[error("HTTP, not TLS")]
    Http,
    /// One side refused the other; the alert was sent.
    #[error("{0}")]
    Failed(String),
}

/// Puts TLS on top of `socket` where the listener asks for it.
///
/// # Errors
/// OpenSSL is out of memory.
pub(super) fn wrap(listener: &ListenerState, socket: Socket) -> Result<Transport, ErrorStack> {
    let Some(context) = listener.tls_context() else {
        return Ok(Transport::Plain(socket));
    };
    let stream = SslStream::new(Ssl::new(&context)?, socket)?;
    Ok(Transport::Tls(Box::new(stream)))
}

/// Performs the server's side of the handshake. Dropping it half-way leaves the stream unusable.
///
/// # Errors
/// See [`HandshakeError`].
pub(super) async fn accept(stream: &mut SslStream<Socket>) -> Result<(), HandshakeError> {
    let shaken = poll_fn(|cx| {
        let shaken = Pin::new(&mut *stream).poll_accept(cx);
        // OpenSSL's flights wait in the socket's buffer; an alert leaves before the verdict.
        match stream.get_mut().poll_drain(cx) {
            Poll::Ready(Err(error)) if shaken.is_pending() => {
                return Poll::Ready(Err(HandshakeError::Failed(error.to_string())));
            }
            Poll::Ready(_) | Poll::Pending => {}
        }
        shaken.map_err(|error| describe(&error))
    });
    shaken.await?;
    stream.get_ref().acknowledge();
    Ok(())
}

fn describe(error: &ssl::Error) -> HandshakeError {
    match (error.io_error(), error.ssl_error()) {
        (_, Some(stack)) => {
            let reason = stack.errors().first().and_then(|first| first.reason());
            match reason {
                // The version in the header of the first record; every TLS client's begins with 3.
                Some("wrong version number") => HandshakeError::Plaintext,
                Some("http request" | "https proxy request") => HandshakeError::Http,
                _ => HandshakeError::Failed(reason.unwrap_or("TLS failure").to_owned()),
            }
        }
        _ => HandshakeError::Gone,
    }
}
