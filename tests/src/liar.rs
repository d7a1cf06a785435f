//! A broker that answers whatever a test makes up: for what a client does with answers that no broker gives.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use palisade_protocol::api::{ApiKey, SERVED};
use palisade_protocol::frame;
use palisade_protocol::header::RequestHeader;
use palisade_protocol::messages::Message;
use palisade_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use palisade_protocol::reader::Reader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// What is asked for.
    pub key: ApiKey,
    /// In which version.
    pub version: i16,
    correlation_id: i32,
}

impl Asked {
    /// The frame that answers it.
    ///
    /// # Panics
    /// When the version cannot say `body`.
    pub fn answer<M: Message>(&self, body: &M) -> Vec<u8> {
        let buffer = BytesMut::new();
        let chunks =
            frame::encode_response(buffer, self.key, self.version, self.correlation_id, body);
        let chunks = chunks.expect("an answer that can be said");
        chunks
            .iter()
            .flat_map(|one| one.as_bytes())
            .copied()
            .collect()
    }
}

/// The listener without TLS of such a broker. Dropping it ends every connection.
pub struct Liar {
    address: String,
    _runtime: Runtime,
}

impl Liar {
    /// Answers ApiVersions as our own broker does, all else by `answers`, which is told the port that it listens
    /// on; a request without an answer ends its connection.
    ///
    /// # Panics
    /// When the system has no more ports or threads.
    pub fn open(answers: impl Fn(&Asked, i32) -> Option<Vec<u8>> + Send + Sync + 'static) -> Liar {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let door = TcpListener::bind("127.0.0.1:0").expect("a port");
        door.set_nonblocking(true).expect("an own socket");
        let address = door.local_addr().expect("its address");
        let port = i32::from(address.port());
        let answers = Arc::new(answers);
        let handle = runtime.handle().clone();
        runtime.spawn(async move {
            let door = tokio::net::TcpListener::from_std(door).expect("a socket that listens");
            while let Ok((client, _)) = door.accept().await {
                let answers = Arc::clone(&answers);
                handle.spawn(async move {
                    // The client may go at any time.
                    let _ = serve(client, |asked| answers(asked, port)).await;
                });
            }
        });
        Liar {
            address: address.to_string(),
            _runtime: runtime,
        }
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }
}

async fn serve(
    mut client: TcpStream,
    answers: impl Fn(&Asked) -> Option<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let size = client.read_i32().await?;
        let mut request = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        client.read_exact(&mut request).await?;
        let header = RequestHeader::decode(&mut Reader::new(Bytes::from(request)));
        let header = header.map_err(io::Error::other)?;
        let Some(key) = ApiKey::from_i16(header.api_key) else {
            return Ok(());
        };
        let asked = Asked {
            key,
            version: header.api_version,
            correlation_id: header.correlation_id,
        };
        let answer = match key {
            ApiKey::ApiVersions => Some(asked.answer(&versions())),
            _ => answers(&asked),
        };
        match answer {
            Some(answer) => client.write_all(&answer).await?,
            None => return Ok(()),
        }
    }
}

fn versions() -> ApiVersionsResponse {
    let all = SERVED.iter().map(|spec| ApiVersion {
        api_key: spec.key.value(),
        min_version: spec.served_min,
        max_version: spec.max,
    });
    ApiVersionsResponse {
        api_keys: all.collect(),
        ..ApiVersionsResponse::default()
    }
}
