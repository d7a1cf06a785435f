//! The configuration as DescribeConfigs shows it (configs.md §4).

use super::{
    Config,
    keys::{self, Dynamic, Key},
};

/// Where a reported value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportedSource {
    /// The file, the environment or the command line.
    Static,
    /// The table's default.
    Default,
}

/// One row of DescribeConfigs for this node.
#[derive(Debug, Clone, PartialEq)]
pub struct Reported {
    /// Full name, prefixes included.
    pub name: String,
    /// Row of the key table.
    pub key: &'static Key,
    /// Canonical value; `None` for secrets, and for keys that are neither set nor defaulted.
    pub value: Option<String>,
    /// The text as it was written, for synonyms; `None` for secrets and defaults.
    pub written: Option<String>,
    /// Where the value comes from.
    pub source: ReportedSource,
    /// Whether the value must not be shown: a secret, a value from a provider, or a key whose type
    /// Kafka does not declare.
    pub is_sensitive: bool,
    /// Whether it cannot be changed at run time.
    pub is_read_only: bool,
}

impl Config {
    /// Every key that Kafka lists, ours, and whatever was set besides, sorted by name.
    pub fn report(&self) -> Vec<Reported> {
        let mut rows: Vec<Reported> = self
            .values
            .iter()
            .map(|setting| {
                let is_indirect =
                    setting.text != setting.written && setting.written.expose().contains("${");
                let hidden = setting.key.is_secret() || is_undeclared(setting.key) || is_indirect;
                let is_prefixed = setting.name != setting.key.name;
                Reported {
                    name: setting.name.clone(),
                    key: setting.key,
                    value: (!hidden).then(|| setting.text.expose().to_owned()),
                    written: (!hidden).then(|| setting.written.expose().to_owned()),
                    source: ReportedSource::Static,
                    is_sensitive: hidden,
                    is_read_only: is_prefixed || setting.key.dynamic == Dynamic::No,
                }
            })
            .collect();
        let defaults = keys::all().filter(|key| key.listed && self.values.set(key.name).is_none());
        rows.extend(defaults.map(|key| {
            let hidden = key.is_secret() || is_undeclared(key);
            Reported {
                name: key.name.to_owned(),
                key,
                value: key.default.filter(|_| !hidden).map(str::to_owned),
                written: None,
                source: ReportedSource::Default,
                is_sensitive: hidden,
                is_read_only: key.dynamic == Dynamic::No,
            }
        }));
        // The older name is reported with the node's id even when it was not set.
        for row in &mut rows {
            if row.name == "broker.id" && row.source == ReportedSource::Default {
                row.value = Some(self.node_id.to_string());
                row.source = ReportedSource::Static;
            }
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    /// SHA-256 in hex of every setting in force, defaults among them. Secrets do not count, and
    /// what a provider gives counts as it is written.
    pub(crate) fn fingerprint(&self) -> String {
        let set = self
            .values
            .iter()
            .filter(|setting| !setting.key.is_secret());
        let set = set.map(|setting| {
            let is_indirect = setting.written.expose().contains("${");
            let text = if is_indirect {
                &setting.written
            } else {
                &setting.text
            };
            format!("{}={}\n", setting.name, text.expose())
        });
        let unset = keys::all().filter(|key| self.values.set(key.name).is_none());
        let unset = unset.filter_map(|key| Some(format!("{}={}\n", key.name, key.default?)));
        let mut lines: Vec<String> = set.chain(unset).collect();
        lines.sort_unstable();
        let hash = openssl::sha::sha256(lines.concat().as_bytes());
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The authorizer's own keys have no declared type in Kafka, which therefore hides them.
fn is_undeclared(key: &Key) -> bool {
    matches!(key.name, "super.users" | "allow.everyone.if.no.acl.found")
}
