//! Each key of TLS and SASL that is taken does something: changing it changes a handshake.

mod sasl;
mod tls;

use std::collections::BTreeSet;
use std::fs;

use palisade_protocol::messages::api_versions::ApiVersionsRequest;
use palisade_tests::access::Access;
use palisade_tests::paths;
use palisade_tests::wire::{self, Connection};

use openssl::ssl::SslConnectorBuilder;

/// The keys that the tests of this folder change.
const TESTED: [&str; 18] = [
    "sasl.enabled.mechanisms",
    "sasl.jaas.config",
    "sasl.mechanism.inter.broker.protocol",
    "sasl.server.max.receive.size",
    "ssl.cipher.suites",
    "ssl.client.auth",
    "ssl.enabled.protocols",
    "ssl.key.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.principal.mapping.rules",
    "ssl.protocol",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.type",
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
    let mut found: BTreeSet<_> = entries
        .iter()
        .filter(|entry| entry.contains(".effect()"))
        .filter_map(|entry| entry.split('"').nth(1))
        .filter(|name| name.starts_with("ssl.") || name.starts_with("sasl."))
        .collect();
    // One that is only about a store type that this version refuses in words has nothing to change.
    found.remove("ssl.truststore.password");
    assert_eq!(found, BTreeSet::from(TESTED));
}
