//! T: transport and framing.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use openssl::ssl::SslVersion;
use palisade_protocol::api::ApiKey;
use palisade_protocol::batch::compression::Codec;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::frame;
use palisade_protocol::messages::api_versions::ApiVersionsRequest;
use palisade_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use palisade_protocol::text::Str;
use palisade_tests::access::Access;
use palisade_tests::certs::{Authority, Validity};
use palisade_tests::check::eventually;
use palisade_tests::process::KillOnDrop;
use palisade_tests::requests::{self, newest};
use palisade_tests::wire::{self, Connection};

use super::Row;
use super::world::{BOB, BOB_PASSWORD, World, closed};

pub(super) const ROWS: &[Row] = &[
    ("T01", plaintext_to_tls),
    ("T02", tls_to_plaintext),
    ("T03", http),
    ("T04", absurd_lengths),
    ("T07", too_long_when_ready),
    ("T09", old_protocols),
    ("T10", weak_suites),
    ("T11", renegotiation),
    ("T12", unknown_authority),
    ("T13", unusable_certificates),
    ("T14", no_certificate),
    ("T15", anonymous),
    ("T16", bare_client_auth),
    ("T17", certificate_is_no_principal),
    ("T20", cut_inside_a_frame),
    ("T22", abandoned_handshakes),
    ("T23", oversized_hellos),
];

/// What comes back to these bytes until the connection ends.
fn everything(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = wire::tcp(address).expect("a connection");
    // The node may close while this is written.
    let _ = stream.write_all(bytes);
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got);
    got
}

fn is_alert(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes[0] == 0x15
}

fn shakes(access: &Access, change: impl FnOnce(&mut openssl::ssl::SslConnectorBuilder)) -> bool {
    let mut settings = wire::connector(access);
    change(&mut settings);
    // In TLS 1.3 the client learns of a refusal with its first answer.
    Connection::tls_with(&access.bootstrap, settings)
        .and_then(|mut connection| connection.call(0, &ApiVersionsRequest::default()))
        .is_ok()
}

fn audited(world: &World, wanted: &str) {
    let file = world.node.dir().join("data/audit/audit.log");
    let seen = || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.contains(wanted)
            .then_some(())
            .ok_or_else(|| wanted.to_owned())
    };
    eventually("an audit line", std::time::Duration::from_secs(10), seen);
}

fn plaintext_to_tls(world: &World) {
    let hello = frame::encode_request(0, 1, Some("tests"), &ApiVersionsRequest::default());
    let hello = hello.expect("a frame");
    for address in [&world.addresses()[0], &world.addresses()[1]] {
        let got = everything(address, &hello);
        assert!(is_alert(&got), "{got:?}");
    }
    audited(world, "likely a plaintext client on a TLS listener");
    world
        .node
        .process()
        .wait_for_line(std::time::Duration::from_secs(10), |line| {
            line.contains("likely a plaintext client on a TLS listener")
        });
}

fn tls_to_plaintext(world: &World) {
    for address in [&world.open, &world.token] {
        assert!(!shakes(&world.access(address, None), |_| ()));
    }
    audited(world, "likely a TLS client on a plaintext listener");
}

