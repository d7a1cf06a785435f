//! `${provider:path:key}`: values that are kept elsewhere (KIP-297; security.md §7.2).
//!
//! `config.providers=a,b` names providers, `config.providers.<name>.class` says of which of three
//! kinds each is, recognised by the name of Kafka's class, and
//! `config.providers.<name>.param.allowed.paths` (files, directories) or
//! `….param.allowlist.pattern` (environment) fences it. What a provider gives is not expanded
//! again, and no text of it appears in an error.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;
use zeroize::Zeroizing;

use super::{ConfigError, given::Given, properties, value};

const PREFIX: &str = "config.providers.";

/// Largest file that a provider reads; secrets are small.
const FILE_MAX: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
    Environment,
}

impl Kind {
    fn of_class(class: &str) -> Option<Self> {
        const PACKAGE: &str = "org.apache.kafka.common.config.provider.";
        match class.trim().strip_prefix(PACKAGE)? {
            "FileConfigProvider" => Some(Self::File),
            "DirectoryConfigProvider" => Some(Self::Directory),
            "EnvVarConfigProvider" => Some(Self::Environment),
            _ => None,
        }
    }
}

struct Provider {
    kind: Kind,
    /// `None` lets every path through, as Kafka does.
    allowed_paths: Option<Vec<PathBuf>>,
    /// Must match the whole name of a variable; `None` lets every name through.
    allowed_names: Option<Regex>,
}

/// The providers of one configuration.
pub(crate) struct Providers<'a> {
    /// `None` for one whose own settings are refused.
    by_name: BTreeMap<String, Option<Provider>>,
    environment: &'a [(String, String)],
}

impl<'a> Providers<'a> {
    /// Finds the providers among the settings.
    pub(crate) fn declared(
        given: &[Given],
        environment: &'a [(String, String)],
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        // The last setting of a name wins, as everywhere.
        let settings: BTreeMap<&str, &Given> = given
            .iter()
            .map(|given| (given.name.as_str(), given))
            .collect();
        let mut providers = Self {
            by_name: BTreeMap::new(),
            environment,
        };
        let names = settings
            .get("config.providers")
            .and_then(|given| value::list(&given.value))
            .unwrap_or_default();
        for name in &names {
            let declared = declare(name, &settings).map_err(|error| errors.push(error));
            providers.by_name.insert((*name).to_owned(), declared.ok());
        }
        for (name, given) in &settings {
            let Some(rest) = name.strip_prefix(PREFIX) else {
                continue;
            };
            let known = rest.split_once('.').is_some_and(|(provider, field)| {
                names.contains(&provider)
                    && matches!(
                        field,
                        "class" | "param.allowed.paths" | "param.allowlist.pattern"
                    )
            });
            if !known {
                errors.push(refuse(
                    given,
                    "expected class, param.allowed.paths or param.allowlist.pattern of a provider \
                     named in config.providers",
                ));
            }
        }
        providers
    }

    /// Replaces every `${…}` of a value; `None` when there is none.
    ///
    /// # Errors
    /// A sentence without the value: an unknown provider, a fence, a missing file or key.
    pub(crate) fn expand(&self, text: &str) -> Result<Option<Zeroizing<String>>, String> {
        let mut out = Zeroizing::new(String::new());
        let mut rest = text;
        let mut expanded = false;
        while let Some((before, reference, after)) = next_reference(rest) {
            out.push_str(before);
            out.push_str(&self.fetch(reference)?);
            rest = after;
            expanded = true;
        }
        out.push_str(rest);
        Ok(expanded.then_some(out))
    }

    fn fetch(&self, reference: &str) -> Result<Zeroizing<String>, String> {
        let (name, rest) = reference.split_once(':').unwrap_or((reference, ""));
        let provider = self.by_name.get(name).ok_or_else(|| {
            format!("${{{name}:…}} names a provider that config.providers does not declare")
        })?;
        let provider = provider
            .as_ref()
            .ok_or_else(|| format!("provider {name} cannot be used, as said above"))?;
        match (provider.kind, rest.rsplit_once(':')) {
            (Kind::Environment, None) => self.variable(name, provider, rest),
            (Kind::File, Some((path, key))) => from_file(name, provider, path, key),
            (Kind::Directory, Some((path, key))) => from_directory(name, provider, path, key),
            (Kind::Environment, Some(_)) => Err(format!("expected ${{{name}:VARIABLE}}")),
            (_, None) => Err(format!("expected ${{{name}:/path:key}}")),
        }
    }

