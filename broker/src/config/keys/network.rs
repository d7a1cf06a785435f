//! Identity, listeners and network (configs.md §3.1).

use super::{Key, Valid, boolean, int, list, long, string};

const I32_MAX: &str = "2147483647";

pub(super) const KEYS: &[Key] = &[
    int("node.id").min(0).effect(),
    int("broker.id").or("-1").min(-1).effect(),
    // Kafka has no default; here there is one thing a node can be, so it need not be said.
    list("process.roles")
        .or("broker,controller")
        .one_of(&["broker", "controller"])
        .effect(),
    string("broker.rack").effect(),
    // Kafka's default would open a port that nobody asked for, in plain text.
    list("listeners")
        .valid(Valid::NotEmpty)
        .per_broker()
        .effect(),
    list("advertised.listeners").per_broker().effect(),
    list("listener.security.protocol.map")
        .or("SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT")
        .per_broker()
        .effect(),
    string("inter.broker.listener.name").effect(),
    string("security.inter.broker.protocol")
        .or("PLAINTEXT")
        .one_of(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
        .effect(),
    list("controller.listener.names").effect(),
    list("controller.quorum.voters").or("").effect(),
    list("controller.quorum.bootstrap.servers").or("").effect(),
    int("num.network.threads")
        .or("3")
        .min(1)
        .dynamic()
        .per_listener(),
    int("num.io.threads").or("8").min(1).dynamic(),
    int("background.threads").or("10").min(1).dynamic(),
    int("queued.max.requests").or("500").min(1),
    long("queued.max.request.bytes").or("-1").effect(),
    int("request.timeout.ms").or("30000"),
    int("socket.send.buffer.bytes")
        .or("102400")
        .min(-1)
        .effect(),
    int("socket.receive.buffer.bytes")
        .or("102400")
        .min(-1)
        .effect(),
    int("socket.request.max.bytes")
        .or("104857600")
        .min(1)
        .effect(),
    int("socket.listen.backlog.size").or("50").min(1).effect(),
    long("connections.max.idle.ms").or("600000").effect(),
    // Kafka's default is no limit, which is no default for a node on a network.
    int("max.connections")
        .or("10000")
        .min(0)
        .dynamic()
        .per_listener()
        .effect(),
    int("max.connections.per.ip")
        .or("1000")
        .min(0)
        .dynamic()
        .effect(),
    string("max.connections.per.ip.overrides")
        .or("")
        .dynamic()
        .effect(),
    int("max.connection.creation.rate")
        .or(I32_MAX)
        .min(0)
        .dynamic()
        .per_listener()
        .effect(),
    int("connection.failed.authentication.delay.ms")
        .or("100")
        .min(0)
        .effect(),
    int("max.request.partition.size.limit")
        .or("2000")
        .min(1)
        .effect(),
    int("max.incremental.fetch.session.cache.slots")
        .or("1000")
        .min(0)
        .effect(),
    int("fetch.max.bytes").or("57671680").min(1024).effect(),
    list("metric.reporters")
        .or("org.apache.kafka.common.metrics.JmxReporter")
        .dynamic(),
    int("metrics.num.samples").or("2").min(1),
    long("metrics.sample.window.ms").or("30000").min(1),
    string("metrics.recording.level")
        .or("INFO")
        .one_of(&["INFO", "DEBUG", "TRACE"]),
    int("telemetry.max.bytes").or("1048576").min(1),
    list("kafka.metrics.reporters").or(""),
    int("kafka.metrics.polling.interval.secs").or("10").min(1),
    boolean("auto.include.jmx.reporter").or("true").gone(),
    list("config.providers").or("").dynamic().effect(),
    string("security.providers"),
    list("early.start.listeners"),
    long("socket.connection.setup.timeout.ms").or("10000"),
    long("socket.connection.setup.timeout.max.ms").or("30000"),
];
