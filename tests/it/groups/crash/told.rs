//! What members were told, counted by code.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Counts of codes.
#[derive(Default)]
pub(super) struct Told(Mutex<BTreeMap<String, usize>>);

impl Told {
    /// One more of it.
    pub(super) fn hear(&self, code: impl fmt::Display) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(code.to_string()).or_default() += 1;
    }

    /// How often it was heard.
    pub(super) fn count(&self, code: &str) -> usize {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(code).copied().unwrap_or_default()
    }
}

impl fmt::Display for Told {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let words: Vec<_> = counts
            .iter()
            .map(|(code, count)| format!("{code} {count}"))
            .collect();
        match words.is_empty() {
            true => out.write_str("nothing"),
            false => out.write_str(&words.join(", ")),
        }
    }
}
