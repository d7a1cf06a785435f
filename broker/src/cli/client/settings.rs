//! Client settings, from the properties of a Java client or the configuration of a librdkafka one.
//!
//! The two are told apart by keys that only librdkafka has (`sasl.username`, `ssl.ca.location`, …).
//! Java's file is read by the rules of its format, librdkafka's line by line, with nothing escaped.
//! Keys that are of no concern to administration (`acks`, `group.id`, …) are passed over; keys that
//! no client knows are refused.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use palisade_auth::{
    Secret,
    sasl::{
        Mechanism,
        jaas::{JaasEntry, LoginModule},
    },
    tls::{KeyStore, TlsSettings, TrustStore},
};
use zeroize::Zeroizing;

use super::{
    error::ClientError,
    known_keys::{self, Problem},
};
use crate::config::SecurityProtocol;

/// Keys that no Java client has.
const LIBRDKAFKA_KEYS: [&str; 11] = [
    "metadata.broker.list",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.key.pem",
    "enable.ssl.certificate.verification",
];

/// User name and password of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// How they are shown to the broker.
    pub mechanism: Mechanism,
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// How to reach a broker, and who to be there.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Hosts and ports to begin with, never empty.
    pub bootstrap: Vec<(String, u16)>,
    /// The listener's protocol.
    pub protocol: SecurityProtocol,
    /// Trust, and maybe a certificate of one's own; present with SSL and SASL_SSL.
    pub tls: Option<TlsSettings>,
    /// Present with SASL_PLAINTEXT and SASL_SSL.
    pub credentials: Option<Credentials>,
}

type Settings = BTreeMap<String, Zeroizing<String>>;

impl ClientSettings {
    /// Reads the file, if there is one; `bootstrap` on the command line beats the one in the file.
    ///
    /// # Errors
    /// `File`, `Usage` or `TlsSettings`, naming key or file.
    pub fn load(file: Option<&Path>, bootstrap: Option<&str>) -> Result<Self, ClientError> {
        let bytes = match file {
            Some(path) => read(path)?,
            None => Zeroizing::new(Vec::new()),
        };
        let (mut settings, is_librdkafka) = parse(&bytes)?;
        let mut problems = check_keys(file, &mut settings, is_librdkafka);
        let outcome = Self::read(&settings, is_librdkafka, bootstrap, &mut problems);
        match (outcome, problems.len()) {
            (Some(read), 0) => Ok(read),
            (_, 1) => Err(problems.remove(0)),
            (_, count) => {
                let mut text = format!("{count} problems with the client's settings");
                for problem in problems {
                    text.push_str(&format!("\n  {problem}"));
                }
                Err(usage(text))
            }
        }
    }

