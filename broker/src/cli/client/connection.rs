//! One connection to a broker: TCP, TLS, versions, login, and one request after another.

use std::{io, pin::Pin, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use palisade_auth::{sasl::Mechanism, scram::ScramMechanism, tls::ClientTls};
use palisade_protocol::{
    ApiKey, ErrorCode, Request, Str, api, frame,
    messages::{
        api_versions::{ApiVersionsRequest, ApiVersionsResponse},
        sasl_authenticate::SaslAuthenticateRequest,
        sasl_handshake::SaslHandshakeRequest,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_openssl::SslStream;

use super::{
    error::{ClientError, printable},
    hint,
    scram::ScramLogin,
    settings::{ClientSettings, Credentials},
    tls_words,
};

/// Name that the broker sees in its logs.
const CLIENT_ID: &str = "palisade-cli";

/// Largest answer with records that is read; as large as the largest request that brokers take by
/// default.
const FETCHED_MAX: usize = 100 << 20;
/// Largest answer of any other kind: a row of a few bytes becomes some hundred in memory. The
/// partitions of the largest clusters fit.
const ANSWER_MAX: usize = 16 << 20;
/// Largest description of a group: brokers keep 32 MiB of one by default (a quarter of
/// `palisade.group.members.max.bytes`), assignments that they make themselves not counted.
const DESCRIBED_MAX: usize = 48 << 20;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection that is logged in.
pub struct Connection {
    stream: Box<dyn Stream>,
    address: String,
    /// API key, lowest and highest version that the broker serves.
    served: Vec<(i16, i16, i16)>,
    correlation_id: i32,
    patience: Duration,
}

impl Connection {
    /// Connects to one host and logs in. `patience` bounds this, and then each request.
    ///
    /// # Errors
    /// `Connect`, `Tls`, `Login`, `Scram`, `Lost`, `Timeout`.
    pub async fn open(
        settings: &ClientSettings,
        host: &str,
        port: u16,
        patience: Duration,
    ) -> Result<Self, ClientError> {
        let address = shown(host, port);
        let opened = async {
            let stream = connect(settings, host, port, &address).await?;
            let mut connection = Self {
                stream,
                address: address.clone(),
                served: Vec::new(),
                correlation_id: 0,
                patience,
            };
            let asked = connection.ask_versions().await;
            asked.map_err(|error| hint::first_request(error, &address, settings))?;
            if let Some(credentials) = &settings.credentials {
                connection.log_in(credentials).await?;
            }
            Ok(connection)
        };
        match timeout(patience, opened).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClientError::Timeout(address.clone())),
        }
    }

    /// Sends a request in the highest version that both sides speak, and waits for the answer.
    ///
    /// # Errors
    /// `Unserved`, `Request`, `Lost`, `Timeout`, `Answer`.
    pub async fn send<R: Request>(&mut self, request: &R) -> Result<R::Response, ClientError> {
        let version = self.version(R::KEY)?;
        match timeout(self.patience, self.exchange(request, version)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClientError::Timeout(self.address.clone())),
        }
    }

    /// Sends a request in the highest version up to `max` that both sides speak, and waits for the
    /// answer.
    ///
    /// # Errors
    /// `Unserved`, `Request`, `Lost`, `Timeout`, `Answer`.
    pub(crate) async fn send_at_most<R: Request>(
        &mut self,
        request: &R,
        max: i16,
        patience: Duration,
    ) -> Result<R::Response, ClientError> {
        let version = self.common_version::<R>(max)?;
        match timeout(patience, self.exchange(request, version)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClientError::Timeout(self.address.clone())),
        }
    }

    /// Sends a request that is not answered: a produce with acks=0.
    ///
    /// # Errors
    /// `Unserved`, `Request`, `Lost`, `Timeout`.
    pub(crate) async fn post<R: Request>(
        &mut self,
        request: &R,
        max: i16,
    ) -> Result<(), ClientError> {
        let version = self.common_version::<R>(max)?;
        match timeout(self.patience, self.write(request, version)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClientError::Timeout(self.address.clone())),
        }
    }

    /// The highest version up to `max`; for what our own broker does not serve, of all that can be
    /// said.
    fn common_version<R: Request>(&self, max: i16) -> Result<i16, ClientError> {
        let (first, last) = match api::spec(R::KEY) {
            Some(spec) => (spec.served_min, spec.max),
            None => (R::SCHEMA.versions.first, R::SCHEMA.versions.last),
        };
        let key = R::KEY.value();
        let theirs = self.served.iter().find(|(api, _, _)| *api == key);
        let (_, low, high) = theirs.copied().ok_or(ClientError::Unserved(R::KEY))?;
        let version = high.min(last).min(max);
        if version < low.max(first) {
            return Err(ClientError::Unserved(R::KEY));
        }
        Ok(version)
    }

    /// The version in which `send` asks.
    ///
    /// # Errors
    /// `Unserved`.
    pub fn version(&self, key: ApiKey) -> Result<i16, ClientError> {
        let ours = api::spec(key).ok_or(ClientError::Unserved(key))?;
        let theirs = self.served.iter().find(|(api, _, _)| *api == key.value());
        let (_, low, high) = theirs.copied().ok_or(ClientError::Unserved(key))?;
        let version = high.min(ours.max);
        if version < low.max(ours.served_min) {
            return Err(ClientError::Unserved(key));
        }
        Ok(version)
    }

    async fn exchange<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, ClientError> {
        let answer = self.round_trip(request, version).await?;
        decode::<R>(version, answer, self.correlation_id)
    }

    async fn write<R: Request>(&mut self, request: &R, version: i16) -> Result<(), ClientError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let bytes = frame::encode_request(version, self.correlation_id, Some(CLIENT_ID), request)
            .map_err(|source| ClientError::Request {
            api: R::KEY,
            source,
        })?;
        self.stream
            .write_all(&bytes)
            .await
            .map_err(ClientError::Lost)?;
        self.stream.flush().await.map_err(ClientError::Lost)
    }

    /// Sends a request and returns the answer's bytes behind the size prefix.
    async fn round_trip<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<Bytes, ClientError> {
        self.write(request, version).await?;
        let size = self.stream.read_i32().await.map_err(ClientError::Lost)?;
        let size = answer_size(R::KEY, size)?;
        // Room grows with what arrives, not with what is announced.
        let mut answer = BytesMut::new();
        while answer.len() < size {
            let lacking = size - answer.len();
            let mut part = (&mut self.stream).take(u64::try_from(lacking).unwrap_or(u64::MAX));
            if part
                .read_buf(&mut answer)
                .await
                .map_err(ClientError::Lost)?
                == 0
            {
                return Err(ClientError::Lost(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(answer.freeze())
    }

    /// Learns which versions are served; asks again in version 0 where 3 is too new.
    async fn ask_versions(&mut self) -> Result<(), ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: Str::from("palisade-cli"),
            client_software_version: Str::from(env!("CARGO_PKG_VERSION")),
            ..ApiVersionsRequest::default()
        };
        let answer = self.round_trip(&request, 3).await?;
        // A broker that does not know version 3 says so in version 0, whose code comes first too.
        let code = answer.get(4..6).map(|mut bytes| bytes.get_i16());
        let response = if code == Some(ErrorCode::UNSUPPORTED_VERSION.value()) {
            self.exchange(&ApiVersionsRequest::default(), 0).await?
        } else {
            decode::<ApiVersionsRequest>(3, answer, self.correlation_id)?
        };
        self.served = versions(&response)?;
        Ok(())
    }

    async fn log_in(&mut self, credentials: &Credentials) -> Result<(), ClientError> {
        let handshake = SaslHandshakeRequest {
            mechanism: Str::copy(credentials.mechanism.name()),
        };
        let response = self.exchange(&handshake, 1).await?;
        if response.error_code != ErrorCode::NONE && response.mechanisms.is_empty() {
            return Err(ClientError::Login(
                "the listener takes no login; set security.protocol to SSL or PLAINTEXT".to_owned(),
            ));
        }
        if response.error_code != ErrorCode::NONE {
            let offered: Vec<&str> = response.mechanisms.iter().map(|name| &**name).collect();
            return Err(ClientError::Login(printable(&format!(
                "the listener does not take {}; it offers {}",
                credentials.mechanism,
                offered.join(", ")
            ))));
        }
        let outcome = match credentials.mechanism {
            Mechanism::Plain => {
                let mut message = vec![0];
                message.extend(credentials.user.as_bytes());
                message.push(0);
                message.extend(credentials.password.expose());
                self.token(message).await.map(drop)
            }
            Mechanism::Scram(mechanism) => self.log_in_by_scram(mechanism, credentials).await,
        };
        outcome.map_err(|error| match error {
            // Which of the three it is, brokers do not tell.
            ClientError::Login(text) => ClientError::Login(format!(
                "no user {}, a wrong password, or no credential for {} ({text})",
                printable(&credentials.user),
                credentials.mechanism
            )),
            other => other,
        })
    }

    async fn log_in_by_scram(
        &mut self,
        mechanism: ScramMechanism,
        credentials: &Credentials,
    ) -> Result<(), ClientError> {
        let (mut login, first) =
            ScramLogin::start(mechanism, &credentials.user, &credentials.password)?;
        let server_first = self.token(first).await?;
        let last = login.respond(&server_first)?;
        let server_final = self.token(last).await?;
        Ok(login.finish(&server_final)?)
    }

    async fn token(&mut self, message: Vec<u8>) -> Result<Bytes, ClientError> {
        let request = SaslAuthenticateRequest {
            auth_bytes: Bytes::from(message),
        };
        let version = self.version(ApiKey::SaslAuthenticate)?;
        let response = match self.exchange(&request, version).await {
            // A broker may close instead of answering a login that it refuses.
            Err(ClientError::Lost(error)) => return Err(ClientError::LoginLost(error)),
            other => other?,
        };
        if response.error_code == ErrorCode::NONE {
            return Ok(response.auth_bytes);
        }
        let text = response.error_message.as_deref();
        Err(ClientError::Login(printable(
            text.unwrap_or(response.error_code.name()),
        )))
    }
}

/// An address as people write it; hosts come from brokers too.
pub(super) fn shown(host: &str, port: u16) -> String {
    let host = printable(host);
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// The size of an answer, if a Kafka broker can have meant it.
fn answer_size(api: ApiKey, size: i32) -> Result<usize, ClientError> {
    // A TLS alert where a size should be: the two bytes of its type and of its major version.
    if size.to_be_bytes().starts_with(&[0x15, 0x03]) {
        let text = "this port speaks TLS; set security.protocol to SSL or SASL_SSL";
        return Err(ClientError::Lost(io::Error::new(
            io::ErrorKind::InvalidData,
            text,
        )));
    }
    let max = match api {
        ApiKey::Fetch => FETCHED_MAX,
        ApiKey::DescribeGroups | ApiKey::ConsumerGroupDescribe => DESCRIBED_MAX,
        _ => ANSWER_MAX,
    };
    match usize::try_from(size) {
        Ok(size) if size <= max => Ok(size),
        Ok(size) if size <= FETCHED_MAX => Err(ClientError::TooLarge { api, size, max }),
        _ => {
            let text = format!("an answer of {size} bytes was announced; is this a Kafka port?");
            Err(ClientError::Lost(io::Error::new(
                io::ErrorKind::InvalidData,
                text,
            )))
        }
    }
}

fn decode<R: Request>(
    version: i16,
    answer: Bytes,
    correlation_id: i32,
) -> Result<R::Response, ClientError> {
    let (id, response) =
        frame::decode_response::<R>(version, answer).map_err(|source| ClientError::Answer {
            api: R::KEY,
            source,
        })?;
    if id != correlation_id {
        let text = format!("answer {id} came to request {correlation_id}");
        return Err(ClientError::Lost(io::Error::new(
            io::ErrorKind::InvalidData,
            text,
        )));
    }
    Ok(response)
}

fn versions(response: &ApiVersionsResponse) -> Result<Vec<(i16, i16, i16)>, ClientError> {
    if response.error_code != ErrorCode::NONE {
        return Err(ClientError::refused(
            "ApiVersions",
            response.error_code,
            None,
        ));
    }
    let served = response.api_keys.iter();
    Ok(served
        .map(|api| (api.api_key, api.min_version, api.max_version))
        .collect())
}

/// A name without an address, in words; the system's own differ from one to the next.
fn unresolved(error: &io::Error) -> io::Error {
    let text = format!(
        "this machine knows no address of that host; is its name spelled right, and known to DNS or \
         /etc/hosts here? ({error})"
    );
    io::Error::new(error.kind(), text)
}

async fn connect(
    settings: &ClientSettings,
    host: &str,
    port: u16,
    address: &str,
) -> Result<Box<dyn Stream>, ClientError> {
    let failed = |source| ClientError::Connect {
        address: address.to_owned(),
        source,
    };
    let resolved = lookup_host((host, port)).await;
    let addresses: Vec<_> = resolved
        .map_err(|error| failed(unresolved(&error)))?
        .collect();
    let tcp = TcpStream::connect(&*addresses).await.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    let Some(tls) = &settings.tls else {
        return Ok(Box::new(tcp));
    };
    let ssl = ClientTls::new(tls)?.connect(host)?;
    let refused = |reason: String| ClientError::Tls {
        address: address.to_owned(),
        reason,
    };
    let mut stream = SslStream::new(ssl, tcp).map_err(|error| refused(error.to_string()))?;
    if let Err(error) = Pin::new(&mut stream).connect().await {
        // Which check failed is a result of its own; the error alone says "verify failed".
        let verdict = stream.ssl().verify_result();
        let reason = if verdict == openssl::x509::X509VerifyResult::OK {
            if let Some(mismatch) = hint::handshake(&error, address) {
                return Err(mismatch);
            }
            tls_words::of_alert(&error, tls).unwrap_or_else(|| error.to_string())
        } else {
            tls_words::of_broker(verdict, &printable(host))
        };
        return Err(refused(reason));
    }
    Ok(Box::new(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_of_the_largest_group_is_read() {
        // A quarter of what palisade.group.members.max.bytes is by default.
        const GROUP: i32 = 32 << 20;
        for api in [ApiKey::DescribeGroups, ApiKey::ConsumerGroupDescribe] {
            assert_eq!(answer_size(api, GROUP).unwrap(), 32 << 20);
            let refused = answer_size(api, (48 << 20) + 1);
            assert!(matches!(refused, Err(ClientError::TooLarge { .. })));
        }
        let refused = answer_size(ApiKey::ListGroups, GROUP);
        assert!(matches!(refused, Err(ClientError::TooLarge { .. })));
    }
}
