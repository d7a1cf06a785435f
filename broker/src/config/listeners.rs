//! From texts to [`ListenerConfig`]s: names, addresses, protocols, mechanisms, and their checks.
//!
//! Source: security.md §1.1 to §1.3.

use std::collections::{BTreeMap, BTreeSet};

use palisade_auth::{
    Secret,
    sasl::jaas::{JaasEntry, LoginModule},
};

use super::{
    ConfigError, Endpoint, ListenerConfig, SaslConfig, SaslMechanism, SecurityProtocol, Warning,
    endpoints::{self, Named},
    tls,
    values::Values,
};

/// What the assembly of all listeners yields.
#[derive(Default)]
pub(crate) struct Listeners {
    /// Those to bind, in order.
    pub(crate) bound: Vec<ListenerConfig>,
    /// Upper-case names of every listener written down, the controller's included.
    pub(crate) names: BTreeSet<String>,
    /// Whether some could not be read: what they would have had is then missed by nobody.
    pub(crate) is_partial: bool,
}

/// Assembles all listeners; everything wrong with them goes to `errors`.
pub(crate) fn assemble(
    values: &Values,
    host_name: &str,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<Warning>,
) -> Listeners {
    let written = Written::read(values, errors);
    let (map, problems) = endpoints::protocol_map(&values.items("listener.security.protocol.map"));
    let is_unmapped = !problems.is_empty() || values.is_spoiled("listener.security.protocol.map");
    for reason in problems {
        relation(errors, "listener.security.protocol.map", reason);
    }
    written.check(errors);
    let is_partial = written.is_partial;
    let inter_broker = inter_broker_name(values, &written.listed, is_partial, errors);
    let controllers: BTreeSet<String> = values
        .items("controller.listener.names")
        .into_iter()
        .map(str::to_uppercase)
        .collect();

    let mut listeners = Listeners {
        names: written
            .listed
            .iter()
            .map(|named| named.name.clone())
            .collect(),
        is_partial: is_partial || is_unmapped,
        ..Listeners::default()
    };
    for named in written.listed {
        let Some(protocol) = map.get(&named.name).copied() else {
            if is_unmapped {
                continue;
            }
            listeners.is_partial = true;
            relation(
                errors,
                "listeners, listener.security.protocol.map",
                format!("listener {} is mapped to no protocol", named.name),
            );
            continue;
        };
        if controllers.contains(&named.name) {
            warnings.push(Warning::ControllerListener(named.name));
            continue;
        }
        let is_inter_broker = inter_broker.as_ref() == Some(&named.name);
        let public = advertised_endpoint(&named, &written.advertised, host_name);
        let listener = build(values, named, protocol, public, errors, warnings);
        listeners.bound.push(ListenerConfig {
            inter_broker: is_inter_broker,
            ..listener
        });
    }
    let all_for_controllers = listeners.names.is_subset(&controllers) && !is_partial;
    if !listeners.names.is_empty() && all_for_controllers {
        relation(
            errors,
            "listeners, controller.listener.names",
            "no listener is left for clients".to_owned(),
        );
    }
    check_inter_broker_mechanism(values, &listeners.bound, errors);
    if !is_partial {
        check_prefixes(values, &listeners.names, errors);
    }
    check_login_modules(values, errors);
    note_plaintext(&listeners.bound, warnings);
    listeners
}

pub(crate) fn relation(errors: &mut Vec<ConfigError>, keys: &str, reason: String) {
    errors.push(ConfigError::Relation {
        keys: keys.to_owned(),
        reason,
    });
}

/// What `listeners` and `advertised.listeners` say.
struct Written {
    listed: Vec<Named>,
    advertised: Vec<Named>,
    /// Whether an item of `listeners` could not be read.
    is_partial: bool,
    /// Whether an item of `advertised.listeners` could not be read.
    lacks_advertised: bool,
}

