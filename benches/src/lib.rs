//! What the benches stand on: batches, a partition in this process, a client, a node as a child.
//!
//! Figures are printed, never asserted: the machine decides them. Only what is measured in one run
//! may be compared.

use std::process::ExitCode;

pub mod client;
pub mod coordinator;
pub mod figures;
pub mod load;
pub mod machine;
pub mod node;
pub mod payload;
pub mod rig;
pub mod scram;

/// Whether cargo asks for the bench of this name: `cargo test --benches` runs each too, and
/// `cargo bench NAME` when another one is meant.
fn is_asked_for(name: &str) -> bool {
    let mut names = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let meant = names.next().is_none_or(|part| name.contains(&*part));
    meant && std::env::args().any(|arg| arg == "--bench")
}

/// Runs a bench that cargo asks for; only one that could not measure fails.
pub fn run(name: &str, measure: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    if !is_asked_for(name) {
        return ExitCode::SUCCESS;
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: not measured: {error:#}");
            ExitCode::FAILURE
        }
    }
}
