//! Decompression piece by piece.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;

use super::limit::limit_reached;
use super::{Codec, snappy};

/// What gzip's inflater keeps, in bytes.
const GZIP_MEMORY: usize = 64 * 1024;
/// What an LZ4 frame may ask for: two blocks of the largest size and a window, in bytes.
const LZ4_MEMORY: usize = 2 * (4 << 20) + 64 * 1024;
/// Zstandard's own state beside its window, in bytes.
const ZSTD_MEMORY: usize = 512 * 1024;
/// The smallest and the largest window that Zstandard's decoder takes, as powers of two.
const ZSTD_WINDOW_LOG: (u32, u32) = (10, 27);

/// Reads the plain bytes of a compressed records section, at most as many as its limit.
///
/// Its memory does not grow with the output: see [`Decoder::memory`].
pub struct Decoder<R: Read> {
    kind: Kind<R>,
    left: usize,
}

enum Kind<R: Read> {
    None(R),
    Gzip(MultiGzDecoder<R>),
    Snappy(snappy::Decoder<R>),
    Lz4(Box<FrameDecoder<R>>),
    Zstd(zstd::stream::read::Decoder<'static, R>),
}

impl<R: BufRead> Decoder<R> {
    /// Opens `input` for at most `limit` plain bytes, past which reading fails
    /// ([`is_limit`](super::is_limit)).
    ///
    /// # Errors
    /// The codec's library has no memory, or `input` fails.
    pub fn new(codec: Codec, mut input: R, limit: usize) -> io::Result<Self> {
        let kind = match codec {
            Codec::None => Kind::None(input),
            Codec::Gzip => Kind::Gzip(MultiGzDecoder::new(input)),
            Codec::Snappy => Kind::Snappy(snappy::Decoder::new(input, limit)),
            Codec::Lz4 => Kind::Lz4(Box::new(FrameDecoder::new(input))),
            Codec::Zstd => {
                // A later frame may not ask for more than the first, from which the memory is told.
                let window = zstd_window(input.fill_buf()?);
                let log = window.next_power_of_two().trailing_zeros();
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(log.clamp(ZSTD_WINDOW_LOG.0, ZSTD_WINDOW_LOG.1))?;
                Kind::Zstd(decoder)
            }
        };
        Ok(Decoder { kind, left: limit })
    }
}

impl Decoder<&[u8]> {
    /// An upper bound of what decompressing `data` to at most `limit` bytes keeps in memory, in
    /// bytes.
    pub fn memory(codec: Codec, data: &[u8], limit: usize) -> usize {
        match codec {
            Codec::None => 0,
            Codec::Gzip => GZIP_MEMORY,
            Codec::Snappy => snappy::largest_block(data, limit).saturating_add(data.len()),
            Codec::Lz4 => LZ4_MEMORY,
            // Of a window larger than the output only as much is ever touched.
            Codec::Zstd => zstd_window(data).min(limit).saturating_add(ZSTD_MEMORY),
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            // One byte more tells an output of exactly the limit from a longer one.
            return match self.kind.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(limit_reached()),
            };
        }
        let room = into.len().min(self.left);
        let count = self.kind.read(into.get_mut(..room).unwrap_or_default())?;
        self.left = self.left.saturating_sub(count);
        Ok(count)
    }
}

impl<R: BufRead> Kind<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Kind::None(input) => input.read(into),
            Kind::Gzip(input) => input.read(into),
            Kind::Snappy(input) => input.read(into),
            Kind::Lz4(input) => input.read(into),
            Kind::Zstd(input) => input.read(into),
        }
    }
}

/// The window that the first frame asks for, in bytes (RFC 8878 §3.1.1.1); the library's own
/// default where there is no such frame.
fn zstd_window(data: &[u8]) -> usize {
    const DEFAULT: usize = 8 << 20;
    const MOST: usize = 1 << ZSTD_WINDOW_LOG.1;
    let Some(([0x28, 0xb5, 0x2f, 0xfd, descriptor], rest)) = data.split_first_chunk::<5>() else {
        return DEFAULT;
    };
    let single_segment = descriptor & 0x20 != 0;
    if !single_segment {
        let Some(byte) = rest.first() else {
            return DEFAULT;
        };
        let base = 1_u64 << u32::from(byte >> 3).saturating_add(10);
        let step = (base >> 3).saturating_mul(u64::from(byte & 7));
        let window = base.saturating_add(step);
        return usize::try_from(window).unwrap_or(MOST).min(MOST);
    }
    // Without a window of its own a frame is as large as its content.
    let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied();
    let size = rest.get(dictionary.unwrap_or(0)..).unwrap_or_default();
    let content = match descriptor >> 6 {
        0 => size.first().map(|byte| u64::from(*byte)),
        1 => size
            .first_chunk()
            .map(|two| u64::from(u16::from_le_bytes(*two)).saturating_add(256)),
        2 => size
            .first_chunk()
            .map(|four| u64::from(u32::from_le_bytes(*four))),
        _ => size.first_chunk().map(|eight| u64::from_le_bytes(*eight)),
    };
    content.map_or(DEFAULT, |content| {
        usize::try_from(content).unwrap_or(MOST).min(MOST)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::batch::compression::Encoder;

    #[test]
    fn the_window_is_told_from_the_frame() {
        let data = vec![7; 300_000];
        let known = zstd::bulk::compress(&data, 3).unwrap();
        assert_eq!(zstd_window(&known), data.len());
        let mut stream = Encoder::new(Codec::Zstd, None, Vec::new()).unwrap();
        stream.write_all(&data).unwrap();
        let unknown = stream.finish().unwrap();
        assert_eq!(zstd_window(&unknown), 2 << 20);
        for end in 0..known.len().min(12) {
            assert!(zstd_window(&known[..end]) <= 1 << 27);
        }
    }

    #[test]
    fn no_level_makes_a_window_larger_than_its_memory() {
        for level in [3, 9, 18, 19, 20, 22] {
            let mut stream = Encoder::new(Codec::Zstd, Some(level), Vec::new()).unwrap();
            stream.write_all(&[7; 100_000]).unwrap();
            let window = zstd_window(&stream.finish().unwrap());
            assert!(window < Encoder::memory(Codec::Zstd, Some(level)));
            assert!(window <= 8 << 20, "level {level}");
        }
    }

    #[test]
    fn a_later_frame_may_not_want_more_than_the_first() {
        let small = zstd::bulk::compress(&[1; 100], 3).unwrap();
        let large = zstd::bulk::compress(&vec![2; 1 << 20], 3).unwrap();
        let join = |first: &[u8], second: &[u8]| {
            let both = [first, second].concat();
            let mut output = Vec::new();
            Decoder::new(Codec::Zstd, &both[..], 2 << 20)
                .and_then(|mut decoder| decoder.read_to_end(&mut output))
        };
        assert_eq!(join(&large, &small).unwrap(), (1 << 20) + 100);
        assert!(join(&small, &large).is_err());
    }
}
