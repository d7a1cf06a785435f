//! Moves the committed offsets of a group that nobody is a member of.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use clap::{ArgGroup, Args};
use palisade_protocol::ErrorCode;
use serde_json::json;

use super::{
    super::{
        client::{COMMIT_BY_NAME, ClientError, Cluster, TopicPartition, offset_commit, printable},
        consume::start::{self, EARLIEST, LATEST},
        outcome::{accept, first_code},
        output::{self, Output},
        place::{Place, WORDS},
        table::table,
    },
    describe, name,
};

/// Arguments of `palisade group reset-offsets`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["topics", "all_topics"]))]
pub(super) struct ResetArgs {
    /// Name of the group; one that is not there is made
    group: String,
    /// Topic, or some of its partitions, as orders or orders:0,3; repeatable
    #[arg(long = "topic", value_name = "TOPIC[:P,P]", value_parser = topic)]
    topics: Vec<(String, Option<BTreeSet<i32>>)>,
    /// All topics of which the group has committed offsets
    #[arg(long)]
    all_topics: bool,
    #[arg(long, help = to_help(), value_name = "PLACE", value_parser = Target::parse,
          allow_negative_numbers = true)]
    to: Target,
    /// Do it
    #[arg(long)]
    pub(super) execute: bool,
    /// Only show what would be done, as without --execute
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
}

fn to_help() -> String {
    format!(
        "Where to: shift:N (from what is committed, also backwards), {WORDS}; where no record is as \
         late as TIME, the end; what lies outside the log becomes its nearest offset"
    )
}

fn topic(text: &str) -> Result<(String, Option<BTreeSet<i32>>), String> {
    let Some((topic, partitions)) = text.rsplit_once(':') else {
        return Ok((text.to_owned(), None));
    };
    let indexes: Option<BTreeSet<i32>> = partitions
        .split(',')
        .map(|index| index.parse().ok().filter(|index| *index >= 0))
        .collect();
    match indexes {
        Some(indexes) if !topic.is_empty() => Ok((topic.to_owned(), Some(indexes))),
        _ => Err("expected TOPIC or TOPIC:PARTITION,PARTITION".to_owned()),
    }
}

/// Where the offsets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    At(Place),
    /// From what is committed, also backwards.
    Shift(i64),
}

impl Target {
    fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("shift:") {
            Some(by) => by
                .parse()
                .map(Self::Shift)
                .map_err(|_| "expected shift:N or shift:-N".to_owned()),
            None => Place::parse(text)
                .map(Self::At)
                .map_err(|expected| expected.replace(WORDS, &format!("shift:N, {WORDS}"))),
        }
    }
}

/// Where one partition's offset goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct New {
    asked: i64,
    /// A time was asked for, and no record is as late.
    is_past: bool,
    /// First offset of the log.
    first: i64,
    /// End of the log, not below `first`.
    end: i64,
}

impl New {
    /// The nearest offset of the log: behind its end there is nothing to go on with.
    fn offset(self) -> i64 {
        self.asked.clamp(self.first, self.end)
    }

    /// Where that is not what was asked for, in words.
    fn clipped(self, (topic, index): &TopicPartition) -> Option<String> {
        let offset = self.offset();
        if self.is_past {
            let topic = printable(topic);
            return Some(format!(
                "{topic}-{index}: no record is as late as that time; the end of the log, {offset}, \
                 takes its place"
            ));
        }
        let place = match self.asked.cmp(&offset) {
            Ordering::Equal => return None,
            Ordering::Less => "before the first offset of the log",
            Ordering::Greater => "beyond the end of the log",
        };
        let (topic, asked) = (printable(topic), self.asked);
        Some(format!(
            "{topic}-{index}: offset {asked} is {place}; {offset} takes its place"
        ))
    }
}

impl ResetArgs {
    pub(super) async fn run(
        &self,
        cluster: &mut Cluster,
        output: Output,
    ) -> Result<(), ClientError> {
        let exists = self.must_be_empty(cluster).await?;
        let committed = describe::committed(cluster, &self.group).await?;
        let partitions = self.partitions(cluster, &committed).await?;
        let new = self.offsets(cluster, &partitions, &committed).await?;
        let clipped = new.iter().filter_map(|(at, new)| new.clipped(at));
        clipped.for_each(|text| output::warn(&text));
        if self.execute {
            self.commit(cluster, &new).await?;
        }
        let before = |at: &TopicPartition| committed.get(at).map(|one| one.offset);
        let rows: Vec<[String; 4]> = new
            .iter()
            .map(|(at, new)| {
                let before = before(at).map_or("-".to_owned(), |offset| offset.to_string());
                [
                    printable(&at.0),
                    at.1.to_string(),
                    before,
                    new.offset().to_string(),
                ]
            })
            .collect();
        let objects: Vec<_> = new
            .iter()
            .map(|(at, new)| {
                json!({
                    "topic": at.0,
                    "partition": at.1,
                    "before": before(at),
                    "asked": new.asked,
                    "after": new.offset(),
                })
            })
            .collect();
        let mut text = table(["TOPIC", "PARTITION", "BEFORE", "AFTER"], &rows);
        if !exists {
            let group = name(&self.group);
            let text_of_it = match self.execute {
                true => format!("{group} was not there; its first offsets made it\n"),
                false => format!("{group} is not there; its first offsets make it\n"),
            };
            text.push_str(&text_of_it);
        }
        if !self.execute {
            text.push_str("nothing was changed; --execute does it\n");
        }
        let object = json!({
            "group": self.group,
            "existed": exists,
            "executed": self.execute,
            "offsets": objects,
        });
        output.show(&object, &text)
    }

