//! Whole brokers in process.

use std::net::SocketAddr;
use std::path::Path;

use palisade_auth::scram::{ScramCredential, ScramMechanism};
use palisade_protocol::messages::api_versions::ApiVersionsRequest;
use palisade_protocol::messages::sasl_authenticate::SaslAuthenticateRequest;
use palisade_protocol::messages::sasl_handshake::SaslHandshakeRequest;
use palisade_protocol::{ErrorCode, Request, Str, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::identity::IdentityError;
use super::*;
use crate::config::Sources;

fn config(dir: &Path, more: &str) -> Config {
    let text = format!(
        "process.roles=broker,controller\nnode.id=1\nlog.dirs={}\ncontroller.listener.names=C\n\
         controller.quorum.voters=1@localhost:9093\n{more}",
        dir.display()
    );
    let (config, _) = Config::load(&Sources::new().text("test.properties", &text)).unwrap();
    config
}

const PLAIN: &str = "listeners=PLAINTEXT://127.0.0.1:0,C://127.0.0.1:0\n\
     listener.security.protocol.map=PLAINTEXT:PLAINTEXT,C:PLAINTEXT\n";
const SASL: &str = "listeners=S://127.0.0.1:0,C://127.0.0.1:0\n\
     listener.security.protocol.map=S:SASL_PLAINTEXT,C:PLAINTEXT\n\
     inter.broker.listener.name=S\nsasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n\
     palisade.danger.allow.plain.without.tls=true\n\
     listener.name.s.plain.sasl.jaas.config=\
     org.apache.kafka.common.security.plain.PlainLoginModule required user_bob=\"builder\";\n";

async fn call<R: Request>(
    client: &mut TcpStream,
    version: i16,
    request: &R,
) -> std::io::Result<R::Response> {
    let bytes = frame::encode_request(version, 7, Some("test"), request).unwrap();
    client.write_all(&bytes).await?;
    let length = client.read_u32().await?;
    let mut answer = vec![0; length as usize];
    client.read_exact(&mut answer).await?;
    let (correlation, response) = frame::decode_response::<R>(version, answer.into()).unwrap();
    assert_eq!(correlation, 7);
    Ok(response)
}

fn address(running: &Running, name: &str) -> SocketAddr {
    let listeners = running.listeners();
    listeners
        .iter()
        .find(|one| one.0 == name)
        .expect("the listener")
        .1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_starts_answers_stops_and_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let running = start(config(dir.path(), PLAIN), Vec::new()).await.unwrap();
        let mut client = TcpStream::connect(address(&running, "PLAINTEXT"))
            .await
            .unwrap();
        let request = ApiVersionsRequest {
            client_software_name: Str::from_static("test"),
            client_software_version: Str::from_static("1"),
            ..Default::default()
        };
        let versions = call(&mut client, 4, &request).await.unwrap();
        assert_eq!(versions.error_code, ErrorCode::NONE);
        assert!(!versions.api_keys.is_empty());
        running.shutdown().await.unwrap();
        assert!(
            dir.path().join("clean-shutdown").exists(),
            "the clean marker"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn first_users_can_log_in_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let credential =
        ScramCredential::from_password(ScramMechanism::Sha512, b"secret", &[7; 16], 4096).unwrap();
    let users = vec![("admin".to_owned(), credential)];
    let running = start(config(dir.path(), SASL), users).await.unwrap();
    let refused = ErrorCode::SASL_AUTHENTICATION_FAILED;
    let logins = [
        ("admin", "secret", ErrorCode::NONE),
        ("bob", "builder", ErrorCode::NONE),
        ("admin", "builder", refused),
        ("carol", "secret", refused),
    ];
    for (user, password, code) in logins {
        let mut client = TcpStream::connect(address(&running, "S")).await.unwrap();
        let handshake = SaslHandshakeRequest {
            mechanism: Str::from_static("PLAIN"),
        };
        let answer = call(&mut client, 1, &handshake).await.unwrap();
        assert_eq!(answer.error_code, ErrorCode::NONE);
        let token = SaslAuthenticateRequest {
            auth_bytes: format!("\0{user}\0{password}").into_bytes().into(),
        };
        assert_eq!(call(&mut client, 2, &token).await.unwrap().error_code, code);
    }
    running.shutdown().await.unwrap();
    let audit = std::fs::read_to_string(dir.path().join("audit/audit.log")).unwrap();
    for action in [
        "start",
        "config_effective",
        "acl_loaded",
        "login_ok",
        "login_failed",
        "stop",
    ] {
        assert!(
            audit.contains(&format!("\"action\":\"{action}\"")),
            "{action}: {audit}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    start(config(dir.path(), PLAIN), Vec::new())
        .await
        .unwrap()
        .shutdown()
        .await
        .unwrap();
    let mut other = config(dir.path(), PLAIN);
    other.node_id = 2;
    let refused = start(other, Vec::new()).await.unwrap_err();
    assert!(
        matches!(
            refused,
            StartError::Identity(IdentityError::OtherNode { .. })
        ),
        "{refused}"
    );
    let shown = dir.path().display();
    let expected = format!(
        "{shown} belongs to node 1, this is node 2: set node.id=1, or log.dirs to another directory"
    );
    assert_eq!(refused.to_string(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_lost_its_identity_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    start(config(dir.path(), PLAIN), Vec::new())
        .await
        .unwrap()
        .shutdown()
        .await
        .unwrap();
    let identity = dir.path().join("meta.properties");
    let kept = std::fs::read(&identity).unwrap();
    std::fs::remove_file(&identity).unwrap();
    for _ in 0..2 {
        let refused = start(config(dir.path(), PLAIN), Vec::new())
            .await
            .unwrap_err();
        assert!(
            refused.to_string().contains("meta.properties is missing"),
            "{refused}"
        );
        assert!(!identity.exists());
    }
    std::fs::write(&identity, kept).unwrap();
    let running = start(config(dir.path(), PLAIN), Vec::new()).await.unwrap();
    running.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_brokers_live_in_one_process() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = start(config(a.path(), PLAIN), Vec::new()).await.unwrap();
    let second = start(config(b.path(), PLAIN), Vec::new()).await.unwrap();
    first.shutdown().await.unwrap();
    let mut client = TcpStream::connect(address(&second, "PLAINTEXT"))
        .await
        .unwrap();
    call(&mut client, 0, &ApiVersionsRequest::default())
        .await
        .unwrap();
    second.shutdown().await.unwrap();
}

/// Small numbers without a pattern, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        // Small values are likelier to be plausible lengths and counts.
        let mut byte = || {
            let roll = self.roll();
            if roll & 3 == 0 {
                (roll >> 8) as u8
            } else {
                (roll >> 8) as u8 & 3
            }
        };
        (0..len).map(|_| byte()).collect()
    }
}

/// Every API at every version with bodies that make no sense: answered under the own correlation
/// id or closed, and never a panic.
#[tokio::test(flavor = "multi_thread")]
async fn nonsense_bodies_are_answered_or_closed() {
    static PANICS: parking_lot::Mutex<Vec<String>> = parking_lot::Mutex::new(Vec::new());
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic
            .location()
            .is_some_and(|at| !at.file().contains("tests"))
        {
            PANICS.lock().push(panic.to_string());
        }
        usual(panic);
    }));
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &format!("{PLAIN}super.users=User:ANONYMOUS\n"));
    let running = start(config, Vec::new()).await.unwrap();
    let address = address(&running, "PLAINTEXT");
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for spec in palisade_protocol::api::SERVED {
        for version in spec.min..=spec.max {
            for _ in 0..12 {
                let len = (dice.roll() % 120) as usize;
                let body = dice.bytes(len);
                let mut client = TcpStream::connect(address).await.unwrap();
                let mut frame = (10 + len as u32).to_be_bytes().to_vec();
                frame.extend(spec.key.value().to_be_bytes());
                frame.extend(version.to_be_bytes());
                frame.extend(0x0102_0304_i32.to_be_bytes());
                frame.extend((-1_i16).to_be_bytes());
                frame.extend(body);
                client.write_all(&frame).await.unwrap();
                client.shutdown().await.unwrap();
                let mut answer = Vec::new();
                let _ = client.read_to_end(&mut answer).await;
                let whole = answer.is_empty() || answer[4..8] == [1, 2, 3, 4];
                assert!(whole, "{:?} v{version}: {answer:?}", spec.key);
            }
        }
    }
    let mut client = TcpStream::connect(address).await.unwrap();
    call(&mut client, 0, &ApiVersionsRequest::default())
        .await
        .unwrap();
    running.shutdown().await.unwrap();
    assert_eq!(*PANICS.lock(), Vec::<String>::new());
}
