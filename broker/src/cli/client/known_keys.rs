//! Keys that a client's settings may have.
//!
//! A file is often shared by producers, consumers and tools, so every key of theirs is known here,
//! and passed over where administration has no use for it. What no client knows is a slip of the
//! pen, which must not go unseen: a mistyped `ssl.truststore.location` is no truststore.
//!
//! Source: the clients' own tables, Kafka 2.8 to 4.4 and librdkafka 1.x to 2.12.

use crate::config::keys;

/// Keys of Java producers, consumers and administration clients.
const JAVA: &str = "\
    acks allow.auto.create.topics auto.commit.interval.ms auto.offset.reset batch.size \
    bootstrap.controllers bootstrap.resolve.timeout.ms bootstrap.servers buffer.memory \
    buffer.memory.allocation.strategy check.crcs client.dns.lookup client.id client.rack \
    compression.gzip.level compression.lz4.level compression.type compression.zstd.level \
    config.providers connections.max.idle.ms default.api.timeout.ms delivery.timeout.ms \
    enable.auto.commit enable.idempotence enable.metrics.push exclude.internal.topics \
    fetch.max.bytes fetch.max.wait.ms fetch.min.bytes group.id group.instance.id group.protocol \
    group.remote.assignor heartbeat.interval.ms interceptor.classes \
    internal.auto.downgrade.txn.commit internal.leave.group.on.close \
    internal.throw.on.fetch.stable.offset.unsupported isolation.level key.deserializer \
    key.serializer linger.ms max.block.ms max.in.flight.requests.per.connection \
    max.partition.fetch.bytes max.poll.interval.ms max.poll.records max.request.size \
    metadata.cluster.check.enable metadata.max.age.ms metadata.max.idle.ms \
    metadata.recovery.rebootstrap.trigger.ms metadata.recovery.strategy metric.reporters \
    metrics.num.samples metrics.recording.level metrics.sample.window.ms \
    partition.assignment.strategy partitioner.adaptive.partitioning.enable \
    partitioner.availability.timeout.ms partitioner.class partitioner.ignore.keys \
    partitioner.rack.aware receive.buffer.bytes reconnect.backoff.max.ms reconnect.backoff.ms \
    request.timeout.ms retries retry.backoff.max.ms retry.backoff.ms \
    sasl.client.callback.handler.class sasl.jaas.config sasl.kerberos.kinit.cmd \
    sasl.kerberos.min.time.before.relogin sasl.kerberos.service.name \
    sasl.kerberos.ticket.renew.jitter sasl.kerberos.ticket.renew.window.factor \
    sasl.login.callback.handler.class sasl.login.class sasl.login.connect.timeout.ms \
    sasl.login.read.timeout.ms sasl.login.refresh.buffer.seconds \
    sasl.login.refresh.min.period.seconds sasl.login.refresh.window.factor \
    sasl.login.refresh.window.jitter sasl.login.retry.backoff.max.ms sasl.login.retry.backoff.ms \
    sasl.mechanism sasl.oauthbearer.allow.unverified.audience \
    sasl.oauthbearer.allow.unverified.issuer sasl.oauthbearer.assertion.algorithm \
    sasl.oauthbearer.assertion.claim.aud sasl.oauthbearer.assertion.claim.exp.seconds \
    sasl.oauthbearer.assertion.claim.iss sasl.oauthbearer.assertion.claim.jti.include \
    sasl.oauthbearer.assertion.claim.nbf.seconds sasl.oauthbearer.assertion.claim.sub \
    sasl.oauthbearer.assertion.file sasl.oauthbearer.assertion.private.key.file \
    sasl.oauthbearer.assertion.private.key.passphrase sasl.oauthbearer.assertion.template.file \
    sasl.oauthbearer.client.credentials.client.id \
    sasl.oauthbearer.client.credentials.client.secret sasl.oauthbearer.clock.skew.seconds \
    sasl.oauthbearer.expected.audience sasl.oauthbearer.expected.issuer \
    sasl.oauthbearer.header.urlencode sasl.oauthbearer.jwks.endpoint.refresh.ms \
    sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms \
    sasl.oauthbearer.jwks.endpoint.retry.backoff.ms sasl.oauthbearer.jwks.endpoint.url \
    sasl.oauthbearer.jwt.retriever.class sasl.oauthbearer.jwt.validator.class \
    sasl.oauthbearer.scope sasl.oauthbearer.scope.claim.name sasl.oauthbearer.sub.claim.name \
    sasl.oauthbearer.token.endpoint.url security.protocol security.providers send.buffer.bytes \
    session.timeout.ms share.acknowledgement.mode share.acquire.mode \
    socket.connection.setup.timeout.max.ms socket.connection.setup.timeout.ms ssl.cipher.suites \
    ssl.enabled.protocols ssl.endpoint.identification.algorithm ssl.engine.factory.class \
    ssl.key.password ssl.keymanager.algorithm ssl.keystore.certificate.chain ssl.keystore.key \
    ssl.keystore.location ssl.keystore.password ssl.keystore.type ssl.protocol ssl.provider \
    ssl.secure.random.implementation ssl.trustmanager.algorithm ssl.truststore.certificates \
    ssl.truststore.location ssl.truststore.password ssl.truststore.type transaction.timeout.ms \
    transaction.two.phase.commit.enable transactional.id value.deserializer value.serializer";

