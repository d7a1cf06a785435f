//! Modes of the configuration file and of the data directory (security.md §7.1).
//!
//! Those of key files are checked by whoever reads the keys.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{ConfigError, Origin, Warning, listeners::relation, values::Values};

/// Permission bits of a mode.
const PERMISSIONS: u32 = 0o777;

/// Checks the data directory, if it is there already; else it will be made with mode 0700.
pub(crate) fn check_data_dir(
    key: &str,
    dir: &Path,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<Warning>,
) {
    let Ok(metadata) = fs::metadata(dir) else {
        return;
    };
    let mode = metadata.mode() & PERMISSIONS;
    let shown = dir.display();
    if !metadata.is_dir() {
        relation(errors, key, format!("{shown} is not a directory"));
    } else if mode & 0o002 != 0 {
        relation(
            errors,
            key,
            format!("{shown} can be written by everybody (mode {mode:04o}); chmod 700 {shown}"),
        );
    } else if mode & 0o077 != 0 {
        warnings.push(Warning::Note(format!(
            "{shown} is open to others (mode {mode:04o}); chmod 700 {shown}"
        )));
    }
}

/// Checks the properties file itself, if secrets stand in it: at most 0640.
///
/// Key material and login passwords in a file that others can read are refused, the rest warned of.
pub(crate) fn check_config_file(
    path: Option<&PathBuf>,
    values: &Values,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<Warning>,
) {
    let Some((path, Ok(metadata))) = path.map(|path| (path, fs::metadata(path))) else {
        return;
    };
    let mode = metadata.mode() & PERMISSIONS;
    if mode & 0o037 == 0 {
        return;
    }
    let inline = values.iter().find(|setting| {
        let is_inline = setting.key.is_secret()
            && matches!(setting.origin, Origin::File { .. })
            && setting.text == setting.written;
        is_inline && matches!(setting.key.name, "ssl.keystore.key" | "sasl.jaas.config")
    });
    if let Some(setting) = inline {
        errors.push(ConfigError::Exposed {
            key: format!("configuration file with {}", setting.name),
            path: path.clone(),
            mode,
            fix: "600",
        });
    } else if values
        .iter()
        .any(|setting| setting.key.is_secret() && matches!(setting.origin, Origin::File { .. }))
    {
        warnings.push(Warning::Note(format!(
            "{} holds secrets and can be read by others (mode {mode:04o}); chmod 600 {}",
            path.display(),
            path.display()
        )));
    }
}
