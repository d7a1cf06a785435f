//! OpenSSL contexts from settings (spec/security.md §2.3, §2.4).

use std::net::IpAddr;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode,
    SslVerifyMode, SslVersion,
};
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::{X509CheckFlags, X509VerifyFlags};
use openssl::x509::{X509, X509Ref};

use super::pem::{Identity, load_identity, load_trusted};
use super::settings::{ClientAuth, TlsSettings};
use super::{TlsError, ciphers};

/// Key agreement: both are constant-time and fast; a longer list would only be slower.
const GROUPS: &str = "X25519:P-256";

/// The longest certificate chain accepted from a peer.
const VERIFY_DEPTH: u32 = 8;

/// The level at which OpenSSL refuses keys and hashes below 112 bits of strength.
const SECURITY_LEVEL: u32 = 2;

/// How long before its end a certificate is worth a word, in seconds: 30 days.
const SOON: i64 = 30 * 86_400;

/// The time in which a certificate is valid, in seconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: i64,
    /// The last second.
    pub not_after: i64,
}

impl Validity {
    /// Reads it from a certificate.
    ///
    /// # Errors
    /// Times that OpenSSL cannot read.
    pub fn of(certificate: &X509Ref) -> Result<Self, ErrorStack> {
        Ok(Self {
            not_before: unix_seconds(certificate.not_before())?,
            not_after: unix_seconds(certificate.not_after())?,
        })
    }
}

fn unix_seconds(time: &Asn1TimeRef) -> Result<i64, ErrorStack> {
    let difference = Asn1Time::from_unix(0)?.diff(time)?;
    Ok(i64::from(difference.days) * 86_400 + i64::from(difference.secs))
}

/// The server side of TLS on one listener.
#[derive(Clone)]
pub struct ServerTls {
    context: SslContext,
    certificate: X509,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls")
            .field("certificate", &super::principal::java_dn(&self.certificate))
            .finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads the stores and builds the context.
    ///
    /// # Errors
    /// A store that is missing, unreadable, readable by others, or too weak, be it a truststore by
    /// which nobody is verified; none where clients are; suites that fit nothing.
    pub fn new(settings: &TlsSettings) -> Result<Self, TlsError> {
        let keystore = settings.keystore.as_ref().ok_or(TlsError::NoKeystore)?;
        let identity = load_identity(keystore, settings.key_password.as_ref())?;
        let mut context = base(settings)?;
        present(&mut context, &identity)?;
        context.set_options(SslOptions::CIPHER_SERVER_PREFERENCE);
        match settings.client_auth {
            ClientAuth::None => {
                // As in Kafka, one that is named is read: a mistake in it shows before it counts.
                if let Some(truststore) = &settings.truststore {
                    load_trusted(truststore)?;
                }
                context.set_verify(SslVerifyMode::NONE);
            }
            ClientAuth::Requested => {
                trust(&mut context, settings)?;
                context.set_verify(SslVerifyMode::PEER);
            }
            ClientAuth::Required => {
                trust(&mut context, settings)?;
                context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
            }
        }
        Ok(Self {
            context: context.build(),
            certificate: identity.leaf,
        })
    }

    /// The context, for new connections; a clone is a reference.
    pub fn context(&self) -> SslContext {
        self.context.clone()
    }

    /// The certificate shown to clients.
    pub fn certificate(&self) -> &X509Ref {
        &self.certificate
    }

    /// What is to be said of the own certificate's validity at `now_seconds` since 1970: that it
    /// has ended, has not begun, or ends within 30 days. Names the subject and the date.
    ///
    /// # Errors
    /// Times that OpenSSL cannot read.
    pub fn validity_warning(&self, now_seconds: i64) -> Result<Option<String>, TlsError> {
        let validity = Validity::of(&self.certificate)?;
        let (from, until) = (self.certificate.not_before(), self.certificate.not_after());
        let what = if now_seconds < validity.not_before {
            format!("is not valid before {from}; until then clients refuse it")
        } else if now_seconds > validity.not_after {
            format!("expired on {until}; clients refuse it")
        } else if now_seconds.saturating_add(SOON) > validity.not_after {
            format!("expires on {until}")
        } else {
            return Ok(None);
        };
        let subject = super::principal::java_dn(&self.certificate);
        Ok(Some(format!(
            "the certificate {} {what}",
            subject.escape_debug()
        )))
    }
}

/// The client side of TLS: the command line, and links between nodes.
#[derive(Clone)]
pub struct ClientTls {
    context: SslContext,
    verify_hostname: bool,
}

