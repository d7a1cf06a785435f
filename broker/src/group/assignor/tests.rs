use proptest::prelude::*;

use super::*;

fn topic(number: u8) -> TopicId {
    let mut bytes = [0; 16];
    bytes[15] = number + 1;
    TopicId::from_bytes(bytes)
}

fn counts(partitions: &[i32]) -> BTreeMap<TopicId, i32> {
    (0..).map(topic).zip(partitions.iter().copied()).collect()
}

fn set(partitions: &[(u8, &[i32])]) -> PartitionSet {
    let mut set = PartitionSet::default();
    for (number, partitions) in partitions {
        set.add(topic(*number), partitions.iter().copied());
    }
    set
}

/// Members `m0`, `m1`, … with their topics and what they held.
fn assign(
    assignor: Assignor,
    members: &[(&[u8], PartitionSet)],
    partitions: &[i32],
) -> Vec<PartitionSet> {
    let ids: Vec<String> = (0..members.len()).map(|at| format!("m{at:04}")).collect();
    let members: Vec<AssignorMember<'_>> = members
        .iter()
        .zip(&ids)
        .map(|((topics, owned), id)| AssignorMember {
            id,
            instance_id: None,
            topics: topics.iter().map(|number| topic(*number)).collect(),
            owned,
        })
        .collect();
    assignor.assign(&members, &counts(partitions))
}

#[test]
fn names_are_those_of_kafka() {
    let class = "org.apache.kafka.coordinator.group.assignor.RangeAssignor";
    assert_eq!(Assignor::parse(class), Some(Assignor::Range));
    assert_eq!(Assignor::parse("uniform"), Some(Assignor::Uniform));
    assert_eq!(Assignor::parse("RangeAssignor"), None);
    assert_eq!(Assignor::parse("Range"), None);
    assert_eq!(Assignor::parse(""), None);
    for assignor in [Assignor::Uniform, Assignor::Range] {
        assert_eq!(Assignor::parse(assignor.name()), Some(assignor));
    }
}

#[test]
fn nobody_gets_nothing() {
    for assignor in [Assignor::Uniform, Assignor::Range] {
        assert!(assign(assignor, &[], &[3]).is_empty());
        let alone = assign(assignor, &[(&[], set(&[(0, &[1])]))], &[3]);
        assert_eq!(alone, [PartitionSet::default()]);
        // Of a topic that does not exist there is nothing to give.
        let alone = assign(assignor, &[(&[0, 1], set(&[(1, &[0])]))], &[2]);
        assert_eq!(alone, [set(&[(0, &[0, 1])])]);
    }
}

#[test]
fn range_gives_blocks_that_line_up() {
    let new: &[u8] = &[0, 1];
    let members = vec![(new, PartitionSet::default()); 3];
    let sets = assign(Assignor::Range, &members, &[5, 5]);
    let expected: [&[i32]; 3] = [&[0, 1], &[2, 3], &[4]];
    for (got, block) in sets.iter().zip(expected) {
        assert_eq!(*got, set(&[(0, block), (1, block)]));
    }
}

#[test]
fn range_keeps_what_shares_allow() {
    let topics: &[u8] = &[0, 1];
    let before = |block: &[i32]| (topics, set(&[(0, block), (1, block)]));
    let joined = [before(&[0, 1, 2]), before(&[3, 4, 5]), before(&[])];
    let sets = assign(Assignor::Range, &joined, &[6, 6]);
    let expected: [&[i32]; 3] = [&[0, 1], &[3, 4], &[2, 5]];
    for (got, block) in sets.iter().zip(expected) {
        assert_eq!(*got, set(&[(0, block), (1, block)]));
    }
}

#[test]
fn range_orders_static_members_by_instance() {
    let none = PartitionSet::default();
    let topics: Arc<[TopicId]> = [topic(0)].into();
    let member = |id, instance_id| AssignorMember {
        id,
        instance_id,
        topics: Arc::clone(&topics),
        owned: &none,
    };
    let members = [
        member("a", None),
        member("b", Some("z")),
        member("c", Some("y")),
    ];
    let sets = Assignor::Range.assign(&members, &counts(&[3]));
    assert_eq!(
        sets,
        [set(&[(0, &[2])]), set(&[(0, &[1])]), set(&[(0, &[0])])]
    );
}

#[test]
fn uniform_moves_one_partition_for_a_newcomer() {
    let topics: &[u8] = &[0];
    let members = [
        (topics, set(&[(0, &[0, 1])])),
        (topics, set(&[(0, &[2])])),
        (topics, set(&[])),
    ];
    let sets = assign(Assignor::Uniform, &members, &[3]);
    assert_eq!(
        sets,
        [set(&[(0, &[0])]), set(&[(0, &[2])]), set(&[(0, &[1])])]
    );
}

