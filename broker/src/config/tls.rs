//! Key, chain and trust of a listener, tried out before anything starts.

use std::fs;

use palisade_auth::{
    Secret,
    tls::{ClientAuth, ClientTls, KeyStore, PemProblem, ServerTls, TlsError},
};

pub use palisade_auth::tls::TlsSettings;

use super::{
    ConfigError, SecurityProtocol, Warning, keys,
    values::{ListenerValues, Setting},
};
use crate::clock;

/// Counts without a listener's name on SSL only.
const CLIENT_AUTH: &str = "ssl.client.auth";
/// Keys that make up the own key and chain, the trusted certificates, and what is negotiated: each
/// group is tried out alone, so that a problem of one does not hide those of the others.
const KEYSTORE: &[&str] = &[
    "ssl.keystore.type",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.key",
    "ssl.keystore.certificate.chain",
    "ssl.key.password",
];
const TRUSTSTORE: &[&str] = &[
    CLIENT_AUTH,
    "ssl.truststore.type",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.certificates",
];
const NEGOTIATION: &[&str] = &["ssl.cipher.suites", "ssl.enabled.protocols", "ssl.protocol"];

/// Reads the `ssl.*` keys as one listener sees them, and builds a context from them once.
pub(crate) fn assemble(
    own: &ListenerValues<'_>,
    listener: &str,
    protocol: SecurityProtocol,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<Warning>,
) -> Option<TlsSettings> {
    let get = |key: &str| value(own, protocol, key);
    let (settings, mut problems) = match TlsSettings::from_keys(get) {
        Ok(settings) => (Some(settings), Vec::new()),
        Err(problems) => (None, problems),
    };
    // Whoever starts the listener reads the files again; by then a mistake would cost a start.
    let first = match settings.as_ref().map(|one| (one, ServerTls::new(one))) {
        Some((settings, Ok(server))) => {
            let now = clock::now().value() / 1000;
            match validity(settings, &server, now) {
                Ok(Some(odd)) if !warnings.contains(&odd) => warnings.push(odd),
                Ok(_) => {}
                Err(problem) => problems.push(problem),
            }
            None
        }
        Some((_, Err(problem))) => Some(problem),
        None => None,
    };
    if settings.is_none() || first.is_some() {
        problems.extend(by_group(&get));
    }
    // A context is more than its parts.
    if let (Some(problem), true) = (first, problems.is_empty()) {
        problems.push(problem);
    }
    for problem in problems {
        let follows = match problem {
            TlsError::NoKeystore => KEYSTORE.iter().any(|key| own.is_spoiled(key)),
            TlsError::NoTruststore => TRUSTSTORE.iter().any(|key| own.is_spoiled(key)),
            _ => false,
        };
        if !follows {
            errors.extend(reasons(&problem, &get).into_iter().map(|reason| {
                let listeners = vec![listener.to_owned()];
                ConfigError::Tls { listeners, reason }
            }));
        }
    }
    let settings = settings?;
    if asks_in_vain(own, protocol) {
        warnings.push(Warning::Note(format!(
            "listener {listener}: {CLIENT_AUTH} is for listeners of protocol SSL, and no certificate \
             is asked for here: to ask for one, set listener.name.{}.{CLIENT_AUTH}",
            listener.to_lowercase()
        )));
    }
    if protocol == SecurityProtocol::Ssl && settings.client_auth != ClientAuth::None {
        let odd = settings.mapping_rules.warnings();
        warnings.extend(
            odd.into_iter()
                .map(|text| Warning::Note(format!("listener {listener}: {text}"))),
        );
    }
    Some(settings)
}

/// Whether client certificates are asked for by the key that a listener with SASL does not hear
/// (KIP-684), and by no other.
fn asks_in_vain(own: &ListenerValues<'_>, protocol: SecurityProtocol) -> bool {
    let bare = own.set(CLIENT_AUTH);
    protocol == SecurityProtocol::SaslSsl
        && own.own(CLIENT_AUTH).is_none()
        && bare.is_some_and(|bare| bare.text.expose() != "none")
}

