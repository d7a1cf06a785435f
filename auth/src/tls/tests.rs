//! Handshakes over a pair of sockets: each setting changes one.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslSessionCacheMode, SslStream,
    SslVerifyMode, SslVersion,
};

use super::principal::certificate_principal;
use super::testing::{Files, Made, Recipe, authority};
use super::*;
use crate::principal::Principal;

/// What one side saw of a connection that worked.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    version: String,
    cipher: String,
    sni: Option<String>,
    principal: Option<Principal>,
}

/// The server's view, or `None` when the connection failed on either side before a byte of
/// the client's was read.
fn handshake(server: &SslContext, client: Ssl) -> Option<Seen> {
    let (near, far) = UnixStream::pair().unwrap();
    let context = server.clone();
    let serving = thread::spawn(move || {
        let mut stream = Ssl::new(&context).unwrap().accept(near).ok()?;
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).ok()?;
        stream.write_all(&byte).ok()?;
        let seen = see(&stream);
        let _ = stream.shutdown();
        Some(seen)
    });
    let talked = client.connect(far).ok().and_then(|mut stream| {
        stream.write_all(b"x").ok()?;
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).ok()?;
        Some(())
    });
    let seen = serving.join().unwrap();
    talked.and(seen)
}

fn see(stream: &SslStream<UnixStream>) -> Seen {
    let ssl = stream.ssl();
    let rules = principal::MappingRules::default();
    let info = principal::session_info(ssl);
    assert_eq!(info.verified, ssl.peer_certificate().is_some());
    Seen {
        version: info.version,
        cipher: info.cipher,
        sni: info.sni,
        principal: ssl
            .peer_certificate()
            .map(|cert| certificate_principal(&cert, &rules).unwrap()),
    }
}

struct World {
    ca: Made,
    node: Made,
    files: Files,
}

impl World {
    fn new() -> Self {
        let ca = authority("ca");
        let mut recipe = Recipe::new("node");
        recipe.dns = &["node.example.com", "*.wild.example.com"];
        recipe.ip = Some("127.0.0.1");
        let node = recipe.sign(Some(&ca));
        Self {
            ca,
            node,
            files: Files::new(),
        }
    }

    fn server(&self) -> TlsSettings {
        TlsSettings {
            keystore: Some(inline(&self.node)),
            truststore: Some(TrustStore::Inline(self.ca.cert_pem().into())),
            ..TlsSettings::default()
        }
    }

    fn client(&self) -> TlsSettings {
        TlsSettings {
            truststore: Some(TrustStore::Inline(self.ca.cert_pem().into())),
            ..TlsSettings::default()
        }
    }
}

fn inline(made: &Made) -> KeyStore {
    KeyStore::Inline {
        key: made.key_pem().into(),
        chain: made.cert_pem().into(),
    }
}

fn meet(server: &TlsSettings, client: &TlsSettings, host: &str) -> Option<Seen> {
    let server = ServerTls::new(server).unwrap();
    let client = ClientTls::new(client).unwrap().connect(host).unwrap();
    handshake(&server.context(), client)
}

/// A client that checks nothing and offers what it is told.
fn raw_client(change: impl FnOnce(&mut SslContextBuilder)) -> Ssl {
    let mut context = SslContextBuilder::new(SslMethod::tls()).unwrap();
    context.set_verify(SslVerifyMode::NONE);
    change(&mut context);
    Ssl::new(&context.build()).unwrap()
}

#[test]
fn the_default_is_tls13_with_aes_128() {
    let world = World::new();
    let seen = meet(&world.server(), &world.client(), "node.example.com").unwrap();
    assert_eq!(seen.version, "TLSv1.3");
    assert_eq!(seen.cipher, "TLS_AES_128_GCM_SHA256");
    assert_eq!(seen.principal, None);
    assert_eq!(seen.sni.as_deref(), Some("node.example.com"));
    // The server's order counts, not the client's.
    let server = ServerTls::new(&world.server()).unwrap();
    let client = raw_client(|c| {
        c.set_ciphersuites("TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256")
            .unwrap();
    });
    let seen = handshake(&server.context(), client).unwrap();
    assert_eq!(seen.cipher, "TLS_AES_128_GCM_SHA256");
}

