//! Keys of this broker alone. One that changes nothing in a given configuration is an error there.

use super::{Key, Valid, boolean, int, long, string};

pub(super) const KEYS: &[Key] = &[
    // As `kafka-storage format --cluster-id` would take it; made at the first start if not given.
    string("palisade.cluster.id")
        .valid(Valid::NotEmpty)
        .effect(),
    string("palisade.log.flush.policy")
        .or("ack")
        .one_of(&["ack", "interval", "os"])
        .effect(),
    string("palisade.record.validation")
        .or("header")
        .one_of(&["header", "full"])
        .effect(),
    // Sealed segments are read again and compared with their checksums: a week from one pass to the
    // next, 0 for never, and at most 10 MiB per second and directory.
    long("palisade.log.scrub.interval.ms")
        .or("604800000")
        .min(0)
        .effect(),
    long("palisade.log.scrub.bytes.per.second")
        .or("10485760")
        .min(1)
        .effect(),
    boolean("palisade.sasl.scram.strict.nonce")
        .or("false")
        .per_listener()
        .effect(),
    int("palisade.max.unauthenticated.connections")
        .or("512")
        .min(1)
        .effect(),
    int("palisade.max.unauthenticated.connections.per.ip")
        .or("64")
        .min(1)
        .effect(),
    int("palisade.tls.handshake.timeout.ms")
        .or("10000")
        .min(1)
        .effect(),
    int("palisade.login.timeout.ms").or("30000").min(1).effect(),
    int("palisade.frame.timeout.ms").or("30000").min(1).effect(),
    string("palisade.audit.dir").valid(Valid::NotEmpty).effect(),
    long("palisade.audit.queue.max.bytes")
        .or("16777216")
        .min(65_536)
        .effect(),
    int("palisade.audit.block.max.ms")
        .or("5000")
        .min(0)
        .effect(),
    string("palisade.audit.full.policy")
        .or("block")
        .one_of(&["block", "count"])
        .effect(),
    long("palisade.audit.reserve.bytes")
        .or("67108864")
        .min(0)
        .effect(),
    long("palisade.group.members.max.bytes")
        .or("134217728")
        .min(1_048_576)
        .effect(),
    boolean("palisade.danger.allow.plain.without.tls")
        .or("false")
        .per_listener()
        .effect(),
    boolean("palisade.danger.disable.authorizer")
        .or("false")
        .effect(),
    boolean("palisade.danger.disable.audit")
        .or("false")
        .effect(),
];
