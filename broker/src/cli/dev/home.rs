//! The directory of one development broker: somebody's own, or a temporary one that goes with it.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use palisade_storage::{META_FILE, failpoint};
use rustix::process::geteuid;

use super::{
    leftovers,
    material::Write,
    state::{self, Claim},
};
use crate::{
    cli::{node::NodeError, private_file},
    config::OtherWriter,
    startup::{Running, StopError},
};

/// Name of the directory of the logs.
pub(super) const LOGS: &str = "data";

/// How long whoever ends at once waits for a removal: nobody notices it, and most are done by then.
const MOMENT: Duration = Duration::from_millis(300);

/// The directory of one broker; a temporary one goes with this value.
pub(super) struct Home {
    pub(super) path: PathBuf,
    temporary: Option<Temporary>,
    /// Held while the directory is in use.
    _claim: File,
}

/// A directory that goes with this value.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After `close` it is gone already. Where it cannot go, the next start tries again.
        let _ = leftovers::remove_all(&self.0);
    }
}

impl Home {
    pub(super) fn open(data_dir: Option<&Path>) -> Result<Self, NodeError> {
        let Some(dir) = data_dir else {
            return Self::temporary();
        };
        let refused = || NodeError::system(dir.display().to_string());
        alone_in(dir)?;
        refuse_others_logs(dir)?;
        // Before anything is made there: it may be about to go.
        leftovers::keep_around(dir).map_err(refused())?;
        let make = || {
            private_file::make_dir(&dev_dir(dir))?;
            dir.canonicalize()
        };
        let path = make().map_err(refused())?;
        // Where everybody may make directories, somebody may have been first.
        alone_in(&dev_dir(&path))?;
        let claim = state::claim(&dev_dir(&path)).map_err(refused())?;
        match (path, claim) {
            (path, Claim::Ours(claim)) => Ok(Self {
                path,
                temporary: None,
                _claim: claim,
            }),
            (dir, Claim::Theirs(pid)) => Err(NodeError::InUse { dir, pid }),
        }
    }

