//! The settings of groups (configs.md §3.4).

use std::time::Duration;

use palisade_protocol::batch::Codec;

use crate::config::Config;
use crate::metadata::ConfigMap;
use crate::metadata::group_config::GroupDefaults;

/// What the node's configuration says of groups; times as durations.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupConfig {
    /// Bounds of a classic member's session timeout (`group.{min,max}.session.timeout.ms`).
    pub(crate) min_session_timeout: Duration,
    /// The upper one.
    pub(crate) max_session_timeout: Duration,
    /// How long an empty classic group waits for more members (`group.initial.rebalance.delay.ms`).
    pub(crate) initial_rebalance_delay: Duration,
    /// Most members of a classic group (`group.max.size`).
    pub(crate) max_size: usize,
    /// Most bytes that members keep in memory (`palisade.group.members.max.bytes`).
    pub(crate) members_max_bytes: usize,
    /// Most UTF-16 units of the text beside an offset (`offset.metadata.max.bytes`).
    pub(crate) offset_metadata_max: usize,
    /// How long offsets of a group that is not used are kept (`offsets.retention.minutes`).
    pub(crate) offsets_retention: Duration,
    /// Between two looks for expired ones (`offsets.retention.check.interval.ms`).
    pub(crate) offsets_retention_check_interval: Duration,
    /// How long a write may wait for its replicas (`offsets.commit.timeout.ms`).
    pub(crate) commit_timeout: Duration,
    /// How records are compressed (`offsets.topic.compression.codec`).
    pub(crate) codec: Codec,
    /// Settings of consumer groups.
    pub(crate) consumer: ConsumerGroupConfig,
}

/// Settings of consumer groups (KIP-848), of the broker or with a group's own on top.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConsumerGroupConfig {
    /// Whether the protocol is served (`group.coordinator.rebalance.protocols`).
    pub(crate) enabled: bool,
    /// How long a member may be silent (`group.consumer.session.timeout.ms`).
    pub(crate) session_timeout: Duration,
    /// How often a member is to call (`group.consumer.heartbeat.interval.ms`).
    pub(crate) heartbeat_interval: Duration,
    /// Between two runs of the assignor (`group.consumer.assignment.interval.ms`).
    pub(crate) assignment_interval: Duration,
    /// Most members (`group.consumer.max.size`).
    pub(crate) max_size: usize,
    /// Names of the assignors served, the default first (`group.consumer.assignors`).
    pub(crate) assignors: Vec<String>,
    /// Which groups may become one of the other kind (`group.consumer.migration.policy`).
    pub(crate) migration: MigrationPolicy,
    /// Longest time between two looks for an expression's topics
    /// (`group.consumer.regex.refresh.interval.ms`).
    pub(crate) regex_refresh_interval: Duration,
    /// What a group's own settings are measured by.
    pub(crate) defaults: GroupDefaults,
}

impl ConsumerGroupConfig {
    /// The settings of a group with some of its own.
    pub(crate) fn with(&self, own: &ConfigMap) -> Self {
        let own = self.defaults.effective(own);
        Self {
            session_timeout: millis(own.session_timeout_ms),
            heartbeat_interval: millis(own.heartbeat_interval_ms),
            assignment_interval: millis(own.assignment_interval_ms),
            ..self.clone()
        }
    }
}

/// Which way a group with members may be converted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MigrationPolicy {
    /// Neither.
    Disabled,
    /// Classic groups into consumer groups.
    Upgrade,
    /// Consumer groups into classic groups.
    Downgrade,
    /// Both.
    Bidirectional,
}

impl MigrationPolicy {
    /// Whether a classic group with members may become a consumer group.
    pub(crate) fn upgrades(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    /// Whether a consumer group whose members are classic ones may become a classic group.
    pub(crate) fn downgrades(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }

    fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "disabled" => Self::Disabled,
            "upgrade" => Self::Upgrade,
            "downgrade" => Self::Downgrade,
            // The key's check lets no other word through.
            _ => Self::Bidirectional,
        }
    }
}

impl GroupConfig {
    /// The settings of a node.
    pub(crate) fn of(config: &Config) -> Self {
        let millis = |key| millis(config.number(key));
        let minutes = config
            .number("offsets.retention.minutes")
            .saturating_mul(60_000);
        Self {
            min_session_timeout: millis("group.min.session.timeout.ms"),
            max_session_timeout: millis("group.max.session.timeout.ms"),
            initial_rebalance_delay: millis("group.initial.rebalance.delay.ms"),
            max_size: count(config.number("group.max.size")),
            members_max_bytes: count(config.number("palisade.group.members.max.bytes")),
            offset_metadata_max: count(config.number("offset.metadata.max.bytes")),
            offsets_retention: self::millis(minutes),
            offsets_retention_check_interval: millis("offsets.retention.check.interval.ms"),
            commit_timeout: millis("offsets.commit.timeout.ms"),
            codec: codec(config.number("offsets.topic.compression.codec")),
            consumer: ConsumerGroupConfig {
                enabled: config
                    .items("group.coordinator.rebalance.protocols")
                    .iter()
                    .any(|protocol| protocol == "consumer"),
                session_timeout: millis("group.consumer.session.timeout.ms"),
                heartbeat_interval: millis("group.consumer.heartbeat.interval.ms"),
                assignment_interval: millis("group.consumer.assignment.interval.ms"),
                max_size: count(config.number("group.consumer.max.size")),
                assignors: config.items("group.consumer.assignors"),
                migration: MigrationPolicy::parse(config.text("group.consumer.migration.policy")),
                regex_refresh_interval: millis("group.consumer.regex.refresh.interval.ms"),
                defaults: GroupDefaults::of(config),
            },
        }
    }
}

fn millis(value: i64) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

/// The codec of an id; the key's bounds leave no other.
fn codec(id: i64) -> Codec {
    let id = i16::try_from(id).unwrap_or(0);
    Codec::from_id(id).unwrap_or(Codec::None)
}

fn count(value: i64) -> usize {
    usize::try_from(value).unwrap_or(0)
}

#[cfg(test)]
impl GroupConfig {
    /// Kafka's defaults.
    pub(crate) fn defaults() -> Self {
        Self {
            min_session_timeout: millis(6000),
            max_session_timeout: millis(1_800_000),
            initial_rebalance_delay: millis(3000),
            max_size: i32::MAX as usize,
            members_max_bytes: 128 << 20,
            offset_metadata_max: 4096,
            offsets_retention: millis(604_800_000),
            offsets_retention_check_interval: millis(600_000),
            commit_timeout: millis(5000),
            codec: Codec::None,
            consumer: ConsumerGroupConfig {
                enabled: true,
                session_timeout: millis(45_000),
                heartbeat_interval: millis(5000),
                assignment_interval: millis(1000),
                max_size: i32::MAX as usize,
                assignors: vec!["uniform".to_owned(), "range".to_owned()],
                migration: MigrationPolicy::Bidirectional,
                regex_refresh_interval: millis(600_000),
                defaults: GroupDefaults::default(),
            },
        }
    }
}
