//! Settings sorted by key and prefix, each in canonical form; typed look-ups with defaults.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use super::{
    ConfigError, HIDDEN, Origin, Warning,
    given::Given,
    keys::{self, Key, Prefix, Use},
    secret::Text,
    value,
};
use crate::foreign;

/// Names of mechanisms as they stand in prefixes.
const MECHANISM_PREFIXES: [&str; 5] = [
    "plain",
    "scram-sha-256",
    "scram-sha-512",
    "oauthbearer",
    "gssapi",
];

/// One accepted setting.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) key: &'static Key,
    /// Full name, prefixes included.
    pub(crate) name: String,
    /// Canonical text, indirections resolved.
    pub(crate) text: Text,
    /// The text as it was written, indirections as they stand.
    pub(crate) written: Text,
    pub(crate) origin: Origin,
}

/// Listener (lower case; empty for none), mechanism (likewise) and key.
type Place = (String, String, &'static str);

/// All accepted settings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values {
    accepted: BTreeMap<Place, Setting>,
    /// Full names of keys that somebody meant to set: the value was refused, or the name is nearly
    /// theirs. What is missing because of them is not worth a word of its own.
    spoiled: BTreeSet<String>,
}

impl Values {
    /// Sorts what the sources gave; the last setting of a key wins.
    ///
    /// A setting with an error is left out, so that the default stands in for it and later checks
    /// can still find more.
    pub(crate) fn sort(
        given: Vec<Given>,
        expand: impl Fn(&Given) -> Result<Option<Zeroizing<String>>, String>,
        errors: &mut Vec<ConfigError>,
        warnings: &mut Vec<Warning>,
    ) -> Self {
        let mut values = Self::default();
        let mut places: BTreeMap<Place, Given> = BTreeMap::new();
        let mut without_meaning = BTreeSet::new();
        for given in given {
            if is_plugin_setting(&given.name) {
                without_meaning.insert(given.name);
                continue;
            }
            if given.name.starts_with("config.providers.") {
                continue;
            }
            match place(&given) {
                Ok(place) => {
                    places.insert(place, given);
                }
                Err(error) => {
                    if let ConfigError::UnknownKey { nearest, .. } = &error {
                        values.spoiled.extend(nearest.clone());
                    }
                    errors.push(error);
                }
            }
        }
        for (place, given) in places {
            let Some(key) = keys::find(place.2) else {
                continue;
            };
            let name = given.name.clone();
            match accept(key, given, &expand) {
                Ok(setting) => {
                    if matches!(key.usage, Use::NoMeaning | Use::Gone) {
                        without_meaning.insert(setting.name.clone());
                    }
                    values.accepted.insert(place, setting);
                }
                Err(error) => {
                    values.spoiled.insert(name);
                    errors.push(error);
                }
            }
        }
        if !without_meaning.is_empty() {
            warnings.push(Warning::NoMeaning(without_meaning.into_iter().collect()));
        }
        values
    }

    /// Whether somebody meant to set this key, and a problem with that was reported.
    pub(crate) fn is_spoiled(&self, key: &str) -> bool {
        self.spoiled.contains(key)
    }

    /// The setting of a plain key, if somebody wrote one.
    pub(crate) fn set(&self, key: &'static str) -> Option<&Setting> {
        self.accepted.get(&(String::new(), String::new(), key))
    }

    /// All settings, by listener, mechanism and key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.accepted.values()
    }

    /// Settings behind a listener prefix, with that listener's name.
    pub(crate) fn prefixed(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.accepted
            .iter()
            .filter(|((listener, _, _), _)| !listener.is_empty())
            .map(|((listener, _, _), setting)| (listener.as_str(), setting))
    }

    /// Canonical text of a plain key or of its default.
    pub(crate) fn text(&self, key: &'static str) -> Option<&str> {
        text_or_default(self.set(key), key)
    }

    /// Values as one listener sees them.
    pub(crate) fn listener<'a>(&'a self, name: &str) -> ListenerValues<'a> {
        ListenerValues {
            values: self,
            listener: name.to_lowercase(),
        }
    }

    /// Non-empty text of a plain key.
    pub(crate) fn filled(&self, key: &'static str) -> Option<&str> {
        self.text(key).filter(|text| !text.is_empty())
    }

    /// A number; the key must have a default.
    pub(crate) fn number(&self, key: &'static str) -> i64 {
        self.maybe_number(key)
            .expect("the table gives this key a numeric default")
    }

    /// A number, if set or defaulted.
    pub(crate) fn maybe_number(&self, key: &'static str) -> Option<i64> {
        self.text(key)?.parse().ok()
    }

    /// A truth; the key must have a default.
    pub(crate) fn flag(&self, key: &'static str) -> bool {
        self.text(key) == Some("true")
    }

    /// Items of a list; none when the key is neither set nor defaulted.
    pub(crate) fn items(&self, key: &'static str) -> Vec<&str> {
        self.text(key).and_then(value::list).unwrap_or_default()
    }
}

/// Values with the prefix of one listener in front of the plain ones.
pub(crate) struct ListenerValues<'a> {
    values: &'a Values,
    listener: String,
}

