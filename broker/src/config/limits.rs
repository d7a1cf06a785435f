//! Bounds on what strangers and clients may take: connections, bytes, seconds.
//!
//! Source: security.md §1.4, §1.5 and §6.1. Where Kafka's default is "no limit", ours is a number.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

/// Limits of the node as a whole. Counts are of connections, sizes are bytes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most connections open at once (`max.connections`).
    pub max_connections: usize,
    /// Most connections open at once from one address (`max.connections.per.ip`).
    pub max_connections_per_ip: usize,
    /// Addresses with a bound of their own (`max.connections.per.ip.overrides`).
    pub max_connections_per_ip_overrides: BTreeMap<IpAddr, usize>,
    /// Most connections accepted per second (`max.connection.creation.rate`).
    pub max_connection_creation_rate: Option<u32>,
    /// Most connections that have not logged in yet (`palisade.max.unauthenticated.connections`).
    pub max_unauthenticated: usize,
    /// The same from one address (`palisade.max.unauthenticated.connections.per.ip`).
    pub max_unauthenticated_per_ip: usize,
    /// Largest request after login (`socket.request.max.bytes`).
    pub request_max_bytes: usize,
    /// Largest SaslAuthenticate frame (`sasl.server.max.receive.size`).
    pub sasl_max_bytes: usize,
    /// Bytes of requests held in memory at once (`queued.max.request.bytes`); never below
    /// `request_max_bytes`. `None`: a quarter of the memory the process may use.
    pub queued_max_bytes: Option<usize>,
    /// A connection without traffic this long is closed (`connections.max.idle.ms`).
    pub idle: Option<Duration>,
    /// How long a failed login waits for its answer (`connection.failed.authentication.delay.ms`).
    pub failed_authentication_delay: Duration,
    /// From accept to the end of the TLS handshake (`palisade.tls.handshake.timeout.ms`).
    pub tls_handshake: Duration,
    /// From accept to a finished login (`palisade.login.timeout.ms`).
    pub login: Duration,
    /// From the first to the last byte of one frame (`palisade.frame.timeout.ms`).
    pub frame: Duration,
    /// Length of the accept queue (`socket.listen.backlog.size`).
    pub listen_backlog: u32,
    /// Kernel send buffer (`socket.send.buffer.bytes`); `None` leaves it to the system.
    pub send_buffer_bytes: Option<usize>,
    /// Kernel receive buffer (`socket.receive.buffer.bytes`); `None` leaves it to the system.
    pub receive_buffer_bytes: Option<usize>,
    /// Most bytes of one fetch response (`fetch.max.bytes`).
    pub fetch_max_bytes: usize,
    /// Most incremental fetch sessions kept (`max.incremental.fetch.session.cache.slots`).
    pub fetch_session_slots: usize,
    /// Most partitions of one DescribeTopicPartitions answer
    /// (`max.request.partition.size.limit`).
    pub describe_partitions_max: usize,
}
