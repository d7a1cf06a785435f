//! Which brokers get the replicas of new partitions (replication.md §10.1).

use std::collections::BTreeMap;

use palisade_protocol::ErrorCode;
use palisade_protocol::types::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};

use super::row::RowError;
use crate::metadata::image::BrokersImage;
use crate::metadata::record::PartitionRecord;

/// Spreads partitions over brokers.
#[derive(Debug)]
pub(super) struct Placement {
    /// Every broker, racks taking turns, so that neighbours are in different racks.
    ring: Vec<Place>,
    replicas: usize,
    start: usize,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    id: BrokerId,
    live: bool,
}

impl Placement {
    /// Plans for partitions of `replicas` replicas, beginning at a random place.
    ///
    /// # Errors
    /// INVALID_REPLICATION_FACTOR: too few brokers, or none that could lead.
    pub(super) fn new(
        brokers: &BrokersImage,
        replicas: usize,
        start: usize,
    ) -> Result<Placement, RowError> {
        let refused = |reason: String| {
            let text = format!("Unable to replicate the partition {replicas} time(s): {reason}");
            Err(RowError::new(ErrorCode::INVALID_REPLICATION_FACTOR, text))
        };
        if replicas > brokers.len() {
            return refused(format!(
                "The target replication factor of {replicas} cannot be reached because only {} \
                 broker(s) are registered.",
                brokers.len()
            ));
        }
        if brokers.live().next().is_none() {
            return refused("All brokers are currently fenced.".to_owned());
        }
        let mut racks: BTreeMap<Option<&str>, Vec<Place>> = BTreeMap::new();
        for broker in brokers.iter() {
            let place = Place {
                id: broker.id,
                live: !broker.fenced,
            };
            racks.entry(broker.rack.as_deref()).or_default().push(place);
        }
        let mut ring = Vec::with_capacity(brokers.len());
        let mut turn = 0;
        while ring.len() < brokers.len() {
            ring.extend(racks.values().filter_map(|rack| rack.get(turn)));
            turn += 1;
        }
        Ok(Placement {
            ring,
            replicas,
            start,
        })
    }

    /// The replicas of a partition, the leader first.
    pub(super) fn replicas_of(&self, partition: usize) -> Vec<BrokerId> {
        let leaders: Vec<usize> = (0..self.ring.len())
            .filter(|at| self.ring[*at].live)
            .collect();
        let turn = self.start.wrapping_add(partition);
        let leader = leaders[turn % leaders.len()];
        let mut chosen = vec![self.ring[leader].id];
        // Followers begin one further with each round, or the same broker would follow each leader.
        let others = self.ring.len() - 1;
        let shift = partition / leaders.len();
        let follower = |step: usize| {
            let step = 1 + (step + shift) % others;
            self.ring[(leader + step) % self.ring.len()]
        };
        for live in [true, false] {
            for step in 0..others {
                if chosen.len() == self.replicas {
                    return chosen;
                }
                let place = follower(step);
                if place.live == live {
                    chosen.push(place.id);
                }
            }
        }
        chosen
    }
}

/// Checks replicas that a client chose for one partition.
///
/// # Errors
/// INVALID_REPLICA_ASSIGNMENT with the first fault.
pub(super) fn check_assignment(
    brokers: &BrokersImage,
    partition: usize,
    replicas: &[i32],
    expected: Option<usize>,
) -> Result<Vec<BrokerId>, RowError> {
    let refused = |text: String| Err(RowError::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, text));
    if replicas.is_empty() {
        return refused(
            "The manual partition assignment includes an empty replica list.".to_owned(),
        );
    }
    let mut seen: Vec<i32> = Vec::with_capacity(replicas.len().min(brokers.len()));
    for id in replicas {
        if seen.contains(id) {
            return refused(format!(
                "The manual partition assignment includes the broker {id} more than once."
            ));
        }
        if brokers.get(BrokerId::new(*id)).is_none() {
            return refused(format!(
                "The manual partition assignment includes broker {id}, but no such broker is \
                 registered."
            ));
        }
        seen.push(*id);
    }
    if let Some(expected) = expected.filter(|expected| *expected != replicas.len()) {
        return refused(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is \
             not consistent with previous partitions, which have {expected} replica(s).",
            replicas.len()
        ));
    }
    let replicas: Vec<BrokerId> = replicas.iter().copied().map(BrokerId::new).collect();
    if !replicas.iter().any(|id| brokers.is_live(*id)) {
        return refused(format!(
            "All brokers specified in the manual partition assignment for partition {partition} \
             are fenced or in controlled shutdown."
        ));
    }
    Ok(replicas)
}

