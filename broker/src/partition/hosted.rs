//! Which partitions live on this node.

use std::sync::Arc;

use imbl::OrdMap;
use palisade_protocol::types::{PartitionIndex, TopicId};
use palisade_storage::StorageError;
use rustix::io::Errno;

use super::error::PartitionError;
use super::replica::Replica;

/// What the system says when it is short of something that others may give back.
const SHORTAGES: [Errno; 5] = [
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOMEM,
];

/// One partition's place on this node.
#[derive(Debug, Clone)]
pub(crate) enum Slot {
    /// The assignment does not name this node.
    Absent,
    /// The log could not be opened; the reason has been logged.
    Failed(Failure),
    /// Open.
    Open(Arc<Replica>),
}

/// Whether a log that could not be opened may be tried again without anybody's help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The system had no room, memory or file descriptor at that moment.
    Passing,
    /// What lies there is not what it should be, or may not be opened: an operator decides.
    Lasting,
}

impl Failure {
    /// Which of the two an error means.
    pub(crate) fn of(error: &PartitionError) -> Failure {
        match error {
            PartitionError::Storage(StorageError::DiskFull { .. }) => Failure::Passing,
            PartitionError::Storage(StorageError::Io {
                os_code: Some(code),
                ..
            }) if SHORTAGES.contains(&Errno::from_raw_os_error(*code)) => Failure::Passing,
            _ => Failure::Lasting,
        }
    }
}

/// A topic with the partitions that live here, by index.
#[derive(Debug, Clone)]
pub(crate) struct HostedTopic {
    /// Its id; a topic created again under the same name has another.
    pub(crate) id: TopicId,
    /// One entry per partition of the topic.
    pub(crate) slots: Vec<Slot>,
}

impl HostedTopic {
    /// The indexes of those whose log is closed only because the system was short of something.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = i32> {
        let slots = (0_i32..).zip(&self.slots);
        slots.filter_map(|(index, slot)| {
            matches!(slot, Slot::Failed(Failure::Passing)).then_some(index)
        })
    }
}

/// All topics with a partition here, by name; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosted {
    topics: OrdMap<Arc<str>, Arc<HostedTopic>>,
}

impl Hosted {
    /// A topic by name.
    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<HostedTopic>> {
        self.topics.get(name)
    }

    /// An open replica.
    ///
    /// # Errors
    /// `NotHosted` where there is none, `Offline` where its log could not be opened.
    pub(crate) fn replica(
        &self,
        name: &str,
        index: PartitionIndex,
    ) -> Result<&Arc<Replica>, PartitionError> {
        let slot = usize::try_from(index.value())
            .ok()
            .and_then(|index| self.topics.get(name)?.slots.get(index));
        match slot {
            None | Some(Slot::Absent) => Err(PartitionError::NotHosted),
            Some(Slot::Failed(_)) => Err(PartitionError::Offline),
            Some(Slot::Open(replica)) => Ok(replica),
        }
    }

    /// Puts a topic in, or replaces it.
    pub(crate) fn insert(&mut self, name: Arc<str>, topic: HostedTopic) {
        self.topics.insert(name, Arc::new(topic));
    }

    /// Takes a topic out.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Arc<HostedTopic>> {
        self.topics.remove(name)
    }

    /// Every topic with its name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<HostedTopic>)> {
        self.topics.iter()
    }

    /// Every open replica.
    pub(crate) fn replicas(&self) -> impl Iterator<Item = &Arc<Replica>> {
        self.topics
            .values()
            .flat_map(|topic| topic.slots.iter())
            .filter_map(|slot| match slot {
                Slot::Open(replica) => Some(replica),
                Slot::Absent | Slot::Failed(_) => None,
            })
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;

    #[test]
    fn only_a_shortage_passes() {
        let refused = |code: Errno| {
            Failure::of(&PartitionError::Storage(StorageError::Io {
                operation: "open",
                path: Arc::from(Path::new("t-0")),
                kind: io::Error::from(code).kind(),
                os_code: Some(code.raw_os_error()),
            }))
        };
        for code in SHORTAGES {
            assert_eq!(refused(code), Failure::Passing, "{code:?}");
        }
        for code in [Errno::ACCESS, Errno::PERM, Errno::IO, Errno::ROFS] {
            assert_eq!(refused(code), Failure::Lasting, "{code:?}");
        }
        let full = PartitionError::Storage(StorageError::DiskFull {
            path: Arc::from(Path::new("t-0")),
        });
        assert_eq!(Failure::of(&full), Failure::Passing);
        let without_number = PartitionError::Storage(StorageError::Io {
            operation: "open",
            path: Arc::from(Path::new("t-0")),
            kind: io::ErrorKind::UnexpectedEof,
            os_code: None,
        });
        assert_eq!(Failure::of(&without_number), Failure::Lasting);
    }
}
