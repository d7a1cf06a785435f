//! Files and directories that only their owner may read.

use std::{
    fs::{self, DirBuilder, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use tempfile::NamedTempFile;
use zeroize::Zeroizing;

/// Writes a file with mode 0600, whole or not at all, replacing one that is there.
///
/// # Errors
/// Whatever the file system says; then the old file is untouched.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = beside(path, bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(dir_of(path))?.sync_all()
}

/// As [`write()`], for what can be made again: a file that says the same already is left alone, and
/// nothing waits for the disk. After a power cut the file may be empty or old.
///
/// # Errors
/// Whatever the file system says; then the old file is untouched.
pub(crate) fn refresh(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let is_private = |meta: fs::Metadata| meta.permissions().mode() & 0o777 == 0o600;
    let is_same = || {
        fs::read(path)
            .map(Zeroizing::new)
            .is_ok_and(|old| *old == bytes)
    };
    if fs::symlink_metadata(path).is_ok_and(is_private) && is_same() {
        return Ok(());
    }
    let file = beside(path, bytes)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn dir_of(path: &Path) -> &Path {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    dir.unwrap_or(Path::new("."))
}

/// The bytes under another name in the same directory, to be renamed.
fn beside(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(dir_of(path))?;
    file.write_all(bytes)?;
    Ok(file)
}

/// Makes a directory and those above it, each new one with mode 0700.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_that_says_the_same_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let inode = || fs::metadata(&path).unwrap().ino();
        refresh(&path, b"one").unwrap();
        let first = inode();
        refresh(&path, b"one").unwrap();
        assert_eq!(inode(), first);
        refresh(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        let second = inode();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        refresh(&path, b"two").unwrap();
        assert_ne!(inode(), second);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
