//! One connection, from accept to close: a single task that owns socket, TLS and login state.
//!
//! TLS handshake -> login (SASL listeners) -> ready -> closed. Each step has its own limits and
//! deadlines; what a step ends with says how the connection is closed.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use palisade_protocol::Chunk;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};

use super::Server;
use super::hold::Hold;
use super::limits::Place;
use super::listener::{ListenerState, Slots};
use super::receive::{Frame, FrameReader, ReceiveError, Received};
use super::registry::Switch;
use super::send::Sender;
use super::socket::Socket;
use super::tls::HandshakeError;
use super::transport::Transport;
use super::{login, ready, report, tls};
use crate::logging::Throttle;
use crate::shutdown::Stage;

/// Bytes of a parting peer that are thrown away, so that its unread input does not turn into a
/// reset that destroys the last answer on its way.
const PARTING_BYTES: usize = 256 * 1024;

/// How long connections that end here are kept for their peers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parting {
    /// For the last bytes to be taken, and again for the peer to end its side.
    pub(super) wait: Duration,
    /// Whoever neither sent nor took a byte for so long has read what it was told: it is not waited
    /// for.
    pub(super) quiet: Duration,
}

impl Default for Parting {
    fn default() -> Self {
        Parting {
            wait: Duration::from_secs(1),
            quiet: Duration::from_secs(1),
        }
    }
}

/// A connection and everything it owns.
pub(super) struct Connection {
    pub(super) server: Arc<Server>,
    pub(super) listener: Arc<ListenerState>,
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) accepted: Instant,
    pub(super) transport: Transport,
    pub(super) reader: FrameReader,
    pub(super) sender: Sender,
    pub(super) timer: Pin<Box<Sleep>>,
    pub(super) signals: Signals,
    pub(super) switch: Arc<Switch>,
    pub(super) place: Place,
    /// Ends the connection's part in the audit log when it is dropped.
    pub(super) hold: Hold,
    _slots: Slots,
}

/// How a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// The peer ended the stream.
    Peer,
    /// Close now; everything owed was sent or is not to be sent.
    Now,
    /// The same, and the peer has long had what was sent.
    Quiet,
    /// Wait for the failed-login delay, send this, close.
    Delayed(Option<Vec<Chunk>>),
    /// No TLS session came about; an alert is the last thing the peer is told.
    Alerted,
    /// The socket or TLS failed: no goodbye is possible.
    Broken,
}

/// What reaches a connection from its own broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Finish what was begun, then close.
    Drain,
    /// The same within a moment: the login that the session stands on is gone.
    Revoked,
    /// Close at once.
    End,
}

/// Watches for signals; each arrives at most once.
pub(super) struct Signals {
    drain: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    revoked: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Signals {
    fn new(server: &Arc<Server>, switch: &Arc<Switch>) -> Self {
        let (shutdown, later) = (server.shutdown.clone(), server.shutdown.clone());
        let switch = Arc::clone(switch);
        Signals {
            drain: Some(Box::pin(
                async move { shutdown.reached(Stage::Draining).await },
            )),
            revoked: Some(Box::pin(async move { switch.thrown().await })),
            end: Box::pin(async move { later.reached(Stage::Stopped).await }),
        }
    }

    /// The next signal. After [`Signal::End`] it must not be polled again.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Signal::End);
        }
        if let Some(revoked) = &mut self.revoked
            && revoked.as_mut().poll(cx).is_ready()
        {
            self.revoked = None;
            return Poll::Ready(Signal::Revoked);
        }
        if let Some(drain) = &mut self.drain
            && drain.as_mut().poll(cx).is_ready()
        {
            self.drain = None;
            return Poll::Ready(Signal::Drain);
        }
        Poll::Pending
    }
}

/// Why no frame came.
#[derive(Debug)]
pub(super) enum NoFrame {
    /// The peer ended the stream.
    Ended,
    /// The frame's length is not acceptable, or the socket failed.
    Bad(ReceiveError),
    /// The state's deadline passed.
    Late,
    /// The broker ends the connection.
    Signalled,
}