    /// Reads everything; `None` with at least one problem.
    fn read(
        settings: &Settings,
        is_librdkafka: bool,
        bootstrap: Option<&str>,
        problems: &mut Vec<ClientError>,
    ) -> Option<Self> {
        let get = |key: &str| settings.get(key).map(|value| value.as_str());
        let bootstrap = bootstrap
            .or_else(|| get("bootstrap.servers"))
            .or_else(|| get("metadata.broker.list"))
            .ok_or_else(|| {
                usage("--bootstrap HOST:PORT is needed, or bootstrap.servers in the file")
            })
            .and_then(addresses);
        let bootstrap = keep(bootstrap, problems);
        let protocol = get("security.protocol").unwrap_or("PLAINTEXT").trim();
        let protocol = SecurityProtocol::from_name(protocol).ok_or_else(|| {
            usage("security.protocol: expected PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
        });
        // Without it nobody knows what else is needed.
        let protocol = keep(protocol, problems)?;
        let tls = match (protocol.uses_tls(), is_librdkafka) {
            (false, _) => Ok(None),
            (true, false) => java_tls(settings).map(Some),
            (true, true) => librdkafka_tls(settings).map(Some),
        };
        let tls = keep(tls, problems);
        let credentials = match (protocol.uses_sasl(), is_librdkafka) {
            (false, _) => Ok(None),
            (true, false) => java_credentials(settings).map(Some),
            (true, true) => librdkafka_credentials(settings).map(Some),
        };
        let credentials = keep(credentials, problems);
        Some(Self {
            bootstrap: bootstrap?,
            protocol,
            tls: tls?,
            credentials: credentials?,
        })
    }
}

fn keep<T>(outcome: Result<T, ClientError>, problems: &mut Vec<ClientError>) -> Option<T> {
    outcome.map_err(|problem| problems.push(problem)).ok()
}

/// Finds keys that no client knows, or that ask for what is not built.
///
/// A mistyped key counts as the one that was meant, so that what hangs on it is not reported as
/// missing too.
fn check_keys(
    file: Option<&Path>,
    settings: &mut Settings,
    is_librdkafka: bool,
) -> Vec<ClientError> {
    let file = file.map_or_else(String::new, |path| format!("{}: ", path.display()));
    let mut problems = Vec::new();
    let mut meant = Vec::new();
    for (key, value) in settings.iter() {
        let shown = key.escape_debug();
        match known_keys::problem(key, value, is_librdkafka) {
            None => {}
            Some(Problem::Unknown(Some(nearest))) => {
                problems.push(usage(format!(
                    "{file}unknown key {shown}; did you mean {nearest}?"
                )));
                meant.push((nearest.to_owned(), value.clone()));
            }
            Some(Problem::Unknown(None)) => {
                problems.push(usage(format!("{file}unknown key {shown}")))
            }
            Some(Problem::NotBuilt(reason)) => {
                problems.push(usage(format!("{file}{shown}: {reason}")))
            }
        }
    }
    for (key, value) in meant {
        settings.entry(key).or_insert(value);
    }
    problems
}

fn usage(text: impl Into<String>) -> ClientError {
    ClientError::Usage(text.into())
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, ClientError> {
    let bytes = fs::read(path).map_err(|source| ClientError::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(Zeroizing::new(bytes))
}

/// All settings, and whether they are librdkafka's.
fn parse(bytes: &[u8]) -> Result<(Settings, bool), ClientError> {
    let text = std::str::from_utf8(bytes).map_err(|_| usage("the configuration is not UTF-8"))?;
    let lines: Settings = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| {
            let value = Zeroizing::new(value.trim_start().to_owned());
            (key.trim_end().to_owned(), value)
        })
        .collect();
    if LIBRDKAFKA_KEYS.iter().any(|key| lines.contains_key(*key)) {
        return Ok((lines, true));
    }
    let entries = crate::config::parse_properties(bytes)
        .map_err(|error| usage(format!("the configuration is no properties file: {error}")))?;
    Ok((entries.into_iter().collect(), false))
}

fn addresses(text: &str) -> Result<Vec<(String, u16)>, ClientError> {
    let parsed: Option<Vec<(String, u16)>> = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| {
            let (host, port) = item.rsplit_once(':')?;
            let bare = host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'));
            let host = match bare {
                Some(bare) => bare,
                // An IPv6 address without brackets could be anything.
                None if host.contains(':') => return None,
                None => host,
            };
            (!host.is_empty()).then_some((host.to_owned(), port.parse().ok()?))
        })
        .collect();
    parsed
        .filter(|all| !all.is_empty())
        .ok_or_else(|| usage(format!("{text:?}: expected HOST:PORT[,HOST:PORT…]")))
}

fn java_tls(settings: &Settings) -> Result<TlsSettings, ClientError> {
    let get = |key: &str| {
        let value = settings.get(key)?;
        // Java's name for "any version", which chooses nothing.
        (key != "ssl.protocol" || value.as_str() != "TLS").then(|| value.to_string())
    };
    TlsSettings::from_keys(get).map_err(|problems| {
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        usage(texts.join("; "))
    })
}

fn librdkafka_tls(settings: &Settings) -> Result<TlsSettings, ClientError> {
    let get = |key: &str| settings.get(key).filter(|value| !value.is_empty());
    if get("enable.ssl.certificate.verification").is_some_and(|value| value.as_str() != "true") {
        return Err(usage(
            "enable.ssl.certificate.verification: certificates are always verified here",
        ));
    }
    let text = |pem: &str, location: &str| match (get(pem), get(location)) {
        (Some(text), _) => Ok(Some(Secret::from(text.as_str()))),
        (None, Some(path)) => read(Path::new(path.as_str())).map(|bytes| Some(secret(&bytes))),
        (None, None) => Ok(None),
    };
    let certificate = text("ssl.certificate.pem", "ssl.certificate.location")?;
    let key = text("ssl.key.pem", "ssl.key.location")?;
    let keystore = match (key, certificate) {
        (None, None) => None,
        (Some(key), Some(chain)) => Some(KeyStore::Inline { key, chain }),
        _ => {
            return Err(usage(
                "ssl.certificate.location and ssl.key.location need each other",
            ));
        }
    };
    let truststore = match (get("ssl.ca.pem"), get("ssl.ca.location")) {
        (Some(text), _) => Some(TrustStore::Inline(Secret::from(text.as_str()))),
        (None, Some(path)) => Some(TrustStore::PemFile(PathBuf::from(path.as_str()))),
        (None, None) => None,
    };
    let algorithm = get("ssl.endpoint.identification.algorithm").map(|value| value.as_str());
    Ok(TlsSettings {
        keystore,
        key_password: get("ssl.key.password").map(|value| Secret::from(value.as_str())),
        truststore,
        verify_hostname: algorithm != Some("none"),
        ..TlsSettings::default()
    })
}

fn secret(bytes: &[u8]) -> Secret {
    Secret::new(bytes.to_vec())
}

fn mechanism(name: Option<&str>, key: &str) -> Result<Mechanism, ClientError> {
    let name = name.map(str::trim).unwrap_or_default();
    Mechanism::from_name(name).ok_or_else(|| {
        usage(format!(
            "{key}: expected SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN"
        ))
    })
}

fn java_credentials(settings: &Settings) -> Result<Credentials, ClientError> {
    let get = |key: &str| settings.get(key).map(|value| value.as_str());
    let mechanism = mechanism(get("sasl.mechanism"), "sasl.mechanism")?;
    let key = "sasl.jaas.config";
    let text = get(key).ok_or_else(|| usage(format!("{key} is needed to log in")))?;
    let entry = JaasEntry::parse(text).map_err(|error| usage(format!("{key}: {error}")))?;
    let fits = match mechanism {
        Mechanism::Plain => entry.module == LoginModule::Plain,
        Mechanism::Scram(_) => entry.module == LoginModule::Scram,
    };
    if !fits {
        return Err(usage(format!(
            "{key}: its login module is not {mechanism}'s"
        )));
    }
    let option = |name: &str| {
        entry
            .option(name)
            .cloned()
            .ok_or_else(|| usage(format!("{key}: {name} is missing")))
    };
    let user = option("username")?;
    Ok(Credentials {
        mechanism,
        user: user.expose_str().unwrap_or_default().to_owned(),
        password: option("password")?,
    })
}

fn librdkafka_credentials(settings: &Settings) -> Result<Credentials, ClientError> {
    let get = |key: &str| settings.get(key).map(|value| value.as_str());
    let name = get("sasl.mechanisms").or_else(|| get("sasl.mechanism"));
    let needed = |key: &str| get(key).ok_or_else(|| usage(format!("{key} is needed to log in")));
    Ok(Credentials {
        mechanism: mechanism(name, "sasl.mechanisms")?,
        user: needed("sasl.username")?.to_owned(),
        password: Secret::from(needed("sasl.password")?),
    })
}

#[cfg(test)]
mod tests {
    use palisade_auth::scram::ScramMechanism;

