//! Plain lines: one figure each, smallest, middle and largest of several runs, and the aim.

use std::time::Duration;

/// Prints the heads of the columns.
pub fn heads() {
    line("figure", ["min", "median", "max"].map(str::to_owned), "aim");
}

/// Prints durations in milliseconds; sorts them.
pub fn durations(name: &str, runs: &mut [Duration], aim: &str) {
    runs.sort_unstable();
    let texts = spread(runs).map(|run| format!("{:.2} ms", run.as_secs_f64() * 1e3));
    line(name, texts, aim);
}

/// Prints sizes in MB (10^6 bytes); sorts them.
pub fn megabytes(name: &str, runs: &mut [u64], aim: &str) {
    runs.sort_unstable();
    #[allow(clippy::cast_precision_loss, reason = "shown with two digits")]
    let texts = spread(runs).map(|run| format!("{:.2} MB", run as f64 / 1e6));
    line(name, texts, aim);
}

/// Prints the heads of columns of [`tail`].
pub fn tail_heads() {
    line("figure", ["p50", "p99", "max"].map(str::to_owned), "");
}

/// Prints how long the slow ones of many operations took, in milliseconds; sorts them.
pub fn tail(name: &str, runs: &mut [Duration]) {
    runs.sort_unstable();
    let last = runs.len().saturating_sub(1);
    let texts = [runs.len() / 2, runs.len() * 99 / 100, last].map(|at| {
        runs.get(at).map_or_else(String::new, |run| {
            format!("{:.2} ms", run.as_secs_f64() * 1e3)
        })
    });
    line(name, texts, "");
}

/// Prints a figure that was measured once, with its unit.
pub fn once(name: &str, value: &str, aim: &str) {
    line(name, [String::new(), value.to_owned(), String::new()], aim);
}

fn line(name: &str, values: [String; 3], aim: &str) {
    let [min, median, max] = values;
    println!("{name:<58} {min:>11} {median:>13} {max:>11}  {aim}");
}

/// Smallest, middle and largest of a sorted slice that is not empty.
fn spread<T: Copy>(sorted: &[T]) -> [T; 3] {
    [
        sorted[0],
        sorted[sorted.len() / 2],
        sorted[sorted.len() - 1],
    ]
}