    fn variable(
        &self,
        name: &str,
        provider: &Provider,
        variable: &str,
    ) -> Result<Zeroizing<String>, String> {
        if let Some(pattern) = &provider.allowed_names
            && !pattern.is_match(variable)
        {
            return Err(format!(
                "provider {name} may not read the variable {variable}"
            ));
        }
        let found = self.environment.iter().find(|(key, _)| key == variable);
        found
            .map(|(_, value)| Zeroizing::new(value.clone()))
            .ok_or_else(|| format!("provider {name}: the variable {variable} is not set"))
    }
}

/// `${…}` with at least one colon inside; anything else is plain text.
fn next_reference(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let start = from + text[from..].find("${")?;
        let inner = &text[start + 2..];
        let end = inner.find('}')?;
        let reference = &inner[..end];
        if reference.contains(':') {
            return Some((&text[..start], reference, &inner[end + 1..]));
        }
        from = start + 2;
    }
}

fn refuse(given: &Given, reason: &str) -> ConfigError {
    ConfigError::Indirection {
        key: given.name.clone(),
        origin: given.origin.clone(),
        reason: reason.to_owned(),
    }
}

fn declare(name: &str, settings: &BTreeMap<&str, &Given>) -> Result<Provider, ConfigError> {
    let field = |field: &str| {
        settings
            .get(format!("{PREFIX}{name}.{field}").as_str())
            .copied()
    };
    let class = field("class").ok_or_else(|| ConfigError::Missing {
        key: format!("{PREFIX}{name}.class"),
        reason: "config.providers names this provider",
    })?;
    let kind = Kind::of_class(&class.value).ok_or_else(|| {
        refuse(
            class,
            "classes cannot be loaded; there are org.apache.kafka.common.config.provider.\
             FileConfigProvider, DirectoryConfigProvider and EnvVarConfigProvider",
        )
    })?;
    let allowed_paths = match field("param.allowed.paths") {
        Some(given) => {
            let items = value::list(&given.value)
                .ok_or_else(|| refuse(given, "expected paths separated by commas"))?;
            let canonical = items.iter().map(|path| {
                fs::canonicalize(path).map_err(|error| refuse(given, &format!("{path}: {error}")))
            });
            Some(canonical.collect::<Result<Vec<PathBuf>, _>>()?)
        }
        None => None,
    };
    let allowed_names = match field("param.allowlist.pattern") {
        Some(given) => {
            let whole = format!("^(?:{})$", given.value.as_str());
            Some(Regex::new(&whole).map_err(|_| refuse(given, "not a regular expression"))?)
        }
        None => None,
    };
    Ok(Provider {
        kind,
        allowed_paths,
        allowed_names,
    })
}

/// Reads a file behind the provider's fence; links are resolved before it is asked.
fn read_fenced(name: &str, provider: &Provider, path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("provider {name}: {shown}: {error}");
    let real = fs::canonicalize(path).map_err(failed)?;
    if let Some(allowed) = &provider.allowed_paths
        && !allowed.iter().any(|root| real.starts_with(root))
    {
        return Err(format!(
            "provider {name}: {shown} lies outside param.allowed.paths"
        ));
    }
    if fs::metadata(&real).map_err(failed)?.len() > FILE_MAX {
        return Err(format!("provider {name}: {shown} is larger than 1 MiB"));
    }
    fs::read(&real).map(Zeroizing::new).map_err(failed)
}

fn from_file(
    name: &str,
    provider: &Provider,
    path: &str,
    key: &str,
) -> Result<Zeroizing<String>, String> {
    let bytes = read_fenced(name, provider, Path::new(path))?;
    let entries = properties::parse(&bytes).map_err(|error| format!("{path}: {error}"))?;
    let found = entries.into_iter().rev().find(|entry| entry.key == key);
    found
        .map(|entry| entry.value)
        .ok_or_else(|| format!("provider {name}: {path} has no key {key}"))
}

