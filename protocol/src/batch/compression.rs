//! The codecs of a batch's records section.
//!
//! Decompression stops at a limit the caller sets, so that a small batch cannot grow without bound;
//! memory is reserved as output appears, never from a length the sender claims.

use std::fmt;
use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, FrameDecoder, FrameEncoder, FrameInfo};

use super::error::BatchError;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// One or more gzip members (RFC 1952).
    Gzip,
    /// Snappy, in the framing of snappy-java; a bare block is read too.
    Snappy,
    /// An LZ4 frame.
    Lz4,
    /// A Zstandard frame (RFC 8878; KIP-110).
    Zstd,
}

impl Codec {
    /// Every codec, by number.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of a number in the attributes.
    ///
    /// # Errors
    /// The number is not 0 to 4.
    pub fn from_id(id: i16) -> Result<Self, BatchError> {
        usize::try_from(id)
            .ok()
            .and_then(|index| Self::ALL.get(index).copied())
            .ok_or(BatchError::UnknownCodec { id })
    }

    /// The number in the attributes.
    pub const fn id(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Kafka's name of the codec, as in `compression.type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What begins the framing of snappy-java: a magic and two version words, both 1.
const SNAPPY_HEADER: [u8; 16] = [
    0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1,
];
/// The part of it that tells the framing from a bare block; readers ignore the versions.
const SNAPPY_MAGIC_LEN: usize = 8;
/// Bytes compressed at a time, as snappy-java does.
const SNAPPY_BLOCK: usize = 32 * 1024;
/// A bound on what one byte of snappy can stand for: a copy takes 3 bytes and makes at most 64.
const SNAPPY_MAX_RATIO: usize = 32;
/// Zstandard's own default.
const ZSTD_LEVEL: i32 = 3;

/// Compresses a records section at the codec's default level.
///
/// # Errors
/// The codec's library failed, which no input should cause.
pub fn compress(codec: Codec, data: &[u8]) -> Result<Bytes, BatchError> {
    compress_at(codec, None, data)
}

/// Compresses a records section at a level of the codec: 1 to 9 for gzip, -131072 to 22 for zstd.
///
/// `None`, and -1 for gzip, is the codec's default. Snappy has no levels, and of LZ4's only the
/// fast ones are built here, which all levels of Kafka's scale read as (KIP-390).
///
/// # Errors
/// The codec's library failed, which no input should cause.
pub fn compress_at(codec: Codec, level: Option<i32>, data: &[u8]) -> Result<Bytes, BatchError> {
    let compressed = match codec {
        Codec::None => Ok(data.to_vec()),
        Codec::Gzip => gzip(data, level),
        Codec::Snappy => snappy(data),
        Codec::Lz4 => lz4(data),
        Codec::Zstd => zstd::bulk::compress(data, level.unwrap_or(ZSTD_LEVEL)),
    };
    compressed
        .map(Bytes::from)
        .map_err(|source| BatchError::Compress { codec, source })
}

/// Decompresses a records section to at most `limit` bytes.
///
/// # Errors
/// `TooLarge` when the output would exceed `limit`; `Decompress` when the data is damaged.
pub fn decompress(codec: Codec, data: &[u8], limit: usize) -> Result<Bytes, BatchError> {
    let output = match codec {
        Codec::None => read_limited(data, limit),
        Codec::Gzip => read_limited(MultiGzDecoder::new(data), limit),
        Codec::Snappy => unsnappy(data, limit),
        Codec::Lz4 => read_limited(FrameDecoder::new(data), limit),
        Codec::Zstd => zstd::stream::read::Decoder::with_buffer(data)
            .and_then(|reader| read_limited(reader, limit)),
    };
    match output {
        Ok(Some(output)) => Ok(Bytes::from(output)),
        Ok(None) => Err(BatchError::TooLarge { codec, limit }),
        Err(source) => Err(BatchError::Decompress { codec, source }),
    }
}

/// Reads to the end, or `None` when that lies beyond `limit`.
fn read_limited(reader: impl Read, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut output = Vec::new();
    // One byte more tells an output of exactly the limit from a longer one.
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(most).read_to_end(&mut output)?;
    Ok((output.len() <= limit).then_some(output))
}

fn gzip(data: &[u8], level: Option<i32>) -> io::Result<Vec<u8>> {
    let level = level
        .and_then(|level| u32::try_from(level).ok())
        .map_or_else(Compression::default, |level| Compression::new(level.min(9)));
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(data)?;
    encoder.finish()
}

fn lz4(data: &[u8]) -> io::Result<Vec<u8>> {
    // Java reads independent blocks only.
    let info = FrameInfo::new().block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(data)?;
    encoder.finish().map_err(io::Error::from)
}

fn snappy(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut output = SNAPPY_HEADER.to_vec();
    let mut encoder = snap::raw::Encoder::new();
    for block in data.chunks(SNAPPY_BLOCK) {
        let compressed = encoder.compress_vec(block)?;
        let length = u32::try_from(compressed.len()).map_err(io::Error::other)?;
        output.extend_from_slice(&length.to_be_bytes());
        output.extend_from_slice(&compressed);
    }
    Ok(output)
}

/// Reads both framings: snappy-java's by its magic, else one bare block as librdkafka writes it.
fn unsnappy(data: &[u8], limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut output = Vec::new();
    if !data.starts_with(&SNAPPY_HEADER[..SNAPPY_MAGIC_LEN]) {
        return Ok(unsnappy_block(data, limit, &mut output)?.then_some(output));
    }
    let mut rest = data.get(SNAPPY_HEADER.len()..).ok_or_else(truncated)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(truncated)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(io::Error::other)?;
        let (block, after) = after.split_at_checked(length).ok_or_else(truncated)?;
        if !unsnappy_block(block, limit, &mut output)? {
            return Ok(None);
        }
        rest = after;
    }
    Ok(Some(output))
}

/// Appends one block to `output`; false when that would exceed `limit`.
fn unsnappy_block(block: &[u8], limit: usize, output: &mut Vec<u8>) -> io::Result<bool> {
    let claimed = snap::raw::decompress_len(block)?;
    let start = output.len();
    let end = start.saturating_add(claimed);
    if claimed > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "snappy length cannot be true",
        ));
    }
    if end > limit {
        return Ok(false);
    }
    output.resize(end, 0);
    let written =
        snap::raw::Decoder::new().decompress(block, output.get_mut(start..).unwrap_or_default())?;
    output.truncate(start.saturating_add(written));
    Ok(true)
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "snappy frame ends early")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Vec<u8> {
        (0..100_000_u32)
            .flat_map(|i| (i / 7).to_be_bytes())
            .collect()
    }

    #[test]
    fn every_codec_survives_a_round_trip() {
        for codec in Codec::ALL {
            for data in [Vec::new(), b"x".to_vec(), text()] {
                let compressed = compress(codec, &data).unwrap();
                assert_eq!(
                    decompress(codec, &compressed, data.len()).unwrap(),
                    data,
                    "{codec}"
                );
                if codec != Codec::None && data.len() > 1 {
                    assert!(compressed.len() < data.len() / 2, "{codec}");
                }
            }
            assert_eq!(Codec::from_id(codec.id()).unwrap(), codec);
        }
    }

    #[test]
    fn output_beyond_the_limit_is_refused() {
        let data = text();
        for codec in Codec::ALL {
            let compressed = compress(codec, &data).unwrap();
            for limit in [0, 1, data.len() - 1] {
                let refused = decompress(codec, &compressed, limit);
                assert!(
                    matches!(refused, Err(BatchError::TooLarge { .. })),
                    "{codec} to {limit}"
                );
            }
        }
    }

    #[test]
    fn damaged_data_is_an_error() {
        let data = text();
        for codec in Codec::ALL.into_iter().skip(1) {
            let compressed = compress(codec, &data).unwrap();
            assert!(
                decompress(codec, &compressed[..compressed.len() / 2], data.len()).is_err(),
                "{codec}"
            );
            assert!(
                decompress(codec, b"\x00\x01 no such thing", 1000).is_err(),
                "{codec}"
            );
        }
    }

    #[test]
    fn bare_snappy_is_read() {
        let data = text();
        let bare = snap::raw::Encoder::new().compress_vec(&data).unwrap();
        assert_eq!(decompress(Codec::Snappy, &bare, data.len()).unwrap(), data);
        assert!(matches!(
            decompress(Codec::Snappy, &bare, 10),
            Err(BatchError::TooLarge { .. })
        ));
    }

    #[test]
    fn a_false_snappy_length_reserves_nothing() {
        // Claims 4 GiB - 1 in its first five bytes.
        let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
        assert!(decompress(Codec::Snappy, &bomb, usize::MAX).is_err());
    }

    #[test]
    fn levels_change_the_size_and_nothing_else() {
        let data: Vec<u8> = (0..40_000u32)
            .flat_map(|n| (n % 977).to_le_bytes())
            .collect();
        for (codec, fast, small) in [(Codec::Gzip, 1, 9), (Codec::Zstd, -50, 19)] {
            let fast = compress_at(codec, Some(fast), &data).unwrap();
            let small = compress_at(codec, Some(small), &data).unwrap();
            assert!(
                small.len() < fast.len(),
                "{codec}: {} and {}",
                small.len(),
                fast.len()
            );
            assert_eq!(decompress(codec, &fast, data.len()).unwrap(), data);
            assert_eq!(decompress(codec, &small, data.len()).unwrap(), data);
        }
    }

    #[test]
    fn gzip_members_join() {
        let mut two = compress(Codec::Gzip, b"one ").unwrap().to_vec();
        two.extend_from_slice(&compress(Codec::Gzip, b"two").unwrap());
        assert_eq!(decompress(Codec::Gzip, &two, 100).unwrap(), &b"one two"[..]);
    }
}
