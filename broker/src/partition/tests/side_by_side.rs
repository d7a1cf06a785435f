//! Logs that are made, and closed, two at a time: each waits for the disk until another is there.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use palisade_storage::fs::{Entry, FaultyFs, Fs, FsFile, OpenHow, Space};
use parking_lot::{Condvar, Mutex};

use crate::config::FlushPolicyName;
use crate::partition::testing::{TestNode, batch, open_on};

/// How long one waits for another: far more than a thread takes to begin.
const PATIENCE: Duration = Duration::from_secs(60);

const LOGS: [&str; 2] = ["/logs/t-0", "/logs/t-1"];

/// Where the threads at work meet.
#[derive(Debug, Default)]
struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_on: bool,
    inside: usize,
    most: usize,
}

impl Meeting {
    fn begin(&self) {
        *self.state.lock() = State {
            is_on: true,
            ..State::default()
        };
    }

    /// Ends it: how many were at work at once.
    fn end(&self) -> usize {
        std::mem::take(&mut *self.state.lock()).most
    }

    /// Stays until two have been here at once.
    fn attend(&self) {
        let mut state = self.state.lock();
        if !state.is_on {
            return;
        }
        state.inside += 1;
        state.most = state.most.max(state.inside);
        self.changed.notify_all();
        let alone = |state: &mut State| state.is_on && state.most < 2;
        let waited = self.changed.wait_while_for(&mut state, alone, PATIENCE);
        // Who waited in vain does so once.
        state.is_on &= !waited.timed_out();
        state.inside = state.inside.saturating_sub(1);
    }
}

/// A file system on which the directory of a log is made, and synced, in company.
#[derive(Debug)]
struct Sociable {
    fs: FaultyFs,
    meeting: Arc<Meeting>,
}

impl Sociable {
    fn attend(&self, path: &Path) {
        let path = path.to_str().unwrap_or_default().trim_end_matches('/');
        if LOGS.contains(&path) {
            self.meeting.attend();
        }
    }
}

impl Fs for Sociable {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.attend(path);
        self.fs.create_dir(path)
    }

    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Arc<dyn FsFile>> {
        self.fs.open(path, how)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fs.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.fs.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.fs.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.attend(path);
        self.fs.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.fs.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.fs.exists(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.fs.space(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.fs.lock(path)
    }
}

#[tokio::test]
async fn logs_are_made_and_closed_side_by_side() {
    let meeting = Arc::new(Meeting::default());
    let fs = Sociable {
        fs: FaultyFs::new(),
        meeting: Arc::clone(&meeting),
    };
    let mut node = TestNode::new();
    node.replicas = open_on(Path::new("/logs"), Arc::new(fs), FlushPolicyName::Os);
    meeting.begin();
    node = node.topic("t", 2, &[]);
    assert_eq!(meeting.end(), 2, "made at once");
    for index in 0..2 {
        node.append("t", index, batch(1)).await;
    }
    meeting.begin();
    node.replicas.close(1).unwrap();
    assert_eq!(meeting.end(), 2, "closed at once");
}
