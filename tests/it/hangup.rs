//! SIGHUP, which a terminal sends that closes and ssh where its connection is lost: the same end as by
//! SIGTERM, unless `nohup` keeps it away.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use palisade_tests::check::eventually;
use palisade_tests::dev::Dev;
use palisade_tests::node::Node;
use palisade_tests::paths;
use palisade_tests::process::{KillOnDrop, Process, heed, is_ignored};
use palisade_tests::tools;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::SignalKind;

use crate::cli_data::Cli;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_node_stops() {
    heed(SignalKind::hangup());
    let node = Node::start();
    node.process().signal(Signal::HUP);
    let exit = node.process().wait(PATIENCE);
    assert!(exit.success(), "{exit:?}: {}", node.process().output());
}

/// Nobody reads what is said any more: that keeps no node from its end.
#[test]
fn the_terminal_is_gone() {
    heed(SignalKind::hangup());
    let scratch = paths::scratch();
    let dir = tools::text(scratch.path());
    let mut command = paths::palisade();
    command.args(["dev", "--port", "0", "--data-dir", &dir]);
    command.env("PALISADE_LOG", "info").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = KillOnDrop::spawn(&mut command);
    let said = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut lines = said.lines().map(|line| line.expect("a line"));
    assert!(lines.any(|line| line.starts_with("Ctrl-C")), "not ready");
    drop((lines, child.stderr.take()));
    kill_process(Pid::from_child(&child), Signal::HUP).expect("a child that was not waited for");
    let exit = eventually("its end", PATIENCE, || {
        let exit = child.try_wait().map_err(|error| error.to_string())?;
        exit.ok_or_else(|| "still there".to_owned())
    });
    assert!(exit.success(), "{exit:?}");
    assert!(scratch.path().join("data/clean-shutdown").exists());
}

/// What `nohup` has ignored stays ignored.
#[test]
fn nohup_goes_on() {
    let palisade = paths::palisade();
    let mut command = Command::new("nohup");
    command.arg(palisade.get_program());
    command.args(["dev", "--json", "--port", "0"]);
    let process = Process::spawn("palisade dev", &mut command);
    process.wait_for_line(PATIENCE, |line| line.starts_with('{'));
    assert!(is_ignored(SignalKind::hangup(), &process.id().to_string()));
    process.signal(Signal::HUP);
    assert!(process.terminate().success(), "{}", process.output());
}

/// A member says goodbye to its group.
#[test]
fn a_member_leaves() {
    heed(SignalKind::hangup());
    let dev = Dev::start(&["--topic", "hung"]);
    let cli = Cli::new(&dev.admin());
    let file = cli.file("one", "first\n");
    cli.done(&["produce", "hung", "--file", &file]);
    let member = cli.spawn(&["consume", "hung", "--group", "up"]);
    member.wait_for_line(PATIENCE, |line| line == "first");
    member.signal(Signal::HUP);
    let exit = member.wait(PATIENCE);
    assert!(exit.success(), "{exit:?}: {}", member.output());
    let described = &cli.json(&["group", "describe", "up"])["groups"][0];
    assert_eq!(described["state"], "Empty", "{described}");
    assert_eq!(described["lag"], 0, "{described}");
}
