//! Expressions: which to look up when, and what the outcome changes.
//!
//! Looking up walks all topics and asks the authorizer, so it happens off the group's task, for
//! all expressions of a group at once and at most one at a time. It is asked for by a member's
//! heartbeat and made with that member's rights.

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

/// Between two look-ups of expressions whose topics are known.
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
            .filter(|pattern| refresh || !self.resolved.contains_key(*pattern))
            .cloned()
            .collect()
    }

    fn is_looking_up(&self, at: &Moment<'_>) -> bool {
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
        let older_than =
            |wait: Duration| age < 0 || age > i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        older_than(MIN_REFRESH)
            && (version < at.image.offset || older_than(at.config.regex_refresh_interval))
    }

    /// A look-up ended without outcome; the next heartbeat may ask again.
    pub(crate) fn patterns_not_found(&mut self) {
        self.remembered.looking_up = None;
    }

    /// Takes the outcome of a look-up: expressions with the topics they stand for.
    ///
    /// `version`: the offset of the image they were found in.
    pub(crate) fn patterns_found(
        &mut self,
        found: &BTreeMap<Str, BTreeSet<Str>>,
        version: Offset,
        at: &Moment<'_>,
    ) -> Decision<()> {
        self.remembered.looking_up = None;
        self.remembered.looked_up = Some((at.now, version));
        let mut draft = Draft::default();
        let mut changed = false;
        // Members may have dropped an expression meanwhile.
        let wanted = found
            .iter()
            .filter(|(pattern, _)| self.patterns.contains_key(*pattern));
        for (pattern, topics) in wanted {
            let known = self.resolved_topics(Some(pattern));
            if known == Some(topics) {
                continue;
            }
            changed |= known.is_some_and(|known| !known.is_empty()) || !topics.is_empty();
            draft.records.push(GroupRecord::Regex {
                group: self.id.clone(),
                regex: pattern.clone(),
                value: Some(regex_value(topics, version, at.now)),
            });
        }
        if changed {
            let hash = Subscriptions::of(self).resolved(found).hash(at.image);
            self.raise_epoch(hash, &mut draft);
        }
        draft.into_decision(())
    }
}

fn regex_value(topics: &BTreeSet<Str>, version: Offset, now: TimestampMs) -> RegexValue {
    RegexValue {
        topics: topics.iter().cloned().collect(),
        metadata_version: version.value(),
        timestamp: now.value(),
    }
}
