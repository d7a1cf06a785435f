//! TLS listeners: cases T of security.md §8.1.

use std::pin::Pin;
use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{Ssl, SslConnector, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::{X509, X509NameBuilder};
use palisade_auth::Secret;
use palisade_auth::audit::Action;
use palisade_auth::tls::principal::MappingRules;
use palisade_auth::tls::{ClientAuth, KeyStore, TlsSettings, TrustStore};
use palisade_protocol::ApiKey;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::ready::cold;
use super::rig::*;
use crate::config::SecurityProtocol;
use crate::server::LINGERING;
use crate::server::connection::Parting;

struct Identity {
    key: PKey<Private>,
    certificate: X509,
}

fn identity(name: &str) -> Identity {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::days_from_now(1).unwrap())
        .unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    Identity {
        certificate: builder.build(),
        key,
    }
}

/// Settings that trust `client`.
fn settings(client: &Identity, client_auth: ClientAuth) -> TlsSettings {
    let server = identity("localhost");
    TlsSettings {
        keystore: Some(KeyStore::Inline {
            key: Secret::new(server.key.private_key_to_pem_pkcs8().unwrap()),
            chain: Secret::new(server.certificate.to_pem().unwrap()),
        }),
        truststore: Some(TrustStore::Inline(Secret::new(
            client.certificate.to_pem().unwrap(),
        ))),
        client_auth,
        mapping_rules: MappingRules::parse("RULE:^CN=(client|admin)$/$1/").unwrap(),
        ..TlsSettings::default()
    }
}

async fn rig(protocol: SecurityProtocol, client: &Identity, client_auth: ClientAuth) -> Rig {
    Rig::with_tls(protocol, limits(), Some(settings(client, client_auth))).await
}

fn ssl(own: Option<&Identity>, version: Option<SslVersion>) -> Ssl {
    let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_min_proto_version(version).unwrap();
    builder.set_max_proto_version(version).unwrap();
    if let Some(own) = own {
        builder.set_private_key(&own.key).unwrap();
        builder.set_certificate(&own.certificate).unwrap();
    }
    let mut configured = builder.build().configure().unwrap();
    configured.set_verify_hostname(false);
    configured.into_ssl("localhost").unwrap()
}

async fn connect(rig: &Rig, ssl: Ssl) -> Result<Client<SslStream<TcpStream>>, openssl::ssl::Error> {
    let tcp = TcpStream::connect(rig.address).await.unwrap();
    let mut stream = SslStream::new(ssl, tcp).unwrap();
    Pin::new(&mut stream).connect().await?;
    Ok(Client(stream))
}

#[tokio::test]
async fn frames_of_all_sizes_pass_in_both_directions() {
    let client = identity("client");
    let rig = rig(SecurityProtocol::Ssl, &client, ClientAuth::Requested).await;
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let mut client = connect(&rig, ssl(None, Some(version))).await.unwrap();
        for size in [0, 1, 4096, 16 * 1024, 65_536, 65_537, 3_000_000] {
            let answer = client.call(&request(2, 1, 1, &vec![9; size])).await;
            assert_eq!(&answer[4..], size.to_string().as_bytes());
        }
        for len in [1, 1000, 16 * 1024, 256 * 1024, 2_000_003] {
            let (source, chunks) = cold(len, false);
            *rig.service.given.lock() = chunks;
            let answer = client.call(&ask(GIVEN, 1)).await;
            assert_eq!(answer.len(), 4 + len + 3);
            assert!(answer[4..4 + len] == *source.slice(0..len), "bytes differ");
        }
    }
}

#[tokio::test]
async fn many_small_records_make_one_frame() {
    let client = identity("client");
    let rig = rig(SecurityProtocol::Ssl, &client, ClientAuth::Requested).await;
    let mut client = connect(&rig, ssl(None, None)).await.unwrap();
    let frame = request(2, 1, 1, &vec![9; 300_000]);
    for part in frame.chunks(1033) {
        client.send(&part[..part.len().min(9)]).await;
        client.send(&part[part.len().min(9)..]).await;
    }
    assert_eq!(&client.answer().await.unwrap()[4..], b"300000");
}

