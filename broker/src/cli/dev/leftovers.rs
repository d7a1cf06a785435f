//! Temporary directories of brokers that were killed, and their removal by the next one.
//!
//! A temporary directory carries a mark: a file that its broker keeps locked as long as it lives.
//! It appears under its name only when it is locked already. Removed is what nobody but a dead
//! broker of this user can have left: a directory, no link, named as ours are, with mode 0700 and
//! this user as its owner, whose mark is a regular file with our text in it that is not locked. The
//! text names the directory, so that of a copy or of one that was moved says nothing. What else
//! lies there is what a broker makes, and no other process has its data locked. Others cannot put
//! another directory in its place meanwhile: where they could, nothing is removed.
//!
//! Whoever names such a directory with `--data-dir`, one in it, or in it a directory for logs,
//! makes it his own: the mark goes, under its lock.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Write},
    path::{self, Path, PathBuf},
};

use palisade_storage::failpoint;
use rustix::{
    fs::{FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, open, openat},
    io::Errno,
    process::geteuid,
};

use crate::config::OtherWriter;

/// What the names of temporary directories begin with.
pub(super) const PREFIX: &str = "palisade-dev-";

/// Name of the mark.
const MARK: &str = ".temporary";

/// What a broker makes in its directory, and nobody else.
const CONTENT: [&str; 3] = [MARK, "data", "dev"];

/// The locks that a broker of a directory of its own, or `palisade start`, holds in it.
const LOCKS: [&str; 2] = ["data/.lock", "dev/lock"];

/// What the mark of a directory says.
fn text(name: &OsStr, dir: &Stat) -> Vec<u8> {
    let text = format!(
        "palisade dev removes {} (inode {} of device {}) when its broker is gone\n",
        name.display(),
        dir.st_ino,
        dir.st_dev
    );
    text.into_bytes()
}

/// Marks a directory as temporary; it is in use as long as the file is open.
///
/// # Errors
/// Whatever the file system says.
pub(super) fn mark(dir: &Path) -> io::Result<File> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let name = dir.file_name().unwrap_or_default();
    file.write_all(&text(name, &rustix::fs::stat(dir)?))?;
    file.persist(dir.join(MARK)).map_err(|error| error.error)
}

/// Takes the mark off a directory that somebody keeps from now on.
///
/// # Errors
/// A temporary broker uses it, or one that was killed is being removed; whatever the file system
/// says.
fn keep(dir: &Path) -> io::Result<()> {
    let path = dir.join(MARK);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mark = match open(&path, flags, Mode::empty()) {
        Ok(mark) => mark,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match flock(&mark, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            let text = format!(
                "{} belongs to a palisade dev that runs, or is being removed",
                dir.display()
            );
            Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
        }
        Err(error) => Err(error.into()),
        Ok(()) => fs::remove_file(path),
    }
}

/// Takes the mark off the temporary directories that one lies in, or that it is; links are
/// followed.
///
/// # Errors
/// Like [`mark`], and where one of them is in use.
pub(in crate::cli) fn keep_around(dir: &Path) -> io::Result<()> {
    let is_temporary = |dir: &&Path| {
        let name = dir.file_name().and_then(OsStr::to_str);
        name.is_some_and(|name| name.starts_with(PREFIX))
    };
    let dir = resolved(dir)?;
    dir.ancestors().filter(is_temporary).try_for_each(keep)
}

/// The path without links, as far as it exists.
fn resolved(dir: &Path) -> io::Result<PathBuf> {
    let path = path::absolute(dir)?;
    for existing in path.ancestors() {
        match existing.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            real => {
                let rest = path.strip_prefix(existing).unwrap_or(Path::new(""));
                return Ok(real?.join(rest));
            }
        }
    }
    Ok(path)
}

/// Where temporary directories are made; an empty `TMPDIR`, which would mean the working directory,
/// is none.
pub(super) fn parent() -> PathBuf {
    let named = env::temp_dir();
    match named.as_os_str().is_empty() {
        true => PathBuf::from("/tmp"),
        false => named,
    }
}