#[test]
fn a_partition_claimed_twice_stays_with_the_first() {
    let topics: &[u8] = &[0];
    let members = [
        (topics, set(&[(0, &[0, 1])])),
        (topics, set(&[(0, &[0, 1])])),
    ];
    let sets = assign(Assignor::Uniform, &members, &[2]);
    assert_eq!(sets, [set(&[(0, &[0])]), set(&[(0, &[1])])]);
}

#[test]
fn different_subscriptions_even_out() {
    // m0 alone wants topic 0; topic 1 should go to the other two.
    let members: [(&[u8], PartitionSet); 3] = [
        (&[0, 1], set(&[(1, &[0, 1, 2, 3])])),
        (&[1], set(&[])),
        (&[1], set(&[])),
    ];
    let sets = assign(Assignor::Uniform, &members, &[2, 4]);
    let sizes: Vec<usize> = sets.iter().map(PartitionSet::len).collect();
    assert_eq!(sizes, [2, 2, 2]);
    assert_eq!(sets[0].of(topic(0)), [0, 1]);
}

/// Every partition has one owner, who subscribes to it.
fn assert_sound(members: &[Vec<u8>], partitions: &[i32], sets: &[PartitionSet]) {
    let mut owners: BTreeMap<(TopicId, i32), usize> = BTreeMap::new();
    for (at, set) in sets.iter().enumerate() {
        for (id, partition) in set.iter() {
            assert!(members[at].iter().any(|number| topic(*number) == id));
            let other = owners.insert((id, partition), at);
            assert_eq!(other, None, "two owners of partition {partition}");
        }
    }
    let wanted: usize = (0_u8..)
        .zip(partitions)
        .filter(|(number, _)| members.iter().any(|topics| topics.contains(number)))
        .map(|(_, count)| usize::try_from(*count).unwrap())
        .sum();
    assert_eq!(owners.len(), wanted, "a partition without owner");
}

fn run(
    assignor: Assignor,
    members: &[Vec<u8>],
    before: &[PartitionSet],
    partitions: &[i32],
) -> Vec<PartitionSet> {
    let none = PartitionSet::default();
    let members: Vec<(&[u8], PartitionSet)> = members
        .iter()
        .enumerate()
        .map(|(at, topics)| (topics.as_slice(), before.get(at).unwrap_or(&none).clone()))
        .collect();
    assign(assignor, &members, partitions)
}

fn kept(before: &[PartitionSet], after: &[PartitionSet]) -> usize {
    let pairs = before.iter().zip(after);
    pairs
        .map(|(before, after)| {
            before
                .iter()
                .filter(|(topic, partition)| after.contains(*topic, *partition))
                .count()
        })
        .sum()
}

fn subscriptions() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let topics = proptest::collection::btree_set(0..5_u8, 0..5);
    proptest::collection::vec(topics.prop_map(|set| set.into_iter().collect()), 1..9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn all_assign_each_partition_once(
        first in subscriptions(),
        second in subscriptions(),
        partitions in proptest::collection::vec(0..9_i32, 5),
        later in proptest::collection::vec(0..9_i32, 5),
    ) {
        for assignor in [Assignor::Uniform, Assignor::Range] {
            let before = run(assignor, &first, &[], &partitions);
            assert_sound(&first, &partitions, &before);
            let after = run(assignor, &second, &before, &later);
            assert_sound(&second, &later, &after);
            // Nothing to do is nothing done.
            let again = run(assignor, &second, &after, &later);
            prop_assert_eq!(&again, &after);
        }
    }

    #[test]
    fn equal_subscriptions_move_least(
        count in 1..9_usize,
        next in 1..9_usize,
        topics in proptest::collection::btree_set(0..5_u8, 1..5),
        partitions in proptest::collection::vec(0..9_i32, 5),
    ) {
        let topics: Vec<u8> = topics.into_iter().collect();
        let before = run(Assignor::Uniform, &vec![topics.clone(); count], &[], &partitions);
        let members = vec![topics; next];
        let after = run(Assignor::Uniform, &members, &before, &partitions);
        let sizes: Vec<usize> = after.iter().map(PartitionSet::len).collect();
        let total: usize = sizes.iter().sum();
        prop_assert!(sizes.iter().all(|size| *size == total / next || *size == total.div_ceil(next)));
        // Whoever had at most its new share keeps all of it; the others keep a full share.
        let mut had: Vec<usize> = before.iter().take(next).map(PartitionSet::len).collect();
        had.sort_unstable_by(|one, other| other.cmp(one));
        let most: usize = had
            .iter()
            .enumerate()
            .map(|(rank, had)| (*had).min(total / next + usize::from(rank < total % next)))
            .sum();
        prop_assert_eq!(kept(&before, &after), most);
    }

    #[test]
    fn no_single_move_would_even_out_more(
        first in subscriptions(),
        second in subscriptions(),
        partitions in proptest::collection::vec(0..12_i32, 5),
    ) {
        let before = run(Assignor::Uniform, &first, &[], &partitions);
        let after = run(Assignor::Uniform, &second, &before, &partitions);
        for (at, set) in after.iter().enumerate() {
            for (id, _) in set.topics() {
                for (other, subscribed) in second.iter().enumerate() {
                    let takes = subscribed.iter().any(|number| topic(*number) == id);
                    prop_assert!(
                        !takes || set.len() <= after[other].len() + 1,
                        "member {} could give to {}", at, other
                    );
                }
            }
        }
    }

    #[test]
    fn range_shares_each_topic_evenly(
        first in subscriptions(),
        second in subscriptions(),
        partitions in proptest::collection::vec(0..12_i32, 5),
    ) {
        let before = run(Assignor::Range, &first, &[], &partitions);
        let after = run(Assignor::Range, &second, &before, &partitions);
        for (number, count) in (0..).zip(&partitions) {
            let sizes: Vec<usize> = second
                .iter()
                .zip(&after)
                .filter(|(topics, _)| topics.contains(&number))
                .map(|(_, set)| set.of(topic(number)).len())
                .collect();
            let count = usize::try_from(*count).unwrap();
            let share = count.checked_div(sizes.len()).unwrap_or(0);
            prop_assert!(sizes.iter().all(|size| *size == share || *size == share + 1));
        }
    }
}

