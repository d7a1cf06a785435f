//! A door in the clear before a listener that wants TLS and SCRAM, for programs that can do one of them at most.
//!
//! Each connection to the door becomes a connection of its own to the broker, which the tunnel encrypts and logs in;
//! from then on it passes bytes, both ways and unread. The broker must advertise the door's address, or clients that
//! ask where its partitions are would go around it.

use std::io;
use std::net::TcpListener;
use std::pin::Pin;

use bytes::Bytes;
use palisade_protocol::frame;
use palisade_protocol::messages::Request;
use palisade_protocol::messages::sasl_authenticate::SaslAuthenticateRequest;
use palisade_protocol::messages::sasl_handshake::SaslHandshakeRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_openssl::SslStream;

use crate::access::{Access, Login};
use crate::requests::check;
use crate::scram::ScramClient;
use crate::wire::connector;

/// An open door. Dropping it closes it, and every connection through it.
pub struct Tunnel {
    _runtime: Runtime,
}

impl Tunnel {
    /// Lets in whoever connects to `door`, as the user of `access`.
    ///
    /// # Panics
    /// When `access` has no SCRAM credentials, or the system has no more threads.
    pub fn open(door: TcpListener, access: &Access) -> Tunnel {
        assert!(
            matches!(access.login, Login::Scram { .. }),
            "a tunnel logs in by SCRAM"
        );
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        door.set_nonblocking(true).expect("an own socket");
        let access = access.clone();
        let handle = runtime.handle().clone();
        runtime.spawn(async move {
            let door = tokio::net::TcpListener::from_std(door).expect("a socket that listens");
            while let Ok((client, _)) = door.accept().await {
                let access = access.clone();
                handle.spawn(async move {
                    if let Err(error) = pass(client, &access).await {
                        eprintln!("tunnel: no way through: {error}");
                    }
                });
            }
        });
        Tunnel { _runtime: runtime }
    }
}

async fn pass(mut client: TcpStream, access: &Access) -> io::Result<()> {
    let mut broker = log_in(access).await?;
    client.set_nodelay(true)?;
    // Either end may go at any time; the other one is then told by the end of its connection.
    let _ = copy_bidirectional(&mut client, &mut broker).await;
    Ok(())
}

/// A connection to the broker, encrypted and logged in.
async fn log_in(access: &Access) -> io::Result<SslStream<TcpStream>> {
    let tcp = TcpStream::connect(&access.bootstrap).await?;
    tcp.set_nodelay(true)?;
    let ssl = connector(access)
        .build()
        .configure()
        .and_then(|settings| settings.into_ssl("127.0.0.1"))
        .map_err(io::Error::other)?;
    let mut stream = SslStream::new(ssl, tcp).map_err(io::Error::other)?;
    let mut pinned = Pin::new(&mut stream);
    pinned.as_mut().connect().await.map_err(io::Error::other)?;
    let Login::Scram {
        mechanism,
        user,
        password,
    } = &access.login
    else {
        unreachable!("looked at when the door was opened");
    };
    let handshake = SaslHandshakeRequest {
        mechanism: (*mechanism).into(),
    };
    let answer = call(&mut stream, 1, &handshake).await?;
    check(answer.error_code)?;
    let mut scram = ScramClient::new(mechanism, user, password);
    let challenge = token(&mut stream, scram.first()).await?;
    let last = scram.last(&challenge).map_err(io::Error::other)?;
    let verdict = token(&mut stream, last).await?;
    scram.verify(&verdict).map_err(io::Error::other)?;
    Ok(stream)
}

async fn token(stream: &mut SslStream<TcpStream>, text: String) -> io::Result<String> {
    let request = SaslAuthenticateRequest {
        auth_bytes: Bytes::from(text),
    };
    let answer = call(stream, 2, &request).await?;
    check(answer.error_code)?;
    String::from_utf8(answer.auth_bytes.to_vec()).map_err(io::Error::other)
}

async fn call<R: Request>(
    stream: &mut SslStream<TcpStream>,
    version: i16,
    request: &R,
) -> io::Result<R::Response> {
    let frame = frame::encode_request(version, 0, Some("tunnel"), request);
    stream.write_all(&frame.map_err(io::Error::other)?).await?;
    let mut answer = Vec::new();
    let length = u64::from(stream.read_u32().await?);
    stream.take(length).read_to_end(&mut answer).await?;
    let answer = frame::decode_response::<R>(version, Bytes::from(answer));
    Ok(answer.map_err(io::Error::other)?.1)
}
