use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::{X509, X509Name};
use proptest::prelude::*;

use super::*;

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    match content.len() {
        length @ 0..0x80 => der.push(length as u8),
        length @ 0x80..0x100 => der.extend([0x81, length as u8]),
        length => der.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    der.extend(content);
    der
}

const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;

fn oid(name: &str) -> Vec<u8> {
    let at = |n: u8| vec![0x55, 0x04, n];
    let pilot = |n: u8| vec![0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, n];
    match name {
        "CN" => at(3),
        "SN" => at(4),
        "serialNumber" => at(5),
        "C" => at(6),
        "L" => at(7),
        "ST" => at(8),
        "STREET" => at(9),
        "O" => at(10),
        "OU" => at(11),
        "title" => at(12),
        "GN" => at(42),
        "UID" => pilot(1),
        "DC" => pilot(25),
        "email" => vec![0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01],
        other => panic!("{other}"),
    }
}

fn attribute(name: &str, tag: u8, value: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tlv(0x06, &oid(name)), tlv(tag, value)].concat())
}

/// RDNs in encoding order, each a list of (type, string tag, value).
fn name(rdns: &[&[(&str, u8, &str)]]) -> Vec<u8> {
    let sets: Vec<u8> = rdns
        .iter()
        .flat_map(|rdn| {
            let attributes: Vec<u8> = rdn
                .iter()
                .flat_map(|(kind, tag, value)| attribute(kind, *tag, value.as_bytes()))
                .collect();
            tlv(0x31, &attributes)
        })
        .collect();
    tlv(0x30, &sets)
}

fn text(rdns: &[&[(&str, u8, &str)]]) -> String {
    render(&name(rdns)).unwrap()
}