#[test]
fn stores_come_from_files_too() {
    let world = World::new();
    let key = world.files.write("node.pem", world.node.both(), 0o600);
    let ca = world.files.write("ca.pem", world.ca.cert_pem(), 0o644);
    let server = TlsSettings {
        keystore: Some(KeyStore::PemFile(key)),
        ..TlsSettings::default()
    };
    let client = TlsSettings {
        truststore: Some(TrustStore::PemFile(ca)),
        ..TlsSettings::default()
    };
    assert!(meet(&server, &client, "node.example.com").is_some());
}

#[test]
fn protocols_bound_the_version() {
    let world = World::new();
    let with = |protocols: &[TlsVersion]| TlsSettings {
        protocols: protocols.to_vec(),
        ..world.server()
    };
    let only12 = with(&[TlsVersion::Tls12]);
    let seen = meet(&only12, &world.client(), "node.example.com").unwrap();
    assert_eq!(seen.version, "TLSv1.2");
    assert_eq!(seen.cipher, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
    let only13 = with(&[TlsVersion::Tls13]);
    let old = raw_client(|c| c.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap());
    let context = ServerTls::new(&only13).unwrap().context();
    assert_eq!(handshake(&context, old), None);
    let mut client12 = world.client();
    client12.protocols = vec![TlsVersion::Tls12];
    assert!(meet(&only12, &client12, "node.example.com").is_some());
    assert!(meet(&only13, &client12, "node.example.com").is_none());
}

#[test]
fn t09_t10_old_versions_and_weak_suites_fail() {
    let world = World::new();
    let context = ServerTls::new(&world.server()).unwrap().context();
    for version in [SslVersion::TLS1, SslVersion::TLS1_1] {
        let client = raw_client(|c| {
            c.set_security_level(0);
            c.set_min_proto_version(Some(version)).unwrap();
            c.set_max_proto_version(Some(version)).unwrap();
            c.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
        });
        assert_eq!(handshake(&context, client), None);
    }
    for suites in ["aNULL:eNULL:@SECLEVEL=0", "AES128-SHA:@SECLEVEL=0"] {
        let client = raw_client(|c| {
            c.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
            c.set_cipher_list(suites).unwrap();
        });
        assert_eq!(handshake(&context, client), None, "{suites}");
    }
}

#[test]
fn suites_decide_cipher_and_version() {
    let world = World::new();
    let with = |suite: &str| TlsSettings {
        cipher_suites: vec![suite.to_owned()],
        ..world.server()
    };
    for (suite, version) in [
        ("TLS_CHACHA20_POLY1305_SHA256", "TLSv1.3"),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLSv1.2"),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "TLSv1.2"),
    ] {
        let context = ServerTls::new(&with(suite)).unwrap().context();
        let seen = handshake(&context, raw_client(|_| {})).unwrap();
        assert_eq!(
            (seen.cipher.as_str(), seen.version.as_str()),
            (suite, version)
        );
    }
    let unknown = ServerTls::new(&with("TLS_RSA_WITH_AES_128_CBC_SHA"));
    assert!(matches!(unknown, Err(TlsError::CipherSuite(_))));
}

#[test]
fn groups_are_few() {
    let world = World::new();
    let context = ServerTls::new(&world.server()).unwrap().context();
    for (group, works) in [("X25519", true), ("P-256", true), ("P-521", false)] {
        let client = raw_client(|c| c.set_groups_list(group).unwrap());
        assert_eq!(handshake(&context, client).is_some(), works, "{group}");
    }
}

#[test]
fn client_auth_none_requested_required() {
    let world = World::new();
    let user = Recipe::new("alice").sign(Some(&world.ca));
    let stranger = Recipe::new("alice").sign(Some(&authority("other ca")));
    let self_signed = Recipe::new("alice").sign(None);
    let mut expired = Recipe::new("alice");
    expired.validity = (0, 1_000_000_000);
    let expired = expired.sign(Some(&world.ca));
    let mut unborn = Recipe::new("alice");
    unborn.validity = (3_900_000_000, 4_000_000_000);
    let unborn = unborn.sign(Some(&world.ca));
    let mut wrong_use = Recipe::new("alice");
    wrong_use.server_only = true;
    let wrong_use = wrong_use.sign(Some(&world.ca));

    let with = |client_auth| TlsSettings {
        client_auth,
        ..world.server()
    };
    let client = |made: Option<&Made>| TlsSettings {
        keystore: made.map(inline),
        ..world.client()
    };
    let alice = Some(Principal::user("CN=alice,O=Acme"));
    for protocol in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let go = |client_auth, made: Option<&Made>| {
            let mut server = with(client_auth);
            server.protocols = vec![protocol];
            meet(&server, &client(made), "node.example.com").map(|seen| seen.principal)
        };
        // Not asked for, so not sent.
        assert_eq!(go(ClientAuth::None, Some(&user)), Some(None));
        assert_eq!(go(ClientAuth::None, Some(&stranger)), Some(None));
        assert_eq!(go(ClientAuth::Requested, None), Some(None));
        assert_eq!(go(ClientAuth::Requested, Some(&user)), Some(alice.clone()));
        assert_eq!(go(ClientAuth::Required, Some(&user)), Some(alice.clone()));
        // T14: no certificate and a request already sent gets no answer.
        assert_eq!(go(ClientAuth::Required, None), None);
        // T12, T13
        for bad in [&stranger, &self_signed, &expired, &unborn, &wrong_use] {
            assert_eq!(go(ClientAuth::Required, Some(bad)), None);
            assert_eq!(go(ClientAuth::Requested, Some(bad)), None);
        }
    }
}