#[tokio::test]
async fn pipelined_answers_fill_a_slow_reader_without_loss() {
    let client = identity("client");
    let rig = rig(SecurityProtocol::Ssl, &client, ClientAuth::Requested).await;
    let (_source, chunks) = cold(700_000, false);
    *rig.service.given.lock() = chunks;
    let mut client = connect(&rig, ssl(None, None)).await.unwrap();
    let asks: Vec<u8> = (0..20).flat_map(|_| ask(GIVEN, 1)).collect();
    client.send(&asks).await;
    for _ in 0..20 {
        assert_eq!(client.answer().await.unwrap().len(), 700_007);
    }
}

#[tokio::test]
async fn plaintext_on_a_tls_port_gets_no_kafka_bytes() {
    let client = identity("client");
    let rig = rig(SecurityProtocol::Ssl, &client, ClientAuth::Requested).await;
    for hello in [request(18, 0, 1, b""), b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let mut plain = rig.connect().await;
        plain.send(&hello).await;
        let mut got = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut plain.0, &mut got).await;
        assert!(got.is_empty() || got[0] == 0x15, "only an alert: {got:?}");
    }
    assert_eq!(rig.service.events.reasons(Action::TlsFailed).len(), 2);
    assert!(rig.service.begun.lock().is_empty());
}

#[tokio::test]
async fn an_abandoned_handshake_is_timed_out() {
    let client = identity("client");
    let tls = settings(&client, ClientAuth::None);
    let mut bounds = limits();
    bounds.tls_handshake = Duration::from_millis(50);
    let rig = Rig::with_tls(SecurityProtocol::Ssl, bounds, Some(tls)).await;
    let mut silent = rig.connect().await;
    silent.closed().await;
    assert_eq!(
        rig.service.events.reasons(Action::TlsFailed),
        [Some("timeout")]
    );
}

#[tokio::test]
async fn unknown_and_missing_certificates_are_refused() {
    let client = identity("client");
    let stranger = identity("stranger");
    let cases = [
        (Some(&stranger), ClientAuth::Required),
        (Some(&stranger), ClientAuth::Requested),
        (None, ClientAuth::Required),
    ];
    for (own, auth) in cases {
        let rig = rig(SecurityProtocol::Ssl, &client, auth).await;
        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            // A 1.3 client learns of the refusal at its first read.
            if let Ok(mut refused) = connect(&rig, ssl(own, Some(version))).await {
                refused.send(&ask(ApiKey::Metadata, 1)).await;
                assert_eq!(refused.answer().await, None);
            }
        }
        assert!(rig.service.begun.lock().is_empty());
        assert_eq!(rig.service.events.reasons(Action::TlsFailed).len(), 2);
    }
}

#[tokio::test]
async fn refused_handshakes_are_waited_for_as_refused_logins_are() {
    let tls = settings(&identity("client"), ClientAuth::Required);
    let parting = Parting {
        wait: LONG,
        quiet: LONG,
    };
    let rig = Rig::with(SecurityProtocol::Ssl, limits(), Some(tls), None, parting).await;
    let refused = async || {
        let mut client = connect(&rig, ssl(None, None)).await.unwrap();
        assert_eq!(client.answer().await, None);
        client
    };
    let mut waited_for = Vec::new();
    for _ in 0..LINGERING {
        waited_for.push(refused().await);
    }
    while rig.server.lingering_handshakes.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let inside = rig.server.gate().inside();
    let _one_more = refused().await;
    while rig.server.gate().inside() > inside {
        tokio::task::yield_now().await;
    }
    // A node that stops waits for none of them.
    rig.stop().await;
}

#[tokio::test]
async fn refused_handshakes_that_are_waited_for_leave_room_for_others() {
    let own = identity("client");
    let tls = settings(&own, ClientAuth::Required);
    let parting = Parting {
        wait: LONG,
        quiet: LONG,
    };
    let mut bounds = limits();
    bounds.max_unauthenticated_per_ip = 2;
    bounds.max_connections_per_ip = 3;
    let rig = Rig::with(SecurityProtocol::Ssl, bounds, Some(tls), None, parting).await;
    let mut waited_for = Vec::new();
    for _ in 0..2 {
        let mut refused = connect(&rig, ssl(None, None)).await.unwrap();
        assert_eq!(refused.answer().await, None);
        waited_for.push(refused);
    }
    while rig.server.lingering_handshakes.available_permits() > LINGERING - 2 {
        tokio::task::yield_now().await;
    }
    let honest = connect(&rig, ssl(Some(&own), None)).await;
    let mut honest = honest.expect("a place for somebody whose certificate is good");
    honest.call(&ask(ApiKey::Metadata, 1)).await;
    // They are connections of their address all the same.
    rig.connect().await.closed().await;
    let refused = rig.service.events.reasons(Action::ConnRejected);
    assert_eq!(refused, [Some("per_ip")]);
}