    use super::*;

    const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";

    fn load(text: &str, bootstrap: Option<&str>) -> Result<ClientSettings, ClientError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client");
        fs::write(&path, text).unwrap();
        ClientSettings::load(Some(&path), bootstrap)
    }

    #[test]
    fn java_properties_are_read() {
        let text = format!(
            "bootstrap.servers=a:1, [::1]:2\nsecurity.protocol=SASL_SSL\n\
             sasl.mechanism=SCRAM-SHA-512\nacks=all\n\
             sasl.jaas.config={SCRAM} required username=\"al\\\\\"ice\" password=\"p\";\n\
             ssl.truststore.type=PEM\nssl.truststore.location=/ca.pem\n"
        );
        let settings = load(&text, None).unwrap();
        assert_eq!(
            settings.bootstrap,
            [("a".to_owned(), 1), ("::1".to_owned(), 2)]
        );
        assert_eq!(settings.protocol, SecurityProtocol::SaslSsl);
        let credentials = settings.credentials.unwrap();
        assert_eq!(
            credentials.mechanism,
            Mechanism::Scram(ScramMechanism::Sha512)
        );
        assert_eq!(credentials.user, "al\"ice");
        assert_eq!(credentials.password, Secret::from("p"));
        let tls = settings.tls.unwrap();
        assert!(tls.verify_hostname);
        assert!(matches!(tls.truststore, Some(TrustStore::PemFile(_))));
        let settings = load(&text, Some("b:9")).unwrap();
        assert_eq!(settings.bootstrap, [("b".to_owned(), 9)]);
    }

