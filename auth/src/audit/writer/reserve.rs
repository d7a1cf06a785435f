//! Disk space behind the end of the file, kept for what must be written when the disk is full
//! (spec/security.md §5.2, never drop silently).
//!
//! The blocks belong to the file already, so nobody else can take them, and appending to them needs
//! no free space. As lines are appended the reserve moves on with the end of the file; when it
//! cannot, the disk is full.
//!
//! ```text
//! 0            len                    len + bytes    end
//! | lines ...   | reserve ...          | in advance   |
//! ```

use std::io;

use super::AuditFile;

/// At most this part of the free space becomes reserve.
const PART: u64 = 10;
/// This part of the reserve is allocated in advance, so that not every batch asks for space.
const ADVANCE: u64 = 16;
/// What file systems may round a file's space up by.
const ROUNDING: u64 = 64 << 10;

/// What is kept free, and up to where the file's space goes.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    bytes: u64,
    end: u64,
}

impl Reserve {
    /// Allocates `wanted` bytes behind `len`, or as many of them as are a tenth of the free space;
    /// gives back what an earlier process allocated beyond that.
    pub(super) fn allocate(file: &mut impl AuditFile, len: u64, wanted: u64) -> io::Result<Self> {
        let found = file.allocated()?.saturating_sub(len);
        let most = wanted.saturating_add(wanted / ADVANCE);
        let is_too_much = found > most.saturating_add(ROUNDING);
        // A file that may not be cut keeps its space.
        let there = match is_too_much && file.truncate(len).is_ok() {
            true => 0,
            false => found,
        };
        if wanted == 0 {
            return Ok(Self::default());
        }
        let share = file.free()?.saturating_add(there) / PART;
        // A full disk does not shrink the reserve that was there.
        let bytes = wanted.min(share.max(found));
        let end = len.saturating_add(bytes);
        if bytes == 0 || end <= len.saturating_add(there) {
            return Ok(Self { bytes, end });
        }
        match file.allocate(len, end) {
            Ok(()) => Ok(Self { bytes, end }),
            // As the disk is, or as its file system is.
            Err(error) if is_full(&error) => Ok(Self {
                bytes: wanted.min(there),
                end: len.saturating_add(there),
            }),
            Err(_) => Ok(Self::default()),
        }
    }

    /// Makes sure that the file can grow to `len`, and that the reserve is whole behind it unless
    /// it may be used; false when only using it would do.
    pub(super) fn claim(
        &mut self,
        file: &mut impl AuditFile,
        len: u64,
        from_reserve: bool,
    ) -> io::Result<bool> {
        let whole = len.saturating_add(self.bytes);
        if self.bytes == 0 || whole <= self.end {
            return Ok(true);
        }
        let advanced = whole.saturating_add(self.bytes / ADVANCE);
        for end in [advanced, whole] {
            match file.allocate(self.end, end) {
                Ok(()) => {
                    self.end = end;
                    return Ok(true);
                }
                Err(error) if is_full(&error) => {}
                Err(error) => return Err(error),
            }
        }
        match from_reserve {
            false => Ok(false),
            true if len <= self.end => Ok(true),
            // Not even tried: a batch that fits only in part would give the rest away.
            true => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    /// The space behind `len` is the file's no more.
    pub(super) fn forget(&mut self, len: u64) {
        self.end = self.end.min(len);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn left(&self, len: u64) -> u64 {
        self.end.saturating_sub(len)
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
