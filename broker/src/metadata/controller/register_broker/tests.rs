//! Registration, fencing and producer ids.

use palisade_protocol::Str;
use palisade_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use palisade_protocol::types::ProducerId;

use super::super::testing::{Bench, internal, user};
use super::super::{AllocateProducerIds, ProducerIdBlock};
use super::*;

fn register(id: i32, incarnation: u8) -> RegisterBroker {
    RegisterBroker {
        cluster_id: "test".to_owned(),
        broker_id: BrokerId::new(id),
        incarnation: Uuid::from_bytes([incarnation; 16]),
        endpoints: vec![BrokerEndpoint {
            listener: "CLIENT".to_owned(),
            host: "localhost".to_owned(),
            port: 9092,
            security_protocol: 3,
        }],
        rack: None,
    }
}

fn let_in(id: i32, epoch: i64) -> SetBrokerFenced {
    SetBrokerFenced {
        broker_id: BrokerId::new(id),
        broker_epoch: epoch,
        fenced: false,
    }
}

#[test]
fn a_restart_moves_the_leader_epoch() {
    let mut bench = Bench::with_brokers(&[]);
    let first = bench.submit(&register(3, 1), 0, internal()).unwrap();
    assert!(
        !bench.image.brokers.is_live(BrokerId::new(3)),
        "it starts fenced"
    );
    bench.submit(&let_in(3, first), 0, internal()).unwrap();
    let topic = CreatableTopic {
        name: Str::from("a"),
        num_partitions: 2,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let create = CreateTopicsRequest {
        topics: vec![topic],
        ..Default::default()
    };
    bench.submit(&create, 7, user("root"));

    let second = bench.submit(&register(3, 2), 0, internal()).unwrap();
    assert!(second > first);
    let partition = bench.image.topics.get("a").unwrap().partitions[1].clone();
    assert_eq!(partition.leader, None);
    assert_eq!(
        partition.isr,
        [BrokerId::new(3)],
        "the last one stays in sync"
    );
    assert_eq!(partition.leader_epoch.value(), 1);

    assert_eq!(
        bench.submit(&let_in(3, first), 0, internal()),
        Err(ErrorCode::STALE_BROKER_EPOCH)
    );
    bench.submit(&let_in(3, second), 0, internal()).unwrap();
    let partition = bench.image.topics.get("a").unwrap().partitions[1].clone();
    assert_eq!(partition.leader, Some(BrokerId::new(3)));
    assert_eq!(
        (partition.leader_epoch.value(), partition.partition_epoch),
        (2, 2)
    );
    let id = bench.image.topics.get("a").unwrap().id;
    assert_eq!(bench.last_delta.topics_changed[&id].partitions.len(), 2);
    // Asking again changes nothing.
    let before = bench.image.offset;
    bench.submit(&let_in(3, second), 0, internal()).unwrap();
    assert_eq!(bench.image.offset, before);
}

#[test]
fn another_replica_takes_over() {
    let mut bench = Bench::with_brokers(&[(1, None, true), (2, None, true)]);
    let topic = CreatableTopic {
        name: Str::from("a"),
        num_partitions: 2,
        replication_factor: 2,
        ..CreatableTopic::default()
    };
    let create = CreateTopicsRequest {
        topics: vec![topic],
        ..Default::default()
    };
    bench.submit(&create, 7, user("root"));
    let fence = SetBrokerFenced {
        broker_id: BrokerId::new(1),
        broker_epoch: 0,
        fenced: true,
    };
    bench.submit(&fence, 0, internal()).unwrap();
    for partition in &bench.image.topics.get("a").unwrap().partitions {
        assert_eq!(partition.leader, Some(BrokerId::new(2)));
        assert_eq!(partition.isr, [BrokerId::new(2)]);
    }
}

#[test]
fn bad_registrations() {
    let mut bench = Bench::new();
    let other = RegisterBroker {
        cluster_id: "other".to_owned(),
        ..register(3, 1)
    };
    assert_eq!(
        bench.submit(&other, 0, internal()),
        Err(ErrorCode::INCONSISTENT_CLUSTER_ID)
    );
    let silent = RegisterBroker {
        endpoints: Vec::new(),
        ..register(3, 1)
    };
    assert_eq!(
        bench.submit(&silent, 0, internal()),
        Err(ErrorCode::INVALID_REGISTRATION)
    );
    assert_eq!(
        bench.submit(&register(3, 1), 0, user("ann")),
        Err(ErrorCode::CLUSTER_AUTHORIZATION_FAILED)
    );
    assert_eq!(
        bench.submit(&let_in(9, 0), 0, internal()),
        Err(ErrorCode::BROKER_ID_NOT_REGISTERED)
    );
}

#[test]
fn producer_ids_are_handed_out_once() {
    let mut bench = Bench::new();
    let ask = AllocateProducerIds {
        broker_id: BrokerId::new(0),
        broker_epoch: 0,
    };
    for first in [0, 1000, 2000] {
        let block = bench.submit(&ask, 0, internal()).unwrap();
        assert_eq!(
            block,
            ProducerIdBlock {
                first: ProducerId::new(first),
                count: 1000
            }
        );
    }
    let stale = AllocateProducerIds {
        broker_epoch: 5,
        ..ask.clone()
    };
    assert_eq!(
        bench.submit(&stale, 0, internal()),
        Err(ErrorCode::STALE_BROKER_EPOCH)
    );
    assert_eq!(
        bench.submit(&ask, 0, user("ann")),
        Err(ErrorCode::CLUSTER_AUTHORIZATION_FAILED)
    );
}
