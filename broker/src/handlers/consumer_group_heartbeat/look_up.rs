//! What expressions stand for, found in rounds of bounded size.
//!
//! A group may have as many expressions as members, and each may match every topic: all matches of
//! one group at once could be many times what its members may keep.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use palisade_auth::Access;
use palisade_auth::grant::Describe;
use palisade_protocol::Str;
use palisade_protocol::types::Offset;

use crate::group::consumer::Found;
use crate::group::topic_pattern::TopicPattern;
use crate::metadata::ClusterImage;

/// Matches after which a round ends; the last expression of a round may have as many as there are
/// topics. Each holds a reference to a name.
const ROUND: usize = 100_000;

/// Expressions to look up, and what decides their topics.
pub(super) struct LookUp {
    patterns: Vec<Str>,
    image: Arc<ClusterImage>,
    access: Access,
}

impl LookUp {
    pub(super) fn new(patterns: Vec<Str>, image: Arc<ClusterImage>, access: Access) -> Self {
        Self {
            patterns,
            image,
            access,
        }
    }

    /// Whether every expression had its round.
    pub(super) fn is_done(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The metadata in which topics are looked for.
    pub(super) fn version(&self) -> Offset {
        self.image.offset
    }

    /// The topics of some of the expressions, of those that the caller may see, and the rest.
    pub(super) fn round(mut self) -> (Self, Found) {
        let topics = || self.image.topics.iter().map(|topic| &*topic.name);
        let visible = |name: &str| self.access.probe_topic::<Describe>(name).is_some();
        let found = matches(&mut self.patterns, topics, visible, ROUND);
        (self, found)
    }
}

/// Takes expressions off until about `most` topics match.
fn matches<'t, T: Iterator<Item = &'t str>>(
    patterns: &mut Vec<Str>,
    topics: impl Fn() -> T,
    visible: impl Fn(&str) -> bool,
    most: usize,
) -> Found {
    // What expressions have in common is one text, and asked for once.
    let mut names: HashMap<&str, Option<Str>> = HashMap::new();
    let mut name_of = |topic| {
        let name = names.entry(topic);
        let name = name.or_insert_with(|| visible(topic).then(|| Str::copy(topic)));
        name.clone()
    };
    let mut found = Found::new();
    let mut count = 0;
    while count < most
        && let Some(pattern) = patterns.pop()
    {
        let parsed = TopicPattern::parse(&pattern).ok();
        let fits = |topic: &&str| parsed.as_ref().is_some_and(|parsed| parsed.matches(topic));
        let matching = topics().filter(fits);
        let seen: BTreeSet<Str> = matching.filter_map(&mut name_of).collect();
        count += seen.len();
        found.insert(pattern, seen);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_round_ends_once_it_holds_enough() {
        let topics: Vec<String> = (0..10).map(|number| format!("t{number}")).collect();
        let mut patterns: Vec<Str> = (0..7)
            .map(|dots| format!("t.{{1,{}}}", dots + 1).into())
            .collect();
        let asked = Cell::new(0);
        let visible = |name: &str| {
            asked.set(asked.get() + 1);
            name != "t3"
        };
        let mut all = Found::new();
        let mut rounds = Vec::new();
        while !patterns.is_empty() {
            let names = || topics.iter().map(String::as_str);
            let found = matches(&mut patterns, names, visible, 20);
            rounds.push(found.len());
            let mut sets = found.values();
            let first = sets.next().expect("an expression in each round");
            let shares = |set: &BTreeSet<Str>| {
                let pairs = set.iter().zip(first);
                pairs
                    .into_iter()
                    .all(|(one, other)| one.as_ptr() == other.as_ptr())
            };
            assert!(sets.all(shares), "names are not copied for each expression");
            all.extend(found);
        }
        assert_eq!(rounds, [3, 3, 1]);
        assert_eq!(asked.get(), 30, "once a round");
        assert_eq!(all.len(), 7);
        assert!(
            all.values()
                .all(|topics| topics.len() == 9 && !topics.contains("t3"))
        );
    }
}
