//! The node that all rows meet, and how they reach it.

use std::net::SocketAddr;

use palisade_protocol::api::ApiKey;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::api_versions::ApiVersionsRequest;
use palisade_protocol::messages::create_acls::AclCreation;
use palisade_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use palisade_protocol::text::Str;
use palisade_tests::access::{Access, Login};
use palisade_tests::certs::Identity;
use palisade_tests::node::Node;
use palisade_tests::paths;
use palisade_tests::requests::{self, newest};
use palisade_tests::wire::Connection;

/// A user with credentials of both mechanisms and no rights.
pub(super) const BOB: &str = "bob";
pub(super) const BOB_PASSWORD: &str = "bob-secret";

pub(super) struct World {
    pub(super) node: Node,
    /// PLAINTEXT, SASL_PLAINTEXT, SSL that asks for certificates, SASL_SSL that demands them.
    pub(super) open: String,
    pub(super) token: String,
    pub(super) asked: String,
    pub(super) strict: String,
    /// A certificate of the administrator's name.
    pub(super) admin: Identity,
}

impl World {
    pub(super) fn start() -> World {
        World::with(&[
            ("connection.failed.authentication.delay.ms", "50"),
            ("palisade.max.unauthenticated.connections.per.ip", "400"),
        ])
    }

    /// With times that pass while a test waits.
    pub(super) fn hasty() -> World {
        World::with(&[
            ("palisade.login.timeout.ms", "4000"),
            ("palisade.frame.timeout.ms", "2000"),
            ("palisade.tls.handshake.timeout.ms", "4000"),
        ])
    }

    /// With times that do not pass while a test waits.
    pub(super) fn patient() -> World {
        World::with(&[
            ("palisade.login.timeout.ms", "600000"),
            ("palisade.frame.timeout.ms", "600000"),
            ("palisade.tls.handshake.timeout.ms", "600000"),
        ])
    }

    fn with(more: &[(&str, &str)]) -> World {
        let mut node = Node::prepare();
        let [open, token, asked, strict] =
            [(); 4].map(|()| format!("127.0.0.1:{}", paths::free_port()));
        let sasl = node.scram("SCRAM-SHA-512").bootstrap;
        let ssl = node.certificate().bootstrap;
        node.set(
            "listeners",
            format!(
                "SASL_SSL://{sasl},SSL://{ssl},OPEN://{open},TOKEN://{token},\
                 ASKED://{asked},STRICT://{strict}"
            ),
        );
        node.set(
            "listener.security.protocol.map",
            "SASL_SSL:SASL_SSL,SSL:SSL,OPEN:PLAINTEXT,TOKEN:SASL_PLAINTEXT,ASKED:SSL,STRICT:SASL_SSL",
        );
        for (key, value) in [
            ("ssl.client.auth", "required"),
            ("listener.name.asked.ssl.client.auth", "requested"),
            ("listener.name.strict.ssl.client.auth", "required"),
            (
                "listener.name.sasl_ssl.sasl.enabled.mechanisms",
                "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            ),
            (
                "listener.name.sasl_ssl.plain.sasl.jaas.config",
                "org.apache.kafka.common.security.plain.PlainLoginModule required \
                 user_carol=\"carol-secret\" user_empty=\"\";",
            ),
        ]
        .iter()
        .chain(more)
        {
            node.set(key, *value);
        }
        node.allow("listeners without encryption");
        node.allow("ssl.client.auth is for listeners of protocol SSL");
        node.run();
        node.create_admin();
        let admin = node.authority().issue(node.dir(), "admin");
        let world = World {
            node,
            open,
            token,
            asked,
            strict,
            admin,
        };
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            requests::set_user(&mut world.admin(), BOB, mechanism, BOB_PASSWORD).expect("bob");
        }
        world
    }

    /// Somebody logs in by SCRAM and is served.
    pub(super) fn still_serves(&self) {
        let mut connection =
            Connection::open(&self.node.scram("SCRAM-SHA-256")).expect("others still log in");
        connection
            .call(0, &ApiVersionsRequest::default())
            .expect("others are still served");
    }

