//! The rule that moves the high watermark.

use palisade_protocol::types::{BrokerId, Offset};

use super::isr::Leadership;

/// Where the high watermark may stand now; none while it must stand still.
///
/// `own` is this leader's acknowledgeable end: its durable end under flush policy `ack`, else its
/// log end (design.md, "Positions"). `end_of` gives the end a follower has confirmed, if any.
///
/// High watermark = the smallest acknowledgeable end over the maximal ISR and over replicas in
/// `joining`, which are caught up and eligible but not yet members (replication.md §4). It stands
/// still while the committed ISR is smaller than the effective minimum (KIP-966), and it never
/// moves back, which is the caller's `fetch_max`.
pub(crate) fn high_watermark(
    leadership: &Leadership,
    min_insync_replicas: usize,
    this_node: BrokerId,
    own: Offset,
    joining: &[BrokerId],
    end_of: impl Fn(BrokerId) -> Option<Offset>,
) -> Option<Offset> {
    if !leadership.is_leader || !leadership.enough_in_sync(min_insync_replicas) {
        return None;
    }
    let others = leadership
        .maximal_isr()
        .chain(joining.iter().copied())
        .filter(|id| *id != this_node);
    let mut lowest = own;
    for follower in others {
        // A member that has not fetched in this epoch has confirmed nothing.
        lowest = lowest.min(end_of(follower)?);
    }
    Some(lowest)
}

#[cfg(test)]
mod tests {
    use super::super::isr::leadership;
    use super::*;

    fn at(value: i64) -> Offset {
        Offset::new(value)
    }

    fn watermark(state: &Leadership, min: usize, own: i64, ends: &[(i32, i64)]) -> Option<Offset> {
        high_watermark(state, min, BrokerId::new(1), at(own), &[], |id| {
            ends.iter()
                .find(|(follower, _)| *follower == id.value())
                .map(|(_, end)| at(*end))
        })
    }

    #[test]
    fn a_single_replica_counts_alone() {
        let single = leadership(&[1], &[1], None);
        assert_eq!(watermark(&single, 2, 9, &[]), Some(at(9)));
    }

    #[test]
    fn the_slowest_in_sync_replica_decides() {
        let three = leadership(&[1, 2, 3], &[1, 2], None);
        assert_eq!(watermark(&three, 1, 9, &[(2, 7), (3, 1)]), Some(at(7)));
        assert_eq!(watermark(&three, 1, 9, &[(3, 1)]), None);
    }

    #[test]
    fn a_proposed_member_holds_it_back() {
        let growing = leadership(&[1, 2, 3], &[1, 2], Some(3));
        assert_eq!(watermark(&growing, 1, 9, &[(2, 7), (3, 5)]), Some(at(5)));
    }

    #[test]
    fn it_stands_still_below_min_isr_and_off_the_leader() {
        let short = leadership(&[1, 2, 3], &[1], None);
        assert_eq!(watermark(&short, 2, 9, &[]), None);
        let mut follower = leadership(&[1], &[1], None);
        follower.is_leader = false;
        assert_eq!(watermark(&follower, 1, 9, &[]), None);
    }
}
