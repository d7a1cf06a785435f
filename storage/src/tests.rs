//! Tests of whole logs.

#[cfg(feature = "failpoints")]
mod aborts;
mod basic;
mod compaction;
mod compaction_crashes;
mod compaction_model;
mod crashes;
mod damage;
mod full_disk;
mod look_ups;
mod misplaced;
mod model;
mod no_descriptors;
mod producers;
mod raised_epochs;
mod readers;
mod real_files;
mod scrub;
mod starts;
mod truncation;
mod unreadable;
mod vanished;
