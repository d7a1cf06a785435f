//! Where things are: the binary under test, what `tests/prepare` installed, and scratch directories.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a folder of the repository")
        .to_path_buf()
}

/// The broker's binary: `PALISADE_BIN`, or the one built beside this test's executable.
///
/// # Panics
/// When neither exists, with the command that builds it.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PALISADE_BIN") {
        return PathBuf::from(path);
    }
    beside("palisade")
}

/// A binary of the workspace that was built beside this test's executable.
///
/// # Panics
/// When it was not built.
pub fn beside(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("a running test has a path");
    // target/<profile>/deps/it-<hash> lies two folders below the profile's own.
    let beside = exe
        .ancestors()
        .nth(2)
        .expect("a test's executable lies in target/<profile>/deps")
        .join(name);
    assert!(
        beside.exists(),
        "{} is missing: run `cargo build --workspace --bins` first",
        beside.display()
    );
    beside
}

/// The binary as a command, without the variables of the test run that it would take for settings.
pub fn palisade() -> Command {
    without_settings(Command::new(binary()))
}

/// The same as a process whose file descriptors are bounded, as `prlimit` takes bounds.
pub fn palisade_below(descriptors: &str) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={descriptors}")).arg(binary());
    without_settings(command)
}

fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("PALISADE_") || text.starts_with("KAFKA_") {
            command.env_remove(name);
        }
    }
    command
}

/// The folder that `tests/prepare` fills with other people's clients.
pub fn clients() -> PathBuf {
    std::env::var_os("PALISADE_CLIENTS")
        .map_or_else(|| root().join("target/clients"), PathBuf::from)
}

/// A directory that only its owner may enter, removed when dropped.
///
/// It lies under `PALISADE_TEST_TMP` where that is set, else where temporary files belong.
pub fn scratch() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("palisade-");
    match std::env::var_os("PALISADE_TEST_TMP") {
        Some(parent) => builder.tempdir_in(parent),
        None => builder.tempdir(),
    }
    .expect("a scratch directory can be made")
}

/// Writes a file that only its owner may read, as a private key must be.
pub fn write_private(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).expect("a scratch file can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .expect("the mode of an own file can be set");
}

/// A port of 127.0.0.1 on which nothing listened a moment ago.
///
/// For servers that must be told their port. Palisade is given port 0 and says which one it got.
/// No port is given twice to one process, whose tests run side by side; and it is below those
/// that the system gives to whoever names none, so that nobody takes it meanwhile, or while its
/// server is down.
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 10_000..32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    // Processes that run side by side begin at different ones.
    let first = (std::process::id().wrapping_mul(7919) % u32::from(count)) as u16;
    loop {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(turn < count, "a free port can be found");
        let port = PORTS.start + (first + turn) % count;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
