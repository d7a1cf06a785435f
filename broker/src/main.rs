//! The `palisade` binary.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    palisade::cli::run(palisade::cli::Cli::parse())
}
