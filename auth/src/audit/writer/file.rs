//! The file under the log: a trait, so that tests can have one that fails.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::retry_on_intr;

/// An append-only file.
pub trait AuditFile: Send {
    /// Appends all bytes; after an error any part of them may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything appended durable.
    fn sync(&mut self) -> io::Result<()>;
    /// The length in bytes.
    fn size(&mut self) -> io::Result<u64>;
    /// Cuts the file after a failed append or sync.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Reads the last bytes, at most `max`.
    fn tail(&mut self, max: u64) -> io::Result<Vec<u8>>;
    /// Allocates disk space up to this position without changing the length.
    fn allocate(&mut self, from: u64, to: u64) -> io::Result<()>;
    /// Bytes of disk space that the file takes.
    fn allocated(&mut self) -> io::Result<u64>;
    /// Bytes that are free on the file system.
    fn free(&mut self) -> io::Result<u64>;
}

impl AuditFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn size(&mut self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn tail(&mut self, max: u64) -> io::Result<Vec<u8>> {
        let len = self.metadata()?.len();
        self.seek(SeekFrom::Start(len.saturating_sub(max)))?;
        let mut bytes = Vec::new();
        self.take(max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
    fn allocate(&mut self, from: u64, to: u64) -> io::Result<()> {
        let len = to.saturating_sub(from);
        let allocated = retry_on_intr(|| fallocate(&*self, FallocateFlags::KEEP_SIZE, from, len));
        Ok(allocated?)
    }

    fn allocated(&mut self) -> io::Result<u64> {
        // Always in units of 512 bytes, whatever the file system's blocks are.
        Ok(self.metadata()?.blocks().saturating_mul(512))
    }

    fn free(&mut self) -> io::Result<u64> {
        let space = fstatvfs(&*self)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}