/// A TCP connection that was let in.
pub(super) struct Accepted {
    pub(super) id: u64,
    pub(super) tcp: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) place: Place,
    pub(super) slots: Slots,
}

/// Serves one accepted connection until it ends.
pub(super) async fn run(server: Arc<Server>, listener: Arc<ListenerState>, accepted: Accepted) {
    let now = Instant::now();
    let socket = Socket::new(
        accepted.tcp,
        server.pools.clone(),
        listener.config.protocol.uses_tls(),
    );
    let transport = match tls::wrap(&listener, socket) {
        Ok(transport) => transport,
        Err(error) => {
            static SAID: Throttle = Throttle::new();
            if SAID.may_speak() {
                tracing::error!(%error, "no TLS session could be made");
            }
            return;
        }
    };
    let switch = Arc::new(Switch::default());
    let mut connection = Connection {
        id: accepted.id,
        peer: accepted.peer,
        local: accepted.local,
        accepted: now,
        transport,
        reader: FrameReader::new(server.budget.clone()),
        sender: Sender::new(Arc::clone(&server.populate)),
        timer: Box::pin(sleep_until(now)),
        signals: Signals::new(&server, &switch),
        switch,
        place: accepted.place,
        hold: server.service.audit_hold(),
        _slots: accepted.slots,
        server,
        listener,
    };
    let end = connection.live().await;
    connection.close(end).await;
}

impl Connection {
    async fn live(&mut self) -> End {
        if let Err(end) = self.handshake().await {
            return end;
        }
        match login::enter(self).await {
            Ok(session) => ready::serve(self, session).await,
            Err(end) => end,
        }
    }

    async fn handshake(&mut self) -> Result<(), End> {
        let deadline = self.accepted + self.server.service.limits().tls_handshake;
        let Transport::Tls(stream) = &mut self.transport else {
            return Ok(());
        };
        let signals = &mut self.signals;
        let shaken = tokio::select! {
            shaken = timeout_at(deadline, tls::accept(stream)) => {
                shaken.unwrap_or(Err(HandshakeError::Late))
            }
            // A broker that stops does not wait for somebody it knows nothing about.
            _ = poll_fn(|cx| signals.poll(cx)) => return Err(End::Now),
        };
        shaken.map_err(|error| {
            report::tls_failure(self, &error);
            match error {
                HandshakeError::Gone => End::Broken,
                HandshakeError::Late => End::Now,
                HandshakeError::Plaintext | HandshakeError::Http | HandshakeError::Failed(_) => {
                    End::Alerted
                }
            }
        })
    }

    /// Waits for one frame of at most `limit` bytes, at most until `deadline`.
    pub(super) async fn receive(
        &mut self,
        limit: usize,
        deadline: Instant,
    ) -> Result<Frame, NoFrame> {
        let frame_time = self.server.service.limits().frame;
        poll_fn(|cx| {
            if self.signals.poll(cx).is_ready() {
                return Poll::Ready(Err(NoFrame::Signalled));
            }
            match self.reader.poll_frame(cx, &mut self.transport, limit) {
                Poll::Ready(Ok(Received::Frame(frame))) => return Poll::Ready(Ok(frame)),
                Poll::Ready(Ok(Received::End)) => return Poll::Ready(Err(NoFrame::Ended)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(NoFrame::Bad(error))),
                Poll::Pending => {}
            }
            // What OpenSSL wrote by itself while reading leaves without waiting for an answer.
            if let Poll::Ready(Err(error)) = self.transport.poll_drain(cx) {
                return Poll::Ready(Err(NoFrame::Bad(error.into())));
            }
            let frame_deadline = self.reader.frame_since().map(|since| since + frame_time);
            let until = frame_deadline.map_or(deadline, |frame| frame.min(deadline));
            if self.timer.deadline() != until {
                self.timer.as_mut().reset(until);
            }
            self.timer.as_mut().poll(cx).map(|()| Err(NoFrame::Late))
        })
        .await
    }

