//! The topics that one member names.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use palisade_protocol::Str;

/// Names of topics as a member said them. They do not change, and its states share them: a
/// heartbeat that says nothing of them neither copies nor compares nor weighs them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Names(Arc<Said>);

#[derive(Debug, Default, Eq, PartialEq)]
struct Said {
    names: BTreeSet<Str>,
    bytes: usize,
}

impl Names {
    /// Bytes of all names together.
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// Whether these were said once, and so need not be compared.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for Names {
    type Target = BTreeSet<Str>;

    fn deref(&self) -> &Self::Target {
        &self.0.names
    }
}

impl FromIterator<Str> for Names {
    fn from_iter<I: IntoIterator<Item = Str>>(names: I) -> Self {
        let names: BTreeSet<Str> = names.into_iter().collect();
        let bytes = names.iter().map(|name| name.len()).sum();
        Self(Arc::new(Said { names, bytes }))
    }
}