/// Keys that only librdkafka has.
const LIBRDKAFKA: &str = "\
    api.version.fallback.ms api.version.request api.version.request.timeout.ms \
    auto.commit.enable batch.num.messages broker.address.family broker.address.ttl \
    broker.version.fallback compression.codec compression.level consume.callback.max.messages \
    coordinator.query.interval.ms debug delivery.report.only.error enable.auto.offset.store \
    enable.gapless.guarantee enable.partition.eof enable.random.seed \
    enable.sasl.oauthbearer.unsecure.jwt enable.ssl.certificate.verification \
    fetch.error.backoff.ms fetch.message.max.bytes fetch.queue.backoff.ms fetch.wait.max.ms \
    group.protocol.type https.ca.location https.ca.pem internal.termination.signal \
    log.connection.close log.queue log.thread.name log_level max.in.flight \
    message.copy.max.bytes message.max.bytes message.send.max.retries message.timeout.ms \
    metadata.broker.list offset.store.method offset.store.path offset.store.sync.interval.ms \
    partitioner plugin.library.paths produce.offset.report \
    queue.buffering.backpressure.threshold queue.buffering.max.kbytes \
    queue.buffering.max.messages queue.buffering.max.ms queued.max.messages.kbytes \
    queued.min.messages queuing.strategy receive.message.max.bytes reconnect.backoff.jitter.ms \
    request.required.acks sasl.kerberos.keytab sasl.kerberos.principal sasl.mechanisms \
    sasl.oauthbearer.assertion.jwt.template.file sasl.oauthbearer.assertion.private.key.pem \
    sasl.oauthbearer.client.id sasl.oauthbearer.client.secret sasl.oauthbearer.config \
    sasl.oauthbearer.extensions sasl.oauthbearer.grant.type \
    sasl.oauthbearer.metadata.authentication.type sasl.oauthbearer.method sasl.password \
    sasl.username socket.blocking.max.ms socket.keepalive.enable socket.max.fails \
    socket.nagle.disable socket.receive.buffer.bytes socket.send.buffer.bytes socket.timeout.ms \
    ssl.ca.certificate.stores ssl.ca.location ssl.ca.pem ssl.certificate.location \
    ssl.certificate.pem ssl.crl.location ssl.curves.list ssl.engine.id ssl.engine.location \
    ssl.key.location ssl.key.pem ssl.providers ssl.sigalgs.list statistics.interval.ms \
    sticky.partitioning.linger.ms topic.blacklist topic.metadata.propagation.max.ms \
    topic.metadata.refresh.fast.cnt topic.metadata.refresh.fast.interval.ms \
    topic.metadata.refresh.interval.ms topic.metadata.refresh.sparse";

/// Beginnings of keys that serializers, interceptors and reporters of clients read.
const PLUG_INS: [&str; 14] = [
    "schema.registry.",
    "basic.auth.",
    "bearer.auth.",
    "auto.register.",
    "use.latest.",
    "specific.avro.",
    "avro.",
    "json.",
    "protobuf.",
    "key.",
    "value.",
    "interceptor.",
    "metrics.",
    "confluent.",
];

