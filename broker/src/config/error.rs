//! Everything that can be wrong with a configuration, and what is merely worth a word.
//!
//! Values appear in these texts only where the key is not a secret; see [`super::secret`].

use std::{fmt, path::PathBuf};

use thiserror::Error;

use super::environment::Ignored;
use crate::foreign;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of the properties file, counted from 1.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// First line of the entry.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Name of the variable.
        variable: String,
    },
    /// `--override key=value`.
    CommandLine,
    /// Set by this program, as `palisade dev` does.
    Program,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::CommandLine => f.write_str("--override"),
            Self::Program => f.write_str("built in"),
        }
    }
}

/// One reason not to start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The properties file cannot be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file as it was named.
        path: PathBuf,
        /// The system's word for it.
        reason: String,
    },
    /// The properties file is not one.
    #[error("{}:{line}: {reason}", path.display())]
    Syntax {
        /// The file as it was named.
        path: PathBuf,
        /// The offending line, counted from 1.
        line: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// `--override` without `=`, or without a key.
    #[error("--override {0:?}: expected key=value")]
    Override(String),
    /// No such key.
    #[error("{origin}: unknown key {key}{}", Nearest(.nearest))]
    UnknownKey {
        /// The key as written.
        key: String,
        /// Where.
        origin: Origin,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// The key exists, but not behind this `listener.name.` prefix.
    #[error("{origin}: {key}: {reason}")]
    Prefix {
        /// The key as written.
        key: String,
        /// Where.
        origin: Origin,
        /// Why the prefix does not fit.
        reason: String,
    },
    /// A value of the wrong type or outside its range.
    #[error("{origin}: {key}={value}: expected {expected}")]
    Value {
        /// The key as written.
        key: String,
        /// Where.
        origin: Origin,
        /// The value, or [`super::secret::HIDDEN`].
        value: String,
        /// What would have been accepted.
        expected: String,
    },
    /// A key that has no default here.
    #[error("{key} is not set: {reason}")]
    Missing {
        /// The key.
        key: String,
        /// Why there is no default.
        reason: &'static str,
    },
    /// A value that asks for something that this broker does not do.
    #[error("{origin}: {key}: refused: {reason}")]
    Refused {
        /// The key as written.
        key: String,
        /// Where.
        origin: Origin,
        /// What is missing, and what to do instead.
        reason: String,
    },
    /// A key of our own that changes nothing in this configuration.
    #[error("{origin}: {key} has no effect: {reason}")]
    NoEffect {
        /// The key as written.
        key: String,
        /// Where.
        origin: Origin,
        /// Which setting keeps it from having one.
        reason: &'static str,
    },
    /// Two or more values that do not go together.
    #[error("{keys}: {reason}")]
    Relation {
        /// The keys, joined by a comma.
        keys: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A secret given as an argument, where every user of the machine can read it.
    #[error(
        "--override {key}: refused: arguments are visible to every user of this machine; \
         put the secret into the file (mode 0600) or into an environment variable"
    )]
    SecretOnCommandLine {
        /// The key.
        key: String,
    },
    /// A file whose mode gives more away than it may.
    #[error("{key}: {} can be read by others (mode {mode:04o}); chmod {fix} {}", path.display(), path.display())]
    Exposed {
        /// The key that names the file, or what the file is.
        key: String,
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The argument of chmod that mends it.
        fix: &'static str,
    },
    /// Key, chain or trust of some listeners cannot be used.
    #[error("listener{} {}: {reason}", plural(.listeners), .listeners.join(", "))]
    Tls {
        /// Names of the listeners.
        listeners: Vec<String>,
        /// What is wrong, with the key that says so.
        reason: String,
    },
    /// A value refers to a provider that cannot give it.
    #[error("{origin}: {key}: {reason}")]
    Indirection {
        /// The key as written.
        key: String,
        /// Where.
        origin: Origin,
        /// What is wrong; never the value.
        reason: String,
    },
}

impl ConfigError {
    /// The line of the properties file that it is about, counted from 1.
    pub(super) fn line(&self) -> Option<usize> {
        let origin = match self {
            Self::Syntax { line, .. } => return Some(*line),
            Self::UnknownKey { origin, .. }
            | Self::Prefix { origin, .. }
            | Self::Value { origin, .. }
            | Self::Refused { origin, .. }
            | Self::NoEffect { origin, .. }
            | Self::Indirection { origin, .. } => origin,
            _ => return None,
        };
        match origin {
            Origin::File { line, .. } => Some(*line),
            _ => None,
        }
    }
}

fn plural(items: &[String]) -> &'static str {
    if items.len() == 1 { "" } else { "s" }
}

struct Nearest<'a>(&'a Option<String>);

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => Ok(()),
        }
    }
}

/// All reasons not to start, never empty: those about lines of the file in the order of the lines,
/// then the others in the order in which they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => write!(f, "configuration: {}", as_line(only)),
            all => {
                write!(f, "configuration: {} problems", all.len())?;
                all.iter()
                    .try_for_each(|error| write!(f, "\n  {}", as_line(error)))
            }
        }
    }
}

impl std::error::Error for ConfigErrors {}

/// Values may be as long as a file, and hold whatever an escape can say.
fn as_line(error: &ConfigError) -> String {
    foreign::line(&error.to_string())
}

/// Something odd that does not keep the node from starting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// Keys of Kafka that change nothing here, all of them, sorted.
    NoMeaning(Vec<String>),
    /// `KAFKA_…` variables that are no keys, all of them, sorted.
    IgnoredVariables(Vec<Ignored>),
    /// Listeners whose traffic anybody on the path can read.
    Plaintext(Vec<String>),
    /// A controller listener, which nothing binds while there is one voter.
    ControllerListener(String),
    /// A `palisade.danger.…` switch that is on.
    Danger(String),
    /// Anything else; the text is complete.
    Note(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMeaning(keys) => {
                write!(f, "keys without meaning here: {}", keys.join(", "))
            }
            Self::IgnoredVariables(ignored) => {
                f.write_str("environment variables that are no keys: ")?;
                for (index, one) in ignored.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{}", one.variable)?;
                    if let Some(nearest) = &one.nearest {
                        write!(f, " (did you mean {nearest}?)")?;
                    }
                }
                Ok(())
            }
            Self::Plaintext(names) => {
                write!(f, "listeners without encryption: {}", names.join(", "))
            }
            Self::ControllerListener(name) => write!(
                f,
                "controller listener {name} is not bound: a single voter needs no quorum traffic"
            ),
            Self::Danger(key) => write!(f, "{key} is on"),
            Self::Note(text) => f.write_str(text),
        }
    }
}

/// Everything to be logged once at start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warnings(pub Vec<Warning>);
