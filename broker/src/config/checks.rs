//! Values that must fit each other, and parts of Kafka that a single node does not have.

use super::{ConfigError, listeners::relation, values::Values};

/// The node's id, from `node.id` or its older name.
pub(crate) fn node_id(values: &Values, errors: &mut Vec<ConfigError>) -> i32 {
    let node = values.maybe_number("node.id");
    let broker = values.maybe_number("broker.id").filter(|id| *id >= 0);
    match (node, broker) {
        (Some(node), Some(broker)) if node != broker => relation(
            errors,
            "node.id, broker.id",
            format!("{node} and {broker} must be equal, or broker.id left out"),
        ),
        (None, None) => errors.push(ConfigError::Missing {
            key: "node.id".to_owned(),
            reason: "every node has a number of its own, from 0 up",
        }),
        _ => {}
    }
    node.or(broker)
        .and_then(|id| i32::try_from(id).ok())
        .unwrap_or(0)
}

/// This node is broker and only voter; a file that asks for another shape is refused.
pub(crate) fn roles(values: &Values, errors: &mut Vec<ConfigError>) {
    let roles = values.items("process.roles");
    if !(roles.contains(&"broker") && roles.contains(&"controller")) {
        relation(
            errors,
            "process.roles",
            "a node is broker and controller in one so far; set broker,controller or leave the \
             key out"
                .to_owned(),
        );
    }
    let voters = values.items("controller.quorum.voters");
    match voters.as_slice() {
        [] => {}
        [only] => {
            let id = only
                .split_once('@')
                .and_then(|(id, _)| id.trim().parse().ok());
            if id.is_none() {
                relation(
                    errors,
                    "controller.quorum.voters",
                    format!("{only}: expected id@host:port"),
                );
            } else if values
                .maybe_number("node.id")
                .is_some_and(|own| id != Some(own))
            {
                relation(
                    errors,
                    "controller.quorum.voters, node.id",
                    "the only voter must be this node".to_owned(),
                );
            }
        }
        _ => relation(
            errors,
            "controller.quorum.voters",
            "clusters of several nodes are not built yet; this node would be alone without \
             knowing it"
                .to_owned(),
        ),
    }
    if values.items("controller.quorum.bootstrap.servers").len() > 1 {
        relation(
            errors,
            "controller.quorum.bootstrap.servers",
            "clusters of several nodes are not built yet; this node would be alone without \
             knowing it"
                .to_owned(),
        );
    }
    let protocols = values.items("group.coordinator.rebalance.protocols");
    if !protocols.contains(&"classic") {
        relation(
            errors,
            "group.coordinator.rebalance.protocols",
            "classic must be among them".to_owned(),
        );
    }
}

