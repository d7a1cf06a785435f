//! A client that speaks frames: for requests that no library would send, and for errors none would show.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use openssl::ssl::{
    self, HandshakeError, SslConnector, SslConnectorBuilder, SslFiletype, SslMethod, SslRef,
    SslStream,
};

use palisade_protocol::frame;
use palisade_protocol::header;
use palisade_protocol::messages::{Message, Request};
use palisade_protocol::reader::Reader;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::access::{Access, Login};
use crate::scram::ScramClient;

/// How long a read may wait: far more than any answer takes, far less than a test run.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer taken from a broker under test.
const MAX_FRAME: usize = 128 << 20;

/// Either of the two transports.
#[derive(Debug)]
pub enum Transport {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<SslStream<TcpStream>>),
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(stream) => stream.read(buffer),
            Transport::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(stream) => stream.write(buffer),
            Transport::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(stream) => stream.flush(),
            Transport::Tls(stream) => stream.flush(),
        }
    }
}

/// A connection to a broker.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    correlation_id: i32,
}

/// Opens a TCP connection whose reads and writes give up after a while.
///
/// # Errors
/// As the operating system says.
pub fn tcp(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A TLS client's settings for `access`: what it trusts and the certificate it shows.
///
/// # Panics
/// When the files of `access` cannot be read.
pub fn connector(access: &Access) -> SslConnectorBuilder {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).expect("a connector");
    builder.set_ca_file(&access.trust).expect("a trust store");
    if let Login::Certificate(identity) = &access.login {
        builder
            .set_certificate_file(&identity.certificate, SslFiletype::PEM)
            .expect("a certificate");
        builder
            .set_private_key_file(&identity.key, SslFiletype::PEM)
            .expect("a key");
    }
    builder
}

/// What kind of end of the connection an error of TLS is; `None` where it is about what came over it.
fn broken(error: &ssl::Error) -> Option<io::ErrorKind> {
    if let Some(error) = error.io_error() {
        return Some(error.kind());
    }
    let reasons = error
        .ssl_error()
        .into_iter()
        .flat_map(|stack| stack.errors());
    let mut reasons = reasons.filter_map(|one| one.reason());
    let is_end = error.code() == ssl::ErrorCode::SYSCALL
        || error.code() == ssl::ErrorCode::ZERO_RETURN
        || reasons.any(|reason| reason.contains("unexpected eof"));
    is_end.then_some(io::ErrorKind::UnexpectedEof)
}

/// Whether an error says that the other end is gone, as it is after a kill, and nothing of what it answered.
pub fn is_end(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let kind = inner.and_then(broken).unwrap_or(error.kind());
    matches!(
        kind,
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::BrokenPipe
    )
}

impl Connection {
    /// Wraps a transport.
    pub fn new(transport: Transport) -> Connection {
        Connection {
            transport,
            correlation_id: 0,
        }
    }

