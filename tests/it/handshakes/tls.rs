//! The keys of TLS.

use std::fs;
use std::path::Path;

use openssl::pkey::PKey;
use openssl::ssl::SslVersion;
use openssl::symm::Cipher;
use palisade_protocol::messages::api_versions::ApiVersionsRequest;
use palisade_tests::access::{Access, Login};
use palisade_tests::certs::{Authority, Validity};
use palisade_tests::node::Node;
use palisade_tests::paths::write_private;
use palisade_tests::requests;
use palisade_tests::wire::{self, Connection};

use super::{Seen, shake};

/// A node with one more setting, running.
fn node_with(settings: &[(&str, &str)]) -> Node {
    let mut node = Node::prepare();
    for (key, value) in settings {
        node.set(key, *value);
    }
    node.run();
    node
}

fn at_most(access: &Access, version: SslVersion) -> Result<Seen, String> {
    shake(access, |tls| {
        tls.set_max_proto_version(Some(version)).expect("a version")
    })
}

fn at_least(access: &Access, version: SslVersion) -> Result<Seen, String> {
    shake(access, |tls| {
        tls.set_min_proto_version(Some(version)).expect("a version")
    })
}

/// The PEM text as a value of a properties file.
fn inline(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a PEM file");
    text.replace('\n', "\\n")
}

#[test]
fn enabled_protocols() {
    let node = node_with(&[]);
    let access = node.certificate();
    assert_eq!(shake(&access, |_| ()).expect("both").version, "TLSv1.3");
    let old = at_most(&access, SslVersion::TLS1_2).expect("both");
    assert_eq!(old.version, "TLSv1.2");
    assert!(at_most(&access, SslVersion::TLS1_1).is_err());

    let node = node_with(&[("ssl.enabled.protocols", "TLSv1.3")]);
    assert!(at_most(&node.certificate(), SslVersion::TLS1_2).is_err());
    shake(&node.certificate(), |_| ()).expect("1.3");

    let node = node_with(&[
        ("ssl.enabled.protocols", "TLSv1.2"),
        ("ssl.protocol", "TLSv1.2"),
    ]);
    assert!(at_least(&node.certificate(), SslVersion::TLS1_3).is_err());
    shake(&node.certificate(), |_| ()).expect("1.2");
}

/// It chooses a context in Java; here it must only not contradict what is enabled.
#[test]
fn protocol() {
    let mut node = Node::prepare();
    node.set("ssl.enabled.protocols", "TLSv1.3");
    node.set("ssl.protocol", "TLSv1.2");
    let said = node.refuses_to_start();
    assert!(said.contains("ssl.protocol"), "{said}");
    node.set("ssl.protocol", "TLSv1.3");
    node.run();
    let seen = shake(&node.certificate(), |_| ()).expect("1.3");
    assert_eq!(seen.version, "TLSv1.3");
}

#[test]
fn cipher_suites() {
    let both = "TLS_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    let node = node_with(&[("ssl.cipher.suites", both)]);
    let new = shake(&node.certificate(), |_| ()).expect("1.3");
    assert_eq!(new.cipher, "TLS_AES_128_GCM_SHA256");
    let old = at_most(&node.certificate(), SslVersion::TLS1_2).expect("1.2");
    assert_eq!(old.cipher, "ECDHE-ECDSA-CHACHA20-POLY1305");

    let node = node_with(&[]);
    let new = shake(&node.certificate(), |tls| {
        tls.set_ciphersuites("TLS_CHACHA20_POLY1305_SHA256")
            .expect("a suite");
    });
    assert_eq!(new.expect("1.3").cipher, "TLS_CHACHA20_POLY1305_SHA256");
}

#[test]
fn client_auth() {
    for (setting, without, with_another) in [
        ("required", false, false),
        ("requested", true, false),
        ("none", true, true),
    ] {
        let mut node = Node::prepare();
        node.set("listener.name.ssl.ssl.client.auth", setting);
        let stranger = Authority::new("another CA").issue(node.dir(), "stranger");
        let expired = node
            .authority()
            .issue_as(node.dir(), "expired", Validity::Expired);
        node.run();
        shake(&node.certificate(), |_| ()).expect("a certificate of the authority's");
        // Anonymous: the settings of a SCRAM client show no certificate.
        let anonymous = Access {
            bootstrap: node.certificate().bootstrap,
            ..node.scram("SCRAM-SHA-512")
        };
        let check = |access: &Access, wanted: bool, what: &str| {
            let seen = shake(access, |_| ());
            assert_eq!(seen.is_ok(), wanted, "{setting}, {what}: {seen:?}");
        };
        check(&anonymous, without, "no certificate");
        check(
            &node.certificate_of(&stranger),
            with_another,
            "another authority's",
        );
        check(
            &node.certificate_of(&expired),
            with_another,
            "an expired one",
        );
    }
}

