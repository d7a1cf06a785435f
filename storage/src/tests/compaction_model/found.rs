//! What the random sequences have found, by hand.

use super::*;

fn append(producer: i64, records: usize) -> Op {
    Op::Append {
        keys: vec![(0, true); records],
        size: 100,
        producer,
        codec: Codec::None,
    }
}

/// As the sixth batch of a producer comes, its first one is of no use any more, and the cleaner
/// takes it. Then the sixth is lost, and the producer is known by what lies in the log alone.
#[test]
fn what_was_forgotten_for_a_batch_that_is_lost_stays_forgotten() {
    let mut ops = vec![append(3, 1); 5];
    // They fill a segment, at whose end no snapshot is written for want of room.
    ops.extend([append(-1, 4), Op::RefuseGrowthAfter { growths: 0 }]);
    ops.extend([Op::Restart, append(-1, 1), Op::Pending]);
    ops.push(append(3, 1));
    ops.push(Op::Clean {
        map_bytes: 1 << 16,
        patience: u64::MAX,
    });
    ops.push(Op::Crash(Crash::PowerLoss));
    play(FlushPolicy::Ack, &ops);
}
