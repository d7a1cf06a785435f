//! What a topic may be set to (configs.md §2 and §5).

use thiserror::Error;

use super::effective::TopicConfig;
use super::table::lookup;
use super::value::canonical;
use crate::config::TopicDefaults;
use crate::foreign;
use crate::metadata::image::ConfigMap;

/// Why a topic may not have these settings; the text is what clients read, the code is
/// INVALID_CONFIG.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No topic key has this name.
    #[error("Unknown topic config name: {0}")]
    UnknownKey(String),
    /// The value is none of the key's.
    #[error("Invalid value {value} for configuration {key}: {reason}")]
    InvalidValue {
        /// Key.
        key: &'static str,
        /// Value, fit to be shown.
        value: String,
        /// Why.
        reason: String,
    },
    /// Two values do not go together.
    #[error(
        "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
    )]
    CompactionLags {
        /// min.compaction.lag.ms.
        min: i64,
        /// max.compaction.lag.ms.
        max: i64,
    },
    /// Remote storage does not exist here.
    #[error(
        "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with \
         remote log storage."
    )]
    RemoteStorage,
}

/// Checks the complete settings of a topic.
///
/// # Errors
/// The first fault: unknown keys before bad values, bad values before conflicts.
pub fn validate(settings: &ConfigMap, defaults: &TopicDefaults) -> Result<(), ConfigError> {
    for (name, _) in settings.iter() {
        if lookup(name).is_none() {
            return Err(ConfigError::UnknownKey(foreign::name(name)));
        }
    }
    for (name, value) in settings.iter() {
        let Some(key) = lookup(name) else { continue };
        canonical(key.kind, &key.valid, value).map_err(|reason| ConfigError::InvalidValue {
            key: key.name,
            value: foreign::name(value),
            reason,
        })?;
    }
    let effective = TopicConfig::effective(defaults, settings);
    if effective.min_compaction_lag_ms > effective.max_compaction_lag_ms {
        return Err(ConfigError::CompactionLags {
            min: effective.min_compaction_lag_ms,
            max: effective.max_compaction_lag_ms,
        });
    }
    if effective.remote_storage_enable {
        return Err(ConfigError::RemoteStorage);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)]) -> Result<(), String> {
        let settings: ConfigMap = pairs.iter().copied().collect();
        validate(&settings, &TopicDefaults::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn values_of_the_specification() {
        for good in [
            ("cleanup.policy", ""),
            ("cleanup.policy", " delete "),
            ("cleanup.policy", "compact"),
            ("cleanup.policy", "compact, delete"),
            ("compression.gzip.level", "-1"),
            ("compression.zstd.level", "-131072"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-77"),
            ("segment.bytes", "1024"),
            ("min.insync.replicas", "99"),
            ("preallocate", "TRUE"),
            ("min.cleanable.dirty.ratio", ".5"),
            ("leader.replication.throttled.replicas", "0:1,1:2"),
            ("internal.segment.bytes", "100"),
            ("unclean.leader.election.enable", " true"),
        ] {
            assert_eq!(check(&[good]), Ok(()), "{good:?}");
        }
        for (key, value, text) in [
            (
                "cleanup.policy",
                "delete,",
                "Invalid value delete, for configuration cleanup.policy",
            ),
            ("compression.gzip.level", "0", "Value must be at least 1"),
            (
                "compression.gzip.level",
                "10",
                "Value must be no more than 9",
            ),
            (
                "compression.type",
                "ZSTD",
                "String must be one of: uncompressed, zstd",
            ),
            ("retention.ms", "-2", "Value must be at least -1"),
            (
                "retention.ms",
                "abc",
                "Invalid value abc for configuration retention.ms: Not a number",
            ),
            ("segment.bytes", "1023", "Value must be at least 1024"),
            ("segment.bytes", "2147483648", "Not a number of type INT"),
            (
                "preallocate",
                "yes",
                "Expected value to be either true or false",
            ),
            (
                "min.cleanable.dirty.ratio",
                "1.1",
                "Value must be no more than 1",
            ),
            (
                "remote.storage.enable",
                "true",
                "Tiered Storage functionality is disabled",
            ),
            (
                "cleanup.policy",
                "compacted",
                "String must be one of: compact, delete",
            ),
        ] {
            let error = check(&[(key, value)]).unwrap_err();
            assert!(error.contains(text), "{key}={value}: {error}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_before_a_bad_value() {
        let error = check(&[("a.b", "1"), ("retention.ms", "x"), ("zz", "1")]).unwrap_err();
        assert_eq!(error, "Unknown topic config name: a.b");
        let error = check(&[("retention.ms", "x"), ("zz", "1")]).unwrap_err();
        assert_eq!(error, "Unknown topic config name: zz");
    }

    #[test]
    fn lags_must_go_together() {
        assert!(
            check(&[
                ("min.compaction.lag.ms", "5"),
                ("max.compaction.lag.ms", "5")
            ])
            .is_ok()
        );
        let error = check(&[
            ("min.compaction.lag.ms", "6"),
            ("max.compaction.lag.ms", "5"),
        ]);
        assert!(error.unwrap_err().contains("min.compaction.lag.ms (6)"));
    }
}