impl<'a> ListenerValues<'a> {
    /// The setting that applies, prefixed or plain.
    pub(crate) fn set(&self, key: &'static str) -> Option<&'a Setting> {
        self.own(key).or_else(|| self.values.set(key))
    }

    /// The setting with this listener's prefix.
    pub(crate) fn own(&self, key: &'static str) -> Option<&'a Setting> {
        self.values
            .accepted
            .get(&(self.listener.clone(), String::new(), key))
    }

    /// Whether somebody meant to set this key, prefixed or plain, and a problem was reported.
    pub(crate) fn is_spoiled(&self, key: &str) -> bool {
        let prefixed = format!("listener.name.{}.{key}", self.listener);
        self.values.is_spoiled(key) || self.values.is_spoiled(&prefixed)
    }

    /// The setting with this listener's and the mechanism's prefix (lower case).
    pub(crate) fn of_mechanism(&self, mechanism: &str, key: &'static str) -> Option<&'a Setting> {
        self.values
            .accepted
            .get(&(self.listener.clone(), mechanism.to_owned(), key))
    }

    /// Text that applies, or the default.
    pub(crate) fn text(&self, key: &'static str) -> Option<&'a str> {
        text_or_default(self.set(key), key)
    }

    /// Items of a list that applies.
    pub(crate) fn items(&self, key: &'static str) -> Vec<&'a str> {
        self.text(key).and_then(value::list).unwrap_or_default()
    }
}

fn text_or_default<'a>(setting: Option<&'a Setting>, key: &'static str) -> Option<&'a str> {
    match setting {
        Some(setting) => Some(setting.text.expose()),
        None => keys::find(key).and_then(|key| key.default),
    }
}

/// Settings that Kafka hands to plug-ins of tiered storage; it is refused as a whole elsewhere.
fn is_plugin_setting(name: &str) -> bool {
    name.starts_with("rsm.config.") || name.starts_with("rlmm.config.")
}

fn place(given: &Given) -> Result<Place, ConfigError> {
    let Some(rest) = given.name.strip_prefix("listener.name.") else {
        return match keys::find(&given.name) {
            Some(key) => Ok((String::new(), String::new(), key.name)),
            None => Err(unknown(given, &given.name, "")),
        };
    };
    let Some((listener, rest)) = rest.split_once('.') else {
        return Err(unknown(given, &given.name, ""));
    };
    let prefix_error = |reason: String| ConfigError::Prefix {
        key: given.name.clone(),
        origin: given.origin.clone(),
        reason,
    };
    if listener != listener.to_lowercase() {
        return Err(prefix_error(format!(
            "the listener's name is written in lower case here: {}",
            listener.to_lowercase()
        )));
    }
    if let Some(key) = keys::find(rest) {
        return match key.prefix {
            Prefix::No => Err(prefix_error(format!("{rest} cannot be set per listener"))),
            _ => Ok((listener.to_owned(), String::new(), key.name)),
        };
    }
    let by_mechanism = rest
        .split_once('.')
        .filter(|(mechanism, _)| MECHANISM_PREFIXES.contains(mechanism))
        .and_then(|(mechanism, rest)| keys::find(rest).map(|key| (mechanism, key)));
    match by_mechanism {
        Some((mechanism, key)) if key.prefix == Prefix::Mechanism => {
            Ok((listener.to_owned(), mechanism.to_owned(), key.name))
        }
        Some((_, key)) => Err(prefix_error(format!(
            "{} cannot be set per mechanism",
            key.name
        ))),
        None => {
            let kept = given.name.len() - rest.len();
            Err(unknown(given, rest, &given.name[..kept]))
        }
    }
}

fn unknown(given: &Given, name: &str, prefix: &str) -> ConfigError {
    ConfigError::UnknownKey {
        key: foreign::name(&given.name),
        origin: given.origin.clone(),
        nearest: keys::nearest(&name.to_lowercase()).map(|nearest| format!("{prefix}{nearest}")),
    }
}

fn accept(
    key: &'static Key,
    given: Given,
    expand: impl Fn(&Given) -> Result<Option<Zeroizing<String>>, String>,
) -> Result<Setting, ConfigError> {
    let expanded = expand(&given).map_err(|reason| ConfigError::Indirection {
        key: given.name.clone(),
        origin: given.origin.clone(),
        reason,
    })?;
    // What a provider gives may be a secret even where the key is none: it is not shown.
    let show = !key.is_secret() && expanded.is_none();
    let text = expanded.as_ref().unwrap_or(&given.value);
    let canonical = value::canonical(key, text).map_err(|expected| ConfigError::Value {
        key: given.name.clone(),
        origin: given.origin.clone(),
        value: if show {
            foreign::name(&given.value)
        } else {
            HIDDEN.to_owned()
        },
        expected,
    })?;
    if let Use::Refused { harmless, reason } = key.usage
        && !harmless.contains(&canonical.as_str())
        && key.default != Some(canonical.as_str())
    {
        return Err(ConfigError::Refused {
            key: given.name,
            origin: given.origin,
            reason: reason.to_owned(),
        });
    }
    Ok(Setting {
        key,
        name: given.name,
        text: Text::new(canonical),
        written: Text::new(given.value.to_string()),
        origin: given.origin,
    })
}
