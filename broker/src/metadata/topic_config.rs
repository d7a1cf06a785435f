//! Settings of topics: which keys there are, which values they take, what they come to.
//!
//! - `table` every key of configs.md §2 with type, bounds, default and broker synonyms;
//! - `value` texts to values and back to canonical texts;
//! - `validate` what a topic may be set to; `effective` what that means together with the
//!   node's defaults; `describe` how DescribeConfigs and CreateTopics show it.

mod describe;
mod effective;
mod table;
mod validate;
mod value;

pub use describe::{ConfigSource, ConfigSynonym, DescribedConfig, created, describe};
pub use effective::{CompressionType, EffectiveTopicConfig, TimestampType, TopicConfig};
pub use table::{ConfigKind, TopicKey, keys, lookup};
pub use validate::{ConfigError, validate};
pub use value::{join_list, list_items};
