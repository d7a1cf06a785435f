//! Topics and their logs (configs.md §3.2 without tiered storage).

use super::{Key, Valid, boolean, class, double, int, list, long, string};

const I64_MAX: &str = "9223372036854775807";

const NO_PLUGINS: &str = "classes cannot be loaded, and a policy that is not asked would be \
                          missed in silence; remove the key";
const ONE_NODE: &str = "a single node holds every replica so far; set 1 or leave it out";
const ONE_DIRECTORY: &str = "one data directory is supported so far; remove the key";

pub(super) const KEYS: &[Key] = &[
    boolean("auto.create.topics.enable").or("true").effect(),
    boolean("delete.topic.enable").or("true").effect(),
    int("num.partitions").or("1").min(1).effect(),
    int("default.replication.factor")
        .or("1")
        .refused(&["1"], ONE_NODE),
    int("message.max.bytes")
        .or("1048588")
        .min(0)
        .dynamic()
        .effect(),
    string("log.dir")
        .or("/tmp/kafka-logs")
        .valid(Valid::NotEmpty)
        .effect(),
    list("log.dirs").valid(Valid::NotEmpty).effect(),
    int("log.segment.bytes")
        .or("1073741824")
        .min(1_048_576)
        .dynamic()
        .effect(),
    long("log.roll.ms").min(1).dynamic().effect(),
    long("log.roll.jitter.ms").min(0).dynamic().effect(),
    int("log.roll.hours").or("168").min(1).effect(),
    int("log.roll.jitter.hours").or("0").min(0).effect(),
    long("log.retention.ms")
        .valid(Valid::NotZero)
        .dynamic()
        .effect(),
    int("log.retention.minutes").valid(Valid::NotZero).effect(),
    int("log.retention.hours")
        .or("168")
        .valid(Valid::NotZero)
        .effect(),
    long("log.retention.bytes").or("-1").dynamic().effect(),
    long("log.retention.check.interval.ms")
        .or("300000")
        .min(1)
        .effect(),
    list("log.cleanup.policy")
        .or("delete")
        .one_of(&["compact", "delete"])
        .dynamic()
        .effect(),
    int("log.index.size.max.bytes")
        .or("10485760")
        .min(4)
        .dynamic()
        .effect(),
    int("log.index.interval.bytes")
        .or("4096")
        .min(0)
        .dynamic()
        .effect(),
    long("log.flush.interval.messages")
        .or(I64_MAX)
        .min(1)
        .dynamic()
        .effect(),
    long("log.flush.interval.ms").dynamic().effect(),
    long("log.flush.scheduler.interval.ms").or(I64_MAX).effect(),
    // Kafka's 60000 bounds the time to recover; here the checkpoints are also what tells that a
    // partition's records have vanished, so they should know it soon.
    int("log.flush.offset.checkpoint.interval.ms")
        .or("5000")
        .min(0)
        .effect(),
    int("log.flush.start.offset.checkpoint.interval.ms")
        .or("60000")
        .min(0),
    long("log.segment.delete.delay.ms")
        .or("60000")
        .min(0)
        .dynamic()
        .effect(),
    boolean("log.preallocate").or("false").dynamic(),
    string("log.message.timestamp.type")
        .or("CreateTime")
        .one_of(&["CreateTime", "LogAppendTime"])
        .dynamic()
        .effect(),
    long("log.message.timestamp.before.max.ms")
        .or(I64_MAX)
        .min(0)
        .dynamic()
        .effect(),
    long("log.message.timestamp.after.max.ms")
        .or("3600000")
        .min(0)
        .dynamic()
        .effect(),
    string("compression.type")
        .or("producer")
        .one_of(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])
        .dynamic()
        .effect(),
    int("compression.gzip.level")
        .or("-1")
        .valid(Valid::MinusOneOr(1, 9))
        .dynamic()
        .effect(),
    int("compression.lz4.level").or("9").within(1, 17).dynamic(),
    int("compression.zstd.level")
        .or("3")
        .within(-131_072, 22)
        .dynamic()
        .effect(),
    int("min.insync.replicas").or("1").min(1).dynamic().effect(),
    boolean("unclean.leader.election.enable")
        .or("false")
        .dynamic(),
    boolean("log.cleaner.enable").or("true").effect(),
    int("log.cleaner.threads").or("1").min(0).dynamic().effect(),
    // Kafka's default is 128 MiB, which it allocates at once; more keys only take more passes.
    long("log.cleaner.dedupe.buffer.size")
        .or("41943040")
        .min(1_048_576)
        .dynamic()
        .effect(),
    int("log.cleaner.io.buffer.size")
        .or("524288")
        .min(0)
        .dynamic()
        .effect(),
    double("log.cleaner.io.buffer.load.factor")
        .or("0.9")
        .dynamic()
        .effect(),
    double("log.cleaner.io.max.bytes.per.second")
        .or("1.7976931348623157E308")
        .dynamic()
        .effect(),
    long("log.cleaner.backoff.ms")
        .or("15000")
        .min(0)
        .dynamic()
        .effect(),
    double("log.cleaner.min.cleanable.ratio")
        .or("0.5")
        .valid(Valid::Fraction(0.0, 1.0))
        .dynamic()
        .effect(),
    long("log.cleaner.delete.retention.ms")
        .or("86400000")
        .min(0)
        .dynamic()
        .effect(),
    long("log.cleaner.min.compaction.lag.ms")
        .or("0")
        .min(0)
        .dynamic()
        .effect(),
    long("log.cleaner.max.compaction.lag.ms")
        .or(I64_MAX)
        .min(1)
        .dynamic()
        .effect(),
    int("num.recovery.threads.per.data.dir")
        .or("8")
        .min(1)
        .dynamic()
        .effect(),
    long("log.dir.failure.timeout.ms").or("30000").min(1),
    class("create.topic.policy.class.name").refused(&[""], NO_PLUGINS),
    class("alter.config.policy.class.name").refused(&[""], NO_PLUGINS),
    list("cordoned.log.dirs")
        .or("")
        .per_broker()
        .refused(&[], ONE_DIRECTORY),
    int("num.replica.alter.log.dirs.threads"),
    string("metadata.log.dir").effect(),
    int("metadata.log.segment.bytes")
        .or("1073741824")
        .min(8_388_608),
    int("metadata.max.idle.interval.ms").or("500").min(0),
    long("metadata.log.segment.ms").or("604800000"),
    long("metadata.max.retention.ms").or("604800000"),
    long("metadata.max.retention.bytes").or("104857600"),
    long("metadata.log.max.record.bytes.between.snapshots")
        .or("20971520")
        .min(1),
    long("metadata.log.max.snapshot.interval.ms")
        .or("3600000")
        .min(0),
    long("log.initial.task.delay.ms")
        .or("30000")
        .min(0)
        .internal(),
    int("producer.id.expiration.check.interval.ms")
        .or("600000")
        .min(1)
        .internal(),
    long("unclean.leader.election.interval.ms")
        .or("300000")
        .min(1)
        .internal(),
];
