//! Certificates and files for the tests of this module.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
};
use openssl::x509::{X509, X509Name};

/// A moment in the validity of every certificate made here, and those around it.
const PAST: i64 = 1_000_000_000;
const FUTURE: i64 = 4_000_000_000;

pub(super) fn ec_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// A key with its certificate.
pub(super) struct Made {
    pub(super) key: PKey<Private>,
    pub(super) cert: X509,
}

impl Made {
    pub(super) fn key_pem(&self) -> String {
        let pem = self.key.private_key_to_pem_pkcs8().unwrap();
        String::from_utf8(pem).unwrap()
    }

    pub(super) fn cert_pem(&self) -> String {
        String::from_utf8(self.cert.to_pem().unwrap()).unwrap()
    }

    pub(super) fn both(&self) -> String {
        self.key_pem() + &self.cert_pem()
    }
}

/// What a certificate shall be like.
pub(super) struct Recipe<'a> {
    pub(super) cn: &'a str,
    pub(super) dns: &'a [&'a str],
    pub(super) ip: Option<&'a str>,
    pub(super) ca: bool,
    pub(super) client_only: bool,
    pub(super) server_only: bool,
    pub(super) validity: (i64, i64),
    pub(super) key: PKey<Private>,
}

impl<'a> Recipe<'a> {
    pub(super) fn new(cn: &'a str) -> Self {
        Self {
            cn,
            dns: &[],
            ip: None,
            ca: false,
            client_only: false,
            server_only: false,
            validity: (PAST, FUTURE),
            key: ec_key(),
        }
    }

    pub(super) fn sign(self, issuer: Option<&Made>) -> Made {
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        let mut serial = BigNum::new().unwrap();
        serial
            .rand(120, openssl::bn::MsbOption::ONE, false)
            .unwrap();
        builder
            .set_serial_number(&serial.to_asn1_integer().unwrap())
            .unwrap();
        let mut name = X509Name::builder().unwrap();
        name.append_entry_by_text("O", "Acme").unwrap();
        name.append_entry_by_text("CN", self.cn).unwrap();
        let name = name.build();
        builder.set_subject_name(&name).unwrap();
        let issuer_name = issuer.map_or(&*name, |made| made.cert.subject_name());
        builder.set_issuer_name(issuer_name).unwrap();
        builder.set_pubkey(&self.key).unwrap();
        let time = |seconds| Asn1Time::from_unix(seconds).unwrap();
        builder.set_not_before(&time(self.validity.0)).unwrap();
        builder.set_not_after(&time(self.validity.1)).unwrap();
        if self.ca {
            let constraints = BasicConstraints::new().critical().ca().build().unwrap();
            builder.append_extension(constraints).unwrap();
            let usage = KeyUsage::new().key_cert_sign().build().unwrap();
            builder.append_extension(usage).unwrap();
        }
        if self.client_only || self.server_only {
            let mut usage = ExtendedKeyUsage::new();
            if self.client_only {
                usage.client_auth();
            } else {
                usage.server_auth();
            }
            builder.append_extension(usage.build().unwrap()).unwrap();
        }
        if !self.dns.is_empty() || self.ip.is_some() {
            let mut names = SubjectAlternativeName::new();
            for dns in self.dns {
                names.dns(dns);
            }
            if let Some(ip) = self.ip {
                names.ip(ip);
            }
            let context = builder.x509v3_context(None, None);
            let names = names.build(&context).unwrap();
            builder.append_extension(names).unwrap();
        }
        let signer = issuer.map_or(&self.key, |made| &made.key);
        let digest = match signer.id() {
            openssl::pkey::Id::ED25519 => MessageDigest::null(),
            _ => MessageDigest::sha256(),
        };
        builder.sign(signer, digest).unwrap();
        Made {
            cert: builder.build(),
            key: self.key,
        }
    }
}

pub(super) fn authority(cn: &str) -> Made {
    let mut recipe = Recipe::new(cn);
    recipe.ca = true;
    recipe.sign(None)
}

/// A directory with files in it.
pub(super) struct Files(tempfile::TempDir);

impl Files {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}
