//! Every topic key of configs.md §2.

/// Type of a value, with the code of DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigKind {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32-bit number.
    Int,
    /// 64-bit number.
    Long,
    /// Floating point number.
    Double,
    /// Items with commas between.
    List,
}

impl ConfigKind {
    /// Code of DescribeConfigs v3 and later.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            ConfigKind::Boolean => 1,
            ConfigKind::String => 2,
            ConfigKind::Int => 3,
            ConfigKind::Long => 5,
            ConfigKind::Double => 6,
            ConfigKind::List => 7,
        }
    }
}

/// Which values a key takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Valid {
    /// All of its type.
    Any,
    /// Numbers from here on.
    AtLeast(i64),
    /// Numbers from the first to the second.
    Between(i64, i64),
    /// One number, or those from the second to the third.
    DefaultOr(i64, i64, i64),
    /// Floating point numbers from 0 to 1.
    Fraction,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// Lists of these texts.
    ItemsOf(&'static [&'static str]),
    /// `*` alone, or `partition:broker` items.
    ThrottledReplicas,
}

/// One topic key.
#[derive(Debug)]
pub struct TopicKey {
    /// Name.
    pub name: &'static str,
    /// Type.
    pub kind: ConfigKind,
    /// Canonical text of the built-in default; `None` where there is none.
    pub default: Option<&'static str>,
    pub(super) valid: Valid,
    /// Broker keys that set the default, first wins, each with its own built-in default.
    pub synonyms: &'static [(&'static str, Option<&'static str>)],
    /// Whether this release does anything with the value; otherwise it is kept and shown.
    pub has_effect: bool,
    /// What it is for.
    pub documentation: &'static str,
}

const LONG_MAX: &str = "9223372036854775807";
const WEEK_MS: &str = "604800000";

/// The key of a name; also the one that is accepted but listed only where it is set.
#[must_use]
pub fn lookup(name: &str) -> Option<&'static TopicKey> {
    if name == INTERNAL_SEGMENT_BYTES.name {
        return Some(&INTERNAL_SEGMENT_BYTES);
    }
    KEYS.binary_search_by(|key| key.name.cmp(name))
        .ok()
        .map(|at| &KEYS[at])
}

/// Every key that is always listed, by name.
#[must_use]
pub fn keys() -> &'static [TopicKey] {
    KEYS
}

/// A segment size below every bound, which Kafka's own tests set.
pub(super) static INTERNAL_SEGMENT_BYTES: TopicKey = TopicKey {
    name: "internal.segment.bytes",
    kind: ConfigKind::Int,
    default: None,
    valid: Any,
    synonyms: &[],
    has_effect: false,
    documentation: "For tests of Kafka itself; kept, without effect here.",
};

macro_rules! key {
    ($name:literal $kind:ident $default:expr, $valid:expr, [$($synonym:expr),*], $effect:literal, $text:literal) => {
        TopicKey {
            name: $name,
            kind: ConfigKind::$kind,
            default: Some($default),
            valid: $valid,
            synonyms: &[$($synonym),*],
            has_effect: $effect,
            documentation: $text,
        }
    };
}

use Valid::{Any, AtLeast, Between, DefaultOr, Fraction, ItemsOf, OneOf, ThrottledReplicas};