/// A client of TLS 1.3 is done before its certificate is judged. It hears the alert even if it writes before it reads,
/// and once more after the node has ended its side.
#[test]
fn refused_certificates_are_told_to_who_writes_first() {
    let mut node = Node::prepare();
    let expired = node
        .authority()
        .issue_as(node.dir(), "expired", Validity::Expired);
    node.run();
    let anonymous = Access {
        bootstrap: node.certificate().bootstrap,
        ..node.scram("SCRAM-SHA-512")
    };
    let cases = [
        (anonymous, "certificate required"),
        (node.certificate_of(&expired), "certificate expired"),
    ];
    for (access, alert) in cases {
        for round in 0..50 {
            let mut settings = wire::connector(&access);
            let newest = Some(SslVersion::TLS1_3);
            settings.set_min_proto_version(newest).expect("a version");
            let mut connection = Connection::tls_with(&access.bootstrap, settings)
                .expect("a handshake as the client sees it");
            for has_ended in [false, false, true] {
                if has_ended {
                    connection.wait_for_end();
                }
                let asked = connection.ask(0, &ApiVersionsRequest::default());
                asked.unwrap_or_else(|error| panic!("{alert}, round {round}: {error}"));
            }
            let error = connection.receive().expect_err("no answer");
            assert!(error.to_string().contains(alert), "round {round}: {error}");
        }
    }
}

#[test]
fn key_store() {
    let mut node = Node::prepare();
    let other = node.authority().issue(node.dir(), "other");
    node.run();
    assert_eq!(
        shake(&node.certificate(), |_| ()).expect("served").server,
        "server"
    );
    node.terminate();

    node.set("ssl.keystore.location", other.store.display().to_string());
    node.run();
    assert_eq!(
        shake(&node.certificate(), |_| ()).expect("served").server,
        "other"
    );
    node.terminate();

    // The key alone under a password.
    let key = fs::read(&other.key).expect("a key");
    let key = PKey::private_key_from_pem(&key).expect("a key");
    let key = key
        .private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"key-secret")
        .expect("PEM");
    let chain = fs::read(&other.certificate).expect("a certificate");
    let locked = node.dir().join("locked.pem");
    write_private(&locked, [key, chain].concat());
    node.set("ssl.keystore.location", locked.display().to_string());
    node.set("ssl.key.password", "key-secret");
    node.run();
    assert_eq!(
        shake(&node.certificate(), |_| ()).expect("served").server,
        "other"
    );
    node.terminate();
    node.set("ssl.key.password", "wrong-secret");
    let said = node.refuses_to_start();
    assert!(said.contains("ssl.key.password"), "{said}");
    assert!(!said.contains("wrong-secret"), "{said}");
}

#[test]
fn key_store_in_the_configuration() {
    let mut node = Node::prepare();
    let other = node.authority().issue(node.dir(), "other");
    node.unset("ssl.keystore.location");
    node.set("ssl.keystore.key", inline(&other.key));
    node.set("ssl.keystore.certificate.chain", inline(&other.certificate));
    node.run();
    assert_eq!(
        shake(&node.certificate(), |_| ()).expect("served").server,
        "other"
    );
}

#[test]
fn trust_store() {
    let mut node = Node::prepare();
    let another = Authority::new("another CA");
    let stranger = another.issue(node.dir(), "stranger");
    let trust = node.dir().join("another.pem");
    another.write_trust(&trust);
    node.set("ssl.truststore.location", trust.display().to_string());
    node.run();
    shake(&node.certificate_of(&stranger), |_| ()).expect("trusted now");
    assert!(shake(&node.certificate(), |_| ()).is_err());
    node.terminate();

    node.unset("ssl.truststore.location");
    node.set("ssl.truststore.certificates", inline(&trust));
    node.run();
    shake(&node.certificate_of(&stranger), |_| ()).expect("trusted now");
    assert!(shake(&node.certificate(), |_| ()).is_err());
}

/// The rules decide who a certificate is, which shows by what it may do.
#[test]
fn principal_mapping_rules() {
    let create = |access: &Access, topic: &str| {
        let mut connection = Connection::open(access).expect("a login");
        requests::create_topic(&mut connection, topic, 1, &[])
    };
    let mut node = Node::prepare();
    let client = node.authority().issue(node.dir(), "client");
    node.set("super.users", "User:CN=client");
    node.run();
    let access = node.certificate_of(&client);
    create(&access, "by-name").expect("the whole name is a super user");
    node.terminate();

    node.set(
        "ssl.principal.mapping.rules",
        r"RULE:^CN=(.*?)$/mapped-$1/L,DEFAULT",
    );
    node.run();
    create(&access, "by-rule").expect_err("the rule makes it another user");
    node.terminate();
    node.set("super.users", "User:mapped-client");
    node.run();
    create(&access, "by-rule").expect("the mapped name is a super user");
    assert!(matches!(access.login, Login::Certificate(_)));
}