/// Removes what killed brokers left where temporary directories are made; blocks.
pub(super) fn remove() -> Vec<PathBuf> {
    let parent = parent();
    let is_ours = matches!(OtherWriter::of(&parent), Ok(None));
    match is_ours && OtherWriter::above(&parent).is_none() {
        true => remove_in(&parent),
        false => Vec::new(),
    }
}

pub(super) fn remove_in(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let is_named = |name: &str| name.starts_with(PREFIX);
    let named = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_named));
    let mut removed = Vec::new();
    for path in named.map(|entry| entry.path()) {
        // Whatever cannot be looked at or removed is somebody else's trouble.
        if let Ok(Some(_mark)) = left_behind(&path)
            && let Ok(Some(_locks)) = unused(&path)
            && failpoint::hit("leftovers.before_remove").is_ok()
            && remove_all(&path).is_ok()
        {
            removed.push(path);
        }
    }
    removed
}

/// The locked mark of a directory whose broker is dead.
fn left_behind(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = open(path, flags | OFlags::DIRECTORY, Mode::empty())?;
    let own = geteuid().as_raw();
    let private = |stat: &Stat, mode| {
        stat.st_uid == own && Mode::from_raw_mode(stat.st_mode) == Mode::from_raw_mode(mode)
    };
    let itself = fstat(&dir)?;
    if !private(&itself, 0o700) {
        return Ok(None);
    }
    // Whatever lies there, opening it must not wait.
    let mark = openat(&dir, MARK, flags | OFlags::NONBLOCK, Mode::empty())?;
    let stat = fstat(&mark)?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !is_file || !private(&stat, 0o600) {
        return Ok(None);
    }
    let Some(mut mark) = lock_mark(File::from(mark))? else {
        return Ok(None);
    };
    let expected = text(path.file_name().unwrap_or_default(), &itself);
    let mut found = Vec::new();
    (&mut mark)
        .take(expected.len() as u64 + 1)
        .read_to_end(&mut found)?;
    Ok((found == expected).then_some(mark))
}

/// Locks a mark, unless it was taken off between the look at its name and now.
fn lock_mark(mark: File) -> io::Result<Option<File>> {
    flock(&mark, FlockOperation::NonBlockingLockExclusive)?;
    let is_there = fstat(&mark)?.st_nlink > 0;
    Ok(is_there.then_some(mark))
}

/// The locks of a directory in which nothing else lies than what a broker makes, and that no
/// process uses; they are held until the value goes.
fn unused(path: &Path) -> io::Result<Option<Vec<File>>> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if !CONTENT.iter().any(|known| name == *known) {
            return Ok(None);
        }
    }
    let mut held = Vec::new();
    for lock in LOCKS {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match open(path.join(lock), flags, Mode::empty()) {
            Ok(file) => {
                flock(&file, FlockOperation::NonBlockingLockExclusive)?;
                held.push(File::from(file));
            }
            // The broker died before it came to that.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(held))
}

/// Removes a directory, its mark last: what a death in the middle leaves is still known by it.
///
/// Whoever holds the mark keeps others out until it goes; what somebody makes then, he keeps.
///
/// # Errors
/// Whatever the file system says.
pub(super) fn remove_all(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            // It follows no links, and looks again at each step whether it met one.
            true => fs::remove_dir_all(entry.path())?,
            false if entry.file_name() == MARK => {}
            false => fs::remove_file(entry.path())?,
        }
    }
    take_off(path)?;
    fs::remove_dir(path)
}

