//! Modes of the configuration file and of the data directory (security.md §7.1).
//!
//! Those of key files are checked by whoever reads the keys.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{self, Path, PathBuf},
};

use rustix::process::geteuid;

use super::{ConfigError, Origin, Warning, listeners::relation, values::Values};

/// Permission bits of a mode.
const PERMISSIONS: u32 = 0o777;

/// In such a directory only owners remove or rename what lies there.
const STICKY: u32 = 0o1000;

/// Who, beside root and this process, may put something else in the place of what lies in a
/// directory, whatever the modes of the files in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OtherWriter {
    /// The user it belongs to.
    Owner(u32),
    /// Every user, by this mode.
    Everybody(u32),
    /// Its group, by this mode.
    Group(u32),
}

impl OtherWriter {
    /// Looks at a directory; links are followed, and their owner counts too.
    ///
    /// # Errors
    /// Whatever the file system says, `NotFound` among it.
    pub(crate) fn of(dir: &Path) -> io::Result<Option<Self>> {
        let own = geteuid().as_raw();
        let entry = fs::symlink_metadata(dir)?;
        let metadata = fs::metadata(dir)?;
        // A link has no mode of its own.
        let by_link = Self::among(0, entry.uid(), own);
        Ok(by_link.or_else(|| Self::among(metadata.mode(), metadata.uid(), own)))
    }

    /// The nearest directory above in which every user may put another in the place of this one.
    pub(crate) fn above(dir: &Path) -> Option<(PathBuf, Self)> {
        let absolute = dir.canonicalize().or_else(|_| path::absolute(dir)).ok()?;
        let mut above = absolute.ancestors().skip(1);
        above.find_map(|dir| match Self::of(dir) {
            Ok(Some(who @ Self::Everybody(_))) => Some((dir.to_owned(), who)),
            _ => None,
        })
    }

    /// Of mode and owner; `own` is the user of this process.
    fn among(mode: u32, owner: u32, own: u32) -> Option<Self> {
        let shown = mode & PERMISSIONS;
        match mode {
            _ if owner != own && owner != 0 => Some(Self::Owner(owner)),
            _ if mode & STICKY != 0 => None,
            _ if mode & 0o002 != 0 => Some(Self::Everybody(shown)),
            _ if mode & 0o020 != 0 => Some(Self::Group(shown)),
            _ => None,
        }
    }

    /// What helps, for this directory.
    pub(crate) fn remedy(self, dir: &Path) -> String {
        match self {
            Self::Owner(_) => "take a directory of your own".to_owned(),
            Self::Everybody(_) | Self::Group(_) => format!("chmod go-w {}", dir.display()),
        }
    }
}

impl fmt::Display for OtherWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(uid) => write!(f, "belongs to another user, number {uid}"),
            Self::Everybody(mode) => write!(f, "can be written by everybody (mode {mode:04o})"),
            Self::Group(mode) => write!(f, "can be written by its group (mode {mode:04o})"),
        }
    }
}

/// Checks the data directory and those above it; one that is not there yet will be made with mode
/// 0700.
pub(crate) fn check_data_dir(
    key: &str,
    dir: &Path,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<Warning>,
) {
    if let Some((above, who)) = OtherWriter::above(dir) {
        warnings.push(Warning::Note(format!(
            "{} {who}, who can put another directory in the place of {}; {}",
            above.display(),
            dir.display(),
            who.remedy(&above)
        )));
    }
    if let Ok(Some(who @ OtherWriter::Owner(_))) = OtherWriter::of(dir) {
        warnings.push(Warning::Note(format!(
            "{} {who}, who can replace everything in it, passwords and logs included; {}",
            dir.display(),
            who.remedy(dir)
        )));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_replace_what_lies_in_a_directory() {
        use OtherWriter::{Everybody, Group, Owner};
        for (mode, owner, expected) in [
            (0o40700, 7, None),
            (0o40755, 7, None),
            (0o40755, 0, None),
            (0o41777, 0, None),
            (0o41777, 7, None),
            (0o40777, 7, Some(Everybody(0o777))),
            (0o40702, 0, Some(Everybody(0o702))),
            (0o42775, 7, Some(Group(0o775))),
            (0o41770, 7, None),
            (0o40700, 8, Some(Owner(8))),
            (0o41777, 8, Some(Owner(8))),
        ] {
            let found = OtherWriter::among(mode, owner, 7);
            assert_eq!(found, expected, "{mode:o} of {owner}");
        }
    }
}
