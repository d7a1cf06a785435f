//! A setting before anybody has looked at what it says.

use zeroize::Zeroizing;

use super::Origin;

/// One setting as somebody wrote it.
#[derive(Clone)]
pub(crate) struct Given {
    /// Full name, prefixes included.
    pub(crate) name: String,
    /// The text; maybe a secret.
    pub(crate) value: Zeroizing<String>,
    /// Who wrote it.
    pub(crate) origin: Origin,
}
