//! A private certification authority and what it signs, for tests that bring their own certificates.

use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
};
use openssl::x509::{X509, X509Builder, X509Name, X509NameBuilder};

use crate::paths::write_private;

/// A certification authority that lives for one test.
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

/// A certificate with its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate alone.
    pub certificate: PathBuf,
    /// The private key alone, PKCS#8.
    pub key: PathBuf,
    /// Key and certificate in one file, as Kafka's PEM key stores want them.
    pub store: PathBuf,
    /// Key and certificate as PKCS#12 under [`STORE_PASSWORD`], which every Java client reads.
    pub pkcs12: PathBuf,
}

/// The password of every PKCS#12 file made here.
pub const STORE_PASSWORD: &str = "store-secret";

/// When a certificate is valid, seen from now, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// From now for ninety days, which no node warns of.
    Good,
    /// Its end has passed.
    Expired,
    /// Its begin is a year away.
    NotYet,
    /// As good, and for servers only.
    ServerOnly,
    /// As good, and for another host.
    Elsewhere,
}

impl Authority {
    /// Makes an authority with a fresh P-256 key.
    pub fn new(common_name: &str) -> Authority {
        let key = new_key();
        let name = name(common_name);
        let mut builder = builder(&name, &key, Validity::Good);
        builder.set_issuer_name(&name).expect("issuer");
        let constraints = BasicConstraints::new().critical().ca().build();
        builder
            .append_extension(constraints.expect("constraints"))
            .expect("extension");
        let usage = KeyUsage::new()
            .critical()
            .key_cert_sign()
            .crl_sign()
            .build();
        builder
            .append_extension(usage.expect("usage"))
            .expect("extension");
        builder.sign(&key, MessageDigest::sha256()).expect("sign");
        Authority {
            certificate: builder.build(),
            key,
        }
    }

    /// Writes the authority's own certificate to `path`, as a trust store.
    pub fn write_trust(&self, path: &Path) {
        write_private(path, self.certificate.to_pem().expect("PEM"));
    }

    /// Issues a certificate for 127.0.0.1 and localhost, for both ends of a connection, into `dir`.
    pub fn issue(&self, dir: &Path, common_name: &str) -> Identity {
        self.issue_as(dir, common_name, Validity::Good)
    }

    /// Issues a certificate with a chosen validity.
    pub fn issue_as(&self, dir: &Path, common_name: &str, validity: Validity) -> Identity {
        let key = new_key();
        let mut builder = builder(&name(common_name), &key, validity);
        builder
            .set_issuer_name(self.certificate.subject_name())
            .expect("issuer");
        let mut alternative = SubjectAlternativeName::new();
        match validity {
            Validity::Elsewhere => alternative.dns("elsewhere.invalid"),
            _ => alternative.ip("127.0.0.1").dns("localhost"),
        };
        let alternative = alternative
            .build(&builder.x509v3_context(Some(&self.certificate), None))
            .expect("alternative names");
        builder.append_extension(alternative).expect("extension");
        let mut usage = ExtendedKeyUsage::new();
        usage.server_auth();
        if validity != Validity::ServerOnly {
            usage.client_auth();
        }
        let usage = usage.build();
        builder
            .append_extension(usage.expect("usage"))
            .expect("extension");
        builder
            .sign(&self.key, MessageDigest::sha256())
            .expect("sign");

        let certificate = builder.build();
        let pkcs12 = Pkcs12::builder()
            .name(common_name)
            .pkey(&key)
            .cert(&certificate)
            .build2(STORE_PASSWORD)
            .and_then(|store| store.to_der())
            .expect("a PKCS#12 file");
        let certificate_pem = certificate.to_pem().expect("PEM");
        let key_pem = key.private_key_to_pem_pkcs8().expect("PEM");
        let identity = Identity {
            certificate: dir.join(format!("{common_name}.crt.pem")),
            key: dir.join(format!("{common_name}.key.pem")),
            store: dir.join(format!("{common_name}.store.pem")),
            pkcs12: dir.join(format!("{common_name}.p12")),
        };
        write_private(&identity.pkcs12, pkcs12);
        write_private(&identity.certificate, &certificate_pem);
        write_private(&identity.key, &key_pem);
        write_private(&identity.store, [key_pem, certificate_pem].concat());
        identity
    }
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("P-256 is built in");
    let key = EcKey::generate(&group).expect("a key can be generated");
    PKey::from_ec_key(key).expect("an EC key is a key")
}

fn name(common_name: &str) -> X509Name {
    let mut name = X509NameBuilder::new().expect("name");
    name.append_entry_by_nid(Nid::COMMONNAME, common_name)
        .expect("common name");
    name.build()
}

fn builder(subject: &X509Name, key: &PKey<Private>, validity: Validity) -> X509Builder {
    let mut serial = BigNum::new().expect("number");
    serial
        .rand(127, MsbOption::MAYBE_ZERO, false)
        .expect("random number");
    let mut builder = X509Builder::new().expect("builder");
    builder.set_version(2).expect("version 3");
    builder
        .set_serial_number(&serial.to_asn1_integer().expect("serial"))
        .expect("serial");
    builder.set_subject_name(subject).expect("subject");
    builder.set_pubkey(key).expect("public key");
    // Seconds since 1970: an expired certificate must end before any possible now.
    let (from, to) = match validity {
        Validity::Good | Validity::ServerOnly | Validity::Elsewhere => {
            (Asn1Time::days_from_now(0), Asn1Time::days_from_now(90))
        }
        Validity::NotYet => (Asn1Time::days_from_now(365), Asn1Time::days_from_now(730)),
        Validity::Expired => (
            Asn1Time::from_unix(1_000_000),
            Asn1Time::from_unix(2_000_000),
        ),
    };
    builder
        .set_not_before(&from.expect("time"))
        .expect("not before");
    builder
        .set_not_after(&to.expect("time"))
        .expect("not after");
    builder
}
