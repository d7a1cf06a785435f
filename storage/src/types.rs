//! The ids and positions of the protocol crate that the log speaks in.

pub(crate) use palisade_protocol::types::{
    BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TimestampMs, TopicId,
    Uuid,
};
