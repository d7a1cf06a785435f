//! Environment variables that are configuration keys.
//!
//! `KAFKA_LISTENER_SECURITY_PROTOCOL_MAP` is `listener.security.protocol.map`, as the official
//! container image has it: the prefix goes, letters become lower case, one underscore is a dot, two
//! are an underscore, three a hyphen. `PALISADE_…` gives our own keys by the same rule, and
//! `CLUSTER_ID` is `palisade.cluster.id`, for that image takes the cluster's id from it.

use zeroize::Zeroizing;

use super::{
    Origin,
    given::Given,
    keys::{self, Key},
};

/// Variables of Kafka's start scripts, which are no keys.
const SCRIPT_VARIABLES: [&str; 10] = [
    "KAFKA_VERSION",
    "KAFKA_HEAP_OPTS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_OPTS",
    "KAFKA_JMX_OPTS",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
];

/// What the environment has to say.
#[derive(Default)]
pub(crate) struct FromEnvironment {
    /// Settings, known or not, in the order of the variables' names.
    pub(crate) given: Vec<Given>,
    /// `KAFKA_…` variables that are no keys, sorted.
    pub(crate) ignored: Vec<Ignored>,
}

/// A `KAFKA_…` variable that is no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Its name.
    pub variable: String,
    /// The variable of the known key that looks most like it.
    pub nearest: Option<String>,
}

/// Picks the settings out of an environment.
///
/// An unknown key of ours stays in `given`, to be reported; an unknown one of Kafka's goes to
/// `ignored`, for that name space is not ours.
pub(crate) fn read(environment: &[(String, String)]) -> FromEnvironment {
    let mut sorted: Vec<&(String, String)> = environment.iter().collect();
    sorted.sort();
    let mut found = FromEnvironment::default();
    for (variable, value) in sorted {
        let name = if variable == "CLUSTER_ID" {
            Some("palisade.cluster.id".to_owned())
        } else if let Some(rest) = variable.strip_prefix("KAFKA_") {
            let is_script = SCRIPT_VARIABLES.contains(&variable.as_str());
            let name = key_name(rest).filter(|name| is_kafka_key(name) && !is_script);
            if name.is_none() {
                let has_meaning = is_script || is_service_link(variable, value);
                found.ignored.push(Ignored {
                    variable: variable.clone(),
                    nearest: if has_meaning { None } else { nearest(rest) },
                });
                continue;
            }
            name
        } else if variable.starts_with("PALISADE_")
            && !is_process_variable(variable)
            && !is_service_link(variable, value)
        {
            // A malformed name is kept as it is, to be reported as unknown.
            Some(key_name(variable).unwrap_or_else(|| variable.clone()))
        } else {
            None
        };
        if let Some(name) = name {
            found.given.push(Given {
                name,
                value: Zeroizing::new(value.clone()),
                origin: Origin::Environment {
                    variable: variable.clone(),
                },
            });
        }
    }
    found
}

fn is_kafka_key(name: &str) -> bool {
    name.starts_with("listener.name.")
        || name.starts_with("config.providers.")
        || keys::find(name).is_some_and(|key| !key.is_own())
}

/// Undoes the mapping; `None` for four underscores in a row, or one at an end.
fn key_name(variable: &str) -> Option<String> {
    let mut name = String::with_capacity(variable.len());
    let mut underscores = 0;
    for c in variable.chars() {
        if c == '_' {
            underscores += 1;
            continue;
        }
        push_separator(&mut name, underscores)?;
        underscores = 0;
        name.extend(c.to_lowercase());
    }
    (underscores == 0 && !name.is_empty()).then_some(name)
}

/// The variable that was perhaps meant, by what stands behind `KAFKA_`.
fn nearest(rest: &str) -> Option<String> {
    let key = keys::nearest(&key_name(rest)?)?;
    let is_own = keys::find(key).is_some_and(Key::is_own);
    let prefix = if is_own { "" } else { "KAFKA_" };
    Some(format!("{prefix}{}", variable_name(key)))
}

/// The mapping: what stands behind the prefix for a key.
fn variable_name(key: &str) -> String {
    let mut variable = String::with_capacity(key.len());
    for c in key.chars() {
        match c {
            '.' => variable.push('_'),
            '_' => variable.push_str("__"),
            '-' => variable.push_str("___"),
            c => variable.extend(c.to_uppercase()),
        }
    }
    variable
}

