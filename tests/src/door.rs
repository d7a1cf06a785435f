//! A door before a listener that passes bytes unread, until it falls silent: then nothing passes any more, while
//! every connection stays open and new ones are taken. So is a broker whose machine hangs.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

#[derive(Default)]
struct State {
    is_silent: AtomicBool,
    came_late: AtomicUsize,
}

/// An open door. Dropping it closes it, and every connection through it.
pub struct Door {
    state: Arc<State>,
    _runtime: Runtime,
}

impl Door {
    /// Passes whoever connects to `door` on to the listener at `to`.
    ///
    /// # Panics
    /// When the system has no more threads.
    pub fn open(door: TcpListener, to: &str) -> Door {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        door.set_nonblocking(true).expect("an own socket");
        let state = Arc::new(State::default());
        let (handle, to) = (runtime.handle().clone(), to.to_owned());
        let shared = Arc::clone(&state);
        runtime.spawn(async move {
            let door = tokio::net::TcpListener::from_std(door).expect("a socket that listens");
            while let Ok((client, _)) = door.accept().await {
                let (state, to) = (Arc::clone(&shared), to.clone());
                handle.spawn(async move {
                    // Either end may go at any time; the other one is then told by the end of its connection.
                    let _ = pass(client, &to, &state).await;
                });
            }
        });
        Door {
            state,
            _runtime: runtime,
        }
    }

    /// Lets nothing pass any more.
    pub fn fall_silent(&self) {
        self.state.is_silent.store(true, Ordering::SeqCst);
    }

    /// How many connections came since.
    pub fn came_late(&self) -> usize {
        self.state.came_late.load(Ordering::SeqCst)
    }
}

async fn pass(mut client: TcpStream, to: &str, state: &State) -> io::Result<()> {
    if state.is_silent.load(Ordering::SeqCst) {
        state.came_late.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>().await;
    }
    let mut broker = TcpStream::connect(to).await?;
    let (mut client_in, mut client_out) = client.split();
    let (mut broker_in, mut broker_out) = broker.split();
    tokio::select! {
        ended = copy(&mut client_in, &mut broker_out, state) => ended,
        ended = copy(&mut broker_in, &mut client_out, state) => ended,
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    state: &State,
) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = from.read(&mut buffer).await?;
        if state.is_silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
    }
}
