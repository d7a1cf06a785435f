//! What fails in the same way for many logs of one change is told in one line.

use std::collections::BTreeMap;
use std::sync::Arc;

use palisade_protocol::types::PartitionIndex;
use palisade_storage::StorageError;
use tracing::{error, warn};

use super::error::PartitionError;
use super::hosted::Failure;
use super::replica::Replica;

/// The failures of one change, by the system's error number.
#[derive(Debug, Default)]
pub(super) struct Failures {
    not_opened: BTreeMap<Option<i32>, Kind>,
    not_deleted: BTreeMap<Option<i32>, Kind>,
}

/// The first failure of a kind, and how many there are.
#[derive(Debug)]
struct Kind {
    topic: Arc<str>,
    partition: PartitionIndex,
    error: String,
    logs: usize,
}

impl Failures {
    /// A log was not opened. What somebody must put right is told at once, each with its name.
    pub(super) fn not_opened(
        &mut self,
        topic: &Arc<str>,
        partition: PartitionIndex,
        error: &PartitionError,
    ) {
        match (Failure::of(error), error) {
            (Failure::Passing, PartitionError::Storage(storage)) => {
                count(&mut self.not_opened, topic, partition, storage);
            }
            _ => error!(%topic, %partition, %error, "log not opened"),
        }
    }

    /// A log was not deleted.
    pub(super) fn not_deleted(&mut self, replica: &Replica, error: &StorageError) {
        count(&mut self.not_deleted, &replica.topic, replica.index, error);
    }

    /// Tells of them.
    pub(super) fn tell(self) {
        for kind in self.not_opened.into_values() {
            let Kind {
                topic,
                partition,
                error,
                logs,
            } = kind;
            error!(%topic, %partition, %error, logs, "log not opened");
        }
        for kind in self.not_deleted.into_values() {
            let Kind {
                topic,
                partition,
                error,
                logs,
            } = kind;
            warn!(%topic, %partition, %error, logs, "log not deleted");
        }
    }
}

fn count(
    kinds: &mut BTreeMap<Option<i32>, Kind>,
    topic: &Arc<str>,
    partition: PartitionIndex,
    error: &StorageError,
) {
    let number = match error {
        StorageError::Io { os_code, .. } => *os_code,
        _ => None,
    };
    let first = || Kind {
        topic: Arc::clone(topic),
        partition,
        error: error.to_string(),
        logs: 0,
    };
    kinds.entry(number).or_insert_with(first).logs += 1;
}
