//! Problems that would go away by themselves once others are mended are not reported.

use super::{ConfigError, values::Values};

/// Drops what follows from a problem that is reported anyway: a key that is missing because its
/// name was mistyped, or a relation to a default that stands in for a value that was refused.
pub(crate) fn drop(values: &Values, errors: &mut Vec<ConfigError>) {
    let is_file_lost = errors.iter().any(|error| {
        matches!(
            error,
            ConfigError::Unreadable { .. } | ConfigError::Syntax { .. }
        )
    });
    errors.retain(|error| match error {
        // What is missing may well stand in the file.
        ConfigError::Missing { key, .. } => !is_file_lost && !values.is_spoiled(key),
        ConfigError::Relation { keys, .. } => !keys.split(", ").any(|key| values.is_spoiled(key)),
        _ => true,
    });
}

/// Says once what is wrong with a store that several listeners share.
pub(crate) fn merge(errors: &mut Vec<ConfigError>) {
    let mut merged: Vec<ConfigError> = Vec::new();
    for error in errors.drain(..) {
        if let ConfigError::Tls { listeners, reason } = &error {
            let same = merged.iter_mut().find_map(|earlier| match earlier {
                ConfigError::Tls {
                    listeners,
                    reason: known,
                } if known == reason => Some(listeners),
                _ => None,
            });
            if let Some(known) = same {
                known.extend(listeners.iter().cloned());
                continue;
            }
        }
        if !merged.contains(&error) {
            merged.push(error);
        }
    }
    *errors = merged;
}
