//! How reading past the limit of decompression fails.

use std::io;

/// The failure of a read past the limit.
pub(super) fn limit_reached() -> io::Error {
    io::ErrorKind::FileTooLarge.into()
}

/// Whether a [`Decoder`](super::Decoder) failed because of its limit, and not on its input.
pub fn is_limit(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge
}