    /// Connects in the clear.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn plain(address: &str) -> io::Result<Connection> {
        Ok(Connection::new(Transport::Plain(tcp(address)?)))
    }

    /// Connects with TLS as `access` says, without logging in.
    ///
    /// # Errors
    /// When the connection or the handshake fails.
    pub fn tls(access: &Access) -> io::Result<Connection> {
        Connection::tls_with(&access.bootstrap, connector(access))
    }

    /// Connects with TLS by settings of the caller's.
    ///
    /// # Errors
    /// When the connection or the handshake fails.
    pub fn tls_with(address: &str, settings: SslConnectorBuilder) -> io::Result<Connection> {
        let stream = tcp(address)?;
        let stream = settings
            .build()
            .connect("127.0.0.1", stream)
            .map_err(|error| {
                let broken = match &error {
                    HandshakeError::Failure(stream) => broken(stream.error()),
                    _ => None,
                };
                io::Error::new(broken.unwrap_or(io::ErrorKind::Other), error.to_string())
            })?;
        Ok(Connection::new(Transport::Tls(Box::new(stream))))
    }

    /// Connects and logs in as `access` says.
    ///
    /// # Errors
    /// When the connection or handshake fails, or the broker refuses the credentials (with its words).
    pub fn open(access: &Access) -> io::Result<Connection> {
        let mut connection = Connection::tls(access)?;
        if let Login::Scram {
            mechanism,
            user,
            password,
        } = &access.login
        {
            connection.scram(mechanism, user, password)?;
        }
        Ok(connection)
    }

    /// The transport, for tests that break off in the middle of things.
    pub fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// The next correlation id.
    pub fn next_correlation_id(&mut self) -> i32 {
        self.correlation_id += 1;
        self.correlation_id
    }

    /// Sends a frame: its length, then its bytes.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn send(&mut self, body: &[u8]) -> io::Result<()> {
        let length = i32::try_from(body.len()).expect("a test's frame fits its length field");
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        self.send_raw(&frame)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.transport.write_all(bytes)?;
        self.transport.flush()
    }

    /// Reads one frame without its length.
    ///
    /// # Errors
    /// `UnexpectedEof` when the broker closed, `WouldBlock` when it stayed silent.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.transport.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).map_err(io::Error::other)?;
        if length > MAX_FRAME {
            return Err(io::Error::other(format!("an answer of {length} bytes")));
        }
        let mut body = vec![0; length];
        self.transport.read_exact(&mut body)?;
        Ok(body)
    }

    /// The client's own end.
    ///
    /// # Panics
    /// When the socket has none any more.
    pub fn local_address(&self) -> SocketAddr {
        let stream = match &self.transport {
            Transport::Plain(stream) => stream,
            Transport::Tls(stream) => stream.get_ref(),
        };
        stream.local_addr().expect("an open socket")
    }

    /// The TLS session, where there is one.
    pub fn tls_session(&self) -> Option<&SslRef> {
        match &self.transport {
            Transport::Plain(_) => None,
            Transport::Tls(stream) => Some(stream.ssl()),
        }
    }

    /// Whether the broker has closed the connection: the next read ends or breaks instead of giving bytes.
    pub fn is_closed_by_peer(&mut self) -> bool {
        let mut byte = [0];
        match self.transport.read(&mut byte) {
            Ok(read) => read == 0,
            Err(error) => {
                error.kind() != io::ErrorKind::WouldBlock && error.kind() != io::ErrorKind::TimedOut
            }
        }
    }

    /// Whether anything has arrived that was not read yet.
    ///
    /// # Panics
    /// When the connection is broken.
    pub fn has_input(&self) -> bool {
        let (stream, pending) = match &self.transport {
            Transport::Plain(stream) => (stream, 0),
            Transport::Tls(stream) => (stream.get_ref(), stream.ssl().pending()),
        };
        stream.set_nonblocking(true).expect("a socket");
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).expect("a socket");
        match peeked {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => pending > 0,
            Err(error) => panic!("a broken connection: {error}"),
        }
    }

    /// Waits until the broker has ended its side, and reads nothing of what it sent before.
    ///
    /// # Panics
    /// When it does not, for half a minute.
    pub fn wait_for_end(&self) {
        let stream = match &self.transport {
            Transport::Plain(stream) => stream,
            Transport::Tls(stream) => stream.get_ref(),
        };
        let mut ends = [PollFd::new(stream, PollFlags::RDHUP)];
        let patience = Timespec::try_from(PATIENCE).expect("seconds");
        let count = poll(&mut ends, Some(&patience)).expect("a socket");
        assert_eq!(count, 1, "the broker goes on");
    }

    /// Logs in with SCRAM by SaslHandshake v1 and SaslAuthenticate v0.
    ///
    /// # Errors
    /// `PermissionDenied` with the broker's words when it refuses; else as the connection fails.
    pub fn scram(&mut self, mechanism: &str, user: &str, password: &str) -> io::Result<()> {
        self.handshake(mechanism)?;
        let mut client = ScramClient::new(mechanism, user, password);
        let server_first = self.authenticate(client.first().as_bytes())?;
        let server_first = String::from_utf8(server_first).map_err(io::Error::other)?;
        let last = client.last(&server_first).map_err(io::Error::other)?;
        let server_last = self.authenticate(last.as_bytes())?;
        let server_last = String::from_utf8(server_last).map_err(io::Error::other)?;
        client.verify(&server_last).map_err(io::Error::other)
    }

    /// Logs in with PLAIN by SaslHandshake v1 and SaslAuthenticate v0.
    ///
    /// # Errors
    /// `PermissionDenied` with the broker's words when it refuses; else as the connection fails.
    pub fn login_plain(&mut self, user: &str, password: &str) -> io::Result<()> {
        self.handshake("PLAIN")?;
        let token = format!("\0{user}\0{password}");
        self.authenticate(token.as_bytes()).map(drop)
    }

    /// SaslHandshake v1: names the mechanism.
    ///
    /// # Errors
    /// `Unsupported` with the error code when the broker does not offer it.
    pub fn handshake(&mut self, mechanism: &str) -> io::Result<()> {
        let mut request = self.header(17, 1);
        put_string(&mut request, mechanism.as_bytes());
        self.send(&request)?;
        let answer = self.receive()?;
        match read_i16(&answer, 4)? {
            0 => Ok(()),
            code => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("handshake error {code}"),
            )),
        }
    }

    /// SaslAuthenticate v0: one token there, one back.
    ///
    /// # Errors
    /// `PermissionDenied` with the broker's words when it refuses.
    pub fn authenticate(&mut self, token: &[u8]) -> io::Result<Vec<u8>> {
        let mut request = self.header(36, 0);
        let length = i32::try_from(token.len()).expect("a test's token fits its length field");
        request.extend_from_slice(&length.to_be_bytes());
        request.extend_from_slice(token);
        self.send(&request)?;
        let answer = self.receive()?;
        let code = read_i16(&answer, 4)?;
        let (message, rest) = match read_i16(&answer, 6)? {
            -1 => (&[][..], 8),
            length => {
                let end = 8 + usize::try_from(length).map_err(io::Error::other)?;
                (slice(&answer, 8, end)?, end)
            }
        };
        if code != 0 {
            let words = String::from_utf8_lossy(message);
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{code}: {words}"),
            ));
        }
        let length = slice(&answer, rest, rest + 4)?;
        let length = i32::from_be_bytes(length.try_into().expect("four bytes were sliced"));
        let length = usize::try_from(length).map_err(io::Error::other)?;
        Ok(slice(&answer, rest + 4, rest + 4 + length)?.to_vec())
    }

    /// Sends a request without waiting for its answer; returns the correlation id.
    ///
    /// # Errors
    /// When the connection fails, or the request cannot be said in this version.
    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> io::Result<i32> {
        let correlation_id = self.next_correlation_id();
        let frame = frame::encode_request(version, correlation_id, Some("tests"), request)
            .map_err(io::Error::other)?;
        self.send_raw(&frame)?;
        Ok(correlation_id)
    }

    /// Reads the answer to the request with `correlation_id`; every byte of it must be accounted for.
    ///
    /// # Errors
    /// When the connection fails, or the answer is no such answer.
    pub fn answer<R: Request>(
        &mut self,
        version: i16,
        correlation_id: i32,
    ) -> io::Result<R::Response> {
        let mut reader = Reader::new(self.receive()?.into());
        let got = header::decode_response_header(&mut reader, R::KEY, version)
            .map_err(io::Error::other)?;
        if got != correlation_id {
            return Err(io::Error::other(format!(
                "answer {got} to {correlation_id}"
            )));
        }
        let response = R::Response::decode(&mut reader, version).map_err(io::Error::other)?;
        match reader.remaining() {
            0 => Ok(response),
            left => Err(io::Error::other(format!(
                "{left} bytes behind an answer of {} v{version}",
                R::KEY.name()
            ))),
        }
    }

    /// Sends a request in `version` and reads its answer.
    ///
    /// # Errors
    /// As [`Connection::ask`] and [`Connection::answer`].
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        let correlation_id = self.ask(version, request)?;
        self.answer::<R>(version, correlation_id)
    }

    /// A request header version 1 with a fresh correlation id.
    pub fn header(&mut self, api_key: i16, api_version: i16) -> Vec<u8> {
        let mut request = Vec::new();
        request.extend_from_slice(&api_key.to_be_bytes());
        request.extend_from_slice(&api_version.to_be_bytes());
        request.extend_from_slice(&self.next_correlation_id().to_be_bytes());
        put_string(&mut request, b"tests");
        request
    }
}

/// Appends a string with a two-byte length.
pub fn put_string(to: &mut Vec<u8>, text: &[u8]) {
    let length = i16::try_from(text.len()).expect("a test's string fits its length field");
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(text);
}

fn slice(bytes: &[u8], from: usize, to: usize) -> io::Result<&[u8]> {
    bytes
        .get(from..to)
        .ok_or_else(|| io::Error::other(format!("an answer of only {} bytes", bytes.len())))
}

fn read_i16(bytes: &[u8], at: usize) -> io::Result<i16> {
    let two = slice(bytes, at, at + 2)?;
    Ok(i16::from_be_bytes(
        two.try_into().expect("two bytes were sliced"),
    ))
}
