//! The signals that ask a command to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::client::ClientError;

/// SIGINT and SIGTERM, heard from the moment this is made.
#[derive(Debug)]
pub(crate) struct Interrupt {
    int: Signal,
    term: Signal,
}

impl Interrupt {
    /// Begins to listen.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub(crate) fn listen() -> Result<Self, ClientError> {
        let on = |kind| signal(kind).map_err(ClientError::Lost);
        Ok(Self {
            int: on(SignalKind::interrupt())?,
            term: on(SignalKind::terminate())?,
        })
    }

    /// Waits for a signal. Cancel safe.
    pub(crate) async fn heard(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}
