//! Tests of the codec against what it must agree with: Kafka's schemas, an independent encoder driven by
//! them, and another implementation. One binary, as all of them walk over the same list of messages.

mod allocations;
mod batches;
mod cases;
mod fields;
mod hostile;
mod kafka_protocol_crate;
mod kafka_schemas;
mod round_trip;
mod values;
