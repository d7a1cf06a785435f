//! What happened to one group on one topic, told by its members, and the proof that nothing was lost.
//!
//! Every driver of a client prints one JSON object a line: `at` (nanoseconds of the machine's monotonic clock, taken
//! before the act is visible to others for what a member gives up, after it for what it gains), `group`, `member`,
//! and `event` with its fields:
//!
//! | event | fields | meaning |
//! |---|---|---|
//! | `assigned` | `partitions`, `generation` (where the client tells it) | the member may read these from now on |
//! | `revoked`, `lost` | `partitions` | it no longer may: given up in order, or taken away |
//! | `record` | `partition`, `offset`, `value` | handed to the application |
//! | `committed` | `offsets`: pairs of partition and offset | the coordinator has confirmed it |
//! | `closing`, `closed` | | it is about to leave with all its partitions; it has left |
//!
//! The harness adds what was produced and acknowledged, what it asked the coordinator for, and whom it killed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Nanoseconds of the machine's monotonic clock, which every driver reads.
pub fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A record was acknowledged.
    Produced {
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// Its value.
        value: String,
    },
    /// The member may read these partitions from now on, in this generation or member epoch.
    Assigned(BTreeSet<i32>, Option<i64>),
    /// It gave these up, before anybody else could get them.
    Revoked(BTreeSet<i32>),
    /// It was told that these are no longer its own, possibly after another got them.
    Lost(BTreeSet<i32>),
    /// A record was handed to the application.
    Record {
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// Its value.
        value: String,
    },
    /// These next offsets are stored by the coordinator.
    Committed(BTreeMap<i32, i64>),
    /// The member is about to leave, and reads nothing any more.
    Closing,
    /// It has left.
    Closed,
    /// It was killed, and had died by then.
    Killed,
}

/// Something that happened, when, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds of the monotonic clock.
    pub stamp: u64,
    /// The member's name; the harness itself is `harness`.
    pub member: String,
    /// What happened.
    pub what: What,
}

/// A member's right to one partition, from its assignment to its end.
#[derive(Clone, Debug)]
struct Claim {
    member: String,
    generation: Option<i64>,
    from: u64,
    until: Option<u64>,
    /// Taken away rather than given up: the next owner may have begun before the end was noticed.
    lost: bool,
    /// The highest commit that was confirmed before it began.
    floor: i64,
    read: Vec<i64>,
}

/// The events of one group on one topic.
#[derive(Clone, Debug, Default)]
pub struct History {
    events: Vec<Event>,
    owned: BTreeMap<String, BTreeSet<i32>>,
    produced: BTreeMap<(i32, i64), String>,
    consumed: BTreeSet<(i32, i64)>,
    missing: BTreeSet<(i32, i64)>,
}

impl History {
    /// Reads a driver's line: the group it belongs to, and the event. `None` for a line that is none.
    ///
    /// # Panics
    /// When a line of a driver lacks a field: the driver is wrong.
    pub fn parse(line: &str) -> Option<(String, Event)> {
        if !line.starts_with('{') {
            return None;
        }
        let line: Value = serde_json::from_str(line).ok()?;
        // kafkajs logs in JSON too.
        line.get("event")?;
        let text = |name: &str| {
            line[name]
                .as_str()
                .unwrap_or_else(|| panic!("no {name} in {line}"))
        };
        let number = |name: &str| {
            line[name]
                .as_i64()
                .unwrap_or_else(|| panic!("no {name} in {line}"))
        };
        let partitions = || -> BTreeSet<i32> {
            let all = line["partitions"]
                .as_array()
                .unwrap_or_else(|| panic!("{line}"));
            all.iter().map(index).collect()
        };
        let what = match text("event") {
            "assigned" => What::Assigned(partitions(), line["generation"].as_i64()),
            "revoked" => What::Revoked(partitions()),
            "lost" => What::Lost(partitions()),
            "record" => What::Record {
                partition: index(&line["partition"]),
                offset: number("offset"),
                value: text("value").to_owned(),
            },
            "committed" => {
                let all = line["offsets"]
                    .as_array()
                    .unwrap_or_else(|| panic!("{line}"));
                What::Committed(all.iter().map(pair).collect())
            }
            "closing" => What::Closing,
            "closed" => What::Closed,
            other => panic!("an unknown event {other}: {line}"),
        };
        let event = Event {
            stamp: number("at").unsigned_abs(),
            member: text("member").to_owned(),
            what,
        };
        Some((text("group").to_owned(), event))
    }