/// A partition that begins its life with these replicas: the live ones are in sync, the first of
/// them leads.
pub(super) fn new_partition(
    brokers: &BrokersImage,
    topic_id: TopicId,
    partition: usize,
    replicas: Vec<BrokerId>,
) -> PartitionRecord {
    let isr: Vec<BrokerId> = replicas
        .iter()
        .copied()
        .filter(|id| brokers.is_live(*id))
        .collect();
    PartitionRecord {
        topic_id,
        partition: PartitionIndex::new(
            i32::try_from(partition).expect("partition counts are 32-bit"),
        ),
        leader: isr.first().copied(),
        isr,
        replicas,
        leader_epoch: LeaderEpoch::new(0),
        partition_epoch: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::metadata::controller::testing::brokers;

    #[test]
    fn leaders_and_followers_spread() {
        let brokers = brokers(&[(1, None, true), (2, None, true), (3, None, true)]);
        let placement = Placement::new(&brokers, 2, 0).unwrap();
        let pairs: BTreeSet<Vec<i32>> = (0..6)
            .map(|at| {
                placement
                    .replicas_of(at)
                    .iter()
                    .map(|id| id.value())
                    .collect()
            })
            .collect();
        assert_eq!(
            pairs.len(),
            6,
            "six partitions, six different pairs: {pairs:?}"
        );
    }

    #[test]
    fn fenced_brokers_never_lead_and_come_last() {
        let brokers = brokers(&[(1, None, false), (2, None, true), (3, None, true)]);
        for start in 0..9 {
            let placement = Placement::new(&brokers, 2, start).unwrap();
            for partition in 0..9 {
                let replicas = placement.replicas_of(partition);
                assert!(!replicas.contains(&BrokerId::new(1)), "{replicas:?}");
            }
            let all = Placement::new(&brokers, 3, start).unwrap().replicas_of(0);
            assert_eq!(all[2], BrokerId::new(1));
        }
        let record = new_partition(
            &brokers,
            TopicId::NIL,
            0,
            vec![BrokerId::new(1), BrokerId::new(3)],
        );
        assert_eq!(record.leader, Some(BrokerId::new(3)));
        assert_eq!(record.isr, [BrokerId::new(3)]);
    }

    #[test]
    fn racks_take_turns() {
        let brokers = brokers(&[
            (1, Some("a"), true),
            (2, Some("a"), true),
            (3, Some("b"), true),
            (4, Some("b"), true),
        ]);
        let placement = Placement::new(&brokers, 2, 0).unwrap();
        for partition in 0..4 {
            let replicas = placement.replicas_of(partition);
            let racks: BTreeSet<bool> = replicas.iter().map(|id| id.value() <= 2).collect();
            assert_eq!(racks.len(), 2, "{replicas:?}");
        }
    }

    #[test]
    fn too_few_brokers() {
        let one = brokers(&[(1, None, true)]);
        assert!(Placement::new(&one, 1, 7).is_ok());
        let error = Placement::new(&one, 2, 0).unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_REPLICATION_FACTOR);
        assert!(
            error
                .message
                .unwrap()
                .contains("only 1 broker(s) are registered")
        );
        let fenced = brokers(&[(1, None, false)]);
        assert!(
            Placement::new(&fenced, 1, 0)
                .unwrap_err()
                .message
                .unwrap()
                .contains("fenced")
        );
    }

    #[test]
    fn chosen_replicas_are_checked() {
        let brokers = brokers(&[(1, None, true), (2, None, false)]);
        let check = |replicas: &[i32], expected| check_assignment(&brokers, 0, replicas, expected);
        assert!(check(&[2, 1], Some(2)).is_ok());
        for (replicas, expected) in [
            (&[][..], None),
            (&[1, 1], None),
            (&[1, 9], None),
            (&[2], None),
            (&[1], Some(2)),
        ] {
            let error = check(replicas, expected).unwrap_err();
            assert_eq!(
                error.code,
                ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                "{replicas:?}"
            );
        }
    }
}
