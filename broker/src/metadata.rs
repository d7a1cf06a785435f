//! What the cluster agrees on: records in a replicated log, and the image they add up to.
//!
//! ```text
//! request -> Controller::submit -> decide against the proposed image -> records -> raft log
//!         -> committed -> applied: (delta, image) published -> the answer leaves
//! ```
//!
//! - [`record`] what the log says; [`image`] what it adds up to; [`builder`] the step between two
//!   images, [`delta`] what it changed; [`snapshot`] an image as records again.
//! - [`handle`] is how the rest of the broker reads; [`controller`] is how it changes anything.
//! - [`machine`] ties both to the raft thread, [`service`] starts it all.

pub mod actor;
pub mod builder;
pub mod controller;
pub mod delta;
pub mod group_config;
pub mod handle;
pub mod image;
pub(crate) mod intents;
pub mod machine;
pub mod record;
pub mod service;
pub mod snapshot;
pub mod topic_config;
pub mod topic_name;

pub use actor::{Actor, Internal};
pub use controller::{
    Controller, ControllerError, ControllerRequest, ControllerSettings, Descriptors,
};
pub use delta::{ClusterDelta, TopicDelta};
pub use handle::{ImageListener, MetadataHandle};
pub use image::{ClusterImage, ConfigMap, PartitionImage, TopicImage, TopicsImage};
pub(crate) use intents::AuditTrail;
pub use record::{BrokerEndpoint, BrokerRegistration, ConfigResourceType};
pub use service::{Bootstrap, MetadataOptions, MetadataService};
