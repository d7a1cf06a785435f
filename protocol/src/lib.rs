//! The Kafka protocol as plain values: requests, responses, record batches.
//!
//! Nothing here opens a socket or a file or decides a policy. Bytes from outside never panic, and
//! no decoder reserves more memory than a fixed multiple of the bytes that arrived. Names and
//! records are slices of the received frame, not copies.
//!
//! What is spoken: the requests of [`api::SERVED`], each at every version of its range, and record
//! batches of format v2. What is refused: message formats v0 and v1, and every key and version
//! outside the table.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

// The derive names its items by this path, inside the crate as well.
extern crate self as palisade_protocol;

pub mod api;
pub mod batch;
pub mod error;
pub mod error_code;
pub mod frame;
pub mod header;
pub mod messages;
pub mod reader;
pub mod records;
pub mod schema;
pub mod text;
pub mod types;
pub mod uuid;
mod varint;
#[doc(hidden)]
pub mod wire;
pub mod writer;

pub use api::{ApiKey, ApiSpec};
pub use error::{DecodeError, EncodeError};
pub use error_code::ErrorCode;
pub use messages::{Message, Request};
pub use palisade_protocol_derive::Message;
pub use reader::Reader;
pub use records::{RecordSource, Records};
pub use text::Str;
pub use types::{
    BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TimestampMs, TopicId,
};
pub use uuid::Uuid;
pub use writer::{Chunk, Writer};
