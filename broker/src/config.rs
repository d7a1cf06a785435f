//! Configuration of a node: sources, key table, checks, and the typed result.
//!
//! Precedence, highest first: `--override key=value`, environment (`KAFKA_…` as the official
//! container image maps it, `PALISADE_…` for our own keys), the properties file, the default. A
//! `listener.name.<listener>.` prefix beats the plain key whatever their sources.
//!
//! All problems are reported together; nothing is started with half a configuration.

mod checks;
mod endpoints;
mod environment;
mod error;
mod files;
mod follow_ons;
mod given;
mod indirection;
pub mod keys;
mod limits;
mod listener;
mod listeners;
mod load;
mod node;
mod own_keys;
mod properties;
mod report;
mod sasl;
mod secret;
mod source;
mod tls;
pub mod topic_defaults;
mod value;
mod values;

use std::path::PathBuf;

pub use palisade_auth::Secret;

pub(crate) use self::files::OtherWriter;

pub use self::{
    environment::Ignored,
    error::{ConfigError, ConfigErrors, Origin, Warning, Warnings},
    limits::Limits,
    listener::{Endpoint, ListenerConfig, SecurityProtocol},
    node::{
        AuditFullPolicy, AuditSettings, AuthorizerSettings, CleanerSettings, FlushPolicyName,
        LogSettings, RecordValidation, ScrubSettings, TopicSettings,
    },
    report::{Reported, ReportedSource},
    sasl::{SaslConfig, SaslMechanism},
    secret::HIDDEN,
    source::Sources,
    tls::TlsSettings,
    topic_defaults::{TopicDefault, TopicDefaults},
};

/// The validated configuration of one node; nothing in it contradicts anything else.
#[derive(Debug, Clone)]
pub struct Config {
    /// `node.id`, at least 0.
    pub node_id: i32,
    /// `palisade.cluster.id`; a data directory of another cluster is refused.
    pub cluster_id: Option<String>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// `log.dirs`, or `log.dir`: where every log of this node lies.
    pub data_dir: PathBuf,
    /// Listeners in the order of `listeners`, without the controller's; never empty.
    pub listeners: Vec<ListenerConfig>,
    /// Bounds on connections, bytes and times.
    pub limits: Limits,
    /// Super users and the authorizer's switches.
    pub authorizer: AuthorizerSettings,
    /// The audit log; `None` only with `palisade.danger.disable.audit=true`.
    pub audit: Option<AuditSettings>,
    /// Logs as a whole.
    pub log: LogSettings,
    /// Creation and deletion of topics.
    pub topics: TopicSettings,
    /// Defaults of every topic key.
    pub topic_defaults: TopicDefaults,
    /// Every setting as it was written, for DescribeConfigs.
    values: values::Values,
}

impl Config {
    /// The listener of that name, letters of either case.
    pub fn listener(&self, name: &str) -> Option<&ListenerConfig> {
        self.listeners
            .iter()
            .find(|listener| listener.name.eq_ignore_ascii_case(name))
    }

    /// The number of a key that has a default.
    pub(crate) fn number(&self, key: &'static str) -> i64 {
        self.values.number(key)
    }

    /// The text of a key, empty when it has none.
    pub(crate) fn text(&self, key: &'static str) -> &str {
        self.values.text(key).unwrap_or_default()
    }

    /// The items of a list.
    pub(crate) fn items(&self, key: &'static str) -> Vec<String> {
        let items = self.values.items(key);
        items.into_iter().map(str::to_owned).collect()
    }
}

/// Reads a `.properties` text as Java does; of a key that comes twice, the last one counts.
///
/// # Errors
/// A malformed escape, in words.
pub(crate) fn parse_properties(
    bytes: &[u8],
) -> Result<Vec<(String, zeroize::Zeroizing<String>)>, String> {
    let entries = properties::parse(bytes).map_err(|error| error.to_string())?;
    Ok(entries
        .into_iter()
        .map(|entry| (entry.key, entry.value))
        .collect())
}

#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod tests;

#[cfg(test)]
mod tls_tests;