    #[test]
    fn librdkafka_settings_are_read_as_they_stand() {
        let text = "# kcat\nmetadata.broker.list = a:1\nsecurity.protocol=sasl_ssl\n\
            sasl.mechanisms=PLAIN\nsasl.username=u\nsasl.password=a\\b=c#d\n\
            ssl.ca.location=/ca.pem\nssl.endpoint.identification.algorithm=none\n";
        let settings = load(text, None).unwrap();
        let credentials = settings.credentials.unwrap();
        assert_eq!(credentials.password, Secret::from("a\\b=c#d"));
        assert_eq!(credentials.mechanism, Mechanism::Plain);
        assert!(!settings.tls.unwrap().verify_hostname);
    }

    #[test]
    fn no_file_means_plaintext() {
        let settings = ClientSettings::load(None, Some("h:1")).unwrap();
        assert_eq!(settings.protocol, SecurityProtocol::Plaintext);
        assert!(settings.tls.is_none() && settings.credentials.is_none());
    }

    #[test]
    fn all_problems_come_together_and_none_follows_from_another() {
        let text = "bootstrap.server=a:1\nsecurity.protocol=SASL_SSL\nsasl.mechansim=PLAIN\n\
                    ssl.truststore.type=JKS\nnonsense.of.some.kind=1\n";
        let error = load(text, None).unwrap_err().to_string();
        for part in [
            "5 problems",
            "did you mean bootstrap.servers?",
            "did you mean sasl.mechanism?",
            "unknown key nonsense.of.some.kind",
            "stores of type JKS are not read",
            "sasl.jaas.config is needed",
        ] {
            assert!(error.contains(part), "{part} is not in:\n{error}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (text, part) in [
            ("", "--bootstrap HOST:PORT is needed"),
            ("bootstrap.servers=a", "expected HOST:PORT"),
            ("bootstrap.servers=::1:9092", "expected HOST:PORT"),
            (
                "bootstrap.servers=a:1\nsecurity.protocol=TLS",
                "security.protocol: expected",
            ),
            (
                "bootstrap.servers=a:1\nsecurity.protocol=SASL_SSL",
                "sasl.mechanism: expected",
            ),
            (
                "bootstrap.servers=a:1\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN",
                "sasl.jaas.config is needed",
            ),
            (
                "bootstrap.servers=a:1\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n\
                 sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
                "its login module is not PLAIN's",
            ),
            (
                "bootstrap.servers=a:1\nsecurity.protocol=SSL\nssl.truststore.type=JKS",
                "stores of type JKS are not read",
            ),
            (
                "bootstrap.servers=a:1\nsecurity.protocol=SSL\nssl.key.location=/none",
                "/none: No such file",
            ),
            (
                "bootstrap.servers=a:1\nsecurity.protocol=SSL\n\
                 enable.ssl.certificate.verification=false",
                "always verified",
            ),
            (
                "bootstrap.servers=a:1\nsecurty.protocol=PLAINTEXT",
                "unknown key securty.protocol; did you mean security.protocol?",
            ),
            (
                "bootstrap.servers=a:1\nssl.crl.location=/x\nssl.ca.location=/ca.pem",
                "ssl.crl.location: revocation lists are not read",
            ),
        ] {
            let error = load(text, None).unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
        let error = ClientSettings::load(Some(Path::new("/none")), None).unwrap_err();
        assert!(error.to_string().contains("/none: No such file"), "{error}");
    }
}