    /// Members would commit over it at once. Says whether there is such a group.
    async fn must_be_empty(&self, cluster: &mut Cluster) -> Result<bool, ClientError> {
        match describe::members(cluster, &self.group).await {
            Ok(described) if described.state == "Empty" => Ok(true),
            Ok(_) => Err(ClientError::refused(
                name(&self.group),
                ErrorCode::NON_EMPTY_GROUP,
                None,
            )),
            // The first commit makes it, as with Kafka's own tool.
            Err(ClientError::Refused { code, .. }) if code == ErrorCode::GROUP_ID_NOT_FOUND => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn partitions(
        &self,
        cluster: &mut Cluster,
        committed: &BTreeMap<TopicPartition, describe::Committed>,
    ) -> Result<Vec<TopicPartition>, ClientError> {
        if self.all_topics && committed.is_empty() {
            let text = "nothing is committed, so there is nothing to move; name topics by --topic";
            let text = format!("{}: {text}", name(&self.group));
            return Err(ClientError::Unfinished(text));
        }
        if self.all_topics {
            return Ok(committed.keys().cloned().collect());
        }
        let names: Vec<String> = self.topics.iter().map(|(topic, _)| topic.clone()).collect();
        cluster.refresh(&names).await?;
        let mut all = BTreeSet::new();
        for (topic, wanted) in &self.topics {
            let there = cluster.partitions(topic)?;
            for index in wanted.iter().flatten() {
                if !there.contains_key(index) {
                    let topic = printable(topic);
                    let text = format!("topic {topic} has no partition {index}");
                    return Err(ClientError::Unfinished(text));
                }
            }
            let is_wanted =
                |index: &i32| wanted.as_ref().is_none_or(|wanted| wanted.contains(index));
            let indexes = there.keys().copied().filter(is_wanted);
            all.extend(indexes.map(|index| (topic.clone(), index)));
        }
        Ok(all.into_iter().collect())
    }

    /// The new offsets.
    async fn offsets(
        &self,
        cluster: &mut Cluster,
        partitions: &[TopicPartition],
        committed: &BTreeMap<TopicPartition, describe::Committed>,
    ) -> Result<BTreeMap<TopicPartition, New>, ClientError> {
        let first = start::edge(cluster, partitions, EARLIEST, 0).await?;
        let end = start::edge(cluster, partitions, LATEST, 0).await?;
        let by_time = match self.to {
            Target::At(Place::Time(time)) => start::at_time(cluster, partitions, time, 0).await?,
            _ => BTreeMap::new(),
        };
        let mut new = BTreeMap::new();
        for at in partitions {
            let first = first.get(at).copied().unwrap_or_default();
            let end = end.get(at).copied().unwrap_or_default().max(first);
            let asked = match self.to {
                Target::At(Place::Earliest) => first,
                Target::At(Place::Latest) => end,
                Target::At(Place::Offset(offset)) => offset,
                Target::At(Place::BeforeEnd(count)) => end.saturating_sub(count).max(first),
                Target::At(Place::Time(_)) => by_time.get(at).copied().unwrap_or(end),
                Target::Shift(count) => match committed.get(at) {
                    Some(one) => one.offset.saturating_add(count),
                    None => {
                        let (topic, index) = (printable(&at.0), at.1);
                        return Err(ClientError::Unfinished(format!(
                            "{topic}-{index}: nothing is committed that could be shifted"
                        )));
                    }
                },
            };
            let row = New {
                asked,
                is_past: matches!(self.to, Target::At(Place::Time(_))) && !by_time.contains_key(at),
                first,
                end,
            };
            new.insert(at.clone(), row);
        }
        Ok(new)
    }

    async fn commit(
        &self,
        cluster: &mut Cluster,
        new: &BTreeMap<TopicPartition, New>,
    ) -> Result<(), ClientError> {
        let offsets = new.iter().map(|(at, new)| (at, (new.offset(), -1)));
        let request = offset_commit(&self.group, offsets);
        let response = cluster
            .ask_coordinator(&self.group, &request, COMMIT_BY_NAME, |response| {
                let topics = response.topics.iter();
                first_code(topics.flat_map(|topic| topic.partitions.iter().map(|p| p.error_code)))
            })
            .await?;
        for topic in &response.topics {
            for one in &topic.partitions {
                let at = format!("{}-{}", printable(&topic.name), one.partition_index);
                let what = format!("{}: {at}", name(&self.group));
                accept(&what, one.error_code, None)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_a_target_beside_the_places() {
        for (text, target) in [
            ("latest", Target::At(Place::Latest)),
            ("-3", Target::At(Place::BeforeEnd(3))),
            ("shift:-3", Target::Shift(-3)),
            ("shift:+3", Target::Shift(3)),
        ] {
            assert_eq!(Target::parse(text), Ok(target), "{text}");
        }
        for wrong in ["shift:", "shift:x", "3x"] {
            let error = Target::parse(wrong).unwrap_err();
            assert!(error.contains("shift:N"), "{error}");
        }
    }

    #[test]
    fn topics_and_partitions_are_read() {
        assert_eq!(topic("t"), Ok(("t".to_owned(), None)));
        let some = Some(BTreeSet::from([0, 3]));
        assert_eq!(topic("t:3,0"), Ok(("t".to_owned(), some)));
        for wrong in ["t:", ":1", "t:-1", "t:a"] {
            assert!(topic(wrong).is_err(), "{wrong}");
        }
    }
}