fn http(world: &World) {
    for address in world.addresses() {
        let got = everything(&address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(is_alert(&got), "{address}: {got:?}");
    }
    audited(world, "likely an HTTP client on a Kafka listener");
}

/// Resident memory of the node, in KiB.
fn resident(world: &World) -> u64 {
    let status = format!("/proc/{}/status", world.node.process().id());
    let status = std::fs::read_to_string(status).expect("the process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|text| text.parse().ok()).expect("a number")
}

fn absurd_lengths(world: &World) {
    let lengths = [-1, 0, i32::MAX, 352_518_912];
    // Once before measuring: pools and threads appear with the first connections.
    for measured in [false, true] {
        let before = resident(world);
        let mut connections = Vec::new();
        for _ in 0..20 {
            for length in lengths {
                let mut connection = world.sasl();
                connection
                    .send_raw(&i32::to_be_bytes(length))
                    .expect("four bytes");
                connections.push(connection);
            }
        }
        let count = connections.len() as u64;
        for connection in connections {
            closed(connection, "an absurd length");
        }
        let grown = resident(world).saturating_sub(before);
        assert!(
            !measured || grown < 64 * count,
            "{grown} KiB for {count} connections"
        );
    }
    for length in lengths {
        let mut connection = world.tls();
        connection
            .send_raw(&i32::to_be_bytes(length))
            .expect("four bytes");
        closed(connection, "an absurd length over TLS");
    }
}

fn too_long_when_ready(world: &World) {
    for mut connection in [world.admin(), world.bob()] {
        connection
            .send_raw(&104_857_601_i32.to_be_bytes())
            .expect("four bytes");
        closed(connection, "beyond socket.request.max.bytes");
    }
}

fn old_protocols(world: &World) {
    let access = world.node.scram("SCRAM-SHA-512");
    for version in [SslVersion::TLS1, SslVersion::TLS1_1] {
        assert!(!shakes(&access, |tls| {
            tls.set_cipher_list("ALL:@SECLEVEL=0").expect("ciphers");
            tls.set_min_proto_version(Some(version)).expect("a version");
            tls.set_max_proto_version(Some(version)).expect("a version");
        }));
    }
}

fn weak_suites(world: &World) {
    let access = world.node.scram("SCRAM-SHA-512");
    for suites in [
        "aNULL:@SECLEVEL=0",
        "eNULL:@SECLEVEL=0",
        "AES128-SHA:@SECLEVEL=0",
    ] {
        assert!(
            !shakes(&access, |tls| {
                tls.set_cipher_list(suites).expect("ciphers");
                tls.set_max_proto_version(Some(SslVersion::TLS1_2))
                    .expect("a version");
            }),
            "{suites}"
        );
    }
}

fn renegotiation(world: &World) {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-tls1_2", "-connect", &world.addresses()[0]])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut client = KillOnDrop::spawn(&mut command);
    // "R" at the begin of a line asks for a renegotiation.
    let mut input = client.stdin.take().expect("its input");
    input.write_all(b"R\n").expect("a line");
    let mut said = Vec::new();
    let errors = client.stderr.as_mut().expect("its errors");
    errors.read_to_end(&mut said).expect("its output");
    drop(input);
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(
        said.contains("no renegotiation") || said.contains("handshake failure"),
        "{said}"
    );
}

fn unknown_authority(world: &World) {
    let stranger = Authority::new("another CA").issue(world.node.dir(), "stranger");
    for address in [&world.addresses()[1], &world.asked] {
        assert!(
            !shakes(&world.access(address, Some(&stranger)), |_| ()),
            "{address}"
        );
    }
}

fn unusable_certificates(world: &World) {
    let (authority, dir) = (world.node.authority(), world.node.dir());
    let unusable = [
        authority.issue_as(dir, "expired", Validity::Expired),
        authority.issue_as(dir, "early", Validity::NotYet),
        authority.issue_as(dir, "server-only", Validity::ServerOnly),
        Authority::new("test CA").issue(dir, "namesake"),
    ];
    for identity in unusable {
        for address in [&world.addresses()[1], &world.asked] {
            let access = world.access(address, Some(&identity));
            assert!(!shakes(&access, |_| ()), "{:?}", identity.certificate);
        }
    }
}

fn no_certificate(world: &World) {
    assert!(!shakes(&world.access(&world.addresses()[1], None), |_| ()));
}

fn anonymous(world: &World) {
    let access = world.access(&world.asked, None);
    let mut nobody = Connection::tls(&access).expect("a handshake");
    let id = requests::create_topic(&mut world.admin(), "t15", 1, &[]).expect("a topic");
    let records = requests::batch(Codec::None, &[b"x"], 1_700_000_000_000);
    let answer = requests::produce(&mut nobody, "t15", id, 1, records).expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
}

fn bare_client_auth(world: &World) {
    assert!(
        shakes(&world.node.scram("SCRAM-SHA-512"), |_| ()),
        "the bare key is not for SASL"
    );
    let said = "listener SASL_SSL: ssl.client.auth is for listeners of protocol SSL, and no \
                certificate is asked for here: to ask for one, set \
                listener.name.sasl_ssl.ssl.client.auth";
    let lines = world.node.process().lines();
    let about = lines.iter().filter(|line| line.contains("ssl.client.auth"));
    let about: Vec<&String> = about.collect();
    assert!(
        matches!(&about[..], [only] if only.ends_with(said)),
        "{about:#?}"
    );
    assert!(
        !shakes(&world.access(&world.strict, None), |_| ()),
        "the listener's own is"
    );
    assert!(shakes(
        &world.access(&world.strict, Some(&world.admin)),
        |_| ()
    ));
}

fn certificate_is_no_principal(world: &World) {
    let mut bob = Connection::tls(&world.access(&world.strict, Some(&world.admin)))
        .expect("a certificate of the administrator's");
    bob.scram("SCRAM-SHA-512", BOB, BOB_PASSWORD)
        .expect("bob's password");
    requests::create_topic(&mut bob, "t17", 1, &[]).expect_err("bob may not");
    assert!(!world.topic_exists("t17"));
}

fn cut_inside_a_frame(world: &World) {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Str::from("t20"),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        }],
        timeout_ms: requests::TIMEOUT_MS,
        ..CreateTopicsRequest::default()
    };
    let version = newest(ApiKey::CreateTopics);
    let whole = frame::encode_request(version, 1, Some("tests"), &request).expect("a frame");
    for goodbye in [true, false] {
        let mut admin = world.admin();
        admin
            .send_raw(&whole[..whole.len() - 1])
            .expect("all but a byte");
        if let (true, wire::Transport::Tls(stream)) = (goodbye, admin.transport()) {
            let _ = stream.shutdown();
        }
        drop(admin);
        assert!(!world.topic_exists("t20"));
    }
}

fn abandoned_handshakes(world: &World) {
    for round in 0..100 {
        let mut stream = wire::tcp(&world.addresses()[round % 2]).expect("the node accepts");
        // Half of them go after the first bytes of a hello.
        if round % 4 < 2 {
            stream.write_all(&[0x16, 3, 1, 2, 0, 1]).expect("six bytes");
        }
    }
}

fn oversized_hellos(world: &World) {
    // A hello that claims 250,000 bytes, in records of the largest size.
    let mut hello = Vec::new();
    for number in 0..16 {
        hello.extend_from_slice(&[0x16, 3, 1, 0x40, 0]);
        let mut record = vec![0; 0x4000];
        if number == 0 {
            record[..6].copy_from_slice(&[1, 3, 0xd0, 0x90, 3, 3]);
        }
        hello.extend_from_slice(&record);
    }
    assert!(is_alert(&everything(&world.addresses()[0], &hello)));
    let access = world.node.scram("SCRAM-SHA-512");
    // A protocol nobody offers is no reason to fail, and none to choose it.
    assert!(shakes(&access, |tls| tls
        .set_alpn_protos(b"\x04junk")
        .expect("a list")));
    let chain = std::fs::read(&world.admin.certificate).expect("a certificate");
    let filler = openssl::x509::X509::from_pem(&chain).expect("a certificate");
    let access = world.access(&world.addresses()[1], Some(&world.admin));
    assert!(!shakes(&access, |tls| {
        for _ in 0..300 {
            tls.add_extra_chain_cert(filler.clone())
                .expect("a certificate");
        }
    }));
}
