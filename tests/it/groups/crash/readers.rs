//! Members of a real client that read, commit every record, and come and go, through every kill.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use palisade_tests::access::Access;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::told::Told;
use super::{TIMEOUT_MS, next};
use crate::rdkafka::config;

pub(super) const TOPIC: &str = "group-crash-read";
/// A consumer group with members of both protocols.
pub(super) const GROUP: &str = "group-crash-native";
pub(super) const PARTITIONS: i32 = 3;
/// More than all members read together.
pub(super) const RECORDS: i32 = 20_000;

/// How a member takes part.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// KIP-848, and it stays.
    Native,
    /// KIP-848, and it leaves and comes back.
    NativeGuest,
    /// JoinGroup and SyncGroup, and it leaves and comes back.
    ClassicGuest,
}

/// What all members of the group have done.
#[derive(Default)]
pub(super) struct Readers {
    over: AtomicBool,
    /// Acknowledged commits of each kind of member.
    commits: [AtomicU64; 3],
    /// One more than the highest offset that was sent, by partition.
    attempted: [AtomicI64; PARTITIONS as usize],
    /// The same of those whose commit was acknowledged.
    acknowledged: [AtomicI64; PARTITIONS as usize],
    /// Errors of polls.
    told: Told,
    /// Errors of commits.
    refused: Told,
}

/// Ends the members, also where the test fails.
pub(super) struct Ending<'a>(&'a Readers);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

impl Readers {
    pub(super) fn ending(&self) -> Ending<'_> {
        Ending(self)
    }

    /// How many commits of each kind of member were acknowledged.
    pub(super) fn commits_by_kind(&self) -> [u64; 3] {
        self.commits
            .each_ref()
            .map(|count| count.load(Ordering::Acquire))
    }

    /// How often a member heard that the group in which it waited is none of its protocol any more.
    pub(super) fn were_converted(&self) -> usize {
        self.told
            .count(&name_of(RDKafkaErrorCode::RebalanceInProgress))
    }

    /// How many commits were acknowledged.
    pub(super) fn commits(&self) -> u64 {
        self.commits_by_kind().iter().sum()
    }

    /// The highest next offsets that were acknowledged; 0 for none.
    pub(super) fn acknowledged(&self) -> Vec<i64> {
        let all = self.acknowledged.iter();
        all.map(|offset| offset.load(Ordering::Acquire)).collect()
    }

    /// The highest next offsets that were sent; 0 for none.
    pub(super) fn attempted(&self) -> Vec<i64> {
        let all = self.attempted.iter();
        all.map(|offset| offset.load(Ordering::Acquire)).collect()
    }

    /// One member after the other, until the test is over.
    pub(super) fn run(&self, access: &Access, kind: Kind, seed: u64) {
        let mut random = seed | 1;
        while !self.over.load(Ordering::Acquire) {
            let stays = match kind {
                Kind::Native => u64::MAX,
                Kind::NativeGuest | Kind::ClassicGuest => 1 + next(&mut random) % 40,
            };
            self.read(&member(access, kind), kind, stays);
        }
    }

    fn read(&self, member: &BaseConsumer, kind: Kind, stays: u64) {
        let mut commits = 0;
        while commits < stays && !self.over.load(Ordering::Acquire) {
            // Errors are those of a client whose broker is away, or whose group is becoming one of the
            // other protocol; how often that may be the end of the test says.
            let message = match member.poll(Duration::from_millis(20)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    let may_be_converted = kind == Kind::ClassicGuest && is_converted(&error);
                    let is_known = is_away(&error) || may_be_converted;
                    assert!(is_known, "a member is told {error}");
                    self.told.hear(name(&error));
                    continue;
                }
                None => continue,
            };
            if self.commit(member, message.partition(), message.offset() + 1) {
                self.commits[kind as usize].fetch_add(1, Ordering::AcqRel);
                commits += 1;
            }
        }
    }

    fn commit(&self, member: &BaseConsumer, partition: i32, offset: i64) -> bool {
        let at = usize::try_from(partition).expect("few partitions");
        self.attempted[at].fetch_max(offset, Ordering::AcqRel);
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(TOPIC, partition, Offset::Offset(offset))
            .expect("an offset");
        match member.commit(&offsets, CommitMode::Sync) {
            Ok(()) => {
                self.acknowledged[at].fetch_max(offset, Ordering::AcqRel);
                true
            }
            Err(error) => {
                let is_known = is_away(&error) || is_out_of_step(&error);
                assert!(is_known, "a commit is answered {error}");
                self.refused.hear(name(&error));
                false
            }
        }
    }
}

impl fmt::Display for Readers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "polls {}, commits {}", self.told, self.refused)
    }
}

fn name(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(code) => name_of(code),
        None => error.to_string(),
    }
}

fn name_of(code: RDKafkaErrorCode) -> String {
    format!("{code:?}")
}

/// What the client says while its broker is killed or starts.
fn is_away(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, CoordinatorLoadInProgress, OperationTimedOut,
        WaitingForCoordinator,
    };
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| {
        matches!(
            code,
            AllBrokersDown
                | BrokerTransportFailure
                | CoordinatorLoadInProgress
                | OperationTimedOut
                | WaitingForCoordinator
        )
    })
}

/// What who waits in a classic group hears when that becomes one of the new protocol.
///
/// Nothing else makes it an error of a poll: librdkafka tells its application of the code where it is
/// JoinGroup's, before it joins again, and keeps it to itself where it is SyncGroup's or Heartbeat's; and a
/// coordinator has no other reason to answer a JoinGroup so. `consumer_protocol/conversion.rs` shows one by one
/// what here happens by chance.
fn is_converted(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::RebalanceInProgress)
}

/// What a member hears that commits while the group goes on without it, or from one state to the next.
fn is_out_of_step(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        FencedMemberEpoch, IllegalGeneration, RebalanceInProgress, StaleMemberEpoch,
        UnknownMemberId,
    };
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| {
        matches!(
            code,
            FencedMemberEpoch
                | IllegalGeneration
                | RebalanceInProgress
                | StaleMemberEpoch
                | UnknownMemberId
        )
    })
}

fn member(access: &Access, kind: Kind) -> BaseConsumer {
    let mut config = config(access);
    config
        .set("group.id", GROUP)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "50")
        .set("retry.backoff.ms", "20")
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "100");
    match kind {
        Kind::Native | Kind::NativeGuest => config.set("group.protocol", "consumer"),
        Kind::ClassicGuest => config
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", TIMEOUT_MS.to_string())
            .set("heartbeat.interval.ms", "100"),
    };
    let consumer: BaseConsumer = config.create().expect("a consumer");
    consumer.subscribe(&[TOPIC]).expect("subscribed");
    consumer
}