/// Removes the mark, if there is one.
fn take_off(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(MARK)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::fs::{DirBuilderExt, PermissionsExt, symlink},
    };

    use super::*;

    /// A directory as a broker has it, and its mark.
    fn made(parent: &Path, name: &str) -> (PathBuf, File) {
        let dir = parent.join(name);
        fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        fs::create_dir_all(dir.join("data/orders-0")).unwrap();
        fs::write(dir.join("data/orders-0/0.log"), "records").unwrap();
        let mark = mark(&dir).unwrap();
        (dir, mark)
    }

    #[test]
    fn what_a_dead_broker_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let parent = parent.path();
        let elsewhere = tempfile::tempdir().unwrap();
        let kept = elsewhere.path().join("kept");
        fs::write(&kept, "mine").unwrap();
        let dead = |name: &str| made(parent, name).0;
        let gone = dead("palisade-dev-dead");
        symlink(elsewhere.path(), gone.join("data/elsewhere")).unwrap();
        symlink(&kept, gone.join("data/link")).unwrap();

        let (alive, _held) = made(parent, "palisade-dev-alive");
        let other_name = dead("somebody-palisade-dev-else");
        let unmarked = dead("palisade-dev-unmarked");
        fs::remove_file(unmarked.join(MARK)).unwrap();
        let open_to_others = dead("palisade-dev-open");
        fs::set_permissions(&open_to_others, Permissions::from_mode(0o755)).unwrap();
        let other_text = dead("palisade-dev-text");
        fs::write(other_text.join(MARK), "something else").unwrap();
        let linked_mark = dead("palisade-dev-linked-mark");
        let real = parent.join("real-mark");
        fs::rename(linked_mark.join(MARK), &real).unwrap();
        symlink(&real, linked_mark.join(MARK)).unwrap();
        let open_mark = dead("palisade-dev-open-mark");
        fs::set_permissions(open_mark.join(MARK), Permissions::from_mode(0o644)).unwrap();
        let target = dead("target");
        symlink(&target, parent.join("palisade-dev-link")).unwrap();
        let pipe = dead("palisade-dev-pipe");
        fs::remove_file(pipe.join(MARK)).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, pipe.join(MARK), FileType::Fifo, mode, 0).unwrap();
        fs::write(parent.join("palisade-dev-file"), "").unwrap();
        let copied = dead("palisade-dev-copied");
        fs::copy(gone.join(MARK), copied.join(MARK)).unwrap();
        let moved = parent.join("palisade-dev-moved");
        fs::rename(dead("palisade-dev-before"), &moved).unwrap();
        let more = dead("palisade-dev-more");
        fs::create_dir(more.join("mine")).unwrap();
        let lock = |dir: &Path, name: &str| {
            fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
            let file = File::create(dir.join(name)).unwrap();
            flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
            file
        };
        let claimed = dead("palisade-dev-claimed");
        let data_in_use = dead("palisade-dev-data-in-use");
        let _locks = [lock(&claimed, "dev/lock"), lock(&data_in_use, "data/.lock")];
        let given_up = dead("palisade-dev-given-up");
        keep(&given_up).unwrap();
        keep(&given_up).unwrap();
        let started_in = dead("palisade-dev-started-in");
        keep_around(&started_in.join("data")).unwrap();
        let linked_to = dead("palisade-dev-linked-to");
        let link = elsewhere.path().join("link");
        symlink(&linked_to, &link).unwrap();
        keep_around(&link.join("data/to-be-made")).unwrap();
        assert!(keep_around(&alive).is_err());

        assert_eq!(remove_in(parent), std::slice::from_ref(&gone));
        assert!(!gone.exists());
        assert_eq!(fs::read(&kept).unwrap(), b"mine");
        for stays in [
            &alive,
            &other_name,
            &unmarked,
            &open_to_others,
            &other_text,
            &linked_mark,
            &open_mark,
            &target,
            &pipe,
            &copied,
            &moved,
            &more,
            &claimed,
            &data_in_use,
            &given_up,
            &started_in,
            &linked_to,
        ] {
            assert!(stays.join("data/orders-0/0.log").exists(), "{stays:?}");
        }
        assert!(alive.join(MARK).exists());
        assert!(remove_in(parent).is_empty());
    }

    #[test]
    fn a_mark_that_was_taken_off_meanwhile_counts_no_more() {
        let parent = tempfile::tempdir().unwrap();
        let dir = made(parent.path(), "palisade-dev-rescued").0;
        let seen = File::open(dir.join(MARK)).unwrap();
        keep(&dir).unwrap();
        assert!(lock_mark(seen).unwrap().is_none());
    }
}
