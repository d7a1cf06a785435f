//! A client of one thread: TLS, SCRAM-SHA-512, and frames, several of them on their way at once.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use openssl::ssl::SslStream;
use palisade::cli::client::{ClientSettings, Credentials};
use palisade_auth::tls::ClientTls;
use palisade_protocol::messages::api_versions::ApiVersionsRequest;
use palisade_protocol::messages::sasl_authenticate::SaslAuthenticateRequest;
use palisade_protocol::messages::sasl_handshake::SaslHandshakeRequest;
use palisade_protocol::{ErrorCode, Request, Str, frame};

use crate::scram::{MECHANISM, ScramClient, salted_password};

/// Longest silence of a broker that is still taken for work.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two attempts to connect.
const RETRY: Duration = Duration::from_micros(500);

const API_VERSIONS_VERSION: i16 = 3;
const SASL_HANDSHAKE_VERSION: i16 = 1;
const SASL_AUTHENTICATE_VERSION: i16 = 2;

/// A connection that is logged in.
pub struct Client {
    stream: SslStream<TcpStream>,
    correlation_id: i32,
}

impl Client {
    /// Connects to the first address of the settings and logs in.
    ///
    /// # Errors
    /// No connection, a certificate that is not trusted, a login that is refused.
    pub fn open(settings: &ClientSettings) -> Result<Self> {
        let (host, port) = address(settings)?;
        let tcp = TcpStream::connect((host, port));
        Self::over(
            tcp.with_context(|| format!("connecting to {host}:{port}"))?,
            settings,
        )
    }

    /// The same, trying again until a node that is starting serves.
    ///
    /// # Errors
    /// That of the last attempt, after half a minute.
    pub fn open_patiently(settings: &ClientSettings) -> Result<Self> {
        let began = Instant::now();
        loop {
            match Self::open(settings) {
                // Also resets: the node tries its port out before it listens there for good.
                Err(_) if began.elapsed() < PATIENCE => thread::sleep(RETRY),
                outcome => return outcome,
            }
        }
    }

    fn over(tcp: TcpStream, settings: &ClientSettings) -> Result<Self> {
        let (host, _) = address(settings)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let tls = settings.tls.as_ref().context("the settings have no TLS")?;
        let ssl = ClientTls::new(tls)?.connect(host)?;
        let mut stream = SslStream::new(ssl, tcp)?;
        stream.connect().context("TLS handshake")?;
        let mut client = Self {
            stream,
            correlation_id: 0,
        };
        let versions = ApiVersionsRequest {
            client_software_name: Str::from("palisade-bench"),
            client_software_version: Str::from("0"),
            ..ApiVersionsRequest::default()
        };
        client.call(API_VERSIONS_VERSION, &versions)?;
        let credentials = settings.credentials.as_ref();
        client.log_in(credentials.context("the settings have no credentials")?)?;
        Ok(client)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The connection broke, or the answer is none to this request.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let bytes = frame::encode_request(version, self.correlation_id, Some("bench"), request)?;
        self.send(&bytes)?;
        let answer = self.receive().with_context(|| R::KEY.name())?;
        let (id, response) = frame::decode_response::<R>(version, answer)?;
        ensure!(id == self.correlation_id, "answers came out of order");
        Ok(response)
    }

    /// Sends a frame with its size prefix and waits for nothing.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(frame)?)
    }

    /// Takes the next answer, without its size prefix.
    ///
    /// # Errors
    /// The connection broke.
    pub fn receive(&mut self) -> Result<Bytes> {
        let mut answer = Vec::new();
        self.receive_into(&mut answer)?;
        Ok(Bytes::from(answer))
    }

    /// Takes the next answer into a buffer that is used again and again.
    ///
    /// # Errors
    /// The connection broke.
    pub fn receive_into(&mut self, answer: &mut Vec<u8>) -> Result<()> {
        let mut size = [0; frame::SIZE_PREFIX_LEN];
        self.stream.read_exact(&mut size)?;
        let size = usize::try_from(i32::from_be_bytes(size))?;
        // The broker is our own child: its word on the size is taken.
        answer.resize(size, 0);
        Ok(self.stream.read_exact(answer)?)
    }

    fn log_in(&mut self, credentials: &Credentials) -> Result<()> {
        let handshake = SaslHandshakeRequest {
            mechanism: Str::from(MECHANISM),
        };
        let response = self.call(SASL_HANDSHAKE_VERSION, &handshake)?;
        accepted(response.error_code, "SaslHandshake")?;
        let scram = ScramClient::new(&credentials.user)?;
        let server_first = self.token(scram.first())?;
        let last = scram.last(&server_first, |salt, iterations| {
            salted_password(credentials.password.expose(), salt, iterations)
        })?;
        let server_last = self.token(last.text.clone())?;
        last.verify(&server_last)
    }

    fn token(&mut self, message: String) -> Result<String> {
        let request = SaslAuthenticateRequest {
            auth_bytes: Bytes::from(message),
        };
        let response = self.call(SASL_AUTHENTICATE_VERSION, &request)?;
        accepted(response.error_code, "SaslAuthenticate")?;
        Ok(std::str::from_utf8(&response.auth_bytes)?.to_owned())
    }
}

fn address(settings: &ClientSettings) -> Result<(&str, u16)> {
    let (host, port) = settings.bootstrap.first().context("no address")?;
    Ok((host, *port))
}

/// Judges the code of an answer.
///
/// # Errors
/// It is not NONE.
pub fn accepted(code: ErrorCode, what: &str) -> Result<()> {
    ensure!(code == ErrorCode::NONE, "{what}: {}", code.name());
    Ok(())
}