#[test]
fn chains_are_sent_and_followed() {
    let world = World::new();
    let mut recipe = Recipe::new("middle");
    recipe.ca = true;
    let middle = recipe.sign(Some(&world.ca));
    let mut recipe = Recipe::new("node");
    recipe.dns = &["node.example.com"];
    let node = recipe.sign(Some(&middle));
    let with_chain = TlsSettings {
        keystore: Some(KeyStore::Inline {
            key: node.key_pem().into(),
            chain: (node.cert_pem() + &middle.cert_pem()).into(),
        }),
        ..TlsSettings::default()
    };
    assert!(meet(&with_chain, &world.client(), "node.example.com").is_some());
    let without = TlsSettings {
        keystore: Some(inline(&node)),
        // Trusting the chain's middle must not make the server send it.
        truststore: Some(TrustStore::Inline(middle.cert_pem().into())),
        ..TlsSettings::default()
    };
    assert!(meet(&without, &world.client(), "node.example.com").is_none());
    // Whatever is in a truststore is an anchor.
    let anchored = TlsSettings {
        truststore: Some(TrustStore::Inline(middle.cert_pem().into())),
        ..TlsSettings::default()
    };
    assert!(meet(&without, &anchored, "node.example.com").is_some());
}

#[test]
fn t18_t19_host_names() {
    let world = World::new();
    let cases = [
        ("node.example.com", true),
        ("NODE.example.com", true),
        ("127.0.0.1", true),
        ("a.wild.example.com", true),
        ("a.b.wild.example.com", false),
        ("wild.example.com", false),
        ("other.example.com", false),
        ("127.0.0.2", false),
        ("::1", false),
        ("[::1]", false),
        // The common name is no host name.
        ("node", false),
    ];
    for (host, works) in cases {
        let met = meet(&world.server(), &world.client(), host);
        assert_eq!(met.is_some(), works, "{host}");
    }
    let unchecked = TlsSettings {
        verify_hostname: false,
        ..world.client()
    };
    assert!(meet(&world.server(), &unchecked, "other.example.com").is_some());
    // The chain is still verified.
    let stranger = TlsSettings {
        keystore: Some(inline(&Recipe::new("x").sign(None))),
        ..world.server()
    };
    assert!(meet(&stranger, &unchecked, "other.example.com").is_none());
    // A certificate without any alternative name covers nothing.
    let bare = TlsSettings {
        keystore: Some(inline(
            &Recipe::new("node.example.com").sign(Some(&world.ca)),
        )),
        ..world.server()
    };
    assert!(meet(&bare, &world.client(), "node.example.com").is_none());
    // A client's certificate is no server's.
    let mut recipe = Recipe::new("node");
    recipe.dns = &["node.example.com"];
    recipe.client_only = true;
    let client_only = TlsSettings {
        keystore: Some(inline(&recipe.sign(Some(&world.ca)))),
        ..world.server()
    };
    assert!(meet(&client_only, &world.client(), "node.example.com").is_none());
}