    /// Adds an event. Those of one member must come in their order.
    pub fn add(&mut self, event: Event) {
        let owned = self.owned.entry(event.member.clone()).or_default();
        match &event.what {
            What::Assigned(partitions, _) => owned.extend(partitions),
            What::Revoked(partitions) | What::Lost(partitions) => {
                owned.retain(|partition| !partitions.contains(partition));
            }
            What::Closing | What::Closed | What::Killed => owned.clear(),
            What::Produced {
                partition,
                offset,
                value,
            } => {
                let at = (*partition, *offset);
                self.produced.insert(at, value.clone());
                if !self.consumed.contains(&at) {
                    self.missing.insert(at);
                }
            }
            What::Record {
                partition, offset, ..
            } => {
                self.consumed.insert((*partition, *offset));
                self.missing.remove(&(*partition, *offset));
            }
            What::Committed(_) => {}
        }
        self.events.push(event);
    }

    /// The partitions that a member owns by its own word.
    pub fn owned_by(&self, member: &str) -> BTreeSet<i32> {
        self.owned.get(member).cloned().unwrap_or_default()
    }

    /// Acknowledged records that nobody has read yet: partition and offset.
    pub fn missing(&self) -> &BTreeSet<(i32, i64)> {
        &self.missing
    }

    /// Whether a member has said that it left.
    pub fn has_closed(&self, member: &str) -> bool {
        self.events
            .iter()
            .any(|event| event.member == member && event.what == What::Closed)
    }

    /// The first offset that a member read of each partition.
    pub fn first_read_by(&self, member: &str) -> BTreeMap<i32, i64> {
        let mut first = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.member == member) {
            if let What::Record {
                partition, offset, ..
            } = event.what
            {
                first.entry(partition).or_insert(offset);
            }
        }
        first
    }

    /// Everything that must not have happened:
    ///
    /// - an acknowledged record that nobody read, or that was read with another value;
    /// - a partition owned by two members in one generation, or at the same time unless the first had lost it;
    /// - a record read by a member that did not own its partition, or twice or backwards within one ownership;
    /// - an ownership that began before what had been committed, so that more was doubled than at-least-once allows;
    /// - a committed offset that moved back.
    pub fn violations(&self) -> Vec<String> {
        let mut found: Vec<String> = self
            .missing
            .iter()
            .map(|(partition, offset)| format!("lost: {partition} at {offset} was never read"))
            .collect();
        let mut events: Vec<_> = self.events.iter().collect();
        // Stable: one member's events of the same instant keep their order.
        events.sort_by_key(|event| event.stamp);
        let mut claims: BTreeMap<i32, Vec<Claim>> = BTreeMap::new();
        let mut commits: BTreeMap<i32, i64> = BTreeMap::new();
        for event in events {
            self.follow(event, &mut claims, &mut commits, &mut found);
        }
        for (partition, claims) in &claims {
            for (at, first) in claims.iter().enumerate() {
                let later = claims.iter().skip(at + 1);
                found.extend(later.filter_map(|second| conflict(*partition, first, second)));
                found.extend(rereads(*partition, first));
            }
        }
        found
    }

    fn follow(
        &self,
        event: &Event,
        claims: &mut BTreeMap<i32, Vec<Claim>>,
        commits: &mut BTreeMap<i32, i64>,
        found: &mut Vec<String>,
    ) {
        let member = &event.member;
        match &event.what {
            What::Produced { .. } => {}
            What::Assigned(partitions, generation) => {
                for partition in partitions {
                    let of_partition = claims.entry(*partition).or_default();
                    if open(of_partition, member).is_some() {
                        continue;
                    }
                    of_partition.push(Claim {
                        member: member.clone(),
                        generation: *generation,
                        from: event.stamp,
                        until: None,
                        lost: false,
                        floor: commits.get(partition).copied().unwrap_or(0),
                        read: Vec::new(),
                    });
                }
            }
            What::Revoked(partitions) | What::Lost(partitions) => {
                let lost = matches!(event.what, What::Lost(_));
                for partition in partitions {
                    let of_partition = claims.entry(*partition).or_default();
                    end(of_partition, member, event.stamp, lost);
                }
            }
            What::Closing | What::Closed | What::Killed => {
                for of_partition in claims.values_mut() {
                    end(of_partition, member, event.stamp, false);
                }
            }
            What::Record {
                partition,
                offset,
                value,
            } => {
                if let Some(sent) = self.produced.get(&(*partition, *offset))
                    && sent != value
                {
                    found.push(format!(
                        "{partition} at {offset}: {sent:?} was sent, {member} read {value:?}"
                    ));
                }
                match open(claims.entry(*partition).or_default(), member) {
                    Some(claim) => claim.read.push(*offset),
                    None => found.push(format!(
                        "{member} read {partition} at {offset} without owning it"
                    )),
                }
            }
            What::Committed(offsets) => {
                for (partition, offset) in offsets {
                    let before = commits.entry(*partition).or_insert(*offset);
                    if offset < before {
                        found.push(format!(
                            "the commit of {partition} moved from {before} back to {offset} ({member})"
                        ));
                    }
                    *before = (*before).max(*offset);
                }
            }
        }
    }
}