fn push_separator(name: &mut String, underscores: usize) -> Option<()> {
    match underscores {
        0 => return Some(()),
        1 => name.push('.'),
        2 => name.push('_'),
        3 => name.push('-'),
        _ => return None,
    }
    (name.len() > 1).then_some(())
}

/// Variables that are about the process and its logs, or about test runs, not the node.
fn is_process_variable(variable: &str) -> bool {
    // The failpoints are storage's, in builds for tests; in others the name means nothing.
    matches!(
        variable,
        "PALISADE_LOG" | "PALISADE_LOG_FORMAT" | "PALISADE_FAILPOINT"
    ) || variable.starts_with("PALISADE_TEST_")
}

/// Whether Kubernetes made the variable for a service that happens to be called `palisade…`.
fn is_service_link(variable: &str, value: &str) -> bool {
    variable.ends_with("_SERVICE_HOST")
        || variable.contains("_SERVICE_PORT")
        || variable.contains("_PORT_")
        || (variable.ends_with("_PORT")
            && (value.starts_with("tcp://") || value.starts_with("udp://")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_container_image() {
        for (variable, name) in [
            ("LISTENERS", Some("listeners")),
            (
                "LISTENER_SECURITY_PROTOCOL_MAP",
                Some("listener.security.protocol.map"),
            ),
            (
                "LISTENER_NAME_SASL__SSL_SCRAM___SHA___512_SASL_JAAS_CONFIG",
                Some("listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config"),
            ),
            ("A____B", None),
            ("_A", None),
            ("A_", None),
            ("", None),
        ] {
            assert_eq!(key_name(variable).as_deref(), name, "{variable}");
        }
    }

    #[test]
    fn every_key_has_a_variable_that_is_read_as_the_key() {
        for key in keys::all() {
            let variable = variable_name(key.name);
            // Capital letters of a key are lost in every variable.
            assert_eq!(key_name(&variable), Some(key.name.to_lowercase()));
        }
    }

    #[test]
    fn variables_are_keys_or_ignored_or_none_of_our_business() {
        let environment = [
            ("KAFKA_LISTENERS", "A://:1"),
            ("KAFKA_HEAP_OPTS", "-Xmx1G"),
            ("KAFKA_LISTENER", "x"),
            ("KAFKA_NUM_PARTITONS", "3"),
            ("KAFKA_SOMETHING_OF_ANOTHER_PROGRAM", "x"),
            ("KAFKA_PORT", "tcp://10.0.0.1:9092"),
            ("KAFKA_PALISADE_RECORD_VALIDATION", "full"),
            ("KAFKA_LISTENER_NAME_A_SSL_CLIENT_AUTH", "required"),
            ("PALISADE_RECORD_VALIDATION", "full"),
            ("PALISADE_NONSENSE", "x"),
            ("PALISADE_SERVICE_HOST", "10.0.0.1"),
            ("PALISADE_SERVICE_PORT_KAFKA", "9092"),
            ("PALISADE_LOG", "debug"),
            ("PALISADE_TEST_AGAINST", "apache"),
            ("PALISADE_PORT", "tcp://10.0.0.1:9092"),
            ("PALISADE_PORT_9092_TCP_ADDR", "10.0.0.1"),
            ("CLUSTER_ID", "abc"),
            ("PATH", "/bin"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let found = read(&environment);
        let names: Vec<&str> = found
            .given
            .iter()
            .map(|given| given.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "palisade.cluster.id",
                "listeners",
                "listener.name.a.ssl.client.auth",
                "palisade.nonsense",
                "palisade.record.validation",
            ]
        );
        let ignored: Vec<(&str, Option<&str>)> = found
            .ignored
            .iter()
            .map(|one| (one.variable.as_str(), one.nearest.as_deref()))
            .collect();
        assert_eq!(
            ignored,
            [
                ("KAFKA_HEAP_OPTS", None),
                ("KAFKA_LISTENER", Some("KAFKA_LISTENERS")),
                ("KAFKA_NUM_PARTITONS", Some("KAFKA_NUM_PARTITIONS")),
                (
                    "KAFKA_PALISADE_RECORD_VALIDATION",
                    Some("PALISADE_RECORD_VALIDATION")
                ),
                ("KAFKA_PORT", None),
                ("KAFKA_SOMETHING_OF_ANOTHER_PROGRAM", None),
            ]
        );
    }
}
