//! The last file descriptors are not for new partitions: without any left nobody gets in.
//!
//! A partition's log holds one as long as it is there. The bound is this process's own, as each
//! partition has a replica here while the node is alone.

use std::fs;

use palisade_protocol::ErrorCode;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use tracing::warn;

use super::Context;
use super::row::RowError;
use crate::logging::Throttle;
use crate::metadata::topic_name::is_internal;

/// Most descriptors that are kept back, for connections and mapped segments. The latter take an
/// eighth of all at most: half of what is kept back where a process may have 32,768 or less.
const MOST_KEPT: usize = 8192;

/// What this process has of file descriptors.
#[derive(Debug, Clone)]
pub struct Descriptors {
    /// How many it may have, or as many mappings as that; `None` where there is no limit.
    limit: Option<usize>,
    /// How many it has; `None` where the system does not tell.
    in_use: fn() -> Option<usize>,
}

impl Descriptors {
    /// Those of this process, with the limit of this moment.
    #[must_use]
    pub fn of_process() -> Descriptors {
        let files = getrlimit(Resource::Nofile).current;
        let files = files.and_then(|limit| usize::try_from(limit).ok());
        Descriptors {
            limit: files.into_iter().chain(mappings()).min(),
            in_use,
        }
    }

    /// A number of them that stands still.
    #[cfg(test)]
    pub(in crate::metadata) fn fixed(limit: usize, in_use: fn() -> Option<usize>) -> Descriptors {
        Descriptors {
            limit: Some(limit),
            in_use,
        }
    }

    /// How many new logs may open before only those are left that are kept for connections,
    /// segments and the node's own files: a quarter of all, and at most [`MOST_KEPT`]. Below 0: how
    /// many of those are in use.
    fn for_logs(&self) -> i64 {
        match (self.limit, (self.in_use)()) {
            (Some(limit), Some(in_use)) => {
                let kept = (limit / 4).min(MOST_KEPT);
                signed(limit - kept).saturating_sub(signed(in_use))
            }
            _ => i64::MAX,
        }
    }
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Three quarters of the memory mappings that a process may have: a log that is read keeps one, and
/// some segments take the rest.
fn mappings() -> Option<usize> {
    let most = fs::read_to_string("/proc/sys/vm/max_map_count").ok()?;
    let most: usize = most.trim().parse().ok()?;
    Some(most / 4 * 3)
}

fn in_use() -> Option<usize> {
    const OWN: &str = "/proc/self/fd";
    // Since Linux 6.2 the size of the directory is their number.
    if let Ok(count @ 1..) = usize::try_from(fs::metadata(OWN).ok()?.len()) {
        return Some(count);
    }
    match fs::read_dir(OWN) {
        Ok(entries) => Some(entries.count()),
        // None is left to look with.
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::MFILE | Errno::NFILE)
            ) =>
        {
            Some(usize::MAX)
        }
        Err(_) => None,
    }
}

/// What the partitions of one request may take, all rows together; counted when the first asks.
#[derive(Debug, Default)]
pub(super) struct Room(Option<i64>);

impl Room {
    /// Takes a descriptor for each of a row's new partitions.
    ///
    /// # Errors
    /// POLICY_VIOLATION, on which no client comes again: there are not enough, and none was taken.
    /// The broker's own topics always get theirs from itself.
    pub(super) fn take(
        &mut self,
        topic: &str,
        partitions: usize,
        context: &Context<'_>,
    ) -> Result<(), RowError> {
        if context.rights.is_internal() && is_internal(topic) {
            return Ok(());
        }
        let room = self.0.get_or_insert_with(|| {
            let room = context.settings.descriptors.for_logs();
            room.saturating_sub(signed(unopened(context)))
        });
        let left = room.saturating_sub(signed(partitions));
        if left < 0 {
            static SAID: Throttle = Throttle::new();
            if SAID.may_speak() {
                warn!(
                    wanted = partitions,
                    room = *room,
                    limit = context.settings.descriptors.limit,
                    "partitions refused: the last file descriptors are kept for connections"
                );
            }
            let has = match *room {
                0.. => format!("{room} for new ones"),
                _ => format!(
                    "none for new ones, but {} too few already",
                    room.unsigned_abs()
                ),
            };
            let text = format!(
                "Too few file descriptors: {partitions} partition(s) need one each, and the broker \
                 has {has}. Delete topics, or raise its limit (ulimit -Hn; vm.max_map_count from \
                 some 40,000 on)."
            );
            return Err(RowError::new(ErrorCode::POLICY_VIOLATION, text));
        }
        *room = left;
        Ok(())
    }
}

/// Partitions that were decided before, and whose logs are not open yet.
fn unopened(context: &Context<'_>) -> usize {
    let Some(committed) = context.committed else {
        return 0;
    };
    let topics = context.image.topics.iter();
    let new = topics.map(|topic| {
        let before = committed.topics.by_id(topic.id);
        let opened = before.map_or(0, |before| before.partitions.len());
        topic.partitions.len().saturating_sub(opened)
    });
    new.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_kept_and_of_many_some_thousands() {
        let room = |limit, in_use| Descriptors::fixed(limit, in_use).for_logs();
        assert_eq!(room(1024, || Some(68)), 700);
        assert_eq!(room(1024, || Some(768)), 0);
        assert_eq!(room(1024, || Some(1024)), -256);
        assert_eq!(room(1 << 20, || Some(0)), (1 << 20) - 8192);
        assert_eq!(room(1024, || None), i64::MAX);
    }

    #[test]
    fn those_of_this_process_are_counted() {
        let descriptors = Descriptors::of_process();
        // Standard input, output and error at least.
        assert!((descriptors.in_use)().unwrap() >= 3);
        let held: Vec<_> = (0..64).map(|_| fs::File::open("/dev/null")).collect();
        assert!((descriptors.in_use)().unwrap() >= 64);
        drop(held);
    }
}