#[tokio::test]
async fn no_certificate_is_anonymous_where_none_is_required() {
    let client = identity("client");
    let rig = rig(SecurityProtocol::Ssl, &client, ClientAuth::Requested).await;
    let mut client = connect(&rig, ssl(None, None)).await.unwrap();
    client.call(&ask(ApiKey::Metadata, 1)).await;
    assert_eq!(rig.service.begun.lock()[0].1, "User:ANONYMOUS");
}

#[tokio::test]
async fn a_certificate_names_the_principal_by_the_mapping_rules() {
    let own = identity("client");
    let rig = rig(SecurityProtocol::Ssl, &own, ClientAuth::Required).await;
    let mut client = connect(&rig, ssl(Some(&own), None)).await.unwrap();
    client.call(&ask(ApiKey::Metadata, 1)).await;
    assert_eq!(rig.service.begun.lock()[0].1, "User:client");
    assert_eq!(rig.service.events.reasons(Action::LoginOk), [None]);
}

#[tokio::test]
async fn a_certificate_that_no_rule_names_is_closed() {
    let other = identity("other");
    let rig = rig(SecurityProtocol::Ssl, &other, ClientAuth::Required).await;
    let mut client = connect(&rig, ssl(Some(&other), None)).await.unwrap();
    client.send(&ask(ApiKey::Metadata, 1)).await;
    client.closed().await;
    let reasons = rig.service.events.reasons(Action::PrincipalMappingFailed);
    assert_eq!(reasons, [Some("no_rule")]);
    assert!(rig.service.begun.lock().is_empty());
}

#[tokio::test]
async fn on_sasl_ssl_the_certificate_never_names_the_principal() {
    let admin = identity("admin");
    let rig = rig(SecurityProtocol::SaslSsl, &admin, ClientAuth::Requested).await;
    let mut client = connect(&rig, ssl(Some(&admin), None)).await.unwrap();
    client.call(&handshake(1, "PLAIN")).await;
    assert_eq!(
        head(&client.call(&token(b"\0alice\0secret")).await),
        (36, 0)
    );
    client.call(&ask(ApiKey::Metadata, 1)).await;
    assert_eq!(rig.service.begun.lock()[0].1, "User:alice");
}

/// A handshake is refused at no cost to who begins it: however many do, refused logins are waited
/// for.
#[tokio::test]
async fn refused_handshakes_take_no_places_of_refused_logins() {
    let own = identity("client");
    let tls = settings(&own, ClientAuth::Required);
    let parting = Parting {
        wait: LONG,
        quiet: LONG,
    };
    let rig = Rig::with(
        SecurityProtocol::SaslSsl,
        limits(),
        Some(tls),
        None,
        parting,
    )
    .await;
    let logins = || rig.server.lingering_logins.available_permits();
    let free = || logins() + rig.server.lingering_handshakes.available_permits();
    let mut waited_for = Vec::new();
    for _ in 0..LINGERING {
        let mut client = connect(&rig, ssl(None, None)).await.unwrap();
        assert_eq!(client.answer().await, None);
        waited_for.push(client);
    }
    while free() > LINGERING {
        tokio::task::yield_now().await;
    }
    assert_eq!(logins(), LINGERING);
    let mut client = connect(&rig, ssl(Some(&own), None)).await.unwrap();
    client.call(&handshake(1, "PLAIN")).await;
    let answer = client.call(&token(b"\0alice\0wrong")).await;
    assert_eq!(head(&answer), (36, 58));
    while logins() == LINGERING {
        tokio::task::yield_now().await;
    }
    assert_eq!(free(), LINGERING - 1, "all are waited for");
    rig.stop().await;
}

#[tokio::test]
async fn old_protocol_versions_are_refused() {
    let client = identity("client");
    let rig = rig(SecurityProtocol::Ssl, &client, ClientAuth::Requested).await;
    let refused = connect(&rig, ssl(None, Some(SslVersion::TLS1_1))).await;
    assert!(refused.is_err());
    assert!(rig.service.begun.lock().is_empty());
}