/// Ascending by name.
static KEYS: &[TopicKey] = &[
    key!("cleanup.policy" List "delete", ItemsOf(&["compact", "delete"]),
        [("log.cleanup.policy", Some("delete"))], true,
        "How old records go: `delete` by age and size, `compact` all but the last of each key, \
         both, or nothing for an empty list."),
    key!("compression.gzip.level" Int "-1", DefaultOr(-1, 1, 9),
        [("compression.gzip.level", Some("-1"))], true,
        "Level of gzip where the broker compresses; -1 is the codec's own default."),
    key!("compression.lz4.level" Int "9", Between(1, 17),
        [("compression.lz4.level", Some("9"))], true,
        "Level of lz4 where the broker compresses."),
    key!("compression.type" String "producer",
        OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        [("compression.type", Some("producer"))], true,
        "Codec of stored batches; `producer` keeps what the producer sent."),
    key!("compression.zstd.level" Int "3", Between(-131_072, 22),
        [("compression.zstd.level", Some("3"))], true,
        "Level of zstd where the broker compresses."),
    key!("delete.retention.ms" Long "86400000", AtLeast(0),
        [("log.cleaner.delete.retention.ms", Some("86400000"))], false,
        "How long a compacted topic keeps the mark that a key was deleted."),
    key!("file.delete.delay.ms" Long "60000", AtLeast(0),
        [("log.segment.delete.delay.ms", Some("60000"))], true,
        "Wait between taking a segment out of the log and removing its file."),
    key!("flush.messages" Long LONG_MAX, AtLeast(1),
        [("log.flush.interval.messages", Some(LONG_MAX))], true,
        "Records after which the log is synced to disk."),
    key!("flush.ms" Long LONG_MAX, AtLeast(0),
        [("log.flush.interval.ms", None), ("log.flush.scheduler.interval.ms", Some(LONG_MAX))],
        true, "Time after which the log is synced to disk."),
    key!("follower.replication.throttled.replicas" List "", ThrottledReplicas, [], false,
        "Replicas whose fetching is held back during a reassignment: `partition:broker` items, \
         or `*`."),
    key!("index.interval.bytes" Int "4096", AtLeast(0),
        [("log.index.interval.bytes", Some("4096"))], true,
        "Bytes of log between two entries of its index."),
    key!("leader.replication.throttled.replicas" List "", ThrottledReplicas, [], false,
        "Replicas whose serving is held back during a reassignment: `partition:broker` items, \
         or `*`."),
    key!("local.retention.bytes" Long "-2", AtLeast(-2),
        [("log.local.retention.bytes", Some("-2"))], false,
        "Bytes kept here of a topic with remote storage; -2 follows retention.bytes."),
    key!("local.retention.ms" Long "-2", AtLeast(-2),
        [("log.local.retention.ms", Some("-2"))], false,
        "Time records are kept here of a topic with remote storage; -2 follows retention.ms."),
    key!("max.compaction.lag.ms" Long LONG_MAX, AtLeast(1),
        [("log.cleaner.max.compaction.lag.ms", Some(LONG_MAX))], false,
        "Longest time a record of a compacted topic may stay out of reach of the cleaner."),
    key!("max.message.bytes" Int "1048588", AtLeast(0),
        [("message.max.bytes", Some("1048588"))], true,
        "Largest batch that producers may send, in bytes, compressed as it comes."),
    key!("message.timestamp.after.max.ms" Long "3600000", AtLeast(0),
        [("log.message.timestamp.after.max.ms", Some("3600000"))], true,
        "How far a record's timestamp may lie ahead of the broker's clock."),
    key!("message.timestamp.before.max.ms" Long LONG_MAX, AtLeast(0),
        [("log.message.timestamp.before.max.ms", Some(LONG_MAX))], true,
        "How far a record's timestamp may lie behind the broker's clock."),
    key!("message.timestamp.type" String "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]),
        [("log.message.timestamp.type", Some("CreateTime"))], true,
        "Whether records carry the producer's time or that of their arrival."),
    key!("min.cleanable.dirty.ratio" Double "0.5", Fraction,
        [("log.cleaner.min.cleanable.ratio", Some("0.5"))], false,
        "Share of uncleaned bytes from which a compacted topic is cleaned."),
    key!("min.compaction.lag.ms" Long "0", AtLeast(0),
        [("log.cleaner.min.compaction.lag.ms", Some("0"))], false,
        "Time a record of a compacted topic stays out of reach of the cleaner."),
    key!("min.insync.replicas" Int "1", AtLeast(1),
        [("min.insync.replicas", Some("1"))], true,
        "In-sync replicas that must have a batch before it is acknowledged to acks=all."),
    key!("preallocate" Boolean "false", Any,
        [("log.preallocate", Some("false"))], false,
        "Whether segment files get their full size at once; the broker allocates ahead anyway."),
    key!("remote.log.copy.disable" Boolean "false", Any, [], false,
        "Whether a topic with remote storage stops copying to it."),
    key!("remote.log.delete.on.disable" Boolean "false", Any, [], false,
        "Whether remote data goes when remote storage is switched off."),
    key!("remote.storage.enable" Boolean "false", Any, [], false,
        "Whether segments move to remote storage, which this broker does not have."),
    key!("retention.bytes" Long "-1", Any,
        [("log.retention.bytes", Some("-1"))], true,
        "Bytes of each partition above which its oldest segments go; -1 is no bound."),
    key!("retention.ms" Long WEEK_MS, AtLeast(-1),
        [("log.retention.ms", None), ("log.retention.minutes", None),
         ("log.retention.hours", Some("168"))], true,
        "Age at which records go; -1 is no bound."),
    key!("segment.bytes" Int "1073741824", AtLeast(1024),
        [("log.segment.bytes", Some("1073741824"))], true,
        "Size at which a new segment file is begun; retention removes whole segments."),
    key!("segment.index.bytes" Int "10485760", AtLeast(4),
        [("log.index.size.max.bytes", Some("10485760"))], true,
        "Largest size of the index of a segment."),
    key!("segment.jitter.ms" Long "0", AtLeast(0),
        [("log.roll.jitter.ms", None), ("log.roll.jitter.hours", Some("0"))], true,
        "Upper bound of what is taken off segment.ms at random, so that not all roll at once."),
    key!("segment.ms" Long WEEK_MS, AtLeast(1),
        [("log.roll.ms", None), ("log.roll.hours", Some("168"))], true,
        "Age at which a new segment file is begun though the old one is not full."),
    key!("unclean.leader.election.enable" Boolean "false", Any,
        [("unclean.leader.election.enable", Some("false"))], false,
        "Whether a replica that is not in sync may lead when no other can, losing records."),
];

#[cfg(test)]
mod tests {
    use super::super::value::canonical;
    use super::*;

    #[test]
    fn keys_are_sorted_and_found() {
        assert!(KEYS.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(KEYS.len(), 33);
        for key in KEYS {
            assert_eq!(lookup(key.name).unwrap().name, key.name);
        }
        assert!(lookup("message.format.version").is_none());
        assert!(lookup("internal.segment.bytes").is_some());
    }

    #[test]
    fn defaults_are_valid_and_canonical() {
        for key in KEYS {
            let default = key.default.unwrap();
            assert_eq!(
                canonical(key.kind, &key.valid, default).as_deref(),
                Ok(default),
                "{}",
                key.name
            );
        }
    }
}
