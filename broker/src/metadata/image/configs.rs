//! Settings as they were set: texts by key.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;

use super::ConfigResource;
use crate::metadata::record::ConfigResourceType;

/// Settings of one resource: key to text as it was set; cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigMap {
    values: Arc<BTreeMap<String, String>>,
}

impl ConfigMap {
    /// Longest text of one setting, in bytes: that of the longest string of the protocol, so that
    /// DescribeConfigs can tell it.
    pub const LONGEST: usize = 32_767;

    /// The text of a key, where it is set.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// Keys and texts, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// How many keys are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no key is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Sets a key, or takes it away with `None`.
    pub fn set(&mut self, key: &str, value: Option<&str>) {
        let values = Arc::make_mut(&mut self.values);
        match value {
            Some(value) => values.insert(key.to_owned(), value.to_owned()),
            None => values.remove(key),
        };
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for ConfigMap {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> ConfigMap {
        let values = pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        ConfigMap {
            values: Arc::new(values),
        }
    }
}

/// Settings of brokers, groups and client-metrics subscriptions; a topic carries its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigsImage {
    pub(in crate::metadata) by_resource: OrdMap<ConfigResource, ConfigMap>,
}

impl ConfigsImage {
    /// The settings of a resource, where it has any.
    #[must_use]
    pub fn get(&self, resource_type: ConfigResourceType, name: &str) -> Option<&ConfigMap> {
        // Groups are looked up with each heartbeat, and hardly any has settings.
        if self.by_resource.is_empty() {
            return None;
        }
        self.by_resource.get(&ConfigResource {
            resource_type,
            name: Arc::from(name),
        })
    }

    /// Every resource with settings, by kind and name.
    pub fn iter(&self) -> impl Iterator<Item = (&ConfigResource, &ConfigMap)> {
        self.by_resource.iter()
    }
}
