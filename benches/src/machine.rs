//! What the figures were measured on.

use std::fs;
use std::path::Path;
use std::thread;

/// Prints processor, memory, kernel, load and the file system below `scratch`, a line each.
pub fn print(scratch: &Path) {
    let cpus = thread::available_parallelism().map_or(0, usize::from);
    let model = field("/proc/cpuinfo", "model name");
    println!("machine: {cpus} CPUs, {model}");
    println!("memory: {}", field("/proc/meminfo", "MemTotal"));
    println!("kernel: {}", text("/proc/sys/kernel/osrelease"));
    println!("file system of the logs: {}", file_system(scratch));
    // Others' work is the first suspect of an odd figure.
    println!("load before the run: {}", text("/proc/loadavg"));
}

fn text(path: &str) -> String {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// The value of the first line `name: value`.
fn field(path: &str, name: &str) -> String {
    let text = text(path);
    let value = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name);
    value.map_or_else(
        || "unknown".to_owned(),
        |(_, value)| value.trim().to_owned(),
    )
}

/// Type of the mount that holds the path.
fn file_system(path: &Path) -> String {
    let mounts = text("/proc/mounts");
    let mount = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(place, _)| path.starts_with(place))
        .max_by_key(|(place, _)| place.len());
    mount.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}