fn open<'a>(claims: &'a mut [Claim], member: &str) -> Option<&'a mut Claim> {
    claims
        .iter_mut()
        .find(|claim| claim.member == member && claim.until.is_none())
}

fn end(claims: &mut [Claim], member: &str, stamp: u64, lost: bool) {
    if let Some(claim) = open(claims, member) {
        claim.until = Some(stamp);
        claim.lost = lost;
    }
}

/// `second` began at or after `first`.
fn conflict(partition: i32, first: &Claim, second: &Claim) -> Option<String> {
    if first.member == second.member {
        return None;
    }
    let same_generation = first.generation.is_some() && first.generation == second.generation;
    let overlap = first.until.is_none_or(|until| second.from < until) && !first.lost;
    (same_generation || overlap).then(|| {
        format!(
            "{partition} was owned by two: {} ({:?}, {} to {:?}) and {} ({:?}, from {})",
            first.member,
            first.generation,
            first.from,
            first.until,
            second.member,
            second.generation,
            second.from
        )
    })
}

fn rereads(partition: i32, claim: &Claim) -> impl Iterator<Item = String> {
    let early = claim
        .read
        .first()
        .filter(|offset| **offset < claim.floor)
        .map(|offset| {
            format!(
                "{} read {partition} at {offset}, though {} had been committed",
                claim.member, claim.floor
            )
        });
    let backwards = claim
        .read
        .windows(2)
        .filter(|pair| pair[1] <= pair[0])
        .map(move |pair| {
            format!(
                "{} read {partition} at {} after {}",
                claim.member, pair[1], pair[0]
            )
        });
    early.into_iter().chain(backwards)
}

fn index(value: &Value) -> i32 {
    value
        .as_i64()
        .and_then(|number| i32::try_from(number).ok())
        .unwrap_or_else(|| panic!("not a partition: {value}"))
}

fn pair(value: &Value) -> (i32, i64) {
    let offset = value[1]
        .as_i64()
        .unwrap_or_else(|| panic!("not an offset: {value}"));
    (index(&value[0]), offset)
}

#[cfg(test)]
mod tests;
