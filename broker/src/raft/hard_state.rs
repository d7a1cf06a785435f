//! Term, vote and commit index: the small file that keeps a node from voting twice.
//!
//! ```text
//! u16 format (1) | u64 term | u64 vote | u64 commit      then the checksum line of durable files
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use palisade_storage::durable::{read_small_file, write_small_file};
use palisade_storage::fs::Fs;

use super::RaftError;
use super::codec::{CodecError, Decoder, Encoder};

const FORMAT: u16 = 1;
const NAME: &str = "raft-hard-state";

/// What a node must remember of its promises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HardState {
    /// Latest term this node has seen.
    pub term: u64,
    /// Raft id this node voted for in that term; 0 for nobody.
    pub vote: u64,
    /// An index known to be committed; may lag behind the real one.
    pub commit: u64,
}

/// The file of the hard state.
#[derive(Debug)]
pub struct HardStateFile {
    fs: Arc<dyn Fs>,
    path: PathBuf,
}

impl HardStateFile {
    /// Names the file in a directory.
    #[must_use]
    pub fn new(fs: Arc<dyn Fs>, directory: &Path) -> HardStateFile {
        HardStateFile {
            fs,
            path: directory.join(NAME),
        }
    }

    /// Reads the file; `None` where it does not exist.
    ///
    /// # Errors
    /// `Storage` for an unreadable file, `DamagedFile` for a damaged one, `Codec` for one of
    /// another format.
    pub fn read(&self) -> Result<Option<HardState>, RaftError> {
        let read = read_small_file(self.fs.as_ref(), &self.path);
        let Some(bytes) = read.map_err(RaftError::reading("this node's vote"))? else {
            return Ok(None);
        };
        decode(&bytes)
            .map(Some)
            .map_err(|source| RaftError::Codec { file: NAME, source })
    }

    /// Replaces the file; it is on disk when this returns.
    ///
    /// # Errors
    /// `Storage`; the old file is still there then.
    pub fn write(&self, state: HardState) -> Result<(), RaftError> {
        Ok(write_small_file(
            self.fs.as_ref(),
            &self.path,
            &encode(state),
        )?)
    }
}

fn encode(state: HardState) -> Vec<u8> {
    let mut out = Encoder::new();
    out.u16(FORMAT);
    out.u64(state.term);
    out.u64(state.vote);
    out.u64(state.commit);
    out.finish()
}

fn decode(bytes: &[u8]) -> Result<HardState, CodecError> {
    let mut input = Decoder::new(bytes);
    let format = input.u16("format")?;
    if format != FORMAT {
        return Err(CodecError::TooNew {
            what: "raft hard state",
            found: u32::from(format),
            supported: u32::from(FORMAT),
        });
    }
    let state = HardState {
        term: input.u64("term")?,
        vote: input.u64("vote")?,
        commit: input.u64("commit")?,
    };
    input.finish("raft hard state")?;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_as_written_and_refuses_a_newer_format() {
        let state = HardState {
            term: 3,
            vote: 1,
            commit: 77,
        };
        let mut bytes = encode(state);
        assert_eq!(decode(&bytes), Ok(state));
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        bytes[1] = 2;
        assert!(matches!(
            decode(&bytes),
            Err(CodecError::TooNew {
                found: 2,
                supported: 1,
                ..
            })
        ));
    }
}