    /// Sends one answer and waits until the kernel has it, at most until `deadline`.
    pub(super) async fn send(&mut self, answer: Vec<Chunk>, deadline: Instant) -> Result<(), End> {
        self.sender.push(answer);
        let sent = poll_fn(|cx| self.sender.poll_send(cx, &mut self.transport));
        match timeout_at(deadline, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Broken),
        }
    }

    async fn close(mut self, end: End) {
        // A place among the connections is held as long: that brakes who comes again and again.
        self.hold.settle(&self.server.shutdown).await;
        let wait = self.server.parting.wait;
        let mut seen_off = false;
        match end {
            End::Broken => return,
            End::Peer | End::Now => {}
            End::Quiet => seen_off = true,
            End::Delayed(answer) => {
                if self.delay().await.is_err() {
                    return;
                }
                if let Some(answer) = answer {
                    if self.send(answer, Instant::now() + wait).await.is_err() {
                        return;
                    }
                    seen_off = self.linger(|server| &server.lingering_logins).await;
                }
            }
            End::Alerted => {
                // A client of TLS 1.3 is done before its certificate is judged: its first requests
                // are under way, and unread they would turn into a reset that destroys the alert.
                let ended = poll_fn(|cx| self.transport.poll_end(cx));
                if matches!(timeout(wait, ended).await, Ok(Ok(()))) {
                    self.linger(|server| &server.lingering_handshakes).await;
                }
                return;
            }
        }
        let goodbye = poll_fn(|cx| self.transport.poll_goodbye(cx));
        if !matches!(timeout(wait, goodbye).await, Ok(Ok(()))) || seen_off {
            return;
        }
        // Whoever has not ended its side yet gets a moment to read what it was told.
        self.see_off().await;
    }

    /// Leaves it to a refused peer to end the connection, for a moment and where not too many have
    /// one already; says whether it got that.
    ///
    /// Some clients (kafka-python 3) throw the answer away when they find the end of the stream
    /// right behind it, and log in again and again as if the connection had been lost.
    async fn linger(&mut self, places: impl FnOnce(&Server) -> &Semaphore) -> bool {
        let server = Arc::clone(&self.server);
        let Ok(_place) = places(&server).try_acquire() else {
            return false;
        };
        // It was judged and told so: honest clients at its address need not wait until it goes.
        self.place.judged();
        tokio::select! {
            () = self.see_off() => {}
            // A broker that stops does not wait for somebody whom it refused.
            () = server.shutdown.reached(Stage::Draining) => {}
        }
        true
    }

    /// Waits for the end of the peer's side, not for ever.
    async fn see_off(&mut self) {
        let mut left = PARTING_BYTES;
        let _ = timeout(self.server.parting.wait, async {
            while left > 0 {
                match self.discard().await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => left = left.saturating_sub(count),
                }
            }
        })
        .await;
    }

    /// Waits for the failed-login delay; an error when the peer did not wait.
    async fn delay(&mut self) -> Result<(), ()> {
        let delay = jittered(self.server.service.limits().failed_authentication_delay);
        let until = Instant::now() + delay;
        // Nothing is parsed any more; the input is looked at only to see whether it ended.
        let mut left = PARTING_BYTES;
        let gone = async {
            while left > 0 {
                match self.discard().await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => left = left.saturating_sub(count),
                }
            }
            std::future::pending::<()>().await;
        };
        match timeout_at(until, gone).await {
            Ok(()) => Err(()),
            Err(_) => Ok(()),
        }
    }

    async fn discard(&mut self) -> std::io::Result<usize> {
        poll_fn(|cx| self.transport.socket_mut().poll_discard(cx)).await
    }
}

/// `delay` give or take a fifth, so that its length tells nothing.
fn jittered(delay: Duration) -> Duration {
    let mut random = [0_u8; 1];
    // Without randomness the delay is merely exact.
    if openssl::rand::rand_bytes(&mut random).is_err() {
        return delay;
    }
    let share = 0.8 + 0.4 * f64::from(random[0]) / 255.0;
    delay.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_varies_by_a_fifth_at_most() {
        let delay = Duration::from_millis(100);
        for _ in 0..1000 {
            let drawn = jittered(delay);
            assert!(drawn >= Duration::from_millis(80) && drawn <= Duration::from_millis(120));
        }
    }
}
