//! What a classic group would be as a consumer group, for a conversion that cannot be to cost
//! nothing: whoever may read a group may ask for one with each heartbeat, of 40 bytes.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use palisade_auth::principal::Principal;
use palisade_protocol::Str;
use palisade_protocol::types::TimestampMs;

use super::member::Member;
use super::{CONSUMER, ClassicGroup};
use crate::group::budget::{self, PART, ROOM};
use crate::group::consumer::Outlook;
use crate::group::embedded::{Assignment, Subscription};
use crate::group::write::RECORD_OVERHEAD;

/// Bytes of the keys of a member's three records beside the ids in them.
const KEYS: usize = 3 * 6;
/// Bytes of the values of those records beside texts, lists and what is of the classic protocol.
const VALUES: usize = 26;
/// Bytes of what is of the classic protocol beside the list of protocols.
const CLASSIC: usize = 6;
/// Bytes of a topic in a target and among what a member owns: its id, and marks.
const TOPIC: usize = 2 * 16 + 3;
/// Bytes of a partition in those: its number twice, and its epoch.
const PARTITION: usize = 3 * 4;
/// Bytes of the group's own records beside its id.
const GROUP: usize = 3 * (RECORD_OVERHEAD + 4) + 17 + 7;

/// What a member's bytes say, read once for as long as they stay; `None` inside for those that are
/// not a consumer's.
pub(super) type Reading = OnceLock<Option<Read>>;

/// Of a subscription and an assignment what their size as records depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    /// How many topics are named.
    topics: usize,
    /// Bytes of their names and of the lengths before these.
    names: usize,
    /// Bytes of the rack.
    rack: usize,
    /// Bytes of the assignment in records.
    assigned: usize,
}

impl Read {
    fn of(member: &Member) -> Option<Self> {
        let (_, metadata) = member.protocols.first()?;
        let (_, subscription) = Subscription::parse(metadata).ok()?;
        let assignment = Assignment::parse(&member.assignment).ok()?;
        let names: BTreeSet<&Str> = subscription.topics.iter().collect();
        let assigned = assignment.assigned_partitions.iter();
        let topics = assignment.assigned_partitions.len();
        Some(Self {
            topics: names.len(),
            names: names.iter().map(|name| compact(name.len())).sum(),
            rack: subscription.rack_id.map_or(0, |rack| rack.len()),
            assigned: assigned
                .map(|topic| assigned_bytes(topic.partitions.len()))
                .chain([2 * count(topics)])
                .sum(),
        })
    }
}

/// Bytes of the length before a list in records, or before a text: a varint of one more.
fn count(length: usize) -> usize {
    match length {
        ..127 => 1,
        127..16_383 => 2,
        16_383..2_097_151 => 3,
        _ => 4,
    }
}

/// Bytes of a text with its length.
fn compact(length: usize) -> usize {
    count(length) + length
}

/// Bytes that so many partitions of one topic take, in both records.
fn assigned_bytes(partitions: usize) -> usize {
    let epochs = count(partitions) + 4 * partitions;
    // Twice their numbers; the epochs are in a field with its size, which is no list's.
    TOPIC + 2 * count(partitions) + count(epochs - 1) + count(partitions) + partitions * PARTITION
}

impl ClassicGroup {
    /// What the group would be as a consumer group, and whether who asks for it is in it.
    pub(crate) fn outlook(&self, member_id: &str, by: &Principal) -> Outlook {
        let is_of_consumers = self.protocol_type() == CONSUMER;
        let of_members = is_of_consumers.then(|| {
            let mut members = self.members.iter();
            members.try_fold((GROUP + 3 * self.id.len(), 0), |(recorded, kept), one| {
                let (more_recorded, more_kept) = self.sizes(one.0, one.1)?;
                Some((recorded + more_recorded, kept + more_kept))
            })
        });
        Outlook {
            is_of_consumers,
            members: self.members.len(),
            sizes: of_members.flatten(),
            held: self.held(),
            has_member: self.members.contains_key(member_id),
            failed: self.upgrade_failed.get(by).copied(),
        }
    }

    /// The log did not take the records of a conversion that this principal asked for.
    pub(crate) fn upgrade_failed(&mut self, by: Principal, now: TimestampMs) {
        self.upgrade_failed
            .retain(|_, failed| Outlook::holds_back(*failed, now));
        self.upgrade_failed.insert(by, now);
    }

    /// Bytes of a member's records, and of what it would keep in memory. The records take less
    /// where partitions are of topics that are gone, or are assigned to somebody else as well; in
    /// memory it is what it keeps at most.
    fn sizes(&self, id: &Str, member: &Member) -> Option<(usize, usize)> {
        let read = (*member.reading.get_or_init(|| Read::of(member)))?;
        let instance = member.instance_id.as_ref();
        let client = [&member.client_id, &member.client_host];
        let protocols = member.protocols.iter();
        let (in_record, in_memory) = protocols.fold((0, 0), |(record, memory), (name, bytes)| {
            let one = compact(name.len()) + compact(bytes.len()) + 1;
            (record + one, memory + name.len() + bytes.len() + PART)
        });
        let classic = CLASSIC + count(member.protocols.len()) + in_record;
        let texts = client.map(|text| compact(text.len())).into_iter();
        let recorded = 3 * (RECORD_OVERHEAD + self.id.len() + id.len())
            + (KEYS + VALUES)
            + (texts.sum::<usize>() + compact(instance.map_or(0, |id| id.len())))
            + (compact(read.rack) + count(read.topics) + read.names)
            + (count(classic - 1) + classic + read.assigned);
        let client = client.map(|text| text.len()).into_iter().sum::<usize>();
        let kept = (client + budget::optional(instance) + PART + read.rack)
            + (read.names + 2 * PART * read.topics)
            + in_memory;
        Some((recorded, budget::entry(id, kept.max(ROOM))))
    }

    /// What was read of members is what they say now.
    #[cfg(test)]
    pub(crate) fn assert_read(&self) {
        for member in self.members.values() {
            if let Some(read) = member.reading.get() {
                let anew = Read::of(member);
                assert_eq!(format!("{read:?}"), format!("{anew:?}"));
            }
        }
    }
}