#[test]
fn the_table_verified_against_java() {
    assert_eq!(
        text(&[
            &[("C", PRINTABLE, "US")],
            &[("ST", UTF8, "CA")],
            &[("L", UTF8, "SF")],
            &[("O", UTF8, "Acme, Inc.")],
            &[("OU", UTF8, "Brokers")],
            &[("CN", UTF8, "kafka-1.example.com")],
        ]),
        r"CN=kafka-1.example.com,OU=Brokers,O=Acme\, Inc.,L=SF,ST=CA,C=US"
    );
    assert_eq!(
        text(&[&[("CN", UTF8, "a#b")], &[("O", UTF8, "#lead")]]),
        r"O=\#lead,CN=a\#b"
    );
    assert_eq!(
        text(&[&[("CN", UTF8, " lead and trail ")], &[("O", UTF8, "x")]]),
        r"O=x,CN=\ lead and trail\ "
    );
    assert_eq!(
        text(&[
            &[("DC", IA5, "com")],
            &[("DC", IA5, "example")],
            &[("UID", UTF8, "joe")],
            &[("email", IA5, "joe@x.org")],
            &[("CN", UTF8, "Joe")],
        ]),
        "CN=Joe,1.2.840.113549.1.9.1=#16096a6f6540782e6f7267,UID=joe,DC=example,DC=com"
    );
    assert_eq!(
        text(&[
            &[("O", UTF8, "Acme")],
            &[("CN", UTF8, "joe"), ("UID", UTF8, "17")],
        ]),
        "CN=joe+UID=17,O=Acme"
    );
    assert_eq!(
        text(&[
            &[("CN", UTF8, "Zo\u{eb}")],
            &[("O", UTF8, "\u{65e5}\u{672c}")]
        ]),
        "O=\u{65e5}\u{672c},CN=Zo\u{eb}"
    );
    assert_eq!(
        text(&[
            &[("STREET", UTF8, "1 Main")],
            &[("serialNumber", PRINTABLE, "42")],
            &[("title", UTF8, "Dr")],
            &[("GN", UTF8, "G")],
            &[("SN", UTF8, "S")],
            &[("CN", UTF8, "t")],
        ]),
        "CN=t,2.5.4.4=#0c0153,2.5.4.42=#0c0147,2.5.4.12=#0c024472,2.5.4.5=#13023432,STREET=1 Main"
    );
    assert_eq!(
        text(&[&[("CN", UTF8, r#"a\b<c>"d;e=f"#)]]),
        r#"CN=a\\b\<c\>\"d\;e\=f"#
    );
}

#[test]
fn other_string_types() {
    let one = |tag: u8, value: &[u8]| {
        let rdn = tlv(0x31, &attribute("CN", tag, value));
        render(&tlv(0x30, &rdn)).unwrap()
    };
    // T61String as Latin-1, BMPString as UTF-16.
    assert_eq!(one(0x14, b"Zo\xeb"), "CN=Zo\u{eb}");
    assert_eq!(one(0x1e, &[0, b'Z', 0x65, 0xe5]), "CN=Z\u{65e5}");
    // UniversalString and NumericString are printed as DER.
    assert_eq!(one(0x1c, &[0, 0, 0, b'Z']), "CN=#1c040000005a");
    assert_eq!(one(0x12, b"1"), "CN=#120131");
    assert_eq!(one(UTF8, b"a\0b"), r"CN=a\00b");
    assert_eq!(one(UTF8, b"   "), r"CN=\ \ \ ");
    assert_eq!(one(UTF8, b""), "CN=");
}

#[test]
fn an_empty_subject_is_an_empty_text() {
    assert_eq!(render(&tlv(0x30, &[])).unwrap(), "");
}

/// A self-signed certificate with this subject.
fn certificate(subject: &[u8]) -> X509 {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let name = X509Name::from_der(subject).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    let start = Asn1Time::from_unix(0).unwrap();
    let end = Asn1Time::from_unix(4_000_000_000).unwrap();
    builder.set_not_before(&start).unwrap();
    builder.set_not_after(&end).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    builder.build()
}

#[test]
fn principals_of_whole_certificates() {
    let principal = |rdns: &[&[(&str, u8, &str)]], rules: &str| {
        let rules = MappingRules::parse(rules).unwrap();
        certificate_principal(&certificate(&name(rdns)), &rules)
    };
    assert_eq!(
        principal(
            &[
                &[("O", UTF8, "Acme")],
                &[("CN", UTF8, "joe"), ("UID", UTF8, "17")]
            ],
            "DEFAULT"
        )
        .unwrap()
        .to_string(),
        "User:CN=joe+UID=17,O=Acme"
    );
    assert_eq!(
        principal(&[&[("CN", UTF8, "Bob")]], "RULE:^CN=(.*)$/$1/L")
            .unwrap()
            .to_string(),
        "User:bob"
    );
    // A second CN inside an attribute value stays inside it.
    assert_eq!(
        principal(
            &[&[("O", UTF8, "x,CN=admin")], &[("CN", UTF8, "bob")]],
            r"RULE:^CN=([^,\\]+),.*$/$1/"
        )
        .unwrap()
        .to_string(),
        "User:bob"
    );
    let failures = [
        (principal(&[], "DEFAULT"), PrincipalFailure::Empty),
        (
            principal(&[&[("CN", UTF8, "a")]], "RULE:^O=.*$/x/"),
            PrincipalFailure::NoRule,
        ),
        (
            principal(&[&[("CN", UTF8, "a")]], "RULE:^CN=.*$//"),
            PrincipalFailure::Empty,
        ),
        (
            principal(&[&[("CN", UTF8, "a\0b")]], "DEFAULT"),
            PrincipalFailure::Unprintable,
        ),
        (
            principal(&[&[("CN", UTF8, "a\nb")]], "DEFAULT"),
            PrincipalFailure::Unprintable,
        ),
    ];
    for (result, failure) in failures {
        assert_eq!(result, Err(failure));
    }
    // Text that turns the reading direction is odd, but it is text.
    assert!(principal(&[&[("CN", UTF8, "a\u{202e}b")]], "DEFAULT").is_ok());
}

#[test]
fn the_audit_log_gets_the_facts() {
    let info = certificate_info(&certificate(&name(&[&[("CN", UTF8, "joe")]])));
    assert_eq!(
        (info.subject.as_str(), info.issuer.as_str()),
        ("CN=joe", "")
    );
    assert_eq!(info.sha256.len(), 64);
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = render(&bytes);
        let _ = render(&tlv(0x30, &tlv(0x31, &bytes)));
        let _ = dotted(&bytes);
    }

    #[test]
    fn values_come_back(value in "[a-zA-Z ,=+<>#;\"\\\\]{0,20}") {
        let text = text(&[&[("CN", UTF8, &value)]]);
        let unescaped: String = {
            let mut chars = text.strip_prefix("CN=").unwrap().chars();
            let mut plain = String::new();
            while let Some(c) = chars.next() {
                plain.push(if c == '\\' { chars.next().unwrap() } else { c });
            }
            plain
        };
        prop_assert_eq!(unescaped, value);
    }
}
