//! What the `ssl.*` keys of one listener say.

use std::path::PathBuf;

use super::TlsError;
use super::principal::MappingRules;
use crate::secret::Secret;

/// Whether a server asks for the client's certificate: `ssl.client.auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// It does not ask.
    #[default]
    None,
    /// It asks; none is fine, a bad one is not.
    Requested,
    /// It insists.
    Required,
}

impl ClientAuth {
    /// Reads the value of `ssl.client.auth`; `None` for anything else.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "requested" => Some(Self::Requested),
            "required" => Some(Self::Required),
            _ => None,
        }
    }
}

/// A protocol version that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2, the floor.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl TlsVersion {
    /// Reads a name as in `ssl.enabled.protocols`; older versions are not known.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "TLSv1.2" => Some(Self::Tls12),
            "TLSv1.3" => Some(Self::Tls13),
            _ => None,
        }
    }
}

/// Where key and chain are.
#[derive(Debug, Clone)]
pub enum KeyStore {
    /// A PEM file with both.
    PemFile(PathBuf),
    /// PEM text in the configuration itself (KIP-651).
    Inline {
        /// The private key.
        key: Secret,
        /// The certificates, leaf first.
        chain: Secret,
    },
}

/// Where the trusted certificates are.
#[derive(Debug, Clone)]
pub enum TrustStore {
    /// A PEM file.
    PemFile(PathBuf),
    /// PEM text in the configuration itself (KIP-651).
    Inline(Secret),
}

/// Everything TLS needs to know about one listener or one kind of outgoing link.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// The own key and chain; a client may have none.
    pub keystore: Option<KeyStore>,
    /// `ssl.key.password`.
    pub key_password: Option<Secret>,
    /// The trusted certificates.
    pub truststore: Option<TrustStore>,
    /// `ssl.client.auth`.
    pub client_auth: ClientAuth,
    /// `ssl.enabled.protocols`.
    pub protocols: Vec<TlsVersion>,
    /// `ssl.cipher.suites`, IANA names; empty means the default.
    pub cipher_suites: Vec<String>,
    /// False only when `ssl.endpoint.identification.algorithm` is empty. Servers ignore it.
    pub verify_hostname: bool,
    /// `ssl.principal.mapping.rules`.
    pub mapping_rules: MappingRules,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            keystore: None,
            key_password: None,
            truststore: None,
            client_auth: ClientAuth::None,
            protocols: vec![TlsVersion::Tls12, TlsVersion::Tls13],
            cipher_suites: Vec::new(),
            verify_hostname: true,
            mapping_rules: MappingRules::default(),
        }
    }
}

impl TlsSettings {
    /// The keys that [`from_keys`](Self::from_keys) looks at.
    pub const KEYS: &'static [&'static str] = &[
        "ssl.cipher.suites",
        "ssl.client.auth",
        "ssl.enabled.protocols",
        "ssl.endpoint.identification.algorithm",
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
        "ssl.truststore.password",
        "ssl.truststore.type",
    ];

    /// Reads the bare keys through `get`, which resolves prefixes and indirections.
    ///
    /// # Errors
    /// Every problem at once; files are not opened here.
    pub fn from_keys(get: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<TlsError>> {
        let mut errors = Vec::new();
        let mut keep = |error: TlsError| errors.push(error);
        let secret = |key: &str| get(key).map(Secret::from);
        let mut settings = Self::default();

        check_type("ssl.keystore.type", &get, &mut keep);
        check_type("ssl.truststore.type", &get, &mut keep);
        settings.keystore = keystore(&get, &mut keep);
        settings.truststore = truststore(&get, &mut keep);
        settings.key_password = secret("ssl.key.password").filter(|p| !p.is_empty());
        if let Some(value) = get("ssl.client.auth") {
            match ClientAuth::from_name(&value) {
                Some(client_auth) => settings.client_auth = client_auth,
                None => keep(bad(
                    "ssl.client.auth",
                    &value,
                    "there are none, requested, required",
                )),
            }
        }
        if let Some(value) = get("ssl.enabled.protocols") {
            settings.protocols = protocols("ssl.enabled.protocols", &value, &mut keep);
        }
        if let Some(value) = get("ssl.protocol") {
            let named = protocols("ssl.protocol", &value, &mut keep);
            // It chooses a context in Java and nothing here; a value that is not enabled
            // would surprise whoever wrote it.
            if named.iter().any(|v| !settings.protocols.contains(v)) {
                keep(TlsError::Relation(
                    "ssl.protocol names a version that ssl.enabled.protocols does not enable",
                ));
            }
        }
        settings.cipher_suites = list(&get("ssl.cipher.suites").unwrap_or_default());
        match get("ssl.endpoint.identification.algorithm").as_deref() {
            None => {}
            Some("") => settings.verify_hostname = false,
            Some(value) if value.eq_ignore_ascii_case("https") => {}
            Some(value) => keep(bad(
                "ssl.endpoint.identification.algorithm",
                value,
                "it is https or empty",
            )),
        }
        if let Some(rules) = get("ssl.principal.mapping.rules") {
            match MappingRules::parse(&rules) {
                Ok(rules) => settings.mapping_rules = rules,
                Err(error) => keep(error.into()),
            }
        }
        if errors.is_empty() {
            Ok(settings)
        } else {
            Err(errors)
        }
    }
}