/// 1,000 members and 10,000 partitions: a shape that anything quadratic would not survive.
#[test]
fn large_groups_are_assigned() {
    let partitions = [2500; 4];
    let all: Vec<u8> = (0..4).collect();
    let mut members = vec![all; 1000];
    for assignor in [Assignor::Uniform, Assignor::Range] {
        let before = run(assignor, &members, &[], &partitions);
        assert_sound(&members, &partitions, &before);
        members.truncate(999);
        let after = run(assignor, &members, &before, &partitions);
        assert_sound(&members, &partitions, &after);
        members.resize(1000, (0..4).collect());
    }
    // Half of them drop a topic: now subscriptions differ.
    let before = run(Assignor::Uniform, &members, &[], &partitions);
    for member in members.iter_mut().take(500) {
        member.truncate(3);
    }
    let after = run(Assignor::Uniform, &members, &before, &partitions);
    assert_sound(&members, &partitions, &after);
    assert!(after.iter().all(|set| set.len() == 10));
}

/// The same with lists of topics that members share, as a group does it, and what was looked at.
fn run_shared(
    assignor: Assignor,
    subscriptions: &[Vec<u8>],
    before: &[PartitionSet],
    partitions: &[i32],
) -> (Vec<PartitionSet>, usize) {
    let mut lists: BTreeMap<&[u8], Arc<[TopicId]>> = BTreeMap::new();
    let none = PartitionSet::default();
    let ids: Vec<String> = (0..subscriptions.len())
        .map(|at| format!("m{at:05}"))
        .collect();
    let mut members = Vec::new();
    for (at, topics) in subscriptions.iter().enumerate() {
        let list = lists
            .entry(topics)
            .or_insert_with(|| topics.iter().map(|number| topic(*number)).collect());
        members.push(AssignorMember {
            id: &ids[at],
            instance_id: None,
            topics: Arc::clone(list),
            owned: before.get(at).unwrap_or(&none),
        });
    }
    LOOKED_AT.set(0);
    let sets = assignor.assign(&members, &counts(partitions));
    (sets, LOOKED_AT.get())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn shared_lists_are_assigned_as_single_ones(
        first in subscriptions(),
        second in subscriptions(),
        partitions in proptest::collection::vec(0..9_i32, 5),
        later in proptest::collection::vec(0..9_i32, 5),
    ) {
        for assignor in [Assignor::Uniform, Assignor::Range] {
            let before = run(assignor, &first, &[], &partitions);
            let after = run(assignor, &second, &before, &later);
            prop_assert_eq!(run_shared(assignor, &second, &before, &later).0, after);
        }
    }
}

/// Members and topics are many at little cost, by an expression; partitions cost their owner's
/// disk.
#[test]
fn the_cost_of_many_members_is_not_that_of_their_topics() {
    const TOPICS: u8 = 200;
    let all: Vec<u8> = (0..TOPICS).collect();
    let partitions = [3; TOPICS as usize];
    let total: usize = 3 * usize::from(TOPICS);
    let mut members = vec![all; 5000];
    for (assignor, differ) in [
        (Assignor::Range, false),
        (Assignor::Range, true),
        (Assignor::Uniform, true),
    ] {
        let (before, first) = run_shared(assignor, &members, &[], &partitions);
        if differ {
            for member in members.iter_mut().take(2500) {
                member.truncate(150);
            }
        }
        let (after, second) = run_shared(assignor, &members, &before, &partitions);
        assert_sound(&members, &partitions, &after);
        for looked_at in [first, second] {
            assert!(looked_at <= 10 * total, "{assignor:?}: {looked_at}");
        }
    }
}
