//! Groups, their offsets, share and streams groups (configs.md §3.4).

use super::{Key, Valid, boolean, int, list, long, short, string};

const I32_MAX: &str = "2147483647";
const ONE_NODE: &str = "a single node holds every replica so far; set 1 or leave it out";

pub(super) const KEYS: &[Key] = &[
    int("group.min.session.timeout.ms").or("6000").effect(),
    int("group.max.session.timeout.ms").or("1800000").effect(),
    int("group.initial.rebalance.delay.ms").or("3000").effect(),
    int("group.max.size").or(I32_MAX).min(1).effect(),
    list("group.coordinator.rebalance.protocols")
        .or("classic,consumer,streams")
        .one_of(&["classic", "consumer", "share", "streams"]),
    int("group.coordinator.threads").or("4").min(1),
    int("group.coordinator.background.threads").or("2").min(1),
    int("group.coordinator.append.linger.ms").or("-1").min(-1),
    int("group.coordinator.cached.buffer.max.bytes")
        .or("1048588")
        .min(524_288)
        .dynamic(),
    int("group.consumer.session.timeout.ms")
        .or("45000")
        .min(1)
        .effect(),
    int("group.consumer.min.session.timeout.ms")
        .or("45000")
        .min(1)
        .effect(),
    int("group.consumer.max.session.timeout.ms")
        .or("60000")
        .min(1)
        .effect(),
    int("group.consumer.heartbeat.interval.ms")
        .or("5000")
        .min(1)
        .effect(),
    int("group.consumer.min.heartbeat.interval.ms")
        .or("5000")
        .min(1)
        .effect(),
    int("group.consumer.max.heartbeat.interval.ms")
        .or("15000")
        .min(1)
        .effect(),
    int("group.consumer.assignment.interval.ms")
        .or("1000")
        .min(0)
        .dynamic()
        .effect(),
    int("group.consumer.min.assignment.interval.ms")
        .or("0")
        .min(0)
        .effect(),
    int("group.consumer.max.assignment.interval.ms")
        .or("15000")
        .min(0)
        .effect(),
    int("group.consumer.max.size").or(I32_MAX).min(1).effect(),
    list("group.consumer.assignors")
        .or("uniform,range")
        .valid(Valid::NotEmpty)
        .effect(),
    string("group.consumer.migration.policy")
        .or("bidirectional")
        .valid(Valid::OneOfAnyCase(&[
            "disabled",
            "downgrade",
            "upgrade",
            "bidirectional",
        ]))
        .effect(),
    int("group.consumer.regex.refresh.interval.ms")
        .or("600000")
        .min(10_000)
        .internal()
        .effect(),
    int("group.share.session.timeout.ms").or("45000").min(1),
    int("group.share.min.session.timeout.ms").or("45000").min(1),
    int("group.share.max.session.timeout.ms").or("60000").min(1),
    int("group.share.heartbeat.interval.ms").or("5000").min(1),
    int("group.share.min.heartbeat.interval.ms")
        .or("5000")
        .min(1),
    int("group.share.max.heartbeat.interval.ms")
        .or("15000")
        .min(1),
    int("group.share.assignment.interval.ms")
        .or("1000")
        .min(0)
        .dynamic(),
    int("group.share.min.assignment.interval.ms").or("0").min(0),
    int("group.share.max.assignment.interval.ms")
        .or("15000")
        .min(0),
    int("group.share.max.size").or("200").within(1, 1000),
    int("group.share.max.share.sessions").or("2000").min(1),
    int("group.share.record.lock.duration.ms")
        .or("30000")
        .within(1000, 3_600_000),
    int("group.share.min.record.lock.duration.ms")
        .or("15000")
        .within(1000, 30_000),
    int("group.share.max.record.lock.duration.ms")
        .or("60000")
        .within(30_000, 3_600_000),
    int("group.share.delivery.count.limit")
        .or("5")
        .within(2, 10),
    int("group.share.min.delivery.count.limit")
        .or("2")
        .within(2, 5),
    int("group.share.max.delivery.count.limit")
        .or("10")
        .within(5, 25),
    int("group.share.partition.max.record.locks")
        .or("2000")
        .within(100, 10_000),
    int("group.share.min.partition.max.record.locks")
        .or("100")
        .within(100, 2000),
    int("group.share.max.partition.max.record.locks")
        .or("4000")
        .within(2000, 10_000),
    list("group.share.assignors").or("simple"),
    int("group.share.initialize.retry.interval.ms")
        .min(1)
        .internal(),
    string("group.share.persister.class.name").internal(),
    int("group.streams.session.timeout.ms").or("45000").min(1),
    int("group.streams.min.session.timeout.ms")
        .or("45000")
        .min(1),
    int("group.streams.max.session.timeout.ms")
        .or("60000")
        .min(1),
    int("group.streams.heartbeat.interval.ms").or("5000").min(1),
    int("group.streams.min.heartbeat.interval.ms")
        .or("5000")
        .min(1),
    int("group.streams.max.heartbeat.interval.ms")
        .or("15000")
        .min(1),
    int("group.streams.assignment.interval.ms")
        .or("1000")
        .min(0)
        .dynamic(),
    int("group.streams.min.assignment.interval.ms")
        .or("0")
        .min(0),
    int("group.streams.max.assignment.interval.ms")
        .or("15000")
        .min(0),
    int("group.streams.num.standby.replicas").or("0").min(0),
    int("group.streams.max.standby.replicas").or("2").min(0),
    int("group.streams.max.size").or(I32_MAX).min(1),
    int("group.streams.initial.rebalance.delay.ms")
        .or("3000")
        .min(0),
    int("share.coordinator.threads").or("1").min(1),
    int("share.coordinator.write.timeout.ms").or("5000").min(1),
    int("share.coordinator.load.buffer.size")
        .or("5242880")
        .min(1),
    int("share.coordinator.append.linger.ms").or("-1").min(-1),
    int("share.coordinator.snapshot.update.records.per.snapshot")
        .or("500")
        .within(0, 500),
    int("share.coordinator.cached.buffer.max.bytes")
        .or("1048588")
        .min(524_288)
        .dynamic(),
    int("share.coordinator.cold.partition.snapshot.interval.ms")
        .min(1)
        .internal(),
    int("share.coordinator.state.topic.prune.interval.ms")
        .min(1)
        .internal(),
    int("share.coordinator.state.topic.num.partitions")
        .or("50")
        .min(1),
    int("share.coordinator.state.topic.segment.bytes")
        .or("104857600")
        .min(1),
    int("share.coordinator.state.topic.compression.codec")
        .or("0")
        .within(0, 4),
    // Kafka's 3 and 2 suit three nodes and lock a single one out of its own topic.
    short("share.coordinator.state.topic.replication.factor")
        .or("1")
        .min(1)
        .refused(&["1"], ONE_NODE),
    short("share.coordinator.state.topic.min.isr")
        .or("1")
        .min(1)
        .refused(&["1"], ONE_NODE),
    int("offset.metadata.max.bytes").or("4096").effect(),
    int("offsets.commit.timeout.ms").or("5000").min(1).effect(),
    int("offsets.load.buffer.size").or("5242880").min(1),
    int("offsets.retention.minutes").or("10080").min(1).effect(),
    long("offsets.retention.check.interval.ms")
        .or("600000")
        .min(1)
        .effect(),
    int("offsets.topic.num.partitions").or("50").min(1).effect(),
    short("offsets.topic.replication.factor")
        .or("1")
        .min(1)
        .refused(&["1"], ONE_NODE),
    int("offsets.topic.segment.bytes")
        .or("104857600")
        .min(1)
        .effect(),
    int("offsets.topic.compression.codec")
        .or("0")
        .within(0, 4)
        .effect(),
    boolean("group.coordinator.new.enable").gone(),
];
