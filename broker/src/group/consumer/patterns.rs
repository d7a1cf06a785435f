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
use super::{ConsumerGroup, Member, Moment};
use crate::group::decision::Decision;
use crate::group::error::GroupError;
use crate::group::record::{GroupRecord, RegexValue};
use crate::group::topic_pattern::TopicPattern;
use crate::group::write::fits;

/// Expressions with the topics they stand for.
pub(crate) type Found = BTreeMap<Str, BTreeSet<Str>>;

/// Between two look-ups of expressions whose topics are known, or could not be stored.
const MIN_REFRESH: Duration = Duration::from_secs(10);

/// After this long a look-up is taken for lost.
const LOST_AFTER_MS: i64 = 60_000;

impl ConsumerGroup {
    /// Refuses an expression that is not one; those in use have been checked.
    pub(super) fn check_pattern(&self, pattern: &Str) -> Result<(), GroupError> {
        if pattern.is_empty() || self.patterns.contains_key(pattern) {
            return Ok(());
        }
        match TopicPattern::parse(pattern) {
            Ok(_) => Ok(()),
            Err(reason) => Err(GroupError::InvalidRegularExpression(reason)),
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
        let subscriptions = Subscriptions::of(self)
            .without(before.into_iter().chain(replaced))
            .with(after);
        let patterns = subscriptions.patterns();
        let refresh = self.is_refresh_due(at);
        patterns
            .into_iter()
            .filter(|pattern| refresh || self.is_wanting(pattern, at))
            .cloned()
            .collect()
    }

    /// Whether what an expression stands for is not known, or not any more.
    fn is_wanting(&self, pattern: &Str, at: &Moment<'_>) -> bool {
        match self.remembered.not_stored.get(pattern) {
            Some(when) => has_passed(MIN_REFRESH, at.now.millis_since(*when)),
            None => !self.resolved.contains_key(pattern),
        }
    }

    pub(super) fn is_looking_up(&self, at: &Moment<'_>) -> bool {
        self.remembered.looking_up.is_some_and(|began| {
            let age = at.now.millis_since(began);
            (0..LOST_AFTER_MS).contains(&age)
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

/// Whether an age of so many milliseconds is more than `wait`; a clock that was set back passes.
fn has_passed(wait: Duration, age: i64) -> bool {
    age < 0 || age > i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
}
