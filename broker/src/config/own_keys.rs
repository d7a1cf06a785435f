//! Keys of our own that would change nothing, and those that open something on purpose.

use super::{Config, ConfigError, FlushPolicyName, SecurityProtocol, Warning, listeners::relation};

/// Reports every own key that has no effect in this configuration, and every open danger.
///
/// `are_listeners_partial`: some listeners could not be read; a key may well be meant for those.
pub(crate) fn check(
    config: &Config,
    are_listeners_partial: bool,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<Warning>,
) {
    let scram_somewhere = are_listeners_partial
        || config
            .listeners
            .iter()
            .any(|listener| listener.sasl.as_ref().is_some_and(|sasl| sasl.has_scram()));
    let tls_somewhere = are_listeners_partial
        || config
            .listeners
            .iter()
            .any(|listener| listener.protocol.uses_tls());
    let login_somewhere = are_listeners_partial
        || config
            .listeners
            .iter()
            .any(|listener| listener.protocol != SecurityProtocol::Plaintext);
    let bare_plain_somewhere = are_listeners_partial
        || config.listeners.iter().any(|listener| {
            listener.protocol == SecurityProtocol::SaslPlaintext
                && listener
                    .sasl
                    .as_ref()
                    .is_some_and(|sasl| sasl.mechanisms.iter().any(|one| !one.is_scram()))
        });
    for setting in config.values.iter().filter(|setting| setting.key.is_own()) {
        let is_on = setting.text.expose() == "true";
        let reason = match setting.key.name {
            "palisade.sasl.scram.strict.nonce" if !scram_somewhere => "no listener uses SCRAM",
            "palisade.tls.handshake.timeout.ms" if !tls_somewhere => "no listener uses TLS",
            "palisade.login.timeout.ms"
            | "palisade.max.unauthenticated.connections"
            | "palisade.max.unauthenticated.connections.per.ip"
                if !login_somewhere =>
            {
                "no listener authenticates anybody"
            }
            "palisade.danger.allow.plain.without.tls" if is_on && !bare_plain_somewhere => {
                "no SASL_PLAINTEXT listener enables PLAIN"
            }
            "palisade.log.scrub.bytes.per.second" if config.log.scrub.is_none() => {
                "palisade.log.scrub.interval.ms is 0"
            }
            name if name.starts_with("palisade.audit.") && config.audit.is_none() => {
                "palisade.danger.disable.audit is on"
            }
            name => {
                if name.starts_with("palisade.danger.") && is_on {
                    warnings.push(Warning::Danger(setting.name.clone()));
                }
                continue;
            }
        };
        errors.push(ConfigError::NoEffect {
            key: setting.name.clone(),
            origin: setting.origin.clone(),
            reason,
        });
    }
    check_flush(config, errors, warnings);
}

/// Intervals and the policy that reads them go together.
fn check_flush(config: &Config, errors: &mut Vec<ConfigError>, warnings: &mut Vec<Warning>) {
    const INTERVALS: [&str; 3] = [
        "log.flush.interval.messages",
        "log.flush.interval.ms",
        "log.flush.scheduler.interval.ms",
    ];
    let is_set = INTERVALS
        .into_iter()
        .any(|key| config.values.set(key).is_some() || config.values.is_spoiled(key));
    let is_interval = config.log.flush_policy == FlushPolicyName::Interval;
    if is_interval && !is_set {
        relation(
            errors,
            "palisade.log.flush.policy",
            "interval needs log.flush.interval.ms or log.flush.interval.messages, or nothing \
             would ever be synced"
                .to_owned(),
        );
    } else if is_set && !is_interval {
        warnings.push(Warning::Note(
            "log.flush.interval.* is read with palisade.log.flush.policy=interval only".to_owned(),
        ));
    }
}
