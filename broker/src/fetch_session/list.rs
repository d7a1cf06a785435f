//! The partitions of one fetch, each in a numbered slot.

use std::collections::HashMap;
use std::sync::Arc;

use palisade_protocol::Str;
use palisade_protocol::types::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use crate::partition::Subscribed;
use crate::partition::ready::{ReadyList, Slot, Subscription};

/// How the client names a topic: by name below v13, by id from there on (KIP-516).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum TopicKey {
    /// By name; an own copy, so that no request frame is kept alive.
    Name(Str),
    /// By id.
    Id(TopicId),
}

/// What a client wants of one partition. Wire sentinels have become `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Topic.
    pub(crate) topic: TopicKey,
    /// Partition.
    pub(crate) index: PartitionIndex,
    /// First offset wanted.
    pub(crate) fetch_offset: Offset,
    /// Most bytes of this partition; negative is the client's mistake.
    pub(crate) max_bytes: i32,
    /// The leader epoch the client knows (KIP-320).
    pub(crate) current_leader_epoch: Option<LeaderEpoch>,
    /// The epoch of the last record the client has (KIP-595).
    pub(crate) last_fetched_epoch: Option<LeaderEpoch>,
}

/// The positions the client was last told; -1 when it was told an error or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// High watermark.
    pub(crate) high_watermark: i64,
    /// Log start offset.
    pub(crate) log_start_offset: i64,
}

impl Sent {
    /// Nothing that a healthy partition could repeat.
    pub(crate) const NOTHING: Sent = Sent {
        high_watermark: -1,
        log_start_offset: -1,
    };
}

/// One partition of a fetch.
#[derive(Debug)]
pub(crate) struct Entry {
    /// What the client wants; stays where the client last put it.
    pub(crate) wanted: Wanted,
    /// What the client was told.
    pub(crate) sent: Sent,
    /// Its place in the ready list.
    pub(crate) subscription: Arc<Subscription>,
    /// The replica that pushes it there, once one was found.
    pub(crate) subscribed: Option<Subscribed>,
}

/// Partitions by slot and by name, and the list of those with news.
#[derive(Debug)]
pub(crate) struct FetchList {
    entries: Vec<Option<Entry>>,
    free: Vec<Slot>,
    by_name: HashMap<(TopicKey, PartitionIndex), Slot>,
    ready: Arc<ReadyList>,
}

impl FetchList {
    /// A list without partitions.
    pub(crate) fn new() -> FetchList {
        FetchList {
            entries: Vec::new(),
            free: Vec::new(),
            by_name: HashMap::new(),
            ready: ReadyList::new(),
        }
    }

    /// Adds a partition, or moves the position of one that is there; it is due for a look.
    ///
    /// A partition that a request names twice counts once, with what was said last.
    pub(crate) fn upsert(&mut self, wanted: Wanted) {
        let name = (wanted.topic.clone(), wanted.index);
        let counted = u64::try_from(wanted.max_bytes).unwrap_or(0);
        let present = self.by_name.get(&name).copied();
        if let Some(entry) = present.and_then(|slot| self.entry_mut(slot)) {
            entry.wanted = wanted;
            entry.subscription.set_max_bytes(counted);
            entry.subscription.requeue();
            return;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            Slot::try_from(self.entries.len() - 1).expect("a request names fewer partitions")
        });
        let subscription = self.ready.subscription(slot, counted);
        subscription.requeue();
        self.by_name.insert(name, slot);
        if let Some(place) = self.entries.get_mut(slot as usize) {
            *place = Some(Entry {
                wanted,
                sent: Sent::NOTHING,
                subscription,
                subscribed: None,
            });
        }
    }

    /// Forgets a partition; one that is not there is ignored.
    pub(crate) fn forget(&mut self, topic: TopicKey, index: PartitionIndex) {
        let Some(slot) = self.by_name.remove(&(topic, index)) else {
            return;
        };
        if let Some(place) = self.entries.get_mut(slot as usize)
            && let Some(entry) = place.take()
        {
            // Its place in the queue must not be taken for that of the slot's next owner.
            entry.subscription.retire();
            self.free.push(slot);
        }
    }

    /// One partition; none for a slot that was forgotten meanwhile.
    pub(crate) fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(slot as usize)?.as_ref()
    }

    /// One partition, to change.
    pub(crate) fn entry_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.entries.get_mut(slot as usize)?.as_mut()
    }

    /// How many partitions there is memory for: what was forgotten leaves its place behind.
    pub(crate) fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// How many partitions there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are no partitions.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The list of partitions with news.
    pub(crate) fn ready(&self) -> &Arc<ReadyList> {
        &self.ready
    }

    /// Makes every partition due for a look.
    pub(crate) fn look_at_all(&self) {
        for entry in self.entries.iter().flatten() {
            entry.subscription.requeue();
        }
    }
}

impl Drop for FetchList {
    /// What is in the ready list holds that list: whatever is left there would keep both for ever.
    fn drop(&mut self) {
        // From here on no partition can push.
        self.entries.clear();
        self.ready.drain();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(topic: &'static str, index: i32, offset: i64) -> Wanted {
        Wanted {
            topic: TopicKey::Name(Str::from(topic)),
            index: PartitionIndex::new(index),
            fetch_offset: Offset::new(offset),
            max_bytes: 100,
            current_leader_epoch: None,
            last_fetched_epoch: None,
        }
    }

    #[test]
    fn a_partition_named_twice_counts_once() {
        let mut list = FetchList::new();
        list.upsert(wanted("t", 0, 1));
        list.upsert(wanted("t", 0, 5));
        assert_eq!(list.len(), 1);
        assert_eq!(list.ready().drain(), vec![0]);
        let entry = list.entry(0).unwrap();
        assert_eq!(entry.wanted.fetch_offset, Offset::new(5));
    }

    #[test]
    fn a_list_that_is_dropped_leaves_nothing_behind() {
        let mut list = FetchList::new();
        for index in 0..3 {
            list.upsert(wanted("t", index, 1));
        }
        list.ready().drain();
        list.look_at_all();
        list.forget(TopicKey::Name(Str::from("t")), PartitionIndex::new(1));
        let ready = Arc::downgrade(list.ready());
        let entry = Arc::downgrade(&list.entry(0).unwrap().subscription);
        drop(list);
        assert!(ready.upgrade().is_none() && entry.upgrade().is_none());
    }

    #[test]
    fn a_forgotten_slot_is_used_again() {
        let mut list = FetchList::new();
        list.upsert(wanted("t", 0, 1));
        list.upsert(wanted("t", 1, 1));
        list.forget(TopicKey::Name(Str::from("t")), PartitionIndex::new(0));
        list.forget(TopicKey::Name(Str::from("other")), PartitionIndex::new(0));
        list.upsert(wanted("u", 3, 1));
        assert_eq!(list.ready().drain(), vec![1, 0]);
        assert_eq!(list.entry(0).unwrap().wanted.index, PartitionIndex::new(3));
        list.look_at_all();
        assert_eq!(list.ready().drain().len(), 2);
    }
}
