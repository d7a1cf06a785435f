//! What expressions stand for, found in rounds of bounded size.
//!
//! A group may have as many expressions as members, and each may match every topic: all matches of
//! one group at once could be many times what its members may keep.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use palisade_auth::Access;
use palisade_auth::grant::Describe;
use palisade_auth::principal::Principal;
use palisade_protocol::Str;

use super::GroupCoordinator;
use super::consumer::Found;
use super::error::GroupError;
use super::shard::LookedUp;
use super::topic_pattern::TopicPattern;
use crate::metadata::ClusterImage;
use crate::task;

/// Matches after which a round ends; the last expression of a round may have as many as there are
/// topics. Each holds a reference to a name.
const ROUND: usize = 100_000;

/// Time after which a round ends, be it in the middle of an expression: others wait for their
/// turns.
const LONG: Duration = Duration::from_millis(100);

/// Who asks for a look-up, for which group, and what decides which topics are found.
pub(crate) struct LookUpAsk {
    pub(crate) groups: Arc<GroupCoordinator>,
    pub(crate) group: Str,
    pub(crate) image: Arc<ClusterImage>,
    /// The rights of who asks.
    pub(crate) access: Access,
    /// In whose line each round waits for its turn.
    pub(crate) principal: Principal,
}

/// Looks expressions up on helper threads, and brings the outcome to the group, round by round.
///
/// It goes on when the connection ends: the group waits for it. Without an outcome the group asks
/// again after a while.
pub(crate) fn look_up(asking: LookUpAsk) -> Box<dyn FnOnce(Vec<Str>) + Send> {
    Box::new(move |patterns| {
        task::spawn("group expressions", async move {
            let mut look_up = LookUp {
                left: Left::of(patterns),
                asking,
            };
            while !look_up.left.is_empty() {
                let groups = Arc::clone(&look_up.asking.groups);
                let user = look_up.asking.principal.clone();
                let round = groups.expressions().look_up(&user, move || look_up.round());
                let Some((rest, found)) = round.await else {
                    return;
                };
                look_up = rest;
                // Whoever coordinates the group now has its members' next heartbeats look again.
                if look_up.bring(found).await.is_err() {
                    return;
                }
            }
        });
    })
}

/// A look-up under way.
struct LookUp {
    left: Left,
    asking: LookUpAsk,
}

/// Expressions to look up.
struct Left {
    patterns: Vec<Str>,
    /// The one that the last round did not come to the end of.
    begun: Option<Begun>,
}

/// An expression whose topics are partly looked through.
struct Begun {
    pattern: Str,
    parsed: Option<TopicPattern>,
    /// Topics that were matched, of all in their order.
    done: usize,
    seen: BTreeSet<Str>,
}

impl LookUp {
    /// Does one round: the topics it found, of those that the asker may see, and what is left to
    /// do.
    fn round(mut self) -> (Self, Found) {
        let LookUpAsk { image, access, .. } = &self.asking;
        let topics = || image.topics.iter().map(|topic| &*topic.name);
        let visible = |name: &str| access.probe_topic::<Describe>(name).is_some();
        let began = Instant::now();
        let is_late = || began.elapsed() >= LONG;
        let found = self.left.matches(topics, visible, ROUND, is_late);
        (self, found)
    }

    /// Brings what a round found, of which the group says itself what becomes of it.
    async fn bring(&self, found: Found) -> Result<(), GroupError> {
        let asking = &self.asking;
        let looked_up = LookedUp {
            found,
            version: asking.image.offset,
            more: !self.left.is_empty(),
            principal: asking.principal.clone(),
        };
        let topics = looked_up.found.values().map(BTreeSet::len).sum();
        let group = asking.group.clone();
        let brought =
            asking
                .groups
                .ask_of(asking.group.clone(), topics, move |shard, moment, asker| {
                    shard.patterns_found(&group, looked_up, asker, moment)
                });
        brought.await?.answer().await?
    }
}

impl Left {
    fn of(patterns: Vec<Str>) -> Self {
        Self {
            patterns,
            begun: None,
        }
    }

    /// Whether every expression had its round.
    fn is_empty(&self) -> bool {
        self.patterns.is_empty() && self.begun.is_none()
    }

    /// The topics of expressions that are taken off, until about `most` topics match or it is late.
    fn matches<'t, T: Iterator<Item = &'t str>>(
        &mut self,
        topics: impl Fn() -> T,
        visible: impl Fn(&str) -> bool,
        most: usize,
        is_late: impl Fn() -> bool,
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
            && let Some(mut one) = self.next()
        {
            for topic in topics().skip(one.done) {
                one.done += 1;
                if one.fits(topic) {
                    one.seen.extend(name_of(topic));
                }
                if is_late() {
                    self.begun = Some(one);
                    return found;
                }
            }
            count += one.seen.len();
            found.insert(one.pattern, one.seen);
        }
        found
    }

    fn next(&mut self) -> Option<Begun> {
        let begun = self.begun.take();
        begun.or_else(|| self.patterns.pop().map(Begun::new))
    }
}

impl Begun {
    fn new(pattern: Str) -> Self {
        Self {
            parsed: TopicPattern::parse(&pattern).ok(),
            pattern,
            done: 0,
            seen: BTreeSet::new(),
        }
    }

    fn fits(&self, topic: &str) -> bool {
        let parsed = self.parsed.as_ref();
        parsed.is_some_and(|parsed| parsed.matches(topic))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_round_ends_once_it_holds_enough() {
        let topics: Vec<String> = (0..10).map(|number| format!("t{number}")).collect();
        let patterns = (0..7).map(|dots| format!("t.{{1,{}}}", dots + 1).into());
        let mut left = Left::of(patterns.collect());
        let asked = Cell::new(0);
        let visible = |name: &str| {
            asked.set(asked.get() + 1);
            name != "t3"
        };
        let mut all = Found::new();
        let mut rounds = Vec::new();
        while !left.is_empty() {
            let names = || topics.iter().map(String::as_str);
            let found = left.matches(names, visible, 20, || false);
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

    #[test]
    fn a_round_that_is_late_goes_on_where_it_was() {
        let topics: Vec<String> = (0..10).map(|number| format!("t{number}")).collect();
        let mut left = Left::of(vec!["t.*".into(), "t[13579]".into()]);
        let mut rounds: Vec<Vec<_>> = Vec::new();
        while !left.is_empty() {
            let names = || topics.iter().map(String::as_str);
            let asked = Cell::new(0);
            let is_late = || {
                asked.set(asked.get() + 1);
                asked.get() == 4
            };
            let found = left.matches(names, |_| true, 1000, is_late);
            let found = found.into_iter();
            rounds.push(found.map(|(one, topics)| (one, topics.len())).collect());
        }
        // 20 names, of which each round matches four.
        let one = |pattern: &'static str, count| vec![(Str::from(pattern), count)];
        assert_eq!(
            rounds,
            [
                vec![],
                vec![],
                one("t[13579]", 5),
                vec![],
                vec![],
                one("t.*", 10)
            ]
        );
    }
}
