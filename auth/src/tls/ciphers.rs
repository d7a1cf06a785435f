//! IANA names of cipher suites, as Java writes them, and OpenSSL's names for them.

use super::{TlsError, TlsVersion};

/// TLS 1.3 suites in the order of preference: the first is fast everywhere and strong enough.
const TLS13: &[&str] = &[
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];

/// TLS 1.2 suites with forward secrecy: IANA, OpenSSL, offered by default.
const TLS12: &[(&str, &str, bool)] = &[
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        true,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        true,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        true,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        true,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        true,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-RSA-CHACHA20-POLY1305",
        true,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
        "ECDHE-ECDSA-AES128-SHA256",
        false,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
        "ECDHE-RSA-AES128-SHA256",
        false,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
        "ECDHE-ECDSA-AES256-SHA384",
        false,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
        "ECDHE-RSA-AES256-SHA384",
        false,
    ),
];

/// The suites and versions of a context, in OpenSSL's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Suites {
    /// For `SSL_CTX_set_ciphersuites`; empty when TLS 1.3 is off.
    pub(super) tls13: String,
    /// For `SSL_CTX_set_cipher_list`; empty when TLS 1.2 is off.
    pub(super) tls12: String,
}

/// Chooses the suites of the enabled versions.
///
/// A version for which the operator's list names no suite is not offered at all.
pub(super) fn choose(suites: &[String], versions: &[TlsVersion]) -> Result<Suites, TlsError> {
    let mut tls13 = Vec::new();
    let mut tls12 = Vec::new();
    if suites.is_empty() {
        tls13.extend(TLS13);
        let default = TLS12.iter().filter(|(_, _, default)| *default);
        tls12.extend(default.map(|(_, openssl, _)| *openssl));
    }
    for suite in suites {
        let old = TLS12.iter().find(|(iana, _, _)| iana == suite);
        if let Some(name) = TLS13.iter().find(|name| *name == suite) {
            tls13.push(*name);
        } else if let Some((_, openssl, _)) = old {
            tls12.push(*openssl);
        } else {
            return Err(TlsError::CipherSuite(suite.escape_debug().to_string()));
        }
    }
    if !versions.contains(&TlsVersion::Tls13) {
        tls13.clear();
    }
    if !versions.contains(&TlsVersion::Tls12) {
        tls12.clear();
    }
    if tls13.is_empty() && tls12.is_empty() {
        return Err(TlsError::NoCipherSuite);
    }
    Ok(Suites {
        tls13: tls13.join(":"),
        tls12: tls12.join(":"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[TlsVersion] = &[TlsVersion::Tls12, TlsVersion::Tls13];

    #[test]
    fn defaults_are_aead_with_forward_secrecy() {
        let suites = choose(&[], BOTH).unwrap();
        assert!(suites.tls13.starts_with("TLS_AES_128_GCM_SHA256:"));
        for name in suites.tls12.split(':') {
            assert!(name.starts_with("ECDHE-"));
            assert!(name.contains("GCM") || name.contains("CHACHA20"));
        }
        assert_eq!(choose(&[], &[TlsVersion::Tls13]).unwrap().tls12, "");
    }

    #[test]
    fn a_list_replaces_the_defaults() {
        let list = ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384".to_owned()];
        let suites = choose(&list, BOTH).unwrap();
        assert_eq!(suites.tls12, "ECDHE-RSA-AES256-GCM-SHA384");
        assert_eq!(suites.tls13, "");
        assert!(matches!(
            choose(&list, &[TlsVersion::Tls13]),
            Err(TlsError::NoCipherSuite)
        ));
    }

    #[test]
    fn weak_and_unknown_suites_are_refused() {
        for name in [
            "TLS_RSA_WITH_AES_128_CBC_SHA",
            "TLS_RSA_WITH_NULL_SHA256",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "aNULL",
            "",
        ] {
            assert!(matches!(
                choose(&[name.to_owned()], BOTH),
                Err(TlsError::CipherSuite(_))
            ));
        }
    }
}