type Get<'a> = &'a dyn Fn(&str) -> Option<String>;

fn set(get: Get<'_>, key: &str) -> Option<String> {
    get(key).filter(|value| !value.is_empty())
}

fn keystore(get: Get<'_>, keep: &mut impl FnMut(TlsError)) -> Option<KeyStore> {
    let location = set(get, "ssl.keystore.location");
    let key = set(get, "ssl.keystore.key");
    let chain = set(get, "ssl.keystore.certificate.chain");
    if set(get, "ssl.keystore.password").is_some() {
        keep(TlsError::Relation(
            "ssl.keystore.password: PEM takes no store password; an encrypted key takes ssl.key.password",
        ));
    }
    match (location, key, chain) {
        (None, None, None) => None,
        (Some(path), None, None) => Some(KeyStore::PemFile(path.into())),
        (None, Some(key), Some(chain)) => Some(KeyStore::Inline {
            key: key.into(),
            chain: chain.into(),
        }),
        (Some(_), _, _) => {
            keep(TlsError::Relation(
                "ssl.keystore.location excludes ssl.keystore.key and ssl.keystore.certificate.chain",
            ));
            None
        }
        (None, _, _) => {
            keep(TlsError::Relation(
                "ssl.keystore.key and ssl.keystore.certificate.chain need each other",
            ));
            None
        }
    }
}

fn truststore(get: Get<'_>, keep: &mut impl FnMut(TlsError)) -> Option<TrustStore> {
    let location = set(get, "ssl.truststore.location");
    let certificates = set(get, "ssl.truststore.certificates");
    if set(get, "ssl.truststore.password").is_some() {
        keep(TlsError::Relation(
            "ssl.truststore.password: PEM takes no store password",
        ));
    }
    match (location, certificates) {
        (None, None) => None,
        (Some(path), None) => Some(TrustStore::PemFile(path.into())),
        (None, Some(text)) => Some(TrustStore::Inline(text.into())),
        (Some(_), Some(_)) => {
            keep(TlsError::Relation(
                "ssl.truststore.location excludes ssl.truststore.certificates",
            ));
            None
        }
    }
}

/// An unset type leaves it to the content; the reference's default, JKS, is not built.
fn check_type(key: &'static str, get: Get<'_>, keep: &mut impl FnMut(TlsError)) {
    let Some(value) = set(get, key) else { return };
    match value.to_ascii_uppercase().as_str() {
        "PEM" => {}
        "JKS" => keep(TlsError::StoreType {
            key: key.to_owned(),
            found: "JKS",
        }),
        "PKCS12" => keep(TlsError::StoreType {
            key: key.to_owned(),
            found: "PKCS12",
        }),
        _ => keep(bad(key, &value, "PEM is read")),
    }
}

