//! The machine's whole state at one index, with the group's members as of it.
//!
//! ```text
//! u32 magic "PSRS" | u16 format (1) | u64 index | u64 term
//! list of u64 voters | list of u64 learners | bytes state      then the checksum line
//! ```
//!
//! A new group begins with a snapshot of index 0 without state, so that the members of the group
//! always come from the same place as the state they belong to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use palisade_storage::durable::{read_file, write_small_file};
use palisade_storage::fs::Fs;

use super::RaftError;
use super::codec::{CodecError, Decoder, Encoder};

const MAGIC: u32 = u32::from_be_bytes(*b"PSRS");
const FORMAT: u16 = 1;
const NAME: &str = "raft-snapshot";

/// A snapshot as it lies on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Index of the last entry it covers.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// Raft ids of the members that vote.
    pub voters: Vec<u64>,
    /// Raft ids of the members that only follow.
    pub learners: Vec<u64>,
    /// The machine's state; empty at index 0.
    pub state: Vec<u8>,
}

/// The file of the latest snapshot.
#[derive(Debug)]
pub struct SnapshotFile {
    fs: Arc<dyn Fs>,
    path: PathBuf,
}

impl SnapshotFile {
    /// Names the file in a directory.
    #[must_use]
    pub fn new(fs: Arc<dyn Fs>, directory: &Path) -> SnapshotFile {
        SnapshotFile {
            fs,
            path: directory.join(NAME),
        }
    }

    /// Reads the file; `None` where it does not exist.
    ///
    /// # Errors
    /// `Storage` for an unreadable file, `DamagedFile` for a damaged one, `Codec` for one of
    /// another format.
    pub fn read(&self) -> Result<Option<Snapshot>, RaftError> {
        // Whatever its length: the log behind it is cut, so that all of the metadata is in here
        // alone.
        let read = read_file(self.fs.as_ref(), &self.path, u64::MAX);
        let Some(bytes) = read.map_err(RaftError::reading("topics, users and rules"))? else {
            return Ok(None);
        };
        decode(&bytes)
            .map(Some)
            .map_err(|source| RaftError::Codec { file: NAME, source })
    }

    /// Replaces the file; it is on disk when this returns.
    ///
    /// # Errors
    /// `Storage`; the old snapshot is still there then.
    pub fn write(&self, snapshot: &Snapshot) -> Result<(), RaftError> {
        Ok(write_small_file(
            self.fs.as_ref(),
            &self.path,
            &encode(snapshot),
        )?)
    }
}

fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let mut out = Encoder::new();
    out.u32(MAGIC);
    out.u16(FORMAT);
    out.u64(snapshot.index);
    out.u64(snapshot.term);
    out.list(snapshot.voters.iter().copied(), Encoder::u64);
    out.list(snapshot.learners.iter().copied(), Encoder::u64);
    out.bytes(&snapshot.state);
    out.finish()
}

fn decode(bytes: &[u8]) -> Result<Snapshot, CodecError> {
    let mut input = Decoder::new(bytes);
    let magic = input.u32("magic")?;
    if magic != MAGIC {
        return Err(CodecError::Invalid {
            what: "magic",
            value: i64::from(magic),
        });
    }
    let format = input.u16("format")?;
    if format != FORMAT {
        return Err(CodecError::TooNew {
            what: "raft snapshot",
            found: u32::from(format),
            supported: u32::from(FORMAT),
        });
    }
    let snapshot = Snapshot {
        index: input.u64("index")?,
        term: input.u64("term")?,
        voters: input.list("voters", |input| input.u64("voter"))?,
        learners: input.list("learners", |input| input.u64("learner"))?,
        state: input.bytes("state")?.to_vec(),
    };
    input.finish("raft snapshot")?;
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It was written whatever its length, and the log behind it is cut then.
    #[test]
    fn no_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = SnapshotFile::new(palisade_storage::fs::real(), dir.path());
        let hole = std::fs::File::create(dir.path().join(NAME)).unwrap();
        hole.set_len((256 << 20) + 1).unwrap();
        let read = file.read();
        // Read to its end, where no checksum is.
        assert!(
            matches!(read, Err(RaftError::DamagedFile { .. })),
            "{read:?}"
        );
    }

    #[test]
    fn returns_as_written_and_refuses_what_it_does_not_know() {
        let snapshot = Snapshot {
            index: 9,
            term: 2,
            voters: vec![1, 2],
            learners: vec![3],
            state: vec![5; 99],
        };
        let bytes = encode(&snapshot);
        assert_eq!(decode(&bytes), Ok(snapshot));
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{end}");
        }
        let mut newer = bytes.clone();
        newer[5] = 9;
        assert!(matches!(
            decode(&newer),
            Err(CodecError::TooNew {
                found: 9,
                supported: 1,
                ..
            })
        ));
        let mut other = bytes;
        other[0] = b'X';
        assert!(matches!(decode(&other), Err(CodecError::Invalid { .. })));
    }
}
