//! Logs that found no room, and what goes on while they are tried again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use palisade_storage::fs::{Entry, FaultyFs, Fs, FsFile, OpenHow, Space};
use parking_lot::Mutex;

use super::*;
use crate::config::FlushPolicyName;
use crate::partition::testing::{TestNode, open_on};

const LOGS: usize = 3;

/// What happens, in its order.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    /// The directory of a log is about to be made.
    Opening,
    /// The metadata has changed.
    Changed,
}

/// A file system on which the directory of a log is made when the test allows it.
#[derive(Debug)]
struct Held {
    fs: FaultyFs,
    events: Mutex<Sender<Event>>,
    /// One permit a log; where nobody gives any more, none is needed.
    permits: Mutex<Receiver<()>>,
}

impl Fs for Held {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.starts_with("/logs/") && path != Path::new("/logs/") {
            let _ = self.events.lock().send(Event::Opening);
            let _ = self.permits.lock().recv();
        }
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

struct Ear(Mutex<Sender<Event>>);

impl ImageListener for Ear {
    fn changed(&self, _delta: &ClusterDelta, _image: &Arc<ClusterImage>) {
        let _ = self.0.lock().send(Event::Changed);
    }
}

/// Logs that found no room, though there is some now, on a file system that is held.
struct Waiting {
    node: TestNode,
    fs: FaultyFs,
    events: Sender<Event>,
    seen: Receiver<Event>,
    permit: Sender<()>,
}

impl Waiting {
    fn new() -> Waiting {
        let fs = FaultyFs::new();
        let (events, seen) = channel();
        let (permit, permits) = channel();
        let held = Held {
            fs: fs.clone(),
            events: Mutex::new(events.clone()),
            permits: Mutex::new(permits),
        };
        let mut node = TestNode::new();
        node.replicas = open_on(Path::new("/logs"), Arc::new(held), FlushPolicyName::Os);
        fs.set_capacity(fs.used());
        (0..LOGS).for_each(|_| permit.send(()).expect("a permit"));
        node = node.topic("t", LOGS as i32, &[]);
        assert_eq!(node.replicas.waiting().len(), LOGS);
        assert_eq!(seen.try_iter().count(), LOGS, "each was tried");
        fs.set_capacity(1 << 40);
        Waiting {
            node,
            fs,
            events,
            seen,
            permit,
        }
    }
}

/// The calling thread, as `/proc` names it.
fn own_thread() -> PathBuf {
    // `<process>/task/<thread>`.
    let link = std::fs::read_link("/proc/thread-self").expect("a link");
    Path::new("/proc").join(link)
}

#[test]
fn logs_that_found_no_room_come_back_one_by_one_and_changes_go_in_between() {
    let Waiting {
        node,
        events,
        seen,
        permit,
        ..
    } = Waiting::new();
    let (replicas, image) = (Arc::clone(&node.replicas), Arc::clone(&node.image));
    let metadata = MetadataHandle::new(Arc::clone(&image));
    metadata.listen(Arc::new(Ear(Mutex::new(events))));
    assert_eq!(seen.recv(), Ok(Event::Changed), "the first it is told");
    let (name, told) = channel();
    std::thread::scope(|scope| {
        let reopening = scope.spawn(|| {
            let opened = Mutex::new(0);
            reopen_each(&metadata, &replicas, |_| *opened.lock() += 1);
            opened.into_inner()
        });
        assert_eq!(seen.recv(), Ok(Event::Opening));
        let changing = scope.spawn(|| {
            name.send(own_thread()).expect("a listener");
            metadata.publish(&ClusterDelta::default(), &image);
        });
        let changing_thread = told.recv().expect("a name");
        while !is_asleep(&changing_thread) {
            std::thread::yield_now();
        }
        permit.send(()).expect("a permit");
        assert_eq!(seen.recv(), Ok(Event::Changed), "before the next log");
        for open in 1..LOGS {
            assert_eq!(seen.recv(), Ok(Event::Opening));
            // Those before it are there, while this one is not.
            assert_eq!(replicas.replicas().len(), open);
            assert_eq!(replicas.waiting().len(), LOGS - open);
            permit.send(()).expect("a permit");
        }
        // In a failed test nobody waits for permits that do not come.
        drop(permit);
        assert_eq!(reopening.join().expect("no panic"), LOGS);
        changing.join().expect("no panic");
    });
    assert_eq!(replicas.waiting(), []);
    assert_eq!(replicas.replicas().len(), LOGS);
}

#[test]
fn a_stop_waits_for_the_log_that_is_being_opened_and_none_is_opened_after_it() {
    let Waiting {
        node,
        fs,
        seen,
        permit,
        ..
    } = Waiting::new();
    let replicas = Arc::clone(&node.replicas);
    let metadata = MetadataHandle::new(Arc::clone(&node.image));
    let (name, told) = channel();
    std::thread::scope(|scope| {
        let reopening = scope.spawn(|| reopen_each(&metadata, &replicas, |_| ()));
        assert_eq!(seen.recv(), Ok(Event::Opening));
        let closing = scope.spawn(|| {
            name.send(own_thread()).expect("a listener");
            replicas.close(1)
        });
        let closing_thread = told.recv().expect("a name");
        while !is_asleep(&closing_thread) {
            std::thread::yield_now();
        }
        let marker = fs.content(Path::new("/logs/clean-shutdown"));
        // As many as there may be, so that nobody waits in a failed test.
        (0..LOGS).for_each(|_| permit.send(()).expect("a permit"));
        assert_eq!(marker, None, "closed beside the opening of a log");
        closing.join().expect("no panic").expect("a clean stop");
        let written = fs.operations();
        reopening.join().expect("no panic");
        assert_eq!(fs.operations(), written, "written to after the stop");
    });
    assert!(
        replicas.waiting().len() < LOGS,
        "the one in work was opened"
    );
}

/// Whether a thread waits for something, or has ended.
fn is_asleep(thread: &Path) -> bool {
    let Ok(stat) = std::fs::read_to_string(thread.join("stat")) else {
        return true;
    };
    // Behind the name, which is in parentheses and may hold anything.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('S'))
}
