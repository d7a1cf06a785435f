//! What a failed TLS handshake means in words, and what to do about it.
//!
//! OpenSSL names the check that failed or the alert that came; whose certificate it is, and which
//! setting mends it, only this side knows. Its own words stand behind, for whoever searches them.

use std::io;

use openssl::{error::ErrorStack, ssl, x509::X509VerifyResult};
use palisade_auth::tls::{KeyStore, TlsSettings};

/// OpenSSL counts the alerts of the other side from here (`SSL_AD_REASON_OFFSET`).
const ALERTS: i32 = 1000;

/// Alerts of TLS (RFC 8446 §6.2) that have words of their own.
const HANDSHAKE_FAILURE: u8 = 40;
const BAD_CERTIFICATE: u8 = 42;
const UNSUPPORTED_CERTIFICATE: u8 = 43;
const CERTIFICATE_REVOKED: u8 = 44;
const CERTIFICATE_EXPIRED: u8 = 45;
const CERTIFICATE_UNKNOWN: u8 = 46;
const UNKNOWN_CA: u8 = 48;
/// A signature that does not fit, that of an authority of the right name among them.
const DECRYPT_ERROR: u8 = 51;
const PROTOCOL_VERSION: u8 = 70;
const INSUFFICIENT_SECURITY: u8 = 71;
const CERTIFICATE_REQUIRED: u8 = 116;

const WANTS_CERTIFICATE: &str = "that listener asks for a client certificate; set \
                                 ssl.keystore.location (librdkafka: ssl.certificate.location and \
                                 ssl.key.location), or use the SASL_SSL listener";

/// Why this side does not accept the certificate of the broker at `host`.
pub(super) fn of_broker(verdict: X509VerifyResult, host: &str) -> String {
    // Numbers of `X509_V_ERR_…` in OpenSSL's x509_vfy.h.
    let words = match verdict.as_raw() {
        9 => {
            "the broker's certificate, or one above it, is not valid yet; look at the clocks of \
             both machines"
        }
        10 => {
            "the broker's certificate, or one above it, has expired; renew it at the broker, or \
             look at this machine's clock"
        }
        2 | 7 | 18..=21 => {
            "the broker's certificate is signed by no authority that is trusted here; set \
             ssl.truststore.location (librdkafka: ssl.ca.location) to the certificate of the \
             authority that signed it"
        }
        23 => "the broker's certificate was revoked; it needs a new one",
        79 => "the broker's certificate is signed by one that may not sign others",
        26 => "the broker's certificate is not meant for servers; it needs one that is",
        66..=68 => "the key or signature of the broker's certificate, or of one above it, is weak",
        62 | 64 => {
            return format!(
                "the broker's certificate is not for {host}; name the broker as its certificate \
                 does, or give it one with this name ({})",
                verdict.error_string()
            );
        }
        _ => "the broker's certificate is not accepted here",
    };
    format!("{words} ({})", verdict.error_string())
}

/// Why the broker broke the handshake off, if it said so.
pub(super) fn of_alert(error: &ssl::Error, settings: &TlsSettings) -> Option<String> {
    let (alert, name) = alert(error.ssl_error()?)?;
    let own = match &settings.keystore {
        Some(KeyStore::PemFile(path)) => format!("this client's certificate ({})", path.display()),
        Some(KeyStore::Inline { .. }) | None => "this client's certificate".to_owned(),
    };
    let words = match alert {
        CERTIFICATE_REQUIRED | HANDSHAKE_FAILURE if settings.keystore.is_none() => {
            WANTS_CERTIFICATE.to_owned()
        }
        CERTIFICATE_EXPIRED => format!("the broker says that {own} has expired; renew it"),
        CERTIFICATE_REVOKED => {
            format!("the broker says that {own} was revoked; it needs a new one")
        }
        UNKNOWN_CA => format!(
            "the broker does not trust the authority that signed {own}; use one signed by an \
             authority of the broker's truststore"
        ),
        UNSUPPORTED_CERTIFICATE => format!(
            "the broker does not take {own}; it may not be meant for clients (extended key usage)"
        ),
        BAD_CERTIFICATE | CERTIFICATE_UNKNOWN | DECRYPT_ERROR => format!(
            "the broker does not accept {own}; look at the time it is valid, at the authority \
             that signed it, and at the broker's log"
        ),
        HANDSHAKE_FAILURE | PROTOCOL_VERSION | INSUFFICIENT_SECURITY => {
            "broker and client share no version of TLS or no cipher; look at ssl.enabled.protocols \
             and ssl.cipher.suites on both sides"
                .to_owned()
        }
        _ => "the broker broke the TLS handshake off; its log may say why".to_owned(),
    };
    Some(format!("{words} ({name})"))
}

/// The same of an error that came while reading or writing: in TLS 1.3 the client's handshake has
/// ended before the broker looks at its certificate.
pub(super) fn of_late_alert(error: &io::Error, settings: &TlsSettings) -> Option<String> {
    of_alert(error.get_ref()?.downcast_ref()?, settings)
}

/// Number and name of the alert that the other side sent.
fn alert(stack: &ErrorStack) -> Option<(u8, &str)> {
    let mut errors = stack.errors().iter();
    errors.find_map(|error| {
        let number = error.reason_code().checked_sub(ALERTS)?;
        Some((
            u8::try_from(number).ok()?,
            error.reason().unwrap_or("alert"),
        ))
    })
}