    /// The administrator, logged in.
    pub(super) fn admin(&self) -> Connection {
        Connection::open(&self.node.certificate()).expect("the administrator")
    }

    /// Bob, logged in.
    pub(super) fn bob(&self) -> Connection {
        let access = self.node.scram("SCRAM-SHA-512");
        Connection::open(&access.as_user("SCRAM-SHA-512", BOB, BOB_PASSWORD)).expect("bob")
    }

    /// SASL_SSL before login.
    pub(super) fn tls(&self) -> Connection {
        Connection::tls(&self.node.scram("SCRAM-SHA-512")).expect("a handshake")
    }

    /// SASL_PLAINTEXT before login.
    pub(super) fn sasl(&self) -> Connection {
        Connection::plain(&self.token).expect("a connection")
    }

    /// A TLS client without certificate at another listener.
    pub(super) fn access(&self, address: &str, certificate: Option<&Identity>) -> Access {
        let access = self.node.scram("SCRAM-SHA-512");
        Access {
            bootstrap: address.to_owned(),
            login: match certificate {
                Some(identity) => Login::Certificate(identity.clone()),
                None => access.login.clone(),
            },
            ..access
        }
    }

    /// Every address with its TLS or without.
    pub(super) fn addresses(&self) -> [String; 6] {
        [
            self.node.scram("SCRAM-SHA-512").bootstrap,
            self.node.certificate().bootstrap,
            self.open.clone(),
            self.token.clone(),
            self.asked.clone(),
            self.strict.clone(),
        ]
    }

    pub(super) fn topic_code(&self, connection: &mut Connection, name: &str) -> ErrorCode {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(Str::copy(name)),
                ..MetadataRequestTopic::default()
            }]),
            ..MetadataRequest::default()
        };
        let answer = connection.call(newest(ApiKey::Metadata), &request);
        answer.expect("an answer").topics[0].error_code
    }

    pub(super) fn topic_exists(&self, name: &str) -> bool {
        self.topic_code(&mut self.admin(), name) == ErrorCode::NONE
    }
}

/// A rule for one principal on a topic: pattern 3 is literal, 4 prefixed; permission 2 denies, 3 allows.
pub(super) fn rule(
    principal: &str,
    topic: &str,
    pattern: i8,
    operation: i8,
    permission: i8,
) -> AclCreation {
    AclCreation {
        resource_type: 2,
        resource_name: Str::copy(topic),
        resource_pattern_type: pattern,
        principal: Str::copy(principal),
        host: Str::from("*"),
        operation,
        permission_type: permission,
    }
}

/// The end of a connection, without a byte before it.
pub(super) fn closed(mut connection: Connection, what: &str) {
    assert!(
        connection.is_closed_by_peer(),
        "{what}: not closed in silence"
    );
}

/// The code at the front of an answer whose body begins with one.
pub(super) fn code(answer: &[u8]) -> i16 {
    i16::from_be_bytes(answer[4..6].try_into().expect("two bytes"))
}

/// A request header and body sent as one frame.
pub(super) fn send(connection: &mut Connection, key: i16, version: i16, body: &[u8]) {
    let mut frame = connection.header(key, version);
    frame.extend_from_slice(body);
    // The node may have closed already; what it said is what counts.
    let _ = connection.send(&frame);
}

/// SaslHandshake of a version for a mechanism; its code.
pub(super) fn handshake(connection: &mut Connection, version: i16, mechanism: &str) -> i16 {
    let mut body = Vec::new();
    palisade_tests::wire::put_string(&mut body, mechanism.as_bytes());
    send(connection, 17, version, &body);
    code(&connection.receive().expect("an answer to SaslHandshake"))
}

/// A TCP connection from another address of this host.
pub(super) fn from_elsewhere(address: &str) -> std::io::Result<std::net::TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let address: SocketAddr = address.parse().map_err(std::io::Error::other)?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 2], 0).into())?;
        socket.connect(address).await
    })?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}
