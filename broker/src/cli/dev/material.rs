//! Keys and certificates of a development broker: a private authority, a server, a client.
//!
//! Everything is P-256 and lives in one 0700 directory. What is there and still good is kept, so
//! that clients go on trusting a broker that is started again; the authority is kept even when the
//! server's certificate must be made anew because it lacks a name.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use openssl::{
    asn1::{Asn1Time, Asn1TimeRef},
    bn::{BigNum, MsbOption},
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    x509::{
        X509, X509Builder, X509Name, X509NameBuilder,
        extension::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage,
            SubjectAlternativeName, SubjectKeyIdentifier,
        },
    },
};
use thiserror::Error;

use crate::{cli::private_file, clock};

/// Subject of the client's certificate; [`MAPPING_RULES`] makes it `User:client`.
pub const CLIENT_NAME: &str = "client";

/// Rules for `ssl.principal.mapping.rules`: a subject that is one plain CN, and nothing else.
pub const MAPPING_RULES: &str = "RULE:^CN=([A-Za-z0-9._-]+)$/$1/";

const CA_DAYS: i64 = 3650;
/// As long as macOS takes it from an authority that its user trusts.
const LEAF_DAYS: i64 = 825;

/// Certificates begin so many days before they are made: a clock that is a little behind, as at
/// boot, must not take them for ones of the future.
const DAYS_BEFORE: i64 = 1;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Certificates with fewer days left than this are made anew.
const RENEW_DAYS: u32 = 7;

/// Why there is no key material.
#[derive(Debug, Error)]
pub enum MaterialError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's word for it.
        source: io::Error,
    },
    /// A file holds no key or certificate.
    #[error("{}: not PEM of a key or certificate", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The library refused.
    #[error("making keys and certificates: {0}")]
    Openssl(#[from] ErrorStack),
}

/// Files of the key material, all absolute when the directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Material {
    /// The authority's certificate.
    pub ca_pem: PathBuf,
    /// Server key and chain in one PEM file.
    pub server_keystore_pem: PathBuf,
    /// The client's certificate.
    pub client_cert_pem: PathBuf,
    /// The client's key, PKCS#8.
    pub client_key_pem: PathBuf,
}

impl Material {
    fn in_dir(dir: &Path) -> Self {
        Self {
            ca_pem: dir.join("ca.pem"),
            server_keystore_pem: dir.join("server.pem"),
            client_cert_pem: dir.join("client-cert.pem"),
            client_key_pem: dir.join("client-key.pem"),
        }
    }

    /// Takes what is in the directory, and makes what is missing, expired or without a name.
    ///
    /// `names`: host names and addresses that the server's certificate must cover.
    ///
    /// # Errors
    /// A file that cannot be read or written, or that is no key or certificate.
    pub fn ensure(dir: &Path, names: &[String]) -> Result<Self, MaterialError> {
        Self::ensure_by(private_file::write, dir, names)
    }

    /// As [`ensure`](Self::ensure), with files put where they belong by `write`.
    pub(crate) fn ensure_by(
        write: Write,
        dir: &Path,
        names: &[String],
    ) -> Result<Self, MaterialError> {
        let put = |path: &Path, bytes: &[u8]| put(write, path, bytes);
        let files = Self::in_dir(dir);
        let ca_key = dir.join("ca-key.pem");
        let authority = match Pair::read(&files.ca_pem, &ca_key)? {
            Some(pair) if pair.lasts()? => pair,
            _ => {
                let pair = Pair::authority()?;
                pair.write(put, &files.ca_pem, &ca_key)?;
                pair
            }
        };
        let server = &files.server_keystore_pem;
        let keep = Pair::read(server, server)?
            .is_some_and(|pair| pair.serves(&authority, names).unwrap_or(false));
        if !keep {
            let pair = authority.issue(&Leaf::Server { names })?;
            put(server, &pair.keystore(&authority)?)?;
        }
        let keep = Pair::read(&files.client_cert_pem, &files.client_key_pem)?
            .is_some_and(|pair| pair.is_from(&authority).unwrap_or(false));
        if !keep {
            let pair = authority.issue(&Leaf::Client { name: CLIENT_NAME })?;
            pair.write(put, &files.client_cert_pem, &files.client_key_pem)?;
        }
        Ok(files)
    }
}

