//! Any history of records and the snapshot of where it led agree.

use palisade_auth::Secret;
use palisade_auth::acl::{AclBinding, Operation, PatternType, Permission, ResourceType};
use palisade_auth::scram::{ScramCredential, ScramMechanism};
use palisade_protocol::types::Uuid;
use proptest::prelude::*;

use super::*;
use crate::metadata::delta::ClusterDelta;
use crate::metadata::record::{BrokerEndpoint, BrokerRegistration};

/// One step: which kind of record, about which thing, with which detail.
type Step = (u8, u8, u8);

fn id_of(topic: u8) -> Uuid {
    Uuid::from_bytes([topic + 1; 16])
}

/// The record of a step, where one of its kind fits the image.
fn record(image: &ClusterImage, (kind, thing, detail): Step) -> Option<MetadataRecord> {
    let thing = thing % 4;
    let name = format!("t.{thing}");
    let topic = image.topics.get(&name);
    Some(match kind % 12 {
        0 if topic.is_none() => MetadataRecord::Topic {
            id: id_of(thing),
            name,
        },
        1 => {
            let topic = topic?;
            let next = topic.partitions.len();
            let index = usize::from(detail) % (next + 1);
            let old = topic.partitions.get(index);
            let epoch = old.map_or(0, |old| old.leader_epoch.value() + i32::from(detail % 2));
            MetadataRecord::Partition(PartitionRecord {
                topic_id: topic.id,
                partition: PartitionIndex::new(i32::try_from(index).unwrap()),
                replicas: vec![BrokerId::new(1), BrokerId::new(i32::from(detail))],
                isr: vec![BrokerId::new(1)],
                leader: (detail % 3 > 0).then_some(BrokerId::new(1)),
                leader_epoch: LeaderEpoch::new(epoch),
                partition_epoch: old.map_or(0, |old| old.partition_epoch + 1),
            })
        }
        2 => MetadataRecord::RemoveTopic { id: topic?.id },
        3 => MetadataRecord::Config {
            resource_type: ConfigResourceType::Topic,
            resource_name: topic?.name.to_string(),
            key: format!("key-{}", detail % 3),
            value: (detail % 2 == 0).then(|| format!("value-{detail}")),
        },
        4 => MetadataRecord::Config {
            resource_type: ConfigResourceType::Broker,
            resource_name: thing.to_string(),
            key: format!("key-{}", detail % 3),
            value: (detail % 2 == 0).then(|| format!("value-{detail}")),
        },
        5 => MetadataRecord::RegisterBroker(BrokerRegistration {
            id: BrokerId::new(i32::from(thing)),
            incarnation: id_of(detail % 200),
            epoch: i64::from(detail),
            endpoints: vec![BrokerEndpoint {
                listener: "L".to_owned(),
                host: "größe".to_owned(),
                port: u16::from(detail),
                security_protocol: 3,
            }],
            rack: (detail % 2 == 0).then(|| "r".to_owned()),
            fenced: detail % 3 == 0,
        }),
        6 => {
            let broker = image.brokers.get(BrokerId::new(i32::from(thing)))?;
            let fenced = detail % 2 == 0;
            MetadataRecord::FenceBroker {
                id: broker.id,
                epoch: broker.epoch,
                fenced,
            }
        }
        7 | 8 => {
            let acl = AclBinding {
                resource_type: ResourceType::Topic,
                resource_name: name,
                pattern_type: PatternType::Prefixed,
                principal: format!("User:{}", detail % 5),
                host: "*".to_owned(),
                operation: Operation::Read,
                permission: Permission::Deny,
            };
            if kind % 12 == 7 {
                MetadataRecord::Acl(acl)
            } else {
                MetadataRecord::RemoveAcl(acl)
            }
        }
        9 | 10 => {
            let mechanism = if detail % 2 == 0 {
                ScramMechanism::Sha256
            } else {
                ScramMechanism::Sha512
            };
            let user = format!("u{thing}");
            if kind % 12 == 10 {
                return Some(MetadataRecord::RemoveScram { user, mechanism });
            }
            let salted = vec![detail; mechanism.key_len()];
            let credential =
                ScramCredential::from_salted_password(mechanism, &salted, b"salt", 4096).unwrap();
            MetadataRecord::Scram { user, credential }
        }
        11 => MetadataRecord::ProducerIds {
            broker_id: BrokerId::new(1),
            broker_epoch: 2,
            next: ProducerId::new(image.next_producer_id.value() + i64::from(detail)),
        },
        _ => return None,
    })
}

fn first_records() -> Vec<MetadataRecord> {
    vec![
        MetadataRecord::ClusterId("c".to_owned()),
        MetadataRecord::FakeSaltSecret(Secret::new(vec![5; 32])),
        MetadataRecord::FeatureLevel {
            name: "metadata.version".to_owned(),
            level: 30,
        },
    ]
}

