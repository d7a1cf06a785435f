//! Expressions: which to look up when, and what the outcome changes.
//!
//! Looking up walks all topics and asks the authorizer, so it happens off the group's task, for
//! all expressions of a group at once and at most one at a time. It is asked for by a member's
//! heartbeat and made with that member's rights. What it finds comes in rounds, so that it holds
//! little at a time; what of it the log does not take is not asked for again at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use palisade_protocol::Str;
use palisade_protocol::types::{Offset, TimestampMs};

use super::decide::Draft;
use super::subscription::Subscriptions;
#[cfg(test)]
use super::sum::LOOKED_AT;
use super::{ConsumerGroup, Member, Moment};
use crate::group::decision::Decision;
use crate::group::error::GroupError;
use crate::group::expressions::{Judgement, LOST_AFTER};
use crate::group::record::{GroupRecord, RegexValue};
use crate::group::write::fits;

/// Expressions with the topics they stand for.
pub(crate) type Found = BTreeMap<Str, BTreeSet<Str>>;

/// Between two look-ups of expressions whose topics are known, or could not be stored.
const MIN_REFRESH: Duration = Duration::from_secs(10);

impl ConsumerGroup {
    /// Refuses an expression that does not compile; those in use have been checked.
    pub(super) fn check_pattern(
        &self,
        pattern: &Str,
        judged: &Judgement,
    ) -> Result<(), GroupError> {
        match self.patterns.contains_key(pattern) {
            true => Ok(()),
            false => judged.clone(),
        }
    }

    /// The expressions to look up now.
    pub(super) fn patterns_to_look_up(
        &self,
        before: Option<&Member>,
        replaced: Option<&Member>,
        after: &Member,
        at: &Moment<'_>,
    ) -> Vec<Str> {
        let idle = self.patterns.is_empty() && after.pattern.is_none();
        if idle || self.is_looking_up(at) {
            return Vec::new();
        }
        let refresh = self.is_refresh_due(at);
        let comes_anew =
            replaced.is_some() || before.is_none_or(|before| before.pattern != after.pattern);
        if !(refresh || comes_anew || self.may_want(at)) {
            return Vec::new();
        }
        let subscriptions = Subscriptions::of(self)
            .without(before.into_iter().chain(replaced))
            .with(after);
        let patterns = subscriptions.patterns();
        patterns
            .into_iter()
            .filter(|pattern| refresh || self.is_wanting(pattern, at))
            .cloned()
            .collect()
    }

    /// Whether some expression may have to be looked up, told by counts: every heartbeat asks this.
    fn may_want(&self, at: &Moment<'_>) -> bool {
        let not_stored = &self.remembered.not_stored;
        // Of `resolved`, all but the unused are subscribed to; the other subscribed ones are
        // unknown. Those that could not be stored are unknown too, and wait.
        let known = self.resolved.len() - self.unused.len();
        self.patterns.len() - known > not_stored.len()
            || not_stored.values().any(|when| is_due_again(*when, at))
    }

    /// Whether what an expression stands for is not known, or not any more.
    fn is_wanting(&self, pattern: &Str, at: &Moment<'_>) -> bool {
        #[cfg(test)]
        LOOKED_AT.set(LOOKED_AT.get() + 1);
        match self.remembered.not_stored.get(pattern) {
            Some(when) => is_due_again(*when, at),
            None => !self.resolved.contains_key(pattern),
        }
    }

    pub(super) fn is_looking_up(&self, at: &Moment<'_>) -> bool {
        self.remembered.looking_up.is_some_and(|began| {
            let lost_after = i64::try_from(LOST_AFTER.as_millis()).unwrap_or(i64::MAX);
            (0..lost_after).contains(&at.now.millis_since(began))
        })
    }

    fn is_refresh_due(&self, at: &Moment<'_>) -> bool {
        let recorded = self.resolved.values();
        let looked_up = recorded
            .map(|resolved| (resolved.timestamp, resolved.version))
            .chain(self.remembered.looked_up);
        let Some((when, version)) =
            looked_up.reduce(|one, other| (one.0.max(other.0), one.1.max(other.1)))
        else {
            return true;
        };
        let age = at.now.millis_since(when);
        has_passed(MIN_REFRESH, age)
            && (version < at.image.offset || has_passed(at.config.regex_refresh_interval, age))
    }