impl Written {
    fn read(values: &Values, errors: &mut Vec<ConfigError>) -> Self {
        let (listed, is_partial) = parse_list(values, "listeners", errors);
        let (advertised, lacks_advertised) = parse_list(values, "advertised.listeners", errors);
        if listed.is_empty() && values.set("listeners").is_none() && !is_partial {
            errors.push(ConfigError::Missing {
                key: "listeners".to_owned(),
                reason: "it has no default here, for Kafka's opens an unencrypted port; \
                         for example SASL_SSL://:9093",
            });
        }
        Self {
            listed,
            advertised,
            is_partial,
            lacks_advertised,
        }
    }

    /// Checks names, ports and addresses, each against those that could be read.
    fn check(&self, errors: &mut Vec<ConfigError>) {
        check_names_and_ports(&self.listed, errors);
        if !self.is_partial {
            check_advertised_names(&self.listed, &self.advertised, errors);
        }
        check_advertised(&self.advertised, errors);
        if !self.lacks_advertised {
            check_dialable(&self.listed, &self.advertised, errors);
        }
    }
}

/// The items of a list of listeners, and whether some could not be read.
fn parse_list(
    values: &Values,
    key: &'static str,
    errors: &mut Vec<ConfigError>,
) -> (Vec<Named>, bool) {
    let mut all = Vec::new();
    let mut lacks_some = values.is_spoiled(key);
    for item in values.items(key) {
        match endpoints::parse(item) {
            Ok(named) => all.push(named),
            Err(reason) => {
                lacks_some = true;
                relation(errors, key, reason);
            }
        }
    }
    (all, lacks_some)
}

fn check_names_and_ports(listed: &[Named], errors: &mut Vec<ConfigError>) {
    for (index, one) in listed.iter().enumerate() {
        for other in &listed[index + 1..] {
            if one.name == other.name {
                relation(
                    errors,
                    "listeners",
                    format!("name {} is given twice", one.name),
                );
            }
            let (here, there) = (&one.endpoint, &other.endpoint);
            if here.port != 0
                && here.port == there.port
                && !endpoints::are_two_families(&here.host, &there.host)
            {
                relation(
                    errors,
                    "listeners",
                    format!(
                        "{} and {} share port {}; only an IPv4 and an IPv6 address may",
                        one.name, other.name, here.port
                    ),
                );
            }
        }
    }
}

fn check_advertised_names(listed: &[Named], advertised: &[Named], errors: &mut Vec<ConfigError>) {
    for one in advertised {
        if !listed.iter().any(|named| named.name == one.name) {
            relation(
                errors,
                "advertised.listeners",
                format!("{} is not in listeners", one.name),
            );
        }
    }
}

fn check_advertised(advertised: &[Named], errors: &mut Vec<ConfigError>) {
    let key = "advertised.listeners";
    for (index, one) in advertised.iter().enumerate() {
        if advertised[index + 1..]
            .iter()
            .any(|other| other.name == one.name)
        {
            relation(errors, key, format!("name {} is given twice", one.name));
        }
        if one.endpoint.host.is_empty() || endpoints::is_wildcard(&one.endpoint.host) {
            relation(
                errors,
                key,
                format!("{}: clients cannot dial {:?}", one.name, one.endpoint.host),
            );
        }
    }
}

fn check_dialable(listed: &[Named], advertised: &[Named], errors: &mut Vec<ConfigError>) {
    for named in listed {
        let own = advertised.iter().any(|one| one.name == named.name);
        if !own && advertised.is_empty() && endpoints::is_wildcard(&named.endpoint.host) {
            relation(
                errors,
                "listeners, advertised.listeners",
                format!(
                    "{}: clients cannot dial {}; set advertised.listeners, or leave the host out \
                     to advertise this machine's name",
                    named.name, named.endpoint.host
                ),
            );
        }
    }
}

/// The endpoint that Metadata names: the advertised one, else the bound one, else this machine.
fn advertised_endpoint(named: &Named, advertised: &[Named], host_name: &str) -> Endpoint {
    let own = advertised.iter().find(|one| one.name == named.name);
    let mut endpoint = own.unwrap_or(named).endpoint.clone();
    if endpoint.host.is_empty() || endpoints::is_wildcard(&endpoint.host) {
        endpoint.host = host_name.to_owned();
    }
    endpoint
}