/// What is odd about the time of a listener's certificate at `now` in seconds. Listeners of one
/// file get one text. It is no error: the other listeners serve, and clocks may be wrong.
fn validity(
    settings: &TlsSettings,
    server: &ServerTls,
    now: i64,
) -> Result<Option<Warning>, TlsError> {
    let place = match &settings.keystore {
        Some(KeyStore::PemFile(path)) => format!("{path:?}"),
        Some(KeyStore::Inline { .. }) | None => "ssl.keystore.certificate.chain".to_owned(),
    };
    let odd = server.validity_warning(now)?;
    Ok(odd.map(|odd| Warning::Note(format!("{place}: {odd}"))))
}

/// What the files and lists say, beyond what the keys alone showed.
fn by_group(get: &impl Fn(&str) -> Option<String>) -> Vec<TlsError> {
    let of = |group: &[&str]| {
        // A group whose keys do not fit each other was reported as such.
        TlsSettings::from_keys(|key| group.contains(&key).then(|| get(key)).flatten()).ok()
    };
    let keystore = of(KEYSTORE).and_then(|settings| ServerTls::new(&settings).err());
    let truststore = of(TRUSTSTORE)
        .filter(|one| one.client_auth != ClientAuth::None || one.truststore.is_some())
        .and_then(|settings| ClientTls::new(&settings).err());
    let negotiation = of(NEGOTIATION)
        .and_then(|settings| ClientTls::new(&settings).err())
        // Nothing is to be trusted by this group.
        .filter(|problem| !matches!(problem, TlsError::NoTruststore));
    [keystore, truststore, negotiation]
        .into_iter()
        .flatten()
        .collect()
}

/// A problem in words. Of a key file that others can read, what it holds is judged too: else the
/// next start would find the next mistake in it.
fn reasons(problem: &TlsError, get: &impl Fn(&str) -> Option<String>) -> Vec<String> {
    let TlsError::KeyFileMode { key, path, mode } = problem else {
        return vec![problem.to_string()];
    };
    let path = path.display();
    match content_problem(problem, get) {
        None => vec![problem.to_string()],
        // There may be no key in it that others could read.
        Some(content) => vec![
            format!("{key}: {path}: {content}"),
            format!("{key}: {path} can be read by others (mode {mode:04o}); run: chmod 600 {path}"),
        ],
    }
}

fn content_problem(
    problem: &TlsError,
    get: &impl Fn(&str) -> Option<String>,
) -> Option<PemProblem> {
    let TlsError::KeyFileMode { path, .. } = problem else {
        return None;
    };
    let text = Secret::new(fs::read(path).ok()?);
    let keystore = KeyStore::Inline {
        key: text.clone(),
        chain: text,
    };
    let of_file = TlsSettings::from_keys(|key| KEYSTORE.contains(&key).then(|| get(key)).flatten());
    let settings = TlsSettings {
        keystore: Some(keystore),
        ..of_file.ok()?
    };
    match ServerTls::new(&settings).err()? {
        TlsError::Pem { problem, .. } => Some(problem),
        _ => None,
    }
}

/// What somebody wrote for a key; defaults are left to the reader of the settings.
fn value(own: &ListenerValues<'_>, protocol: SecurityProtocol, key: &str) -> Option<String> {
    let name = keys::find(key)?.name;
    let setting: Option<&Setting> = match (name, protocol) {
        // On SASL_SSL only the prefixed form counts (KIP-684).
        (CLIENT_AUTH, SecurityProtocol::SaslSsl) => own.own(name),
        _ => own.set(name),
    };
    let text = setting?.text.expose();
    // Java's name for "any version", which chooses nothing.
    if name == "ssl.protocol" && text == "TLS" {
        return None;
    }
    Some(text.to_owned())
}