/// Pairs of numbers of which the first may not exceed the second.
const AT_MOST: &[(&str, &str)] = &[
    ("replica.fetch.wait.max.ms", "replica.socket.timeout.ms"),
    ("replica.fetch.wait.max.ms", "replica.lag.time.max.ms"),
    (
        "group.min.session.timeout.ms",
        "group.max.session.timeout.ms",
    ),
    (
        "group.consumer.min.session.timeout.ms",
        "group.consumer.session.timeout.ms",
    ),
    (
        "group.consumer.session.timeout.ms",
        "group.consumer.max.session.timeout.ms",
    ),
    (
        "group.consumer.min.heartbeat.interval.ms",
        "group.consumer.heartbeat.interval.ms",
    ),
    (
        "group.consumer.heartbeat.interval.ms",
        "group.consumer.max.heartbeat.interval.ms",
    ),
    (
        "group.consumer.min.assignment.interval.ms",
        "group.consumer.assignment.interval.ms",
    ),
    (
        "group.consumer.assignment.interval.ms",
        "group.consumer.max.assignment.interval.ms",
    ),
    (
        "group.share.min.session.timeout.ms",
        "group.share.session.timeout.ms",
    ),
    (
        "group.share.session.timeout.ms",
        "group.share.max.session.timeout.ms",
    ),
    (
        "group.share.min.heartbeat.interval.ms",
        "group.share.heartbeat.interval.ms",
    ),
    (
        "group.share.heartbeat.interval.ms",
        "group.share.max.heartbeat.interval.ms",
    ),
    (
        "group.share.min.record.lock.duration.ms",
        "group.share.record.lock.duration.ms",
    ),
    (
        "group.share.record.lock.duration.ms",
        "group.share.max.record.lock.duration.ms",
    ),
    (
        "group.share.min.delivery.count.limit",
        "group.share.delivery.count.limit",
    ),
    (
        "group.share.delivery.count.limit",
        "group.share.max.delivery.count.limit",
    ),
    (
        "group.share.min.partition.max.record.locks",
        "group.share.partition.max.record.locks",
    ),
    (
        "group.share.partition.max.record.locks",
        "group.share.max.partition.max.record.locks",
    ),
    (
        "group.streams.min.session.timeout.ms",
        "group.streams.session.timeout.ms",
    ),
    (
        "group.streams.session.timeout.ms",
        "group.streams.max.session.timeout.ms",
    ),
    (
        "group.streams.min.heartbeat.interval.ms",
        "group.streams.heartbeat.interval.ms",
    ),
    (
        "group.streams.heartbeat.interval.ms",
        "group.streams.max.heartbeat.interval.ms",
    ),
    (
        "group.streams.num.standby.replicas",
        "group.streams.max.standby.replicas",
    ),
];

/// Pairs of numbers of which the first must stay below the second.
const BELOW: &[(&str, &str)] = &[
    (
        "group.consumer.heartbeat.interval.ms",
        "group.consumer.session.timeout.ms",
    ),
    (
        "group.share.heartbeat.interval.ms",
        "group.share.session.timeout.ms",
    ),
    (
        "group.streams.heartbeat.interval.ms",
        "group.streams.session.timeout.ms",
    ),
];

/// Checks every relation between numbers.
pub(crate) fn relations(values: &Values, errors: &mut Vec<ConfigError>) {
    for (low, high) in AT_MOST {
        let (a, b) = (values.number(low), values.number(high));
        if a > b {
            relation(
                errors,
                &format!("{low}, {high}"),
                format!("{a} may not exceed {b}"),
            );
        }
    }
    for (low, high) in BELOW {
        let (a, b) = (values.number(low), values.number(high));
        if a >= b {
            relation(
                errors,
                &format!("{low}, {high}"),
                format!("{a} must be below {b}"),
            );
        }
    }
    let idle = values.number("connections.max.idle.ms");
    let delay = values.number("connection.failed.authentication.delay.ms");
    if idle >= 0 && delay >= idle {
        relation(
            errors,
            "connection.failed.authentication.delay.ms, connections.max.idle.ms",
            format!("{delay} must be below {idle}, or the answer would never leave"),
        );
    }
    let queued = values.number("queued.max.request.bytes");
    let largest = values.number("socket.request.max.bytes");
    if queued > 0 && queued < largest {
        relation(
            errors,
            "queued.max.request.bytes, socket.request.max.bytes",
            format!("{queued} must be at least {largest}: the largest request must fit"),
        );
    }
    let per_ip = values.number("max.connections.per.ip");
    if per_ip == 0 && values.items("max.connections.per.ip.overrides").is_empty() {
        relation(
            errors,
            "max.connections.per.ip, max.connections.per.ip.overrides",
            "0 without overrides would refuse everybody".to_owned(),
        );
    }
    let handshake = values.number("palisade.tls.handshake.timeout.ms");
    let login = values.number("palisade.login.timeout.ms");
    if handshake > login {
        relation(
            errors,
            "palisade.tls.handshake.timeout.ms, palisade.login.timeout.ms",
            format!("{handshake} may not exceed {login}, which covers the handshake"),
        );
    }
}
