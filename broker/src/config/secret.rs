//! Text that must not be seen: passwords and key material on their way through the configuration.

use std::fmt;

use zeroize::Zeroizing;

/// What stands for a secret wherever a value is shown.
pub const HIDDEN: &str = "[hidden]";

/// The text of a setting, secret or not: wiped when dropped, and printed as [`HIDDEN`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Text(Zeroizing<String>);

impl Text {
    /// Takes the text over; the caller keeps no copy.
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Never hand it to a formatter.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}
