//! Tiered storage (configs.md §3.2): not built, so that switching it on is refused.

use super::{Key, Valid, boolean, class, int, long, string};

const I64_MAX: &str = "9223372036854775807";
const NOT_BUILT: &str = "tiered storage is not built; segments would never leave this node";

pub(super) const KEYS: &[Key] = &[
    boolean("remote.log.storage.system.enable")
        .or("false")
        .refused(&["false"], NOT_BUILT),
    long("log.local.retention.ms").or("-2").min(-2).dynamic(),
    long("log.local.retention.bytes").or("-2").min(-2).dynamic(),
    string("remote.log.storage.manager.class.name").valid(Valid::NotEmpty),
    string("remote.log.storage.manager.class.path").valid(Valid::NotEmpty),
    string("remote.log.storage.manager.impl.prefix")
        .or("rsm.config.")
        .valid(Valid::NotEmpty),
    class("remote.log.metadata.manager.class.name")
        .or("org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager")
        .valid(Valid::NotEmpty),
    string("remote.log.metadata.manager.class.path").valid(Valid::NotEmpty),
    string("remote.log.metadata.manager.listener.name").valid(Valid::NotEmpty),
    string("remote.log.metadata.manager.impl.prefix")
        .or("rlmm.config.")
        .valid(Valid::NotEmpty),
    int("remote.log.metadata.custom.metadata.max.bytes").or("128").min(0),
    int("remote.log.manager.thread.pool.size").or("2").min(1),
    int("remote.log.reader.max.pending.tasks").or("100").min(1),
    long("remote.log.manager.task.interval.ms").or("30000").min(1),
    long("remote.log.manager.copy.max.bytes.per.second").or(I64_MAX).min(1).dynamic(),
    long("remote.log.manager.fetch.max.bytes.per.second").or(I64_MAX).min(1).dynamic(),
    int("remote.log.manager.copier.thread.pool.size").or("10").min(1).dynamic(),
    int("remote.log.manager.expiration.thread.pool.size").or("10").min(1).dynamic(),
    int("remote.log.manager.follower.thread.pool.size").or("2").min(1).dynamic(),
    int("remote.log.reader.threads").or("10").min(1).dynamic(),
    long("remote.log.index.file.cache.total.size.bytes")
        .or("1073741824")
        .min(1)
        .dynamic(),
    long("remote.list.offsets.request.timeout.ms").or("30000").min(1).dynamic(),
    int("remote.fetch.max.wait.ms").or("500").min(1).dynamic(),
    boolean("follower.fetch.last.tiered.offset.enable").or("false").dynamic(),
    int("remote.log.index.file.cache.ttl.ms").min(0).internal(),
    int("remote.log.manager.copy.quota.window.num").or("11").min(1),
    int("remote.log.manager.copy.quota.window.size.seconds").or("1").min(1),
    int("remote.log.manager.fetch.quota.window.num").or("11").min(1),
    int("remote.log.manager.fetch.quota.window.size.seconds").or("1").min(1),
];
