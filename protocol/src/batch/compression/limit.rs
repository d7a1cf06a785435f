//! How reading past the limit of decompression fails.

use std::io;

/// The failure of a read past the limit.
pub(super) fn limit_reached() -> io::Error {
    io::ErrorKind::FileTooLarge.into()
}

/// Whether a read failed because of the limit.
pub(super) fn is_limit(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge
}