impl ClientTls {
    /// Reads the stores and builds the context. Certificates are always verified.
    ///
    /// # Errors
    /// No truststore, or one of the problems that [`ServerTls::new`] has.
    pub fn new(settings: &TlsSettings) -> Result<Self, TlsError> {
        let mut context = base(settings)?;
        if let Some(keystore) = &settings.keystore {
            let identity = load_identity(keystore, settings.key_password.as_ref())?;
            present(&mut context, &identity)?;
        }
        trust(&mut context, settings)?;
        context.set_verify(SslVerifyMode::PEER);
        Ok(Self {
            context: context.build(),
            verify_hostname: settings.verify_hostname,
        })
    }

    /// Prepares one connection to a host: an address or a name.
    ///
    /// The certificate must cover the host by a subject alternative name; the common name is
    /// never looked at, and a wildcard stands for one whole label.
    ///
    /// # Errors
    /// OpenSSL refused, for example a name with a NUL.
    pub fn connect(&self, host: &str) -> Result<Ssl, TlsError> {
        let mut ssl = Ssl::new(&self.context)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address = bare.parse::<IpAddr>().ok();
        if address.is_none() {
            ssl.set_hostname(host)?;
        }
        if self.verify_hostname {
            let param = ssl.param_mut();
            param.set_hostflags(
                X509CheckFlags::NO_PARTIAL_WILDCARDS | X509CheckFlags::NEVER_CHECK_SUBJECT,
            );
            match address {
                Some(address) => param.set_ip(address)?,
                None => param.set_host(host)?,
            }
        }
        Ok(ssl)
    }
}

/// What both sides have in common.
pub(super) fn base(settings: &TlsSettings) -> Result<SslContextBuilder, TlsError> {
    let suites = ciphers::choose(&settings.cipher_suites, &settings.protocols)?;
    let mut context = SslContextBuilder::new(SslMethod::tls())?;
    context.set_security_level(SECURITY_LEVEL);
    let (lowest, highest) = match (suites.tls12.is_empty(), suites.tls13.is_empty()) {
        (false, false) => (SslVersion::TLS1_2, SslVersion::TLS1_3),
        (false, true) => (SslVersion::TLS1_2, SslVersion::TLS1_2),
        (true, _) => (SslVersion::TLS1_3, SslVersion::TLS1_3),
    };
    context.set_min_proto_version(Some(lowest))?;
    context.set_max_proto_version(Some(highest))?;
    context.set_ciphersuites(&suites.tls13)?;
    if !suites.tls12.is_empty() {
        context.set_cipher_list(&suites.tls12)?;
    }
    context.set_groups_list(GROUPS)?;
    // No session outlives its connection: a resumed one would skip the check of a client
    // certificate whose authority was removed meanwhile.
    context.set_options(
        SslOptions::NO_TICKET | SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION,
    );
    context.set_num_tickets(0)?;
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_mode(
        SslMode::AUTO_RETRY
            | SslMode::ENABLE_PARTIAL_WRITE
            | SslMode::ACCEPT_MOVING_WRITE_BUFFER
            | SslMode::RELEASE_BUFFERS
            | SslMode::NO_AUTO_CHAIN,
    );
    // Bytes are buffered below OpenSSL by the connection, which knows what it waits for.
    context.set_read_ahead(false);
    Ok(context)
}

fn present(context: &mut SslContextBuilder, identity: &Identity) -> Result<(), TlsError> {
    context.set_certificate(&identity.leaf)?;
    let key: &PKey<_> = &identity.key;
    context.set_private_key(key)?;
    context.check_private_key()?;
    for certificate in &identity.chain {
        context.add_extra_chain_cert(certificate.clone())?;
    }
    Ok(())
}

fn trust(context: &mut SslContextBuilder, settings: &TlsSettings) -> Result<(), TlsError> {
    let truststore = settings.truststore.as_ref().ok_or(TlsError::NoTruststore)?;
    let trusted = load_trusted(truststore)?;
    let mut store = X509StoreBuilder::new()?;
    // As in Java, whatever is in the store is an anchor, also an intermediate authority.
    store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    let mut names = Stack::new()?;
    for certificate in trusted {
        names.push(certificate.subject_name().to_owned()?)?;
        store.add_cert(certificate)?;
    }
    context.set_cert_store(store.build());
    context.set_client_ca_list(names);
    context.set_verify_depth(VERIFY_DEPTH);
    Ok(())
}
