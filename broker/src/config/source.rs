//! Where settings come from, and which of them wins.

use std::{
    fs,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{
    ConfigError, Origin, Warning, environment,
    given::Given,
    keys,
    properties::{self, Entry, SyntaxError},
};

/// All sources of one configuration. Tests fill in what a process would find around itself.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    file: Option<(PathBuf, Option<Zeroizing<Vec<u8>>>)>,
    environment: Vec<(String, String)>,
    overrides: Vec<String>,
    program: Vec<(String, Zeroizing<String>)>,
    host_name: String,
}

impl Sources {
    /// No file, no environment, no overrides.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the properties file at this path, which is read when the configuration is loaded.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some((path.into(), None));
        self
    }

    /// Adds the text of a properties file, to be named in errors by this path.
    pub fn text(mut self, path: impl Into<PathBuf>, text: &str) -> Self {
        let bytes = Zeroizing::new(text.as_bytes().to_vec());
        self.file = Some((path.into(), Some(bytes)));
        self
    }

    /// Adds the process's environment; variables that are not UTF-8 are left out.
    pub fn process_environment(self) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        self.environment(environment)
    }

    /// Adds these environment variables.
    pub fn environment(mut self, environment: Vec<(String, String)>) -> Self {
        self.environment = environment;
        self
    }

    /// Adds `key=value` texts of the command line; the last one of a key wins.
    pub fn overrides(mut self, overrides: Vec<String>) -> Self {
        self.overrides = overrides;
        self
    }

    /// Adds a setting of the program itself: above the file and the environment, below
    /// `--override`, and free to be a secret.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.program
            .push((key.into(), Zeroizing::new(value.into())));
        self
    }

    /// Tells the machine's name, which is advertised where a listener names no host.
    pub fn host_name(mut self, name: impl Into<String>) -> Self {
        self.host_name = name.into();
        self
    }

    pub(crate) fn machine_name(&self) -> &str {
        &self.host_name
    }

    pub(crate) fn variables(&self) -> &[(String, String)] {
        &self.environment
    }

    pub(crate) fn file_path(&self) -> Option<&PathBuf> {
        self.file.as_ref().map(|(path, _)| path)
    }
}

/// All settings of all sources, those that win last.
pub(crate) fn gather(
    sources: &Sources,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<Warning>,
) -> Vec<Given> {
    let mut given = Vec::new();
    if let Some((path, bytes)) = &sources.file {
        from_file(path, bytes.as_ref(), &mut given, errors, warnings);
    }
    let from_environment = environment::read(&sources.environment);
    given.extend(from_environment.given);
    if !from_environment.ignored.is_empty() {
        warnings.push(Warning::IgnoredVariables(from_environment.ignored));
    }
    given.extend(sources.program.iter().map(|(name, value)| Given {
        name: name.clone(),
        value: value.clone(),
        origin: Origin::Program,
    }));
    for text in &sources.overrides {
        match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                let name = name.trim().to_owned();
                if is_secret_name(&name) {
                    errors.push(ConfigError::SecretOnCommandLine { key: name });
                    continue;
                }
                let is_same = |one: &Given| one.origin == Origin::CommandLine && one.name == name;
                if given.iter().any(is_same) {
                    let text = format!("--override {name} is given again, and the last one wins");
                    warnings.push(Warning::Note(text));
                }
                given.push(Given {
                    name,
                    value: Zeroizing::new(value.to_owned()),
                    origin: Origin::CommandLine,
                });
            }
            // Without a separator nobody knows whether the text is a secret: only its head is
            // shown.
            _ => errors.push(ConfigError::Override(head(text))),
        }
    }
    given
}

/// Whether a name, prefixes or not, ends in the name of a secret key.
fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    keys::all()
        .filter(|key| key.is_secret())
        .any(|key| name == key.name || name.ends_with(&format!(".{}", key.name)))
}

fn head(text: &str) -> String {
    let mut head: String = text.chars().take(12).collect();
    if head.len() < text.len() {
        head.push('…');
    }
    head
}

fn from_file(
    path: &Path,
    bytes: Option<&Zeroizing<Vec<u8>>>,
    given: &mut Vec<Given>,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<Warning>,
) {
    let entries = match entries(path, bytes, warnings) {
        Ok(entries) => entries,
        Err(error) => {
            errors.push(error);
            return;
        }
    };
    for (index, entry) in entries.iter().enumerate() {
        if let Some(later) = entries[index + 1..].iter().find(|e| e.key == entry.key) {
            warnings.push(Warning::Note(format!(
                "{}:{}: {} is set again in line {}, which wins",
                path.display(),
                entry.line,
                entry.key,
                later.line
            )));
        }
        given.push(Given {
            name: entry.key.clone(),
            value: entry.value.clone(),
            origin: Origin::File {
                path: path.to_owned(),
                line: entry.line,
            },
        });
    }
}

/// What the file says, line by line; it is read where its bytes are not given.
fn entries(
    path: &Path,
    bytes: Option<&Zeroizing<Vec<u8>>>,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<Entry>, ConfigError> {
    let read;
    let bytes = match bytes {
        Some(bytes) => bytes,
        None => {
            read = Zeroizing::new(fs::read(path).map_err(|error| ConfigError::Unreadable {
                path: path.to_owned(),
                reason: error.to_string(),
            })?);
            &read
        }
    };
    if !bytes.is_ascii() {
        warnings.push(Warning::Note(format!(
            "{}: bytes outside ASCII are read as ISO-8859-1, as Kafka does; write \\uXXXX instead",
            path.display()
        )));
    }
    properties::parse(bytes).map_err(|error| {
        let (line, reason) = match error {
            SyntaxError::Unicode { line } => (line, "malformed \\uXXXX escape"),
            SyntaxError::Surrogate { line } => (line, "\\uXXXX escape is half of a surrogate pair"),
        };
        ConfigError::Syntax {
            path: path.to_owned(),
            line,
            reason,
        }
    })
}