/// The listener that nodes use among themselves, if one was chosen.
fn inter_broker_name(
    values: &Values,
    listed: &[Named],
    is_partial: bool,
    errors: &mut Vec<ConfigError>,
) -> Option<String> {
    let by_name = values
        .set("inter.broker.listener.name")
        .map(|setting| setting.text.expose().to_uppercase());
    let by_protocol = values
        .set("security.inter.broker.protocol")
        .map(|setting| setting.text.expose().to_owned());
    let (key, name) = match (by_name, by_protocol) {
        (Some(_), Some(_)) => {
            relation(
                errors,
                "inter.broker.listener.name, security.inter.broker.protocol",
                "only one of the two may be set".to_owned(),
            );
            return None;
        }
        (Some(name), None) => ("inter.broker.listener.name", name),
        (None, Some(protocol)) => ("security.inter.broker.protocol", protocol),
        (None, None) => return None,
    };
    if !listed.iter().any(|named| named.name == name) {
        if !is_partial {
            relation(
                errors,
                key,
                format!("{name} is not among the advertised listeners"),
            );
        }
        return None;
    }
    Some(name)
}

fn check_inter_broker_mechanism(
    values: &Values,
    bound: &[ListenerConfig],
    errors: &mut Vec<ConfigError>,
) {
    let key = "sasl.mechanism.inter.broker.protocol";
    let Some(mechanism) = values.filled(key) else {
        return;
    };
    for listener in bound.iter().filter(|listener| listener.inter_broker) {
        let Some(sasl) = &listener.sasl else { continue };
        let enabled = values.listener(&listener.name);
        let enabled = enabled.items("sasl.enabled.mechanisms");
        if enabled
            .iter()
            .any(|name| SaslMechanism::from_name(name).is_none())
        {
            // The one that was meant may be among those that were refused.
            continue;
        }
        if !sasl.mechanisms.iter().any(|one| one.name() == mechanism) {
            relation(
                errors,
                "sasl.mechanism.inter.broker.protocol, sasl.enabled.mechanisms",
                format!("{mechanism} is not enabled on {}", listener.name),
            );
        }
    }
}

fn check_prefixes(values: &Values, names: &BTreeSet<String>, errors: &mut Vec<ConfigError>) {
    let known: BTreeMap<String, &String> = names
        .iter()
        .map(|name| (name.to_lowercase(), name))
        .collect();
    for (listener, setting) in values.prefixed() {
        if !known.contains_key(listener) {
            errors.push(ConfigError::Prefix {
                key: setting.name.clone(),
                origin: setting.origin.clone(),
                reason: format!("there is no listener {}", listener.to_uppercase()),
            });
        }
    }
}

fn note_plaintext(bound: &[ListenerConfig], warnings: &mut Vec<Warning>) {
    let open: Vec<String> = bound
        .iter()
        .filter(|listener| !listener.protocol.uses_tls())
        .map(|listener| listener.name.clone())
        .collect();
    if !open.is_empty() {
        warnings.push(Warning::Plaintext(open));
    }
}

fn build(
    values: &Values,
    named: Named,
    protocol: SecurityProtocol,
    advertised: Endpoint,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<Warning>,
) -> ListenerConfig {
    let own = values.listener(&named.name);
    let own_number = |key: &'static str| {
        own.own(key)
            .and_then(|setting| setting.text.expose().parse::<u32>().ok())
    };
    let tls = protocol
        .uses_tls()
        .then(|| tls::assemble(&own, &named.name, protocol, errors, warnings))
        .flatten();
    let sasl = protocol
        .uses_sasl()
        .then(|| sasl(values, &named.name, protocol, errors));
    ListenerConfig {
        max_connections: own_number("max.connections").and_then(|n| usize::try_from(n).ok()),
        max_connection_creation_rate: own_number("max.connection.creation.rate"),
        name: named.name,
        protocol,
        host: named.endpoint.host,
        port: named.endpoint.port,
        advertised,
        tls,
        sasl,
        inter_broker: false,
    }
}

