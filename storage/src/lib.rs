//! The segment log of Palisade: append by positional write, read through a map.
//!
//! One log type holds topic partitions, coordinator topics and the raft log. The crate is plain
//! blocking code: no runtime, no sockets, no clock (`now` is an argument). Whatever may block for
//! long (sync, allocation, roll, seal, unlink) runs on one of the two threads of a [`LogDir`]; what
//! a caller does itself is one `pwrite` and some memory.
//!
//! Ranks of durability, each below or equal to the next: log start offset, durable end offset, log
//! end offset. All are exclusive ends except the start. See the storage page of the specification.

#![deny(unsafe_code)]

mod append;
mod append_vec;
mod aside;
mod batch;
mod checkpoint;
mod cleaner;
mod config;
mod damage;
mod disk;
pub mod durable;
mod epoch_cache;
mod error;
pub mod failpoint;
mod flush;
mod flusher;
pub mod fs;
mod graveyard;
mod log;
mod log_dir;
mod lookup;
mod map_cache;
mod marker;
mod meta;
mod mmap;
mod observer;
mod offset_index;
mod producer_state;
mod read;
mod recovery;
mod retention;
mod roll;
mod scrub;
mod seal;
mod segment;
mod segment_index;
mod shared;
mod side_by_side;
mod space;
mod swap;
mod sync;
mod synced_mark;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod time_index;
mod truncate;
mod txn_index;
mod types;
mod writer_guard;

pub use append::{AppendAs, Appended, TryAppend};
pub use cleaner::{CleanOptions, Cleaned, CleanedBy, Dirtiness, Pace};
pub use config::{Background, FlushPolicy, LogConfig, LogDirOptions};
pub use damage::DamagedRange;
pub use error::StorageError;
pub use flusher::Asker;
pub use log::{EpochEnd, Log, TimestampOffset};
pub use log_dir::{FoundLog, LogDir, LogSpec, Usage};
pub use meta::{META_FILE, MetaProperties};
pub use mmap::{HeapBytes, Region};
pub use observer::{LogObserver, NoObserver};
pub use read::{LogRead, LogSlice, TryRead};
pub use recovery::RecoveryReport;
pub use scrub::{ScrubStep, ScrubTotals, Scrubber};
pub use side_by_side::{DISK_WAITERS, side_by_side};
pub use sync::PublishedEnd;
pub use synced_mark::SyncedMark;
pub use txn_index::AbortedTxn;