/// Writes one private file: [`private_file::write`] or [`private_file::refresh`].
pub(crate) type Write = fn(&Path, &[u8]) -> io::Result<()>;

fn put(write: Write, path: &Path, bytes: &[u8]) -> Result<(), MaterialError> {
    write(path, bytes).map_err(|source| MaterialError::File {
        path: path.to_owned(),
        source,
    })
}

enum Leaf<'a> {
    Server { names: &'a [String] },
    Client { name: &'a str },
}

/// A certificate with its key.
struct Pair {
    key: PKey<Private>,
    certificate: X509,
}

impl Pair {
    /// Reads both files; `None` when either is absent.
    fn read(certificate: &Path, key: &Path) -> Result<Option<Self>, MaterialError> {
        let read = |path: &Path| match fs::read(path) {
            Ok(bytes) => Ok(Some(zeroize::Zeroizing::new(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(MaterialError::File {
                path: path.to_owned(),
                source,
            }),
        };
        let damaged = |path: &Path| {
            let path = path.to_owned();
            move |_| MaterialError::Damaged { path }
        };
        let (Some(certificate_pem), Some(key_pem)) = (read(certificate)?, read(key)?) else {
            return Ok(None);
        };
        Ok(Some(Self {
            certificate: X509::from_pem(&certificate_pem).map_err(damaged(certificate))?,
            key: PKey::private_key_from_pem(&key_pem).map_err(damaged(key))?,
        }))
    }

    fn write(
        &self,
        put: impl Fn(&Path, &[u8]) -> Result<(), MaterialError>,
        certificate: &Path,
        key: &Path,
    ) -> Result<(), MaterialError> {
        put(certificate, &self.certificate.to_pem()?)?;
        put(
            key,
            &zeroize::Zeroizing::new(self.key.private_key_to_pem_pkcs8()?),
        )
    }

    /// Key, own certificate and the authority's, in one text.
    fn keystore(&self, authority: &Self) -> Result<zeroize::Zeroizing<Vec<u8>>, ErrorStack> {
        let mut pem = zeroize::Zeroizing::new(self.key.private_key_to_pem_pkcs8()?);
        pem.extend(self.certificate.to_pem()?);
        pem.extend(authority.certificate.to_pem()?);
        Ok(pem)
    }

    fn lasts(&self) -> Result<bool, ErrorStack> {
        let limit = Asn1Time::days_from_now(RENEW_DAYS)?;
        let matches = self.certificate.public_key()?.public_eq(&self.key);
        Ok(matches && is_later(self.certificate.not_after(), &limit))
    }

    fn is_from(&self, authority: &Self) -> Result<bool, ErrorStack> {
        Ok(self.lasts()? && self.certificate.verify(&authority.key)?)
    }

    fn serves(&self, authority: &Self, names: &[String]) -> Result<bool, ErrorStack> {
        let covered = subject_alternative_names(&self.certificate);
        Ok(self.is_from(authority)? && names.iter().all(|name| covered.contains(name)))
    }

    fn authority() -> Result<Self, ErrorStack> {
        let key = new_key()?;
        let name = subject("palisade dev CA")?;
        let mut builder = start(&key, &name, &name, CA_DAYS)?;
        builder.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
        builder.append_extension(
            KeyUsage::new()
                .critical()
                .key_cert_sign()
                .crl_sign()
                .build()?,
        )?;
        let identifier = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
        builder.append_extension(identifier)?;
        builder.sign(&key, MessageDigest::sha256())?;
        Ok(Self {
            certificate: builder.build(),
            key,
        })
    }

    fn issue(&self, leaf: &Leaf<'_>) -> Result<Self, ErrorStack> {
        let key = new_key()?;
        let name = match leaf {
            Leaf::Server { .. } => subject("palisade dev server")?,
            Leaf::Client { name } => subject(name)?,
        };
        let mut builder = start(&key, &name, self.certificate.subject_name(), LEAF_DAYS)?;
        builder.append_extension(BasicConstraints::new().critical().build()?)?;
        builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
        let mut usage = ExtendedKeyUsage::new();
        usage.client_auth();
        if let Leaf::Server { names } = leaf {
            usage.server_auth();
            let alternatives = alternative_names(names)
                .build(&builder.x509v3_context(Some(&self.certificate), None))?;
            builder.append_extension(alternatives)?;
        }
        builder.append_extension(usage.build()?)?;
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let own = SubjectKeyIdentifier::new().build(&context)?;
        let authority = AuthorityKeyIdentifier::new().keyid(true).build(&context)?;
        builder.append_extension(own)?;
        builder.append_extension(authority)?;
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(Self {
            certificate: builder.build(),
            key,
        })
    }
}

fn is_later(time: &Asn1TimeRef, than: &Asn1TimeRef) -> bool {
    time > than
}

fn new_key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

fn subject(common_name: &str) -> Result<X509Name, ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::COMMONNAME, common_name)?;
    Ok(name.build())
}

/// A builder with everything that all certificates share; `days` is the whole time they are valid.
fn start(
    key: &PKey<Private>,
    subject: &openssl::x509::X509NameRef,
    issuer: &openssl::x509::X509NameRef,
    days: i64,
) -> Result<X509Builder, ErrorStack> {
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    builder.set_serial_number(serial.to_asn1_integer()?.as_ref())?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    let from = clock::now().value() / 1000 - DAYS_BEFORE * DAY_SECONDS;
    builder.set_not_before(Asn1Time::from_unix(from)?.as_ref())?;
    builder.set_not_after(Asn1Time::from_unix(from + days * DAY_SECONDS)?.as_ref())?;
    builder.set_pubkey(key)?;
    Ok(builder)
}

fn alternative_names(names: &[String]) -> SubjectAlternativeName {
    let mut alternatives = SubjectAlternativeName::new();
    for name in names {
        if name.parse::<IpAddr>().is_ok() {
            alternatives.ip(name);
        } else {
            alternatives.dns(name);
        }
    }
    alternatives
}

fn subject_alternative_names(certificate: &X509) -> Vec<String> {
    let Some(names) = certificate.subject_alt_names() else {
        return Vec::new();
    };
    let texts = names.iter().filter_map(|name| match name.ipaddress() {
        Some(octets) => match (<[u8; 4]>::try_from(octets), <[u8; 16]>::try_from(octets)) {
            (Ok(v4), _) => Some(IpAddr::from(v4).to_string()),
            (_, Ok(v6)) => Some(IpAddr::from(v6).to_string()),
            _ => None,
        },
        None => name.dnsname().map(str::to_owned),
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        os::unix::{fs::PermissionsExt, net::UnixStream},
        thread,
    };

    use openssl::ssl::{Ssl, SslConnector, SslContext, SslFiletype, SslMethod, SslVerifyMode};

    use super::*;

    fn names(extra: &[&str]) -> Vec<String> {
        let all = ["localhost", "127.0.0.1", "::1"].iter().chain(extra);
        all.map(|name| (*name).to_owned()).collect()
    }

    fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        entries
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }

    fn server_context(material: &Material) -> SslContext {
        let mut server = SslContext::builder(SslMethod::tls_server()).unwrap();
        let keystore = &material.server_keystore_pem;
        server
            .set_private_key_file(keystore, SslFiletype::PEM)
            .unwrap();
        server.set_certificate_chain_file(keystore).unwrap();
        server.set_ca_file(&material.ca_pem).unwrap();
        server.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        server.build()
    }

    fn connector(material: &Material, with_certificate: bool) -> SslConnector {
        let mut client = SslConnector::builder(SslMethod::tls_client()).unwrap();
        client.set_ca_file(&material.ca_pem).unwrap();
        if with_certificate {
            client
                .set_private_key_file(&material.client_key_pem, SslFiletype::PEM)
                .unwrap();
            client
                .set_certificate_chain_file(&material.client_cert_pem)
                .unwrap();
        }
        client.build()
    }

    /// Shakes hands over a socket pair; gives the name in the certificate that the server saw.
    fn shake(material: &Material, host: &str, with_certificate: bool) -> Result<String, String> {
        let server = Ssl::new(&server_context(material)).unwrap();
        let client = connector(material, with_certificate);
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::scope(|scope| {
            let accepted = scope.spawn(move || {
                let stream = server.accept(theirs).map_err(|error| error.to_string())?;
                let certificate = stream.ssl().peer_certificate().ok_or("no certificate")?;
                let entries: Vec<_> = certificate.subject_name().entries().collect();
                assert_eq!(entries.len(), 1);
                let bytes = entries[0].data().as_slice().to_vec();
                Ok(String::from_utf8(bytes).unwrap())
            });
            let connected = client
                .connect(host, ours)
                .map_err(|error| error.to_string());
            let accepted = accepted.join().unwrap();
            connected.and(accepted)
        })
    }

    #[test]
    fn both_sides_shake_hands_under_every_name() {
        let dir = tempfile::tempdir().unwrap();
        let material = Material::ensure(dir.path(), &names(&["box.example"])).unwrap();
        for host in ["localhost", "127.0.0.1", "::1", "box.example"] {
            assert_eq!(
                shake(&material, host, true).as_deref(),
                Ok(CLIENT_NAME),
                "{host}"
            );
        }
        assert!(shake(&material, "other.example", true).is_err());
        assert!(shake(&material, "localhost", false).is_err());
        for path in contents(dir.path()).keys() {
            let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
    }

    #[test]
    fn a_clock_that_is_behind_finds_valid_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let material = Material::ensure(dir.path(), &names(&[])).unwrap();
        let behind = clock::now().value() / 1000 - 23 * 60 * 60;
        let behind = Asn1Time::from_unix(behind).unwrap();
        for (path, days) in [
            (&material.ca_pem, CA_DAYS),
            (&material.server_keystore_pem, LEAF_DAYS),
            (&material.client_cert_pem, LEAF_DAYS),
        ] {
            let certificate = X509::from_pem(&fs::read(path).unwrap()).unwrap();
            let (from, until) = (certificate.not_before(), certificate.not_after());
            assert!(from < behind, "{}: from {from}", path.display());
            let valid = from.diff(until).unwrap();
            assert_eq!((i64::from(valid.days), valid.secs), (days, 0));
        }
    }

    #[test]
    fn what_is_good_is_kept_and_what_is_not_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let material = Material::ensure(dir.path(), &names(&[])).unwrap();
        let first = contents(dir.path());
        Material::ensure(dir.path(), &names(&[])).unwrap();
        assert_eq!(contents(dir.path()), first);

        Material::ensure(dir.path(), &names(&["10.0.0.7"])).unwrap();
        let second = contents(dir.path());
        let changed: Vec<_> = first
            .keys()
            .filter(|path| first[*path] != second[*path])
            .collect();
        assert_eq!(changed, [&material.server_keystore_pem]);
        assert_eq!(
            shake(&material, "10.0.0.7", true).as_deref(),
            Ok(CLIENT_NAME)
        );

        fs::remove_file(dir.path().join("ca-key.pem")).unwrap();
        Material::ensure(dir.path(), &names(&[])).unwrap();
        let third = contents(dir.path());
        assert!(second.keys().all(|path| second[path] != third[path]));
        assert_eq!(
            shake(&material, "localhost", true).as_deref(),
            Ok(CLIENT_NAME)
        );
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        Material::ensure(dir.path(), &names(&[])).unwrap();
        fs::write(dir.path().join("client-key.pem"), "nonsense").unwrap();
        let error = Material::ensure(dir.path(), &names(&[])).unwrap_err();
        assert!(
            error.to_string().contains("client-key.pem: not PEM"),
            "{error}"
        );
    }
}