#[test]
fn what_is_missing_is_refused() {
    let world = World::new();
    let no_key = TlsSettings {
        keystore: None,
        ..world.server()
    };
    assert!(matches!(ServerTls::new(&no_key), Err(TlsError::NoKeystore)));
    for client_auth in [ClientAuth::Requested, ClientAuth::Required] {
        let no_trust = TlsSettings {
            truststore: None,
            client_auth,
            ..world.server()
        };
        assert!(matches!(
            ServerTls::new(&no_trust),
            Err(TlsError::NoTruststore)
        ));
    }
    // A client never falls back to public authorities.
    let no_trust = TlsSettings::default();
    assert!(matches!(
        ClientTls::new(&no_trust),
        Err(TlsError::NoTruststore)
    ));
}

#[test]
fn t11_renegotiation_tickets_and_compression_are_off() {
    // The safe API cannot ask for a renegotiation, so the options themselves are looked at.
    let options = context::base(&TlsSettings::default()).unwrap().options();
    let off = SslOptions::NO_RENEGOTIATION | SslOptions::NO_TICKET | SslOptions::NO_COMPRESSION;
    assert!(options.contains(off));
}

#[test]
fn no_session_outlives_its_connection() {
    let world = World::new();
    let context = ServerTls::new(&world.server()).unwrap().context();
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let tickets = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&tickets);
        let client = raw_client(|c| {
            c.set_max_proto_version(Some(version)).unwrap();
            c.set_session_cache_mode(SslSessionCacheMode::CLIENT);
            c.set_new_session_callback(move |_, _| {
                counter.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert!(handshake(&context, client).is_some());
        assert_eq!(tickets.load(Ordering::Relaxed), 0, "{version:?}");
    }
}

#[test]
fn validity_of_the_own_certificate() {
    let world = World::new();
    let server = ServerTls::new(&world.server()).unwrap();
    let validity = Validity::of(server.certificate()).unwrap();
    assert_eq!(
        (validity.not_before, validity.not_after),
        (1_000_000_000, 4_000_000_000)
    );
    assert!(format!("{server:?}").contains("CN=node,O=Acme"));
}

#[test]
fn a_certificate_near_or_past_its_end_is_worth_a_word() {
    let world = World::new();
    let server = ServerTls::new(&world.server()).unwrap();
    let says = |now| server.validity_warning(now).unwrap();
    const MONTH: i64 = 30 * 86_400;
    for quiet in [1_000_000_000, 4_000_000_000 - MONTH] {
        assert_eq!(says(quiet), None);
    }
    for (now, what) in [
        (999_999_999, "is not valid before Sep  9 01:46:40 2001 GMT"),
        (4_000_000_001 - MONTH, "expires on Oct  2 07:06:40 2096 GMT"),
        (4_000_000_000, "expires on Oct  2 07:06:40 2096 GMT"),
        (4_000_000_001, "expired on Oct  2 07:06:40 2096 GMT"),
    ] {
        let said = says(now).unwrap_or_default();
        assert!(said.contains(what), "{now}: {said}");
        assert!(said.contains("CN=node,O=Acme"), "{now}: {said}");
    }
}
