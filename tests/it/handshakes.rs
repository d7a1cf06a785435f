//! Each key of TLS and SASL that is taken does something: changing it changes a handshake.

mod sasl;
mod tls;

use std::collections::BTreeSet;
use std::fs;

use palisade_protocol::messages::api_versions::ApiVersionsRequest;
use palisade_tests::access::Access;
use palisade_tests::node::Node;
use palisade_tests::paths;
use palisade_tests::wire::{self, Connection};

use openssl::ssl::SslConnectorBuilder;

/// What a key of TLS or SASL does that a client can see.
enum Effect {
    /// Another value is another handshake: a test of this folder shows which.
    Handshake,
    /// It may only agree with what else is set: a test of this folder shows a start that is refused.
    Agreement,
    /// With this value no node starts, as the key belongs to stores that are not read. Kafka refuses store passwords
    /// with PEM too.
    NoStart(&'static str),
}
use Effect::{Agreement, Handshake, NoStart};

const TESTED: [(&str, Effect); 19] = [
    ("sasl.enabled.mechanisms", Handshake),
    ("sasl.jaas.config", Handshake),
    ("sasl.mechanism.inter.broker.protocol", Agreement),
    ("sasl.server.max.receive.size", Handshake),
    ("ssl.cipher.suites", Handshake),
    ("ssl.client.auth", Handshake),
    ("ssl.enabled.protocols", Handshake),
    ("ssl.key.password", Handshake),
    ("ssl.keystore.certificate.chain", Handshake),
    ("ssl.keystore.key", Handshake),
    ("ssl.keystore.location", Handshake),
    ("ssl.keystore.password", NoStart("store-secret")),
    ("ssl.keystore.type", NoStart("PKCS12")),
    ("ssl.principal.mapping.rules", Handshake),
    ("ssl.protocol", Agreement),
    ("ssl.truststore.certificates", Handshake),
    ("ssl.truststore.location", Handshake),
    ("ssl.truststore.password", NoStart("store-secret")),
    ("ssl.truststore.type", NoStart("JKS")),
];

/// What a client learns by a handshake.
#[derive(Debug)]
struct Seen {
    version: &'static str,
    cipher: String,
    server: String,
}

/// Shakes hands with settings of the caller's and asks one question, since TLS 1.3 tells a client only then
/// that its certificate was refused.
fn shake(access: &Access, change: impl FnOnce(&mut SslConnectorBuilder)) -> Result<Seen, String> {
    let mut settings = wire::connector(access);
    change(&mut settings);
    let mut connection = Connection::tls_with(&access.bootstrap, settings)
        .map_err(|error| format!("handshake: {error}"))?;
    connection
        .call(0, &ApiVersionsRequest::default())
        .map_err(|error| format!("first request: {error}"))?;
    let tls = connection.tls_session().ok_or("no TLS")?;
    let certificate = tls.peer_certificate().ok_or("no certificate")?;
    let name = certificate
        .subject_name()
        .entries()
        .next()
        .and_then(|entry| entry.data().to_string().ok());
    Ok(Seen {
        version: tls.version_str(),
        cipher: tls
            .current_cipher()
            .map(|c| c.name().to_owned())
            .unwrap_or_default(),
        server: name.ok_or("no name")?,
    })
}

/// Keys with an effect, as the configuration's own table has them, are exactly those tested here.
#[test]
fn every_key_has_its_test() {
    let table = paths::root().join("broker/src/config/keys/security.rs");
    let table = fs::read_to_string(&table).expect("the table of security keys");
    // An entry begins at the indentation of the list; its calls stand further in.
    let mut entries: Vec<String> = Vec::new();
    for line in table.lines() {
        let text = line.trim_start();
        if line.len() - text.len() == 4 && text.starts_with(|c: char| c.is_ascii_lowercase()) {
            entries.push(String::new());
        }
        if let Some(entry) = entries.last_mut() {
            entry.push_str(text);
        }
    }
    let found: BTreeSet<_> = entries
        .iter()
        .filter(|entry| entry.contains(".effect()"))
        .filter_map(|entry| entry.split('"').nth(1))
        .filter(|name| name.starts_with("ssl.") || name.starts_with("sasl."))
        .collect();
    assert_eq!(found, TESTED.iter().map(|(key, _)| *key).collect());
}

/// Stores of types that are not read, and their passwords, are refused with the key's name, for all listeners and for
/// one, and never taken for something else.
#[test]
fn what_no_node_starts_with() {
    for (key, effect) in &TESTED {
        let NoStart(value) = effect else { continue };
        for written in [(*key).to_owned(), format!("listener.name.ssl.{key}")] {
            let mut node = Node::prepare();
            node.set(&written, *value);
            let said = node.refuses_to_start();
            assert!(said.contains(key), "{written}: {said}");
            assert!(!said.contains("store-secret"), "{said}");
        }
    }
}
