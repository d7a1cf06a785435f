//! How far a transfer is: a line on the terminal while it runs, figures at its end.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line is painted.
pub(crate) const EVERY: Duration = Duration::from_millis(500);

/// Counts records and bytes.
#[derive(Debug)]
pub(crate) struct Progress {
    begun: Instant,
    painted: bool,
    shown: bool,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl Progress {
    /// Begins to count; shows the line where standard error is a terminal and `wanted`.
    pub(crate) fn start(wanted: bool) -> Self {
        Self {
            begun: Instant::now(),
            painted: false,
            shown: wanted && io::stderr().is_terminal(),
            records: 0,
            bytes: 0,
        }
    }

    /// Whether there is a line to paint.
    pub(crate) fn is_shown(&self) -> bool {
        self.shown
    }

    /// Counts one record.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
    }

    /// Seconds since the start, never zero.
    pub(crate) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64().max(0.001)
    }

    /// Records, bytes and their rates in words.
    pub(crate) fn words(&self) -> String {
        let seconds = self.seconds();
        format!(
            "{}, {} in {seconds:.1} s ({:.0} records/s, {}/s)",
            counted(self.records),
            size(self.bytes as f64),
            self.records as f64 / seconds,
            size(self.bytes as f64 / seconds),
        )
    }

    /// Paints the line anew.
    pub(crate) fn paint(&mut self) {
        if self.shown {
            self.painted = true;
            // Nobody is left to be told when this fails.
            let _ = write!(io::stderr(), "\r\x1b[K{}", self.words());
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.painted) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// A number of records in words.
pub(crate) fn counted(records: u64) -> String {
    match records {
        1 => "1 record".to_owned(),
        many => format!("{many} records"),
    }
}

fn size(bytes: f64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024.0 {
        return format!("{bytes:.0} B");
    }
    let mut left = bytes;
    let mut unit = "B";
    for next in UNITS {
        if left < 1024.0 {
            break;
        }
        left /= 1024.0;
        unit = next;
    }
    format!("{left:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::{counted, size};

    #[test]
    fn one_record_is_no_plural() {
        let all = [0, 1, 2].map(counted);
        assert_eq!(all, ["0 records", "1 record", "2 records"]);
    }

    #[test]
    fn sizes_have_fitting_units() {
        assert_eq!(size(1023.0), "1023 B");
        assert_eq!(size(1024.0), "1.0 KiB");
        assert_eq!(size(5.5 * 1024.0 * 1024.0), "5.5 MiB");
    }
}
