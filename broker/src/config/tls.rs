//! Key, chain and trust of a listener, tried out before anything starts.

use palisade_auth::tls::{ClientAuth, ServerTls};

pub use palisade_auth::tls::TlsSettings;

use super::{
    ConfigError, SecurityProtocol, Warning, keys,
    values::{ListenerValues, Setting},
};

/// Reads the `ssl.*` keys as one listener sees them, and builds a context from them once.
pub(crate) fn assemble(
    own: &ListenerValues<'_>,
    listener: &str,
    protocol: SecurityProtocol,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<Warning>,
) -> Option<TlsSettings> {
    let mut refuse = |reason: String| {
        errors.push(ConfigError::Tls {
            listener: listener.to_owned(),
            reason,
        });
    };
    let settings = match TlsSettings::from_keys(|key| value(own, protocol, key)) {
        Ok(settings) => settings,
        Err(problems) => {
            problems
                .iter()
                .for_each(|problem| refuse(problem.to_string()));
            return None;
        }
    };
    // Whoever starts the listener reads the files again; by then a mistake would cost a start.
    if let Err(problem) = ServerTls::new(&settings) {
        refuse(problem.to_string());
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

/// What somebody wrote for a key; defaults are left to the reader of the settings.
fn value(own: &ListenerValues<'_>, protocol: SecurityProtocol, key: &str) -> Option<String> {
    let name = keys::find(key)?.name;
    let setting: Option<&Setting> = match (name, protocol) {
        // On SASL_SSL only the prefixed form counts (KIP-684).
        ("ssl.client.auth", SecurityProtocol::SaslSsl) => own.own(name),
        _ => own.set(name),
    };
    let text = setting?.text.expose();
    // Java's name for "any version", which chooses nothing.
    if name == "ssl.protocol" && text == "TLS" {
        return None;
    }
    Some(text.to_owned())
}
