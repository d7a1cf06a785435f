//! Starts on what is there already: ports, passwords, and how a start ends that nobody wants any more.

use std::fs;
use std::net::TcpListener;

use palisade_tests::dev::Dev;
use palisade_tests::paths;
use palisade_tests::process::is_complaint;
use palisade_tests::tools;

fn complaints(dev: &Dev) -> Vec<String> {
    let mut lines = dev.process().lines();
    lines.retain(|line| is_complaint(line));
    lines
}

/// A port that clients know is left to another process for one run, and taken again where it is free.
#[test]
fn a_busy_port_is_replaced_for_one_run() {
    let scratch = paths::scratch();
    let dir = tools::text(scratch.path());
    let start = || Dev::start(&["--data-dir", &dir]);
    let dev = start();
    let first = dev.text(&["bootstrap"]).to_owned();
    let ssl = dev.text(&["listeners", "SSL", "address"]).to_owned();
    assert!(dev.process().terminate().success());

    let held = TcpListener::bind(&first).expect("a port whose broker has ended");
    for _ in 0..2 {
        let dev = start();
        let other = dev.text(&["bootstrap"]);
        assert_ne!(other, first);
        assert_eq!(dev.text(&["listeners", "SSL", "address"]), ssl);
        let port = held.local_addr().expect("its address").port();
        let said = format!(
            "port {port} is in use by another process: a free one is taken for this run; \
             clients need the new address until a start finds {port} free"
        );
        let complaints = complaints(&dev);
        assert!(
            matches!(&complaints[..], [only] if only.ends_with(&said)),
            "{complaints:#?}"
        );
        // What is made for clients is for the broker that runs.
        let conf = fs::read_to_string(dev.file("librdkafka_conf")).expect("a file for clients");
        assert!(conf.contains(&format!("={other}\n")), "{conf}");
        assert!(dev.process().terminate().success());
    }
    drop(held);
    let dev = start();
    assert_eq!(dev.text(&["bootstrap"]), first);
    assert_eq!(complaints(&dev), [""; 0]);
}
