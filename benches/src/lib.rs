//! What the benches stand on: batches, a partition in this process, a client, a node as a child.
//!
//! Figures are printed, never asserted: the machine decides them. Only what is measured in one run
//! may be compared.

pub mod client;
pub mod figures;
pub mod load;
pub mod machine;
pub mod node;
pub mod payload;
pub mod rig;
pub mod scram;
