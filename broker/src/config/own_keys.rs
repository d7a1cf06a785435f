//! Keys of our own that would change nothing, and those that open something on purpose.

use super::{
    Config, ConfigError, FlushPolicyName, ListenerConfig, SecurityProtocol, Warning,
    listeners::relation,
};

/// Reports every own key that has no effect in this configuration, and every open danger.
///
/// `are_listeners_partial`: some listeners could not be read; a key may well be meant for those.
pub(crate) fn check(
    config: &Config,
    are_listeners_partial: bool,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<Warning>,
) {
    let has_scram =
        |listener: &ListenerConfig| listener.sasl.as_ref().is_some_and(|sasl| sasl.has_scram());
    let has_bare_plain = |listener: &ListenerConfig| {
        listener.protocol == SecurityProtocol::SaslPlaintext
            && listener
                .sasl
                .as_ref()
                .is_some_and(|sasl| sasl.mechanisms.iter().any(|one| !one.is_scram()))
    };
    for setting in config.values.iter().filter(|setting| setting.key.is_own()) {
        let own_listener = setting
            .name
            .strip_prefix("listener.name.")
            .and_then(|rest| rest.split_once('.'))
            .map(|(listener, _)| listener);
        let counts = |for_which: &dyn Fn(&ListenerConfig) -> bool| {
            are_listeners_partial
                || match own_listener {
                    // One that is not there was told of; that of controllers is not bound.
                    Some(name) => config.listener(name).is_none_or(for_which),
                    None => config.listeners.iter().any(for_which),
                }
        };
        let is_on = setting.text.expose() == "true";
        let reason = match setting.key.name {
            "palisade.sasl.scram.strict.nonce" if !counts(&has_scram) => match own_listener {
                Some(_) => "the listener does not use SCRAM",
                None => "no listener uses SCRAM",
            },
            "palisade.tls.handshake.timeout.ms"
                if !counts(&|listener| listener.protocol.uses_tls()) =>
            {
                "no listener uses TLS"
            }
            "palisade.login.timeout.ms" if !counts(&|listener| listener.protocol.uses_sasl()) => {
                "nobody logs in through SASL"
            }
            "palisade.max.unauthenticated.connections"
            | "palisade.max.unauthenticated.connections.per.ip"
                if !counts(&|listener| listener.protocol != SecurityProtocol::Plaintext) =>
            {
                "no listener authenticates anybody"
            }
            "palisade.danger.allow.plain.without.tls" if is_on && !counts(&has_bare_plain) => {
                match own_listener {
                    Some(_) => "the listener is not SASL_PLAINTEXT with PLAIN",
                    None => "no SASL_PLAINTEXT listener enables PLAIN",
                }
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