/// Keys of Java files that ask for something that would be missed in silence.
const NOT_BUILT_JAVA: [(&str, &str); 6] = [
    ("config.providers", INDIRECTION),
    ("security.providers", CLASSES),
    ("ssl.engine.factory.class", CLASSES),
    ("sasl.client.callback.handler.class", CLASSES),
    ("sasl.login.callback.handler.class", CLASSES),
    ("sasl.login.class", CLASSES),
];

/// Keys of librdkafka files that ask for something that would be missed in silence.
const NOT_BUILT_LIBRDKAFKA: [(&str, &str); 9] = [
    ("ssl.keystore.location", PKCS12),
    ("ssl.keystore.password", PKCS12),
    ("ssl.crl.location", "revocation lists are not read"),
    (
        "ssl.ca.certificate.stores",
        "the stores of Windows are not read",
    ),
    ("ssl.cipher.suites", SUITES),
    ("ssl.curves.list", SUITES),
    ("ssl.sigalgs.list", SUITES),
    ("ssl.engine.location", CLASSES),
    ("ssl.providers", CLASSES),
];

const CLASSES: &str = "nothing can be loaded into this program";
const INDIRECTION: &str = "values are not looked up elsewhere";
const PKCS12: &str = "librdkafka's PKCS#12 store is not read; use ssl.certificate.location and \
                      ssl.key.location";
const SUITES: &str = "it cannot be narrowed here";

fn all() -> impl Iterator<Item = &'static str> {
    JAVA.split_whitespace().chain(LIBRDKAFKA.split_whitespace())
}

/// What is wrong with a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// No client knows it; the known one that looks most like it.
    Unknown(Option<&'static str>),
    /// It asks for what is not built, in words.
    NotBuilt(&'static str),
}

/// Looks at one key of a file; an empty value asks for nothing.
pub(super) fn problem(key: &str, value: &str, is_librdkafka: bool) -> Option<Problem> {
    let not_built: &[(&str, &'static str)] = match is_librdkafka {
        true => &NOT_BUILT_LIBRDKAFKA,
        false => &NOT_BUILT_JAVA,
    };
    if let Some((_, reason)) = not_built.iter().find(|(name, _)| *name == key) {
        return (!value.trim().is_empty()).then_some(Problem::NotBuilt(reason));
    }
    // kcat's files may say of a key that it is a topic's.
    let bare = match is_librdkafka {
        true => key.strip_prefix("topic.").unwrap_or(key),
        false => key,
    };
    let is_known = |name: &str| all().any(|known| known == name);
    if is_known(key) || is_known(bare) || PLUG_INS.iter().any(|prefix| key.starts_with(prefix)) {
        return None;
    }
    Some(Problem::Unknown(keys::nearest_of(
        &key.to_lowercase(),
        all(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_refused_or_nearly_known() {
        for (key, value, is_librdkafka, expected) in [
            ("acks", "all", false, None),
            ("topic.acks", "all", true, None),
            ("topic.metadata.refresh.sparse", "true", true, None),
            ("queue.buffering.max.ms", "5", true, None),
            ("schema.registry.url", "http://x", false, None),
            ("value.subject.name.strategy", "x", false, None),
            ("ssl.keystore.location", "x", false, None),
            ("ssl.engine.factory.class", "", false, None),
            (
                "ssl.crl.location",
                "x",
                true,
                Some(Problem::NotBuilt("revocation lists are not read")),
            ),
            (
                "sasl.mechansim",
                "x",
                false,
                Some(Problem::Unknown(Some("sasl.mechanism"))),
            ),
            (
                "ssl.truststore.locaton",
                "x",
                false,
                Some(Problem::Unknown(Some("ssl.truststore.location"))),
            ),
            (
                "something.of.another.program",
                "x",
                false,
                Some(Problem::Unknown(None)),
            ),
        ] {
            assert_eq!(problem(key, value, is_librdkafka), expected, "{key}");
        }
    }
}
