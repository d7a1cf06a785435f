//! A native member takes over a classic group while its members wait for each other: what those hear.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use palisade_protocol::messages::heartbeat::HeartbeatRequest;
use palisade_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use palisade_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use palisade_protocol::text::Str;
use palisade_tests::access::Access;
use palisade_tests::check::eventually;
use palisade_tests::conversions;
use palisade_tests::target::Target;
use palisade_tests::wire::Connection;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaErrorCode;

use super::{PARTITIONS, PATIENCE, coordinator, describe, produce};
use crate::rdkafka::{config, create_topic};

const PROTOCOL: &str = "cooperative-sticky";
/// What the members subscribe to that only hold the group up.
const OTHER: &str = "conversion-other";

/// A string as the embedded protocol of consumers has it.
fn put_text(to: &mut BytesMut, text: &str) {
    to.put_i16(i16::try_from(text.len()).expect("a short name"));
    to.put_slice(text.as_bytes());
}

/// A subscription to `OTHER`, with nothing owned.
fn subscription() -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    bytes.put_i32(1);
    put_text(&mut bytes, OTHER);
    bytes.put_i32(-1);
    bytes.put_i32(0);
    bytes.freeze()
}

/// All partitions of a topic, or nothing at all.
fn assignment(topic: Option<&str>) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    match topic {
        None => bytes.put_i32(0),
        Some(topic) => {
            bytes.put_i32(1);
            put_text(&mut bytes, topic);
            bytes.put_i32(PARTITIONS);
            for partition in 0..PARTITIONS {
                bytes.put_i32(partition);
            }
        }
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

/// A classic member that joins when it is told to, and not before.
struct Holder {
    group: &'static str,
    connection: Connection,
    id: Str,
    generation: i32,
}

impl Holder {
    fn open(access: &Access, group: &'static str) -> Holder {
        Holder {
            group,
            connection: coordinator(access, group),
            id: Str::EMPTY,
            generation: -1,
        }
    }

    fn joining(&self) -> JoinGroupRequest {
        JoinGroupRequest {
            group_id: self.group.into(),
            session_timeout_ms: 60_000,
            rebalance_timeout_ms: 120_000,
            member_id: self.id.clone(),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: PROTOCOL.into(),
                metadata: subscription(),
            }],
            ..JoinGroupRequest::default()
        }
    }

    /// Joins as the leader, once the coordinator has loaded.
    fn join(&mut self) -> JoinGroupResponse {
        let joined = eventually("the coordinator", PATIENCE, || {
            let request = self.joining();
            let joined = self.connection.call(5, &request);
            let joined = joined.map_err(|error| error.to_string())?;
            if joined.error_code == ErrorCode::MEMBER_ID_REQUIRED {
                self.id = joined.member_id.clone();
            }
            match joined.error_code.is_error() {
                true => Err(joined.error_code.name().to_owned()),
                false => Ok(joined),
            }
        });
        assert_eq!(joined.leader, joined.member_id);
        self.id = joined.member_id.clone();
        self.generation = joined.generation_id;
        joined
    }

    fn syncing(&self, assignments: Vec<SyncGroupRequestAssignment>) -> SyncGroupRequest {
        SyncGroupRequest {
            group_id: self.group.into(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            assignments,
            ..SyncGroupRequest::default()
        }
    }

    /// Assigns a topic to all other members, and nothing to itself.
    fn sync(&mut self, joined: &JoinGroupResponse, topic: &str) {
        let members = joined
            .members
            .iter()
            .map(|member| SyncGroupRequestAssignment {
                member_id: member.member_id.clone(),
                assignment: assignment((member.member_id != self.id).then_some(topic)),
            });
        let request = self.syncing(members.collect());
        let answer = self.connection.call(3, &request).expect("an answer");
        assert_eq!(answer.error_code, ErrorCode::NONE);
    }

    /// Waits until some other member has joined, and waits for this one.
    fn until_waited_for(&mut self) {
        eventually("another member to wait", PATIENCE, || {
            let request = HeartbeatRequest {
                group_id: self.group.into(),
                generation_id: self.generation,
                member_id: self.id.clone(),
                ..HeartbeatRequest::default()
            };
            let answer = self.connection.call(3, &request).expect("an answer");
            match answer.error_code {
                ErrorCode::REBALANCE_IN_PROGRESS => Ok(()),
                code => Err(code.name().to_owned()),
            }
        });
    }

    /// Has a native member join beside it.
    fn convert(&mut self) {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.group.into(),
            member_id: "native".into(),
            member_epoch: 0,
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec![OTHER.into()]),
            topic_partitions: Some(Vec::new()),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let answer = self.connection.call(1, &request).expect("an answer");
        assert_eq!(answer.error_code, ErrorCode::NONE, "{answer:?}");
    }
}

/// A classic member of librdkafka, and what its application sees.
struct Reader {
    consumer: BaseConsumer,
    /// How often each value was read.
    seen: BTreeMap<usize, usize>,
    told: Vec<RDKafkaErrorCode>,
}