fn protocols(key: &'static str, value: &str, keep: &mut impl FnMut(TlsError)) -> Vec<TlsVersion> {
    let mut versions = Vec::new();
    for name in list(value) {
        match TlsVersion::from_name(&name) {
            Some(version) if !versions.contains(&version) => versions.push(version),
            Some(_) => {}
            None => keep(bad(key, &name, "there are TLSv1.2 and TLSv1.3")),
        }
    }
    if versions.is_empty() {
        keep(bad(key, value, "there are TLSv1.2 and TLSv1.3"));
    }
    versions
}

fn list(text: &str) -> Vec<String> {
    let items = text.split(',').map(str::trim);
    items
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

fn bad(key: &'static str, value: &str, expected: &'static str) -> TlsError {
    TlsError::Value {
        key,
        value: value.escape_debug().to_string(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<TlsSettings, Vec<String>> {
        let get = |key: &str| {
            let found = pairs.iter().find(|(k, _)| *k == key);
            found.map(|(_, value)| (*value).to_owned())
        };
        TlsSettings::from_keys(get)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn defaults_are_strict() {
        let settings = read(&[]).unwrap();
        assert!(settings.verify_hostname);
        assert_eq!(settings.client_auth, ClientAuth::None);
        assert_eq!(settings.protocols, [TlsVersion::Tls12, TlsVersion::Tls13]);
    }

    #[test]
    fn keys_become_settings() {
        let settings = read(&[
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.location", "/etc/node.pem"),
            ("ssl.truststore.certificates", "..."),
            ("ssl.client.auth", "required"),
            ("ssl.enabled.protocols", "TLSv1.3"),
            ("ssl.protocol", "TLSv1.3"),
            ("ssl.cipher.suites", "A, B"),
            ("ssl.endpoint.identification.algorithm", ""),
            (
                "ssl.principal.mapping.rules",
                "RULE:^CN=(.*?),.*$/$1/,DEFAULT",
            ),
        ])
        .unwrap();
        assert!(matches!(settings.keystore, Some(KeyStore::PemFile(_))));
        assert!(matches!(settings.truststore, Some(TrustStore::Inline(_))));
        assert_eq!(settings.client_auth, ClientAuth::Required);
        assert_eq!(settings.protocols, [TlsVersion::Tls13]);
        assert_eq!(settings.cipher_suites, ["A", "B"]);
        assert!(!settings.verify_hostname);
    }

    #[test]
    fn all_problems_come_together() {
        let errors = read(&[
            ("ssl.keystore.type", "JKS"),
            ("ssl.truststore.type", "PKCS12"),
            ("ssl.keystore.password", "hunter2"),
            ("ssl.keystore.key", "secret-key-text"),
            ("ssl.client.auth", "want"),
            ("ssl.enabled.protocols", "TLSv1.1,TLSv1.2"),
            ("ssl.endpoint.identification.algorithm", "ldaps"),
            ("ssl.principal.mapping.rules", "default"),
        ])
        .unwrap_err();
        assert_eq!(errors.len(), 8, "{errors:#?}");
        let text = errors.join("\n");
        assert!(text.contains("ssl.keystore.type: stores of type JKS are not read"));
        assert!(text.contains("ssl.truststore.type: stores of type PKCS12"));
        assert!(text.contains("`TLSv1.1` is not valid"));
        assert!(!text.contains("hunter2") && !text.contains("secret-key-text"));
    }

    #[test]
    fn location_and_inline_exclude_each_other() {
        let errors = read(&[
            ("ssl.keystore.location", "a"),
            ("ssl.keystore.key", "b"),
            ("ssl.truststore.location", "a"),
            ("ssl.truststore.certificates", "b"),
        ])
        .unwrap_err();
        assert_eq!(errors.len(), 2);
    }

    #[test]
    fn debug_hides_inline_keys() {
        let settings = read(&[
            ("ssl.keystore.key", "secret-key-text"),
            ("ssl.keystore.certificate.chain", "chain"),
            ("ssl.key.password", "hunter2"),
        ])
        .unwrap();
        let printed = format!("{settings:?}");
        assert!(!printed.contains("hunter2") && !printed.contains("secret-key-text"));
    }
}
