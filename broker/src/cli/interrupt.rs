//! The signals that ask a command to end.

use std::time::Duration;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use super::client::ClientError;
use crate::shutdown::Hangup;

/// Two signals no further apart than this are one: `timeout` signals its child and then their
/// group, a terminal and a shell may each send one. Nobody means a second that soon.
const ECHO: Duration = Duration::from_millis(100);

/// SIGINT, SIGTERM and SIGHUP, heard from the moment this is made.
#[derive(Debug)]
pub(crate) struct Interrupt {
    int: Signal,
    term: Signal,
    hup: Hangup,
    last: Option<Instant>,
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
            hup: Hangup::listen().map_err(ClientError::Lost)?,
            last: None,
        })
    }

    /// Waits for a signal that is none of the last one's echoes. Cancel safe.
    pub(crate) async fn heard(&mut self) {
        loop {
            tokio::select! {
                _ = self.int.recv() => {}
                _ = self.term.recv() => {}
                () = self.hup.heard() => {}
            }
            let now = Instant::now();
            if self.last.is_none_or(|last| now - last >= ECHO) {
                self.last = Some(now);
                return;
            }
        }
    }
}
