//! The integration tests: one binary, so that it links once.
//!
//! Each module is one subject. A test that needs a program a developer may lack says so and counts
//! as skipped; in CI nothing is skipped.

mod authorization_table;
mod cli;
mod cli_controller;
mod cli_data;
mod cli_group;
mod cli_lies;
mod cli_mistakes;
mod cli_tls;
mod cold_read;
mod compaction;
mod consumer_protocol;
mod crash;
mod damage;
mod dev;
mod disk_full;
mod every_version;
mod find_coordinator;
mod groups;
mod groups_clients;
mod groups_suites;
mod groups_tools;
mod handshakes;
mod hangup;
mod hostile_load;
mod java;
mod kcat;
mod long_names;
mod messages;
mod named_twice;
mod negative;
mod odd_positions;
mod python;
mod rdkafka;
mod security_audit;
mod security_sessions;
mod starts;
mod test_broker;
mod tidy;
mod transactions;
mod worked_example_b;
