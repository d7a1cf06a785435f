//! What a classic group would be as a consumer group, for a conversion that cannot be to cost
//! nothing: whoever may read a group may ask for one with each heartbeat, of 40 bytes.

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
/// Bytes of the values of those records beside texts and partitions, at most.
const VALUES: usize = 74;
/// Bytes of a protocol beside its name and its metadata, at most.
const PROTOCOL: usize = 9;
/// Bytes of a topic in a target and among what a member owns: its id, and marks.
const TOPIC: usize = 2 * 16 + 3;
/// Bytes of a partition in those: its number twice, and its epoch.
const PARTITION: usize = 3 * 4;
/// Bytes of the group's own records beside its id, at most.
const GROUP: usize = 128;

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
        let assigned = assignment.assigned_partitions.iter();
        Some(Self {
            topics: subscription.topics.len(),
            names: subscription.topics.iter().map(name_bytes).sum(),
            rack: subscription.rack_id.map_or(0, |rack| rack.len()),
            assigned: assigned
                .map(|topic| assigned_bytes(&topic.partitions))
                .sum(),
        })
    }
}

/// Bytes that the name of a topic takes.
fn name_bytes(name: &Str) -> usize {
    let length = match name.len() {
        ..127 => 1,
        127..16_383 => 2,
        _ => 3,
    };
    length + name.len()
}

/// Bytes that partitions of one topic take, in both records.
fn assigned_bytes(partitions: &[i32]) -> usize {
    // Counts and a size of one byte each, or of five.
    let lengths = if partitions.len() < 30 { 4 } else { 4 * 5 };
    TOPIC + lengths + partitions.len() * PARTITION
}

impl ClassicGroup {
    /// What the group would be as a consumer group, and whether who asks for it is in it.
    pub(crate) fn outlook(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        by: &Principal,
    ) -> Outlook {
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
            has_instance: instance_id.is_some_and(|id| self.instances.contains_key(id)),
            failed: self.upgrade_failed.get(by).copied(),
        }
    }

    /// The log did not take the records of a conversion that this principal asked for.
    pub(crate) fn upgrade_failed(&mut self, by: Principal, now: TimestampMs) {
        self.upgrade_failed
            .retain(|_, failed| Outlook::holds_back(*failed, now));
        self.upgrade_failed.insert(by, now);
    }

    /// Bytes of a member's records, and of what it would keep in memory, both at most: a name that
    /// it gives twice is counted twice, and so are partitions of topics that are gone.
    fn sizes(&self, id: &Str, member: &Member) -> Option<(usize, usize)> {
        let read = (*member.reading.get_or_init(|| Read::of(member)))?;
        let instance = member.instance_id.as_ref();
        let client = member.client_id.len() + member.client_host.len();
        let protocols = member.protocols.iter();
        let (in_record, in_memory) = protocols.fold((0, 0), |(record, memory), (name, bytes)| {
            let texts = name.len() + bytes.len();
            (record + texts + PROTOCOL, memory + texts + PART)
        });
        let recorded = 3 * (RECORD_OVERHEAD + self.id.len() + id.len())
            + (KEYS + VALUES)
            + (client + instance.map_or(0, |id| id.len()) + read.rack)
            + (read.names + in_record + read.assigned);
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