fn sasl(
    values: &Values,
    name: &str,
    protocol: SecurityProtocol,
    errors: &mut Vec<ConfigError>,
) -> SaslConfig {
    let own = values.listener(name);
    let key = "sasl.enabled.mechanisms";
    let mut mechanisms = Vec::new();
    let items = own.items(key);
    if items.is_empty() {
        relation(
            errors,
            key,
            format!("listener {name} enables no mechanism, so nobody could log in"),
        );
    }
    for item in items {
        match SaslMechanism::from_name(item) {
            Some(mechanism) => mechanisms.push(mechanism),
            None if matches!(item, "GSSAPI" | "OAUTHBEARER") => {
                relation(errors, key, format!("{item} is not built"));
            }
            None => relation(
                errors,
                key,
                format!("{item}: expected PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, in upper case"),
            ),
        }
    }
    let has_plain = mechanisms.contains(&SaslMechanism::Plain);
    let acknowledged = own.text("palisade.danger.allow.plain.without.tls") == Some("true");
    if has_plain && protocol == SecurityProtocol::SaslPlaintext && !acknowledged {
        relation(
            errors,
            "sasl.enabled.mechanisms, listeners",
            format!(
                "PLAIN on {name} would send passwords unencrypted; use SASL_SSL or SCRAM, or \
                 acknowledge it with palisade.danger.allow.plain.without.tls=true"
            ),
        );
    }
    SaslConfig {
        plain_users: if has_plain {
            plain_users(values, name, errors)
        } else {
            Vec::new()
        },
        strict_nonce: own.text("palisade.sasl.scram.strict.nonce") == Some("true"),
        mechanisms,
    }
}

/// Users of the PLAIN module, from the one key in which a server looks for them.
fn plain_users(
    values: &Values,
    name: &str,
    errors: &mut Vec<ConfigError>,
) -> Vec<(String, Secret)> {
    // A bare `sasl.jaas.config` is for clients; a server ignores it (security.md §1.2).
    let own = values.listener(name);
    let key = "sasl.jaas.config";
    let Some(setting) = own.of_mechanism("plain", key).or_else(|| own.own(key)) else {
        relation(
            errors,
            "sasl.enabled.mechanisms",
            format!(
                "PLAIN on {name} needs listener.name.{}.plain.sasl.jaas.config with its users",
                name.to_lowercase()
            ),
        );
        return Vec::new();
    };
    let refuse = |reason: String| ConfigError::Refused {
        key: setting.name.clone(),
        origin: setting.origin.clone(),
        reason,
    };
    match JaasEntry::parse(setting.text.expose()) {
        Ok(entry) if entry.module == LoginModule::Plain => {
            let users: Vec<(String, Secret)> = entry
                .users()
                .map(|(user, password)| (user.to_owned(), password.clone()))
                .collect();
            if users.is_empty() {
                errors.push(refuse(
                    "it names no user; expected user_<name>=\"…\"".to_owned(),
                ));
            }
            users
        }
        Ok(_) => {
            errors.push(refuse(
                "PLAIN's users stand with PlainLoginModule".to_owned(),
            ));
            Vec::new()
        }
        Err(error) => {
            errors.push(refuse(error.to_string()));
            Vec::new()
        }
    }
}

/// Login modules of the other mechanisms are recognised, for a typing error must not go unseen.
fn check_login_modules(values: &Values, errors: &mut Vec<ConfigError>) {
    for setting in values.iter() {
        let is_plain = setting.name.ends_with(".plain.sasl.jaas.config");
        if setting.key.name != "sasl.jaas.config" || is_plain {
            continue;
        }
        if let Err(error) = JaasEntry::parse(setting.text.expose()) {
            errors.push(ConfigError::Refused {
                key: setting.name.clone(),
                origin: setting.origin.clone(),
                reason: error.to_string(),
            });
        }
    }
}
