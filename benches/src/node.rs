//! `palisade dev` as a child process, and what the kernel knows of it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use palisade::cli::client::ClientSettings;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for a node that is about to listen for signals.
const PATIENCE: Duration = Duration::from_secs(10);

/// Clock ticks per second in /proc; the kernel's ABI says 100 whatever its own clock does.
const TICKS: f64 = 100.0;

/// Variable that names a binary to measure instead of the one built from these sources.
const BINARY: &str = "PALISADE_BENCH_BINARY";

/// Builds the binary as it is released, and says so; cargo does nothing when it is fresh.
///
/// # Errors
/// It does not build.
pub fn binary() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(BINARY) {
        eprintln!("measuring {}, as {BINARY} says", named.display());
        return Ok(PathBuf::from(named));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the package lies in a workspace")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command
        .current_dir(root)
        .args(["build", "--release", "--package", "palisade"])
        .args([
            "--bin",
            "palisade",
            "--message-format=json-render-diagnostics",
        ])
        .stdout(Stdio::piped());
    eprintln!("building the binary: cargo build --release --package palisade --bin palisade");
    let output = command.output().context("running cargo")?;
    ensure!(output.status.success(), "the binary does not build");
    // Cargo knows where it puts things; target directories can be moved.
    let executable = String::from_utf8(output.stdout)?
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .next_back();
    executable.context("cargo named no executable")
}

/// Where the node lives, and how it is started.
pub struct Place<'a> {
    /// The binary.
    pub binary: &'a Path,
    /// Its directory: `data`, and what it says in `log`.
    pub dir: &'a TempDir,
}

impl Place<'_> {
    /// Starts the node.
    ///
    /// # Errors
    /// It could not be started.
    pub fn spawn(&self) -> Result<Node> {
        let data = self.dir.path().join("data");
        Node::spawn(self.binary, &data, &self.dir.path().join("log"))
    }
}

/// A running `palisade dev`; killed when dropped.
#[derive(Debug)]
pub struct Node {
    child: Child,
}

impl Node {
    /// Starts the binary over a data directory. What it logs is appended to `log`.
    ///
    /// # Errors
    /// It does not start.
    pub fn spawn(binary: &Path, data_dir: &Path, log: &Path) -> Result<Self> {
        Self::spawn_with(binary, data_dir, log, &[])
    }

    /// The same with settings, `key=value` each.
    ///
    /// # Errors
    /// It does not start.
    pub fn spawn_with(
        binary: &Path,
        data_dir: &Path,
        log: &Path,
        settings: &[String],
    ) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let overrides = settings.iter().flat_map(|text| ["--override", text]);
        let child = Command::new(binary)
            .args(["dev", "--json", "--data-dir"])
            .arg(data_dir)
            .args(overrides)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        Ok(Self { child })
    }

    /// Waits until the node says that it serves, and how to reach it.
    ///
    /// # Errors
    /// It ended, or said something else.
    pub fn wait(&mut self) -> Result<ClientSettings> {
        let stdout = self.child.stdout.as_mut().context("asked only once")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.is_empty() {
            bail!("the node ended: {}", self.child.wait()?);
        }
        let said: Value = serde_json::from_str(&line)
            .with_context(|| format!("the node said {line:?} instead of JSON"))?;
        let file = find(&said, "librdkafka_conf")
            .with_context(|| format!("no client settings in {line}"))?;
        Ok(ClientSettings::load(Some(Path::new(file)), None)?)
    }

    /// Anonymous resident memory in bytes (`RssAnon`).
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn anonymous_memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .and_then(|value| value.trim().strip_suffix(" kB"))
            .context("no RssAnon in /proc/PID/status")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// Processor time spent so far in seconds, user and system, all threads.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in parentheses may hold anything; utime and stime are 14th and 15th.
        let (_, rest) = stat.rsplit_once(") ").context("no stat")?;
        let mut ticks = rest.split(' ').skip(11);
        let mut next = || -> Result<f64> { Ok(ticks.next().context("no times")?.parse()?) };
        Ok((next()? + next()?) / TICKS)
    }

    /// Whether the process has a handler for SIGTERM.
    fn heeds_the_signal(&self) -> Result<bool> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))
            .context("no SigCgt in /proc/PID/status")?;
        let caught = u64::from_str_radix(caught.trim(), 16)?;
        Ok(caught & 1 << (Signal::TERM.as_raw() - 1) != 0)
    }

    /// Ends the node at once, as a crash would.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)?;
        Ok(())
    }

    /// Asks the node to end and waits until it has.
    ///
    /// # Errors
    /// It ends with a failure.
    pub fn stop(mut self) -> Result<()> {
        // Killed before it listens for the signal, it would have to recover at the next start.
        let began = Instant::now();
        while !self.heeds_the_signal()? {
            ensure!(began.elapsed() < PATIENCE, "the node takes no SIGTERM");
            thread::sleep(Duration::from_millis(1));
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the node ended with {status}");
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // After `stop` it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of what a node logged, for whoever has to find out why.
pub fn end_of_log(log: &Path) -> String {
    let log = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(20).collect();
    let lines: Vec<&str> = lines.into_iter().rev().collect();
    format!("the node's log ends with:\n{}\n", lines.join("\n"))
}

/// The text of the first key of this name, however deep.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    match value {
        Value::Object(fields) => match fields.get(name) {
            Some(found) => found.as_str(),
            None => fields.values().find_map(|field| find(field, name)),
        },
        _ => None,
    }
}