    fn temporary() -> Result<Self, NodeError> {
        let mut builder = tempfile::Builder::new();
        let made = builder
            .prefix(leftovers::PREFIX)
            .tempdir_in(leftovers::parent());
        let path = made.map_err(NodeError::system("data directory"))?.keep();
        let temporary = Temporary(path.clone());
        private_file::make_dir(&dev_dir(&path)).map_err(NodeError::system("key directory"))?;
        let mark = leftovers::mark(&path).map_err(NodeError::system("mark"))?;
        Ok(Self {
            path,
            temporary: Some(temporary),
            _claim: mark,
        })
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Where keys, password and clients' settings lie.
    pub(super) fn dev_dir(&self) -> PathBuf {
        dev_dir(&self.path)
    }

    /// How the files of this directory are written: one that goes anyway waits for no disk.
    pub(super) fn write(&self) -> Write {
        match self.temporary {
            Some(_) => private_file::refresh,
            None => private_file::write,
        }
    }

    /// Stops the broker of this directory; what goes anyway waits for no disk here either.
    pub(super) async fn stop(&self, running: Running) -> Result<(), StopError> {
        match self.temporary {
            Some(_) => running.discard().await,
            None => running.shutdown().await,
        }
    }

    /// Says in words what becomes of the directory when the broker has ended without stopping, and
    /// removes a temporary one as far as a broker that still writes there, and a moment, let it.
    pub(super) fn left_at_once(&self) -> String {
        if self.is_temporary() {
            let (removed, is_removed) = mpsc::sync_channel(1);
            let path = self.path.clone();
            thread::spawn(move || removed.send(remove(&path).is_ok()));
            if is_removed.recv_timeout(MOMENT) == Ok(true) {
                return format!("removed {}", self.path.display());
            }
        }
        self.left_for_the_next()
    }

    /// Says what the next start makes of the directory.
    pub(super) fn left_for_the_next(&self) -> String {
        let path = self.path.display();
        match self.temporary {
            None => format!("everything stays in {path}, and the next start recovers it"),
            Some(_) => format!("the next palisade dev removes {path}"),
        }
    }

    /// Ends with the broker, and says in words what becomes of the directory.
    pub(super) fn close(self) -> Result<String, NodeError> {
        let path = self.path.display();
        if !self.is_temporary() {
            return Ok(format!("everything stays in {path}"));
        }
        remove(&self.path).map_err(NodeError::system("removing the temporary directory"))?;
        Ok(format!("removed {path}"))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    failpoint::hit("home.before_remove")?;
    leftovers::remove_all(path)
}

/// Refuses a directory in which strangers may replace what lies there; one to be made is fine.
///
/// A group that may write is taken for the user's own, as umask 002 has it, and root for the keeper
/// of a volume that was mounted with another owner.
fn alone_in(dir: &Path) -> Result<(), NodeError> {
    match OtherWriter::of(dir) {
        Ok(Some(OtherWriter::Owner(_))) if geteuid().is_root() => Ok(()),
        Ok(Some(who @ (OtherWriter::Owner(_) | OtherWriter::Everybody(_)))) => {
            Err(NodeError::Shared {
                dir: dir.to_owned(),
                who,
            })
        }
        // What else is wrong with it shows where it is used.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Refuses the log directory of another node, Kafka's included: its users and topics would not be
/// there, and clients would find a second cluster. A directory with `dev` in it is one of ours.
fn refuse_others_logs(dir: &Path) -> Result<(), NodeError> {
    if dev_dir(dir).is_dir() {
        return Ok(());
    }
    // What would be its logs, too: it would take them for its own, and give their admin another
    // password.
    let logs = [dir.to_owned(), dir.join(LOGS)];
    let Some(others) = logs.iter().find(|logs| logs.join(META_FILE).exists()) else {
        return Ok(());
    };
    let others = others.canonicalize().unwrap_or_else(|_| others.to_owned());
    let shown = others.display();
    let home = others
        .parent()
        .filter(|home| others.ends_with(LOGS) && dev_dir(home).is_dir());
    Err(NodeError::Usage(match home {
        Some(home) => format!(
            "{shown} holds the logs of a palisade dev; give --data-dir {}, which has its keys too",
            home.display()
        ),
        None => format!(
            "{shown} holds the logs of a node that has a configuration; start it by `palisade start \
             --config FILE`, or give --data-dir another directory"
        ),
    }))
}

fn dev_dir(home: &Path) -> PathBuf {
    home.join("dev")
}

#[cfg(test)]
mod tests {
    use std::{fs, mem::MaybeUninit};

    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

    use super::*;

    #[test]
    fn a_temporary_home_goes_and_another_stays() {
        let home = Home::open(None).unwrap();
        let path = home.path.clone();
        assert!(path.is_dir());
        let said = home.close().unwrap();
        assert_eq!(said, format!("removed {}", path.display()));
        assert!(!path.exists());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let said = Home::open(Some(&path)).unwrap().close().unwrap();
        assert!(said.starts_with("everything stays in "), "{said}");
        assert!(path.is_dir());
    }

    /// Killed at any moment of its first start, and started by `palisade start` since.
    #[test]
    fn what_a_dev_has_begun_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["dev", "data"] {
            drop(Home::open(Some(dir.path())).unwrap());
            private_file::make_dir(&dir.path().join(name)).unwrap();
        }
        // Here the keys are, whatever lies beside them.
        for part in ["data", "."] {
            fs::write(dir.path().join(part).join(META_FILE), "").unwrap();
            drop(Home::open(Some(dir.path())).unwrap());
        }
    }

    /// Made by `palisade start`, whose configuration calls its logs as a dev calls its own.
    #[test]
    fn the_home_of_a_log_directory_is_none() {
        let dir = tempfile::tempdir().unwrap();
        private_file::make_dir(&dir.path().join(LOGS)).unwrap();
        fs::write(dir.path().join(LOGS).join(META_FILE), "").unwrap();
        let Err(NodeError::Usage(said)) = Home::open(Some(dir.path())) else {
            panic!("opened");
        };
        assert!(said.contains("data holds the logs of a node"), "{said}");
        assert!(!dev_dir(dir.path()).exists(), "nothing was made");
    }

    #[test]
    fn whoever_opens_a_part_of_a_temporary_home_keeps_the_whole() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join("palisade-dev-left");
        private_file::make_dir(&left.join("data")).unwrap();
        drop(leftovers::mark(&left).unwrap());
        let _rescued = Home::open(Some(&left.join("data"))).unwrap();
        assert!(leftovers::remove_in(parent.path()).is_empty());
        assert!(left.join("data/dev").is_dir());
    }

    #[test]
    fn nothing_is_made_in_a_home_that_is_being_removed() {
        let parent = tempfile::tempdir().unwrap();
        let going = parent.path().join("palisade-dev-going");
        private_file::make_dir(&going).unwrap();
        let _held_by_the_remover = leftovers::mark(&going).unwrap();
        assert!(Home::open(Some(&going.join("data"))).is_err());
        leftovers::remove_all(&going).unwrap();
        assert!(!going.exists());
    }

    #[test]
    fn a_temporary_home_goes_when_its_start_fails() {
        let home = Home::open(None).unwrap();
        let path = home.path.clone();
        drop(home);
        assert!(!path.exists());
    }

    /// What a death in the middle of it would leave must still be known by its mark.
    #[test]
    fn of_a_temporary_home_the_mark_goes_last() {
        let home = Home::open(None).unwrap();
        // So many that none of them is the last one by chance.
        for number in 0..20 {
            fs::create_dir(home.path.join(number.to_string())).unwrap();
            fs::write(home.path.join(format!("file-{number}")), "").unwrap();
        }
        let entries = fs::read_dir(&home.path).unwrap().count();
        let watch = inotify::init(CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&watch, &home.path, WatchFlags::DELETE).unwrap();
        home.close().unwrap();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(watch, &mut buffer);
        let mut gone = Vec::new();
        loop {
            let event = reader.next().unwrap();
            if event.events().contains(ReadFlags::IGNORED) {
                break;
            }
            let name = event.file_name().unwrap();
            gone.push(name.to_str().unwrap().to_owned());
        }
        assert_eq!(gone.len(), entries, "{gone:?}");
        assert_eq!(gone.last().map(String::as_str), Some(".temporary"));
    }
}
