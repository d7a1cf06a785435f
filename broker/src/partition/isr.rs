//! Who must have a record before it counts: leadership, replicas and in-sync replicas.

use palisade_protocol::types::{BrokerId, LeaderEpoch, Offset};

/// What the metadata says about one partition, as seen by this node.
///
/// Replaced as a whole when a new image is applied; readers hold the version they started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// The leader, if there is one.
    pub(crate) leader: Option<BrokerId>,
    /// Whether this node is that leader.
    pub(crate) is_leader: bool,
    /// Grows with every (re-)election (replication.md §1).
    pub(crate) leader_epoch: LeaderEpoch,
    /// All replicas, preferred leader first.
    pub(crate) replicas: Vec<BrokerId>,
    /// The in-sync replicas as far as committed.
    pub(crate) isr: Vec<BrokerId>,
    /// A replica whose entry into the ISR was proposed and not yet answered.
    pub(crate) expanding: Option<BrokerId>,
    /// Log end offset when this node became leader of `leader_epoch`.
    pub(crate) epoch_start: Offset,
}

impl Leadership {
    /// The ISR with the proposed member: expansions count as soon as they are sent, shrinks only
    /// once committed (replication.md §5).
    pub(crate) fn maximal_isr(&self) -> impl Iterator<Item = BrokerId> + '_ {
        let pending = self.expanding.filter(|id| !self.isr.contains(id));
        self.isr.iter().copied().chain(pending)
    }

    /// Fewest in-sync replicas that may acknowledge, never more than there are replicas.
    pub(crate) fn effective_min_isr(&self, min_insync_replicas: usize) -> usize {
        min_insync_replicas.min(self.replicas.len())
    }

    /// Whether acks=-1 may be appended now (records.md §4 step 2).
    pub(crate) fn enough_in_sync(&self, min_insync_replicas: usize) -> bool {
        self.isr.len() >= self.effective_min_isr(min_insync_replicas)
    }

    /// Whether an acknowledged acks=-1 write has enough copies (replication.md §4).
    pub(crate) fn enough_to_acknowledge(&self, min_insync_replicas: usize) -> bool {
        self.maximal_isr().count() >= self.effective_min_isr(min_insync_replicas)
    }
}

#[cfg(test)]
pub(crate) fn leadership(replicas: &[i32], isr: &[i32], expanding: Option<i32>) -> Leadership {
    Leadership {
        leader: Some(BrokerId::new(1)),
        is_leader: true,
        leader_epoch: LeaderEpoch::new(4),
        replicas: replicas.iter().copied().map(BrokerId::new).collect(),
        isr: isr.iter().copied().map(BrokerId::new).collect(),
        expanding: expanding.map(BrokerId::new),
        epoch_start: Offset::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_isr_is_bounded_by_the_replicas() {
        let single = leadership(&[1], &[1], None);
        assert!(single.enough_in_sync(2));
        let short = leadership(&[1, 2, 3], &[1], None);
        assert!(short.enough_in_sync(1));
        assert!(!short.enough_in_sync(2));
    }

    #[test]
    fn a_proposed_member_counts_for_the_acknowledgement_only() {
        let growing = leadership(&[1, 2], &[1], Some(2));
        assert!(!growing.enough_in_sync(2));
        assert!(growing.enough_to_acknowledge(2));
        let grown = leadership(&[1, 2], &[1, 2], Some(2));
        assert_eq!(grown.maximal_isr().count(), 2);
    }
}
