use bytes::Bytes;
use palisade_protocol::{Str, Uuid};

use super::record::*;

/// Bytes as Kafka's schemas lay them out, written by hand: numbers, then texts.
struct Hand(Vec<u8>);

impl Hand {
    fn new(prefix: i16) -> Self {
        Self(prefix.to_be_bytes().to_vec())
    }

    fn i8(mut self, value: i8) -> Self {
        self.0.push(value.cast_unsigned());
        self
    }

    fn i16(mut self, value: i16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i64(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Classic string.
    fn text(self, text: &str) -> Self {
        self.i16(i16::try_from(text.len()).unwrap())
            .raw(text.as_bytes())
    }

    /// Compact string, or bytes.
    fn compact(self, text: &str) -> Self {
        let length = u8::try_from(text.len() + 1).unwrap();
        self.raw(&[length]).raw(text.as_bytes())
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
}

const TOPIC: Uuid = Uuid::from_bytes([7; 16]);

fn group() -> Str {
    "g".into()
}

fn assert_both_ways(record: &GroupRecord, key: Hand, value: Option<Hand>) {
    let (key, value) = (Bytes::from(key.0), value.map(|value| Bytes::from(value.0)));
    assert_eq!(
        record.encode().unwrap(),
        (key.clone(), value.clone()),
        "{record:?}"
    );
    assert_eq!(&GroupRecord::decode(Some(key), value).unwrap(), record);
}

fn offset(value: Option<OffsetCommitValue>) -> GroupRecord {
    GroupRecord::Offset {
        group: group(),
        topic: "t".into(),
        partition: 3,
        value,
    }
}

fn committed() -> OffsetCommitValue {
    OffsetCommitValue {
        offset: 42,
        leader_epoch: 5,
        metadata: "m".into(),
        commit_timestamp: 1000,
        expire_timestamp: -1,
        topic_id: TOPIC,
    }
}

#[test]
fn offsets_are_written_in_version_4() {
    let key = || Hand::new(1).text("g").text("t").i32(3);
    let value = Hand::new(4).i64(42).i32(5).compact("m").i64(1000);
    let tagged = value.raw(&[1, 0, 16]).raw(&[7; 16]);
    assert_both_ways(&offset(Some(committed())), key(), Some(tagged));
    let without_id = OffsetCommitValue {
        topic_id: Uuid::NIL,
        ..committed()
    };
    let value = Hand::new(4).i64(42).i32(5).compact("m").i64(1000).raw(&[0]);
    assert_both_ways(&offset(Some(without_id)), key(), Some(value));
    assert_both_ways(&offset(None), key(), None);
}

#[test]
fn a_retention_time_is_written_in_version_1() {
    let record = offset(Some(OffsetCommitValue {
        leader_epoch: -1,
        expire_timestamp: 9000,
        topic_id: Uuid::NIL,
        ..committed()
    }));
    let key = Hand::new(1).text("g").text("t").i32(3);
    let value = Hand::new(1).i64(42).text("m").i64(1000).i64(9000);
    assert_both_ways(&record, key, Some(value));
}

#[test]
fn older_offsets_are_read() {
    let plain = OffsetCommitValue {
        leader_epoch: -1,
        topic_id: Uuid::NIL,
        ..committed()
    };
    let v0 = Hand::new(0).i64(42).text("m").i64(1000);
    let v2 = Hand::new(2).i64(42).text("m").i64(1000);
    let v3 = Hand::new(3).i64(42).i32(5).text("m").i64(1000);
    let with_epoch = OffsetCommitValue {
        leader_epoch: 5,
        ..plain.clone()
    };
    for (kind, value, expected) in [(0, v0, &plain), (1, v2, &plain), (1, v3, &with_epoch)] {
        let key = Hand::new(kind).text("g").text("t").i32(3);
        let read = GroupRecord::decode(Some(key.0.into()), Some(value.0.into())).unwrap();
        assert_eq!(read, offset(Some(expected.clone())));
    }
}

#[test]
fn classic_groups_are_written_in_version_3() {
    let record = GroupRecord::Group {
        group: group(),
        value: Some(GroupMetadataValue {
            protocol_type: "consumer".into(),
            generation: 2,
            protocol: Some("range".into()),
            leader: Some("m1".into()),
            current_state_timestamp: 77,
            members: vec![GroupMetadataMember {
                member_id: "m1".into(),
                group_instance_id: None,
                client_id: "c".into(),
                client_host: "/h".into(),
                rebalance_timeout: 300,
                session_timeout: 45,
                subscription: Bytes::from_static(b"ss"),
                assignment: Bytes::from_static(b"a"),
            }],
        }),
    };
    let value = Hand::new(3)
        .text("consumer")
        .i32(2)
        .text("range")
        .text("m1")
        .i64(77);
    let member = value
        .i32(1)
        .text("m1")
        .i16(-1)
        .text("c")
        .text("/h")
        .i32(300)
        .i32(45);
    let value = member.i32(2).raw(b"ss").i32(1).raw(b"a");
    assert_both_ways(&record, Hand::new(2).text("g"), Some(value));
}

#[test]
fn native_members_say_that_they_are_no_classic_ones() {
    let mut member = MemberValue {
        instance_id: Some("i".into()),
        rack_id: None,
        client_id: "c".into(),
        client_host: "/h".into(),
        subscribed_topic_names: vec!["t".into()],
        subscribed_topic_regex: Some("".into()),
        rebalance_timeout_ms: 9,
        server_assignor: None,
        classic_member_metadata: ClassicMember(None),
    };
    let record = |value: MemberValue| GroupRecord::Member {
        group: group(),
        member: "m".into(),
        value: Some(value),
    };
    let key = || Hand::new(5).text("g").text("m");
    let common = || {
        let start = Hand::new(0)
            .compact("i")
            .raw(&[0])
            .compact("c")
            .compact("/h");
        start.raw(&[2]).compact("t").compact("").i32(9).raw(&[0])
    };
    assert_both_ways(
        &record(member.clone()),
        key(),
        Some(common().raw(&[1, 0, 1, 0])),
    );

    member.classic_member_metadata = ClassicMember(Some(ClassicMemberMetadata {
        session_timeout_ms: 45,
        supported_protocols: vec![ClassicProtocol {
            name: "r".into(),
            metadata: Bytes::from_static(b"x"),
        }],
    }));
    // Present, timeout, one protocol (name, metadata, no tags), no tags.
    let classic = common()
        .raw(&[1, 0, 12, 1])
        .i32(45)
        .raw(&[2])
        .compact("r")
        .compact("x");
    assert_both_ways(&record(member.clone()), key(), Some(classic.raw(&[0, 0])));

    // A missing tag is an empty struct, as in the original.
    let read = GroupRecord::decode(Some(key().0.into()), Some(common().raw(&[0]).0.into()));
    member.classic_member_metadata = ClassicMember::default();
    assert_eq!(read.unwrap(), record(member));
}

#[test]
fn the_other_records_of_consumer_groups() {
    let epoch = GroupRecord::ConsumerGroup {
        group: group(),
        value: Some(EpochValue {
            epoch: 6,
            metadata_hash: 11,
        }),
    };
    let value = Hand::new(0).i32(6).raw(&[1, 0, 8]).i64(11);
    assert_both_ways(&epoch, Hand::new(3).text("g"), Some(value));

    let gone = GroupRecord::PartitionMetadata { group: group() };
    assert_both_ways(&gone, Hand::new(4).text("g"), None);

    let target_epoch = GroupRecord::TargetEpoch {
        group: group(),
        value: Some(TargetAssignmentEpochValue {
            assignment_epoch: 6,
            assignment_timestamp: 0,
        }),
    };
    let value = Hand::new(0).i32(6).raw(&[0]);
    assert_both_ways(&target_epoch, Hand::new(6).text("g"), Some(value));

    let target = GroupRecord::Target {
        group: group(),
        member: "m".into(),
        value: Some(TargetAssignmentValue {
            topic_partitions: vec![TargetPartitions {
                topic_id: TOPIC,
                partitions: vec![1, 2],
            }],
        }),
    };
    let value = Hand::new(0).raw(&[2]).raw(&[7; 16]).raw(&[3]).i32(1).i32(2);
    let key = Hand::new(7).text("g").text("m");
    assert_both_ways(&target, key, Some(value.raw(&[0, 0])));

    let current = GroupRecord::Current {
        group: group(),
        member: "m".into(),
        value: Some(CurrentAssignmentValue {
            member_epoch: 6,
            previous_member_epoch: 5,
            state: 1,
            assigned_partitions: vec![AssignedPartitions {
                topic_id: TOPIC,
                partitions: vec![1],
                assignment_epochs: Some(vec![4]),
            }],
            partitions_pending_revocation: Vec::new(),
        }),
    };
    let start = Hand::new(0)
        .i32(6)
        .i32(5)
        .i8(1)
        .raw(&[2])
        .raw(&[7; 16])
        .raw(&[2])
        .i32(1);
    let value = start.raw(&[1, 0, 5, 2]).i32(4).raw(&[1, 0]);
    assert_both_ways(&current, Hand::new(8).text("g").text("m"), Some(value));

    let regex = GroupRecord::Regex {
        group: group(),
        regex: "t.*".into(),
        value: Some(RegexValue {
            topics: vec!["t1".into()],
            metadata_version: 8,
            timestamp: 9,
        }),
    };
    let value = Hand::new(0).raw(&[2]).compact("t1").i64(8).i64(9).raw(&[0]);
    assert_both_ways(&regex, Hand::new(16).text("g").text("t.*"), Some(value));
}

#[test]
fn tombstones_of_every_kind_are_read_back() {
    let (group, member) = (group(), Str::from("m"));
    let (a, b) = (|| group.clone(), || member.clone());
    let all = [
        offset(None),
        GroupRecord::Group {
            group: a(),
            value: None,
        },
        GroupRecord::ConsumerGroup {
            group: a(),
            value: None,
        },
        GroupRecord::Member {
            group: a(),
            member: b(),
            value: None,
        },
        GroupRecord::TargetEpoch {
            group: a(),
            value: None,
        },
        GroupRecord::Target {
            group: a(),
            member: b(),
            value: None,
        },
        GroupRecord::Current {
            group: a(),
            member: b(),
            value: None,
        },
        GroupRecord::Regex {
            group: a(),
            regex: b(),
            value: None,
        },
    ];
    for record in all {
        let (key, value) = record.encode().unwrap();
        assert_eq!(value, None);
        assert_eq!(record.group(), "g");
        assert_eq!(GroupRecord::decode(Some(key), None).unwrap(), record);
    }
}

#[test]
fn strange_records_are_told_apart() {
    let of_share_group = Bytes::from(Hand::new(11).text("g").0);
    let unknown = GroupRecord::decode(Some(of_share_group), None);
    assert_eq!(unknown, Err(RecordError::UnknownKind(11)));
    assert_eq!(GroupRecord::decode(None, None), Err(RecordError::NoKey));
    let key = Bytes::from(Hand::new(1).text("g").text("t").i32(3).0);
    let newer = Bytes::from(Hand::new(9).0);
    let read = GroupRecord::decode(Some(key.clone()), Some(newer));
    assert!(matches!(read, Err(RecordError::Malformed(_))));
    for end in 0..key.len() {
        assert!(GroupRecord::decode(Some(key.slice(..end)), None).is_err());
    }
}