fn from_directory(
    name: &str,
    provider: &Provider,
    path: &str,
    file: &str,
) -> Result<Zeroizing<String>, String> {
    if file.is_empty() || file.contains('/') || file == ".." || file == "." {
        return Err(format!(
            "provider {name}: the key is the name of a file in {path}"
        ));
    }
    let bytes = read_fenced(name, provider, &Path::new(path).join(file))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(format!("provider {name}: {path}/{file} is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::Origin;

    fn given(settings: &[(&str, String)]) -> Vec<Given> {
        let given = settings.iter().map(|(name, value)| Given {
            name: (*name).to_owned(),
            value: Zeroizing::new(value.clone()),
            origin: Origin::CommandLine,
        });
        given.collect()
    }

    fn class(name: &str) -> String {
        format!("org.apache.kafka.common.config.provider.{name}")
    }

    #[test]
    fn references_are_replaced_behind_their_fences() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("in");
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("s.properties"), "pass=a=b\nother=x").unwrap();
        fs::write(inside.join("token"), "t0ken").unwrap();
        fs::write(dir.path().join("out"), "secret=1").unwrap();
        symlink(dir.path().join("out"), inside.join("link")).unwrap();
        let root = inside.display().to_string();
        let settings = given(&[
            ("config.providers", "file,dir,env".to_owned()),
            ("config.providers.file.class", class("FileConfigProvider")),
            ("config.providers.file.param.allowed.paths", root.clone()),
            (
                "config.providers.dir.class",
                class("DirectoryConfigProvider"),
            ),
            ("config.providers.env.class", class("EnvVarConfigProvider")),
            (
                "config.providers.env.param.allowlist.pattern",
                "APP_.*".to_owned(),
            ),
        ]);
        let environment = [("APP_X", "x"), ("OTHER", "y")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut errors = Vec::new();
        let providers = Providers::declared(&settings, &environment, &mut errors);
        assert!(errors.is_empty(), "{errors:?}");

        let expand = |text: &str| {
            let expanded = providers.expand(text);
            expanded.map(|text| text.map(|text| text.to_string()))
        };
        for (text, expected) in [
            ("plain ${} ${x} $1".to_owned(), None),
            (
                format!("<${{file:{root}/s.properties:pass}}>"),
                Some("<a=b>"),
            ),
            (
                format!("${{dir:{root}:token}}${{env:APP_X}}"),
                Some("t0kenx"),
            ),
        ] {
            assert_eq!(expand(&text), Ok(expected.map(str::to_owned)), "{text}");
        }
        for (text, part) in [
            (
                format!("${{file:{root}/s.properties:none}}"),
                "has no key none",
            ),
            (format!("${{file:{root}/none:pass}}"), "No such file"),
            (format!("${{file:{root}/link:secret}}"), "outside"),
            (format!("${{file:{root}/../out:secret}}"), "outside"),
            (format!("${{dir:{root}:../out}}"), "name of a file"),
            ("${env:OTHER}".to_owned(), "may not read"),
            ("${env:APP_NONE}".to_owned(), "is not set"),
            ("${vault:a:b}".to_owned(), "does not declare"),
            ("${file:x}".to_owned(), "expected ${file:/path:key}"),
        ] {
            let error = expand(&text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn declarations_are_checked() {
        for (settings, part) in [
            (
                given(&[("config.providers", "a".to_owned())]),
                "a.class is not set",
            ),
            (
                given(&[
                    ("config.providers", "a".to_owned()),
                    ("config.providers.a.class", "com.example.Vault".to_owned()),
                ]),
                "classes cannot be loaded",
            ),
            (
                given(&[("config.providers.b.class", class("FileConfigProvider"))]),
                "named in config.providers",
            ),
            (
                given(&[
                    ("config.providers", "a".to_owned()),
                    ("config.providers.a.class", class("EnvVarConfigProvider")),
                    ("config.providers.a.param.allowlist.pattern", "(".to_owned()),
                ]),
                "not a regular expression",
            ),
        ] {
            let mut errors = Vec::new();
            Providers::declared(&settings, &[], &mut errors);
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert!(texts.iter().any(|text| text.contains(part)), "{texts:?}");
        }
    }
}