fn same(a: &ClusterImage, b: &ClusterImage) {
    assert_eq!(records_of(a), records_of(b));
    assert_eq!((a.offset, a.epoch), (b.offset, b.epoch));
    assert_eq!(a.topics.names, b.topics.names);
    assert_eq!(a.topics.normalized, b.topics.normalized);
    assert_eq!(a.acls.cache().len(), b.acls.set().len());
    assert_eq!(a.acls.cache().is_loaded(), b.acls.cache().is_loaded());
}

proptest! {
    #[test]
    fn one_by_one_in_batches_and_from_a_snapshot(
        steps in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 0..120),
        cut in 0usize..120,
    ) {
        let mut history = first_records();
        let mut image = ClusterImage::empty();
        let mut restored: Option<ClusterImage> = None;
        let mut done = 0;
        for (number, step) in steps.into_iter().enumerate() {
            if number == cut {
                restored = Some(decode(&encode(&image)).unwrap());
                same(&image, restored.as_ref().unwrap());
            }
            history.extend(record(&image, step));
            // One record at a time, each through its bytes.
            for record in &history[done..] {
                let bytes = encode_batch(std::slice::from_ref(record));
                let read = decode_batch(&bytes).unwrap();
                for image in std::iter::once(&mut image).chain(restored.as_mut()) {
                    let mut builder = ImageBuilder::new(image);
                    builder.apply(&read[0]).unwrap();
                    builder.advance(Offset::new(i64::try_from(done).unwrap()), LeaderEpoch::new(3));
                    *image = builder.finish().1;
                }
            }
            done = history.len();
        }
        if let Some(restored) = &restored {
            same(&image, restored);
        }
        // All in one batch: the same image, and a delta that names every topic there is.
        let mut builder = ImageBuilder::new(&ClusterImage::empty());
        for record in &history[..done] {
            builder.apply(record).unwrap();
        }
        builder.advance(image.offset, image.epoch);
        let (delta, at_once) = builder.finish();
        same(&image, &at_once);
        prop_assert_eq!(delta.topics_created, ClusterDelta::everything(&image).topics_created);
        prop_assert!(delta.topics_deleted.is_empty() && delta.topics_changed.is_empty());
    }

    #[test]
    fn cut_batches_are_refused_and_damaged_ones_do_not_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        flip in any::<(u16, u8)>(),
    ) {
        let _ = decode(&bytes);
        let _ = decode_batch(&bytes);
        let mut batch = encode_batch(&first_records());
        for end in 0..batch.len() {
            prop_assert!(decode_batch(&batch[..end]).is_err(), "cut at {end}");
        }
        // A changed byte may make another record that reads.
        let at = usize::from(flip.0) % batch.len();
        batch[at] ^= flip.1;
        let _ = decode_batch(&batch);
    }
}

#[test]
fn a_newer_format_is_refused_with_both_numbers() {
    let mut bytes = encode(&ClusterImage::empty());
    bytes[1] = 7;
    let error = decode(&bytes).unwrap_err();
    assert!(
        matches!(
            error,
            SnapshotError::Codec(CodecError::TooNew {
                found: 7,
                supported: 1,
                ..
            })
        ),
        "{error}"
    );
    let mut batch = encode_batch(&[MetadataRecord::ClusterId("c".to_owned())]);
    batch[7] = 99;
    let error = decode_batch(&batch).unwrap_err();
    assert!(
        matches!(error, CodecError::TooNew { found: 99, .. }),
        "{error}"
    );
}

#[test]
fn records_that_do_not_fit_are_refused() {
    let mut builder = ImageBuilder::new(&ClusterImage::empty());
    builder
        .apply(&MetadataRecord::ClusterId("c".to_owned()))
        .unwrap();
    let id = id_of(1);
    let partition = |partition, epoch| {
        MetadataRecord::Partition(PartitionRecord {
            topic_id: id,
            partition: PartitionIndex::new(partition),
            replicas: vec![BrokerId::new(1)],
            isr: vec![BrokerId::new(1)],
            leader: None,
            leader_epoch: LeaderEpoch::new(epoch),
            partition_epoch: epoch,
        })
    };
    assert_eq!(
        builder.apply(&partition(0, 0)),
        Err(ApplyError::NoSuchTopic(id))
    );
    builder
        .apply(&MetadataRecord::Topic {
            id,
            name: "t".to_owned(),
        })
        .unwrap();
    builder.apply(&partition(0, 5)).unwrap();
    assert!(matches!(
        builder.apply(&partition(2, 0)),
        Err(ApplyError::PartitionGap { .. })
    ));
    assert!(matches!(
        builder.apply(&partition(-1, 0)),
        Err(ApplyError::PartitionGap { .. })
    ));
    assert!(matches!(
        builder.apply(&partition(0, 4)),
        Err(ApplyError::EpochWentBack { .. })
    ));
    let again = MetadataRecord::Topic {
        id: id_of(2),
        name: "t".to_owned(),
    };
    assert!(matches!(
        builder.apply(&again),
        Err(ApplyError::TopicExists(_))
    ));
    let cluster = MetadataRecord::ClusterId("d".to_owned());
    assert_eq!(
        builder.apply(&cluster),
        Err(ApplyError::SetTwice("cluster id"))
    );
}
