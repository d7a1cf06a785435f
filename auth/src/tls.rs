//! TLS: contexts from PEM, and principals from certificates (spec/security.md §2).
//!
//! Reload, JKS and PKCS#12 are not built; stores of those types are refused in words.

mod ciphers;
mod context;
mod mapping;
mod pattern;
mod pem;
pub mod principal;
mod settings;

use std::path::PathBuf;

use openssl::error::ErrorStack;
use thiserror::Error;

pub use context::{ClientTls, ServerTls, Validity};
pub use settings::{ClientAuth, KeyStore, TlsSettings, TlsVersion, TrustStore};

/// Why TLS cannot be set up. No variant repeats a password or key.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A setting has a value that is not known.
    #[error("{key}: `{value}` is not valid; {expected}")]
    Value {
        /// The setting.
        key: &'static str,
        /// Its value; never of a secret setting.
        value: String,
        /// What would be valid.
        expected: &'static str,
    },
    /// JKS and PKCS#12 are not read.
    #[error(
        "{key}: stores of type {found} are not read by this version; convert the store to PEM \
         (openssl pkcs12 -in <store>.p12 -out <store>.pem) and set the type to PEM"
    )]
    StoreType {
        /// The setting that says so, or the file that was found to be one.
        key: String,
        /// The type.
        found: &'static str,
    },
    /// Two settings exclude each other, or one is missing.
    #[error("{0}")]
    Relation(&'static str),
    /// A file cannot be read.
    #[error("{key}: cannot read {path}: {source}")]
    File {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others than the owner may read the private key.
    #[error(
        "{key}: the private key in {path} can be read by others (mode {mode:04o}); run: chmod 600 {path}"
    )]
    KeyFileMode {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// PEM text that does not hold what it should.
    #[error("{origin}: {problem}")]
    Pem {
        /// The setting or file.
        origin: String,
        /// What is wrong.
        problem: PemProblem,
    },
    /// A cipher suite that is not known or not offered.
    #[error("ssl.cipher.suites: `{0}` is not known or too weak to be offered")]
    CipherSuite(String),
    /// The suites fit none of the enabled protocol versions.
    #[error("ssl.cipher.suites: no suite fits the protocols of ssl.enabled.protocols")]
    NoCipherSuite,
    /// Client certificates are to be verified against nothing.
    #[error(
        "ssl.truststore.location or ssl.truststore.certificates is needed where certificates are \
         verified; public authorities are never trusted by default"
    )]
    NoTruststore,
    /// The server has no key.
    #[error(
        "ssl.keystore.location, or ssl.keystore.key with ssl.keystore.certificate.chain, is needed"
    )]
    NoKeystore,
    /// A mapping rule that cannot be used.
    #[error("ssl.principal.mapping.rules: {0}")]
    Mapping(#[from] principal::MappingError),
    /// OpenSSL refused.
    #[error("TLS set-up failed: {0}")]
    OpenSsl(#[from] ErrorStack),
}

/// What is wrong with PEM text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PemProblem {
    /// There is no block at all.
    #[error("there is no PEM block in it")]
    Empty,
    /// A block is not closed, or its content is not base64.
    #[error("a PEM block is damaged")]
    Damaged,
    /// No private key.
    #[error("there is no private key in it")]
    NoKey,
    /// More than one private key.
    #[error("there is more than one private key in it")]
    SeveralKeys,
    /// No certificate.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// A certificate that does not parse.
    #[error("certificate {0} cannot be read")]
    Certificate(usize),
    /// A key that does not parse.
    #[error("the private key cannot be read; is it PKCS#8?")]
    Key,
    /// The key is encrypted.
    #[error("the private key is encrypted; set ssl.key.password")]
    NeedsPassword,
    /// The password does not open the key.
    #[error("ssl.key.password does not open the private key")]
    WrongPassword,
    /// A key of a kind or size that is not accepted.
    #[error("the key is {0}; at least RSA with 2048 bits, P-256 or Ed25519 is needed")]
    WeakKey(String),
    /// No certificate belongs to the key.
    #[error("the private key belongs to none of the certificates")]
    Mismatch,
    /// A private key among trusted certificates.
    #[error("there is a private key in the truststore; it has no business there")]
    KeyInTruststore,
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
