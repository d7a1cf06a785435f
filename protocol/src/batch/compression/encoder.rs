//! Compression piece by piece.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, FrameEncoder, FrameInfo};
use zstd::zstd_safe::CParameter;

use super::{Codec, snappy};

/// Zstandard's own default.
const ZSTD_LEVEL: i32 = 3;
/// The highest level whose tables are taken as they are.
const ZSTD_LARGEST_TABLES: i32 = 18;
/// The one level up to that one whose table of hashes is larger than its.
const ZSTD_MANY_HASHES: i32 = 15;

/// Compresses what is written to it into `W`.
pub struct Encoder<W: Write> {
    kind: Kind<W>,
}

enum Kind<W: Write> {
    None(W),
    Gzip(Box<GzEncoder<W>>),
    Snappy(snappy::Encoder<W>),
    Lz4(Box<FrameEncoder<W>>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    /// Starts a section at a level of the codec: 1 to 9 for gzip, -131072 to 22 for zstd.
    ///
    /// `None`, and -1 for gzip, is the codec's default. Snappy has no levels, and of LZ4's only the
    /// fast ones are built here, which all levels of Kafka's scale read as (KIP-390).
    ///
    /// # Errors
    /// The codec's library has no memory, or `output` fails.
    pub fn new(codec: Codec, level: Option<i32>, output: W) -> io::Result<Self> {
        let kind = match codec {
            Codec::None => Kind::None(output),
            Codec::Gzip => {
                let level = level
                    .and_then(|level| u32::try_from(level).ok())
                    .map_or_else(Compression::default, |level| Compression::new(level.min(9)));
                Kind::Gzip(Box::new(GzEncoder::new(output, level)))
            }
            Codec::Snappy => Kind::Snappy(snappy::Encoder::new(output)?),
            Codec::Lz4 => {
                // Java reads independent blocks only.
                let info = FrameInfo::new().block_mode(BlockMode::Independent);
                Kind::Lz4(Box::new(FrameEncoder::with_frame_info(info, output)))
            }
            Codec::Zstd => Kind::Zstd(zstd_encoder(level.unwrap_or(ZSTD_LEVEL), output)?),
        };
        Ok(Encoder { kind })
    }

    /// Says how many bytes will be written in all, before the first of them; zstd writes it down.
    ///
    /// # Errors
    /// Something was written already.
    pub fn expect(&mut self, total: usize) -> io::Result<()> {
        match &mut self.kind {
            Kind::Zstd(encoder) => {
                encoder.set_pledged_src_size(Some(u64::try_from(total).unwrap_or(u64::MAX)))
            }
            _ => Ok(()),
        }
    }

    /// Ends the section.
    ///
    /// # Errors
    /// The codec's library or the output failed.
    pub fn finish(self) -> io::Result<W> {
        match self.kind {
            Kind::None(output) => Ok(output),
            Kind::Gzip(encoder) => encoder.finish(),
            Kind::Snappy(encoder) => encoder.finish(),
            Kind::Lz4(encoder) => encoder.finish().map_err(io::Error::from),
            Kind::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// From level 19 on the tables stay as large as those of level 18, 57 MiB in all: level 22 would
/// take 700 MiB, to find matches further back than a batch is long. Level 15 would take 69 MiB.
fn zstd_encoder<W: Write>(
    level: i32,
    output: W,
) -> io::Result<zstd::stream::write::Encoder<'static, W>> {
    let mut encoder = zstd::stream::write::Encoder::new(output, level)?;
    if level > ZSTD_LARGEST_TABLES {
        encoder.set_parameter(CParameter::WindowLog(23))?;
        encoder.set_parameter(CParameter::ChainLog(23))?;
    }
    if level > ZSTD_LARGEST_TABLES || level == ZSTD_MANY_HASHES {
        encoder.set_parameter(CParameter::HashLog(22))?;
    }
    Ok(encoder)
}

impl Encoder<Vec<u8>> {
    /// About what compressing keeps in memory beside its output, in bytes.
    pub fn memory(codec: Codec, level: Option<i32>) -> usize {
        match codec {
            Codec::None => 0,
            Codec::Gzip => 320 * 1024,
            Codec::Snappy => 128 * 1024,
            Codec::Lz4 => 512 * 1024,
            Codec::Zstd => match level.unwrap_or(ZSTD_LEVEL) {
                ..=4 => 6 << 20,
                5..=9 => 16 << 20,
                _ => 60 << 20,
            },
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.kind {
            Kind::None(output) => output.write(bytes),
            Kind::Gzip(encoder) => encoder.write(bytes),
            Kind::Snappy(encoder) => encoder.write(bytes),
            Kind::Lz4(encoder) => encoder.write(bytes),
            Kind::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // Blocks end where they are full: a flush between would only make the output longer.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process::Command};

    use super::*;

    /// The level that a child is to compress at.
    const CHILD: &str = "PALISADE_TEST_ZSTD_LEVEL";
    const NAME: &str =
        "batch::compression::encoder::tests::no_zstd_level_takes_more_than_is_counted";

    /// The most memory that this process has had resident, in bytes.
    fn peak() -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.unwrap().parse::<usize>().unwrap() * 1024
    }

    /// Compresses more than any window holds; the tables are as large as they will be at once.
    fn compress(level: i32) {
        let piece = vec![7; 12 << 20];
        let before = peak();
        let mut encoder = Encoder::new(Codec::Zstd, Some(level), io::sink()).unwrap();
        encoder.write_all(&piece).unwrap();
        encoder.finish().unwrap();
        println!("grown by {}", peak() - before);
    }

    /// What the library takes our allocator does not see, so each level has a process of its own.
    #[test]
    fn no_zstd_level_takes_more_than_is_counted() {
        if let Ok(level) = env::var(CHILD) {
            return compress(level.parse().unwrap());
        }
        for level in 1..=22 {
            let mut child = Command::new(env::current_exe().unwrap());
            let child = child.args(["--exact", NAME, "--nocapture"]);
            let output = child.env(CHILD, level.to_string()).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            let grown = said.lines().find_map(|line| line.strip_prefix("grown by "));
            let grown: usize = grown.expect(&said).parse().unwrap();
            let counted = Encoder::memory(Codec::Zstd, Some(level));
            assert!(
                grown < counted,
                "level {level}: {grown} bytes, {counted} counted"
            );
        }
    }
}
