//! Snappy in the framing of snappy-java, and bare blocks as librdkafka writes them.

use std::io::{self, BufRead, Read, Write};

use super::limit::limit_reached;

/// What begins the framing of snappy-java: a magic and two version words, both 1.
const HEADER: [u8; 16] = [
    0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1,
];
/// The part of it that tells the framing from a bare block; readers ignore the versions.
const MAGIC_LEN: usize = 8;
/// Bytes compressed at a time, as snappy-java does.
const BLOCK: usize = 32 * 1024;
/// A bound on what one byte of snappy can stand for: a copy takes 3 bytes and makes at most 64.
const MAX_RATIO: usize = 32;

/// Reads both framings: snappy-java's by its magic, else one bare block.
pub(super) struct Decoder<R> {
    input: R,
    framing: Framing,
    packed: Vec<u8>,
    plain: Vec<u8>,
    at: usize,
    /// Plain bytes that further blocks may make.
    left: usize,
}

#[derive(Clone, Copy)]
enum Framing {
    Unknown,
    Java,
    /// The one bare block has been read.
    Over,
}

impl<R: BufRead> Decoder<R> {
    pub(super) fn new(input: R, limit: usize) -> Self {
        Decoder {
            input,
            framing: Framing::Unknown,
            packed: Vec::new(),
            plain: Vec::new(),
            at: 0,
            left: limit,
        }
    }

    /// Opens the next block; false at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        self.packed.clear();
        if matches!(self.framing, Framing::Unknown) {
            let most = u64::try_from(HEADER.len()).unwrap_or(u64::MAX);
            self.input
                .by_ref()
                .take(most)
                .read_to_end(&mut self.packed)?;
            if !is_framed(&self.packed) {
                self.framing = Framing::Over;
                self.input.read_to_end(&mut self.packed)?;
                self.open()?;
                return Ok(true);
            }
            if self.packed.len() < HEADER.len() {
                return Err(truncated());
            }
            self.framing = Framing::Java;
            self.packed.clear();
        }
        if matches!(self.framing, Framing::Over) || self.input.fill_buf()?.is_empty() {
            return Ok(false);
        }
        let mut length = [0; 4];
        self.input.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        // Reads what is there: the length is a claim and reserves nothing.
        self.input
            .by_ref()
            .take(u64::from(length))
            .read_to_end(&mut self.packed)?;
        if u32::try_from(self.packed.len()) != Ok(length) {
            return Err(truncated());
        }
        self.open()?;
        Ok(true)
    }

    fn open(&mut self) -> io::Result<()> {
        let claimed = claimed_len(&self.packed)?;
        if claimed > self.left {
            return Err(limit_reached());
        }
        self.at = 0;
        self.plain.resize(claimed, 0);
        let written = snap::raw::Decoder::new().decompress(&self.packed, &mut self.plain)?;
        self.plain.truncate(written);
        self.left = self.left.saturating_sub(written);
        Ok(())
    }
}

impl<R: BufRead> Decoder<R> {
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.plain.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let mut rest = self.plain.get(self.at..).unwrap_or_default();
        let count = rest.read(into)?;
        self.at = self.at.saturating_add(count);
        Ok(count)
    }
}

/// The largest block, as far as its claim can be true, in bytes.
pub(super) fn largest_block(data: &[u8], limit: usize) -> usize {
    let claim = |block: &[u8]| claimed_len(block).unwrap_or(0).min(limit);
    if !is_framed(data) {
        return claim(data);
    }
    let mut rest = data.get(HEADER.len()..).unwrap_or_default();
    let mut largest = 0;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((block, after)) = after.split_at_checked(length) else {
            break;
        };
        largest = largest.max(claim(block));
        rest = after;
    }
    largest
}

fn is_framed(data: &[u8]) -> bool {
    HEADER
        .get(..MAGIC_LEN)
        .is_some_and(|magic| data.starts_with(magic))
}

/// The length that a block says it has once opened, if that can be true.
fn claimed_len(block: &[u8]) -> io::Result<usize> {
    let claimed = snap::raw::decompress_len(block)?;
    if claimed > block.len().saturating_mul(MAX_RATIO) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "snappy length cannot be true",
        ));
    }
    Ok(claimed)
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "snappy frame ends early")
}

/// Writes snappy-java's framing.
pub(super) struct Encoder<W> {
    output: W,
    plain: Vec<u8>,
    packed: Vec<u8>,
}

impl<W: Write> Encoder<W> {
    pub(super) fn new(mut output: W) -> io::Result<Self> {
        output.write_all(&HEADER)?;
        Ok(Encoder {
            output,
            plain: Vec::new(),
            packed: Vec::new(),
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BLOCK.saturating_sub(self.plain.len()).min(bytes.len());
        self.plain
            .extend_from_slice(bytes.get(..room).unwrap_or_default());
        if self.plain.len() >= BLOCK {
            self.end_block()?;
        }
        Ok(room)
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        if !self.plain.is_empty() {
            self.end_block()?;
        }
        Ok(self.output)
    }

    fn end_block(&mut self) -> io::Result<()> {
        let most = snap::raw::max_compress_len(self.plain.len());
        self.packed.resize(most, 0);
        let count = snap::raw::Encoder::new().compress(&self.plain, &mut self.packed)?;
        let length = u32::try_from(count).map_err(io::Error::other)?;
        self.output.write_all(&length.to_be_bytes())?;
        self.output
            .write_all(self.packed.get(..count).unwrap_or_default())?;
        self.plain.clear();
        Ok(())
    }
}