    /// A look-up begins. A group that is new remembers nothing of the heartbeat that made it.
    pub(crate) fn patterns_are_looked_up(&mut self, now: TimestampMs) {
        self.remembered.looking_up = Some(now);
    }

    /// A look-up ended without outcome; the next heartbeat may ask again.
    pub(crate) fn patterns_not_found(&mut self) {
        self.remembered.looking_up = None;
    }

    /// Takes the outcome of a look-up: expressions with the topics they stand for.
    ///
    /// `version`: the offset of the image they were found in. `more`: others of the same look-up
    /// follow. Records are one for each expression, which may be stored apart; those of
    /// expressions that no batch can hold are left out, and so are they in `found`. Returns how
    /// many these are. [`Self::patterns_stored`] follows the records. The epoch rises once, with
    /// the last of them: each rise has the whole group assigned anew.
    pub(crate) fn patterns_found(
        &mut self,
        found: &mut Found,
        version: Offset,
        more: bool,
        at: &Moment<'_>,
    ) -> Decision<usize> {
        self.remembered.looking_up = more.then_some(at.now);
        self.remembered.looked_up = Some((at.now, version));
        // Members may have dropped an expression meanwhile.
        found.retain(|pattern, _| self.patterns.contains_key(pattern));
        let mut draft = Draft::default();
        let mut changed = std::mem::take(&mut self.remembered.found_changed);
        let mut too_large = Vec::new();
        for (pattern, topics) in found.iter() {
            let known = self.resolved_topics(Some(pattern));
            if known == Some(topics) {
                continue;
            }
            let record = GroupRecord::Regex {
                group: self.id.clone(),
                regex: pattern.clone(),
                value: Some(regex_value(topics, version, at.now)),
            };
            if !fits(&record, at.max_batch_bytes) {
                too_large.push(pattern.clone());
                continue;
            }
            changed |= known.is_some_and(|known| !known.is_empty()) || !topics.is_empty();
            draft.records.push(record);
        }
        let count = too_large.len();
        for pattern in too_large {
            found.remove(&pattern);
            self.remembered.not_stored.insert(pattern, at.now);
        }
        if more {
            self.remembered.found_changed = changed;
        } else if changed {
            self.settle(at.image);
            let hash = Subscriptions::of(self).resolved(found).hash(at.image);
            self.raise_epoch(hash, &mut draft);
        }
        draft.into_decision(count)
    }

    /// Learns from the group which records of [`Self::patterns_found`] the log took, after they
    /// were replayed; the others' expressions are looked up again after a while. Returns how many
    /// these are.
    ///
    /// Where the epoch's record is missing, the next heartbeat finds the hash changed.
    pub(crate) fn patterns_stored(&mut self, found: &Found, now: TimestampMs) -> usize {
        let mut not_stored = std::mem::take(&mut self.remembered.not_stored);
        let mut refused = 0;
        for (pattern, topics) in found {
            if self.resolved_topics(Some(pattern)) == Some(topics) {
                not_stored.remove(pattern);
            } else {
                not_stored.insert(pattern.clone(), now);
                refused += 1;
            }
        }
        not_stored.retain(|pattern, _| self.patterns.contains_key(pattern));
        self.remembered.not_stored = not_stored;
        refused
    }
}

fn regex_value(topics: &BTreeSet<Str>, version: Offset, now: TimestampMs) -> RegexValue {
    RegexValue {
        topics: topics.iter().cloned().collect(),
        metadata_version: version.value(),
        timestamp: now.value(),
    }
}

/// Whether an expression that could not be stored at `when` is to be looked up again.
fn is_due_again(when: TimestampMs, at: &Moment<'_>) -> bool {
    has_passed(MIN_REFRESH, at.now.millis_since(when))
}

/// Whether an age of so many milliseconds is more than `wait`; a clock that was set back passes.
fn has_passed(wait: Duration, age: i64) -> bool {
    age < 0 || age > i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
}