impl Reader {
    fn subscribed(access: &Access, group: &str, topic: &str) -> Reader {
        let mut config = config(access);
        config
            .set("group.id", group)
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", PROTOCOL)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("session.timeout.ms", "60000")
            .set("max.poll.interval.ms", "120000")
            .set("heartbeat.interval.ms", "100");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        consumer.subscribe(&[topic]).expect("subscribed");
        Reader {
            consumer,
            seen: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    fn until(&mut self, what: &str, wanted: impl Fn(&Reader) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(self) {
            let (seen, told) = (self.seen.len(), &self.told);
            assert!(Instant::now() < deadline, "{what}: {seen} read, {told:?}");
            match self.consumer.poll(Duration::from_millis(20)) {
                Some(Ok(message)) => {
                    let value = message.payload().expect("a value");
                    let value = std::str::from_utf8(value).expect("text");
                    let value = value.parse().expect("a number");
                    *self.seen.entry(value).or_default() += 1;
                }
                Some(Err(error)) => {
                    let code = error.rdkafka_error_code();
                    self.told.push(code.unwrap_or_else(|| panic!("{error}")));
                }
                None => {}
            }
        }
    }
}

/// A member of librdkafka waits in JoinGroup when the group is converted: its application is told so once, and it
/// goes on with what it had, without a record lost or read again.
#[test]
fn a_waiting_member_is_told_once_and_reads_on() {
    const GROUP: &str = "conversion";
    let target = Target::start_with(&[("group.initial.rebalance.delay.ms", "0")]);
    let access = target.scram("SCRAM-SHA-512");
    create_topic(&access, GROUP, PARTITIONS);
    create_topic(&access, OTHER, 1);
    let mut holder = Holder::open(&access, GROUP);
    let alone = holder.join();
    holder.sync(&alone, GROUP);
    let mut reader = Reader::subscribed(&access, GROUP, GROUP);
    holder.until_waited_for();
    let both = holder.join();
    assert_eq!(both.members.len(), 2);
    holder.sync(&both, GROUP);
    produce(&access, GROUP, 0..60);
    reader.until("the first records", |reader| reader.seen.len() == 60);
    assert_eq!(reader.told, []);

    // With another subscription it joins again, and waits for the holder, who does not come.
    let topics = reader.consumer.subscribe(&[GROUP, OTHER]);
    topics.expect("subscribed");
    holder.until_waited_for();
    holder.convert();
    reader.until("the word of the conversion", |reader| {
        !reader.told.is_empty()
    });
    produce(&access, GROUP, 60..120);
    reader.until("the other records", |reader| reader.seen.len() == 120);
    let mut connection = coordinator(&access, GROUP);
    let owns = eventually("the member's place", PATIENCE, || {
        let group = describe(&mut connection, GROUP);
        let mut members = group.members.iter();
        let member = members.find(|member| {
            let mut topics = member.subscribed_topic_names.iter();
            topics.any(|topic| **topic == *GROUP)
        });
        let member = member.ok_or_else(|| format!("{group:?}"))?;
        match (member.member_type, member.member_epoch == group.group_epoch) {
            (0, true) => Ok(member.assignment.clone()),
            _ => Err(format!("{group:?}")),
        }
    });
    let mut topics = owns.topic_partitions.iter();
    let owned = topics.find(|topic| *topic.topic_name == *GROUP);
    let owned = owned.map(|topic| topic.partitions.len());
    assert_eq!(owned, usize::try_from(PARTITIONS).ok(), "{owns:?}");
    assert_eq!(reader.told, [RDKafkaErrorCode::RebalanceInProgress]);
    assert!(
        reader.seen.values().all(|times| *times == 1),
        "{:?}",
        reader.seen
    );
}

/// The same on the wire: JoinGroup is answered with the member's own id beside the code, so that it comes again as
/// who it is.
#[test]
fn a_waiting_join_is_answered_with_its_id() {
    const GROUP: &str = "conversion-join";
    let target = Target::start_with(&[("group.initial.rebalance.delay.ms", "0")]);
    let access = target.scram("SCRAM-SHA-512");
    create_topic(&access, OTHER, 1);
    let mut holder = Holder::open(&access, GROUP);
    let alone = holder.join();
    holder.sync(&alone, OTHER);
    let mut waiting = Holder::open(&access, GROUP);
    let request = waiting.joining();
    let known = waiting.connection.call(5, &request).expect("an answer");
    assert_eq!(known.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    waiting.id = known.member_id;
    let request = waiting.joining();
    let asked = waiting.connection.ask(5, &request).expect("sent");
    holder.until_waited_for();
    holder.convert();
    let answer = waiting.connection.answer::<JoinGroupRequest>(5, asked);
    let answer = answer.expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(answer.member_id, waiting.id);
    assert_eq!((answer.generation_id, answer.members.len()), (-1, 0));
    let again = waiting.connection.call(5, &request).expect("an answer");
    assert_eq!(again.error_code, ErrorCode::NONE);
    assert_eq!(again.member_id, waiting.id);
    if let Target::Palisade(node) = &target {
        // The count that other tests rely on.
        assert_eq!(conversions::count(node), 1);
    }
}
