//! The codecs of a batch's records section.
//!
//! Decompression stops at a limit the caller sets, so that a small batch cannot grow without bound;
//! memory is reserved as output appears, never from a length the sender claims. [`Decoder`] and
//! [`Encoder`] work piece by piece, in memory that can be told beforehand.

use std::fmt;
use std::io::{self, Read, Write};

use bytes::Bytes;

use super::error::BatchError;

mod decoder;
mod encoder;
mod limit;
mod snappy;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use limit::is_limit;

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

/// Compresses a records section at the codec's default level.
///
/// # Errors
/// The codec's library failed, which no input should cause.
pub fn compress(codec: Codec, data: &[u8]) -> Result<Bytes, BatchError> {
    compress_at(codec, None, data)
}

/// Compresses a records section at a level of the codec, as [`Encoder::new`] takes it.
///
/// # Errors
/// The codec's library failed, which no input should cause.
pub fn compress_at(codec: Codec, level: Option<i32>, data: &[u8]) -> Result<Bytes, BatchError> {
    let whole = || -> io::Result<Vec<u8>> {
        let mut encoder = Encoder::new(codec, level, Vec::new())?;
        encoder.expect(data.len())?;
        encoder.write_all(data)?;
        encoder.finish()
    };
    whole()
        .map(Bytes::from)
        .map_err(|source| BatchError::Compress { codec, source })
}

/// Decompresses a records section to at most `limit` bytes.
///
/// # Errors
/// `TooLarge` when the output would exceed `limit`; `Decompress` when the data is damaged.
pub fn decompress(codec: Codec, data: &[u8], limit: usize) -> Result<Bytes, BatchError> {
    let whole = || -> io::Result<Vec<u8>> {
        let mut output = Vec::new();
        Decoder::new(codec, data, limit)?.read_to_end(&mut output)?;
        Ok(output)
    };
    match whole() {
        Ok(output) => Ok(Bytes::from(output)),
        Err(source) if is_limit(&source) => Err(BatchError::TooLarge { codec, limit }),
        Err(source) => Err(BatchError::Decompress { codec, source }),
    }
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
