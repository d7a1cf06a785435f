//! Quorum, replication, transactions, quotas, and keys that Kafka dropped (configs.md §3.1, §3.3,
//! §3.5, §3.7 to §3.9).

use super::{Key, boolean, class, int, long, password, short, string};

const ONE_NODE: &str = "a single node holds every replica so far; set 1 or leave it out";

pub(super) const KEYS: &[Key] = &[
    int("controller.socket.timeout.ms").or("30000"),
    int("initial.broker.registration.timeout.ms").or("60000"),
    int("broker.heartbeat.interval.ms").or("2000"),
    int("broker.session.timeout.ms").or("9000"),
    int("controller.quorum.election.timeout.ms")
        .or("1000")
        .min(0),
    int("controller.quorum.election.backoff.max.ms")
        .or("1000")
        .min(0),
    int("controller.quorum.fetch.timeout.ms").or("2000").min(0),
    int("controller.quorum.request.timeout.ms")
        .or("2000")
        .min(0),
    int("controller.quorum.retry.backoff.ms").or("20").min(0),
    int("controller.quorum.append.linger.ms").or("25").min(0),
    int("controller.quorum.fetch.max.bytes")
        .or("1048576")
        .min(1),
    int("controller.quorum.fetch.snapshot.max.bytes")
        .or("1048576")
        .min(1),
    boolean("controller.quorum.auto.join.enable").or("false"),
    int("fetch.purgatory.purge.interval.requests").or("1000"),
    int("producer.purgatory.purge.interval.requests").or("1000"),
    int("delete.records.purgatory.purge.interval.requests").or("1"),
    int("share.fetch.purgatory.purge.interval.requests").or("1000"),
    long("replica.lag.time.max.ms").or("30000"),
    int("replica.fetch.wait.max.ms").or("500"),
    int("replica.fetch.min.bytes").or("1"),
    int("replica.fetch.max.bytes").or("1048576").min(0),
    int("replica.fetch.response.max.bytes")
        .or("10485760")
        .min(0),
    int("replica.fetch.backoff.ms").or("1000").min(0),
    int("replica.socket.timeout.ms").or("30000"),
    int("replica.socket.receive.buffer.bytes").or("65536"),
    int("num.replica.fetchers").or("1").min(1).dynamic(),
    long("replica.high.watermark.checkpoint.interval.ms").or("5000"),
    string("replica.selector.class"),
    boolean("auto.leader.rebalance.enable").or("true"),
    boolean("controlled.shutdown.enable").or("true"),
    long("leader.imbalance.check.interval.seconds")
        .or("300")
        .min(1),
    int("transaction.max.timeout.ms").or("900000").min(1),
    int("transactional.id.expiration.ms").or("604800000").min(1),
    int("transaction.abort.timed.out.transaction.cleanup.interval.ms")
        .or("10000")
        .min(1),
    int("transaction.remove.expired.transaction.cleanup.interval.ms")
        .or("3600000")
        .min(1),
    int("transaction.state.log.num.partitions").or("50").min(1),
    // Kafka's 3 and 2 would keep a single node from ever serving a transaction.
    short("transaction.state.log.replication.factor")
        .or("1")
        .min(1)
        .refused(&["1"], ONE_NODE),
    int("transaction.state.log.min.isr")
        .or("1")
        .min(1)
        .refused(&["1"], ONE_NODE),
    int("transaction.state.log.segment.bytes")
        .or("104857600")
        .min(1),
    int("transaction.state.log.load.buffer.size")
        .or("5242880")
        .min(1),
    boolean("transaction.partition.verification.enable")
        .or("true")
        .dynamic(),
    int("producer.id.expiration.ms")
        .or("86400000")
        .min(1)
        .dynamic()
        .effect(),
    boolean("transaction.two.phase.commit.enable")
        .or("false")
        .refused(&["false"], "two-phase commit (KIP-939) is not built"),
    int("add.partitions.to.txn.retry.backoff.ms")
        .or("20")
        .min(1),
    int("add.partitions.to.txn.retry.backoff.max.ms")
        .or("100")
        .min(0),
    int("quota.window.num").or("11").min(1),
    int("quota.window.size.seconds").or("1").min(1),
    int("replication.quota.window.num").or("11").min(1),
    int("replication.quota.window.size.seconds").or("1").min(1),
    int("alter.log.dirs.replication.quota.window.num")
        .or("11")
        .min(1),
    int("alter.log.dirs.replication.quota.window.size.seconds")
        .or("1")
        .min(1),
    int("controller.quota.window.num").or("11").min(1),
    int("controller.quota.window.size.seconds").or("1").min(1),
    class("client.quota.callback.class").refused(
        &[""],
        "classes cannot be loaded, and a limit that is not asked would be missed in silence; \
         remove the key",
    ),
    long("controller.performance.sample.period.ms")
        .min(1)
        .internal(),
    long("controller.performance.always.log.threshold.ms")
        .min(0)
        .internal(),
    long("server.max.startup.time.ms").min(0).internal(),
    boolean("unstable.api.versions.enable")
        .or("false")
        .internal()
        .refused(&["false"], "only the API versions of the table are served"),
    boolean("unstable.feature.versions.enable")
        .or("false")
        .internal()
        .refused(&["false"], "only released feature levels are served"),
];

/// Known to older releases; a file that still has them starts, as it does with Kafka.
pub(super) const GONE: &[Key] = &[
    string("inter.broker.protocol.version").gone(),
    string("log.message.format.version").gone(),
    long("log.message.timestamp.difference.max.ms").gone(),
    boolean("log.message.downconversion.enable").gone(),
    string("zookeeper.connect").gone(),
    int("zookeeper.connection.timeout.ms").gone(),
    int("zookeeper.session.timeout.ms").gone(),
    int("zookeeper.max.in.flight.requests").gone(),
    boolean("zookeeper.set.acl").gone(),
    boolean("zookeeper.metadata.migration.enable").gone(),
    boolean("zookeeper.ssl.client.enable").gone(),
    string("zookeeper.clientCnxnSocket").gone(),
    string("control.plane.listener.name").gone(),
    short("offsets.commit.required.acks").gone(),
    int("reserved.broker.max.id").gone(),
    boolean("broker.id.generation.enable").gone(),
    string("password.encoder.cipher.algorithm").gone(),
    int("password.encoder.iterations").gone(),
    int("password.encoder.key.length").gone(),
    string("password.encoder.keyfactory.algorithm").gone(),
    password("password.encoder.secret").gone(),
    password("password.encoder.old.secret").gone(),
    password("delegation.token.master.key").gone(),
    int("leader.imbalance.per.broker.percentage").gone(),
    int("controlled.shutdown.max.retries").gone(),
    long("controlled.shutdown.retry.backoff.ms").gone(),
];
