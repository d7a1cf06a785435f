//! Step 6 for batches that have to be decompressed or compressed: piece by piece, in bounded
//! memory.
//!
//! A few KiB may open to gigabytes. What is opened is looked at and let go, or goes on into the
//! compressor; never is more held than the codecs' own state and the new records section, and
//! [`Opening::memory`] tells beforehand how much that is.

use std::io::{self, Read, Write};

use bytes::buf::Reader;
use bytes::{Buf, Bytes};
use palisade_protocol::ErrorCode;
use palisade_protocol::batch::compression::{Decoder, Encoder, is_limit};
use palisade_protocol::batch::{BATCH_HEADER_LEN, BatchHeader, Codec, RecordScanner};
use palisade_protocol::types::TimestampMs;
use tokio::sync::OwnedSemaphorePermit;

use super::super::settings::RecordRules;
use super::records::Survey;
use super::refusal::Refusal;
use super::{Place, ValidBatch, conclude};
use crate::logging::Throttle;
use crate::turns::Turn;

/// Most bytes the records of one compressed batch may take once opened. Without a bound a
/// few KiB could cost minutes; real batches stay far below.
const MAX_OPENED_BYTES: usize = 64 * 1024 * 1024;
/// Plain bytes looked at at a time.
const PIECE: usize = 16 * 1024;
/// The grain in which memory is reserved, in bytes.
pub(crate) const GRAIN: usize = 1024;
/// A closed section up to this size may be opened without leaving the connection's task.
const SMALL: usize = 8 * 1024;

/// A batch whose records are being opened, and how far that is.
pub(crate) struct Opening {
    header: BatchHeader,
    /// The records as received.
    section: Bytes,
    codec: Codec,
    target: Codec,
    rules: RecordRules,
    now: TimestampMs,
    topic: String,
    index: i32,
    decoder: Decoder<Reader<Bytes>>,
    scanner: RecordScanner,
    survey: Survey,
    /// Where the records go that are stored with another codec; made by the first step, for until
    /// then this waits for its memory.
    encoder: Option<Encoder<Capped>>,
    piece: Box<[u8]>,
    memory: usize,
    held: Option<Held>,
}

/// Memory that is reserved for a batch, until this is dropped.
#[derive(Debug)]
pub(crate) enum Held {
    /// So many grains of what batches share.
    Grains(OwnedSemaphorePermit),
    /// All of what large batches have one after the other.
    All(Turn),
}

impl Held {
    /// What of it `bytes` bytes need; the rest is given back.
    fn shrunk(self, bytes: usize) -> Option<Held> {
        match self {
            _ if bytes == 0 => None,
            Held::Grains(mut grains) => {
                let stays = bytes.div_ceil(GRAIN);
                drop(grains.split(grains.num_permits().saturating_sub(stays)));
                Some(Held::Grains(grains))
            }
            Held::All(turn) => Some(Held::All(turn)),
        }
    }
}

/// How far an opening got.
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time, taken apart at once"
)]
pub(crate) enum Progress {
    /// There is more to do.
    More,
    /// The batch may be written.
    Done(ValidBatch),
}

impl Opening {
    /// Begins to open `section`; nothing is decompressed yet.
    ///
    /// `codecs`: that of the section, and the one to store with.
    ///
    /// # Errors
    /// `UNKNOWN_SERVER_ERROR` when a codec has no memory to begin with.
    pub(super) fn new(
        header: BatchHeader,
        section: Bytes,
        codecs: (Codec, Codec),
        survey: Survey,
        rules: &RecordRules,
        now: TimestampMs,
        place: Place<'_>,
    ) -> Result<Opening, Refusal> {
        let (codec, target) = codecs;
        let input = section.clone().reader();
        let decoder = Decoder::new(codec, input, MAX_OPENED_BYTES).map_err(failed)?;
        let mut memory = PIECE + Decoder::memory(codec, &section, MAX_OPENED_BYTES);
        if target != codec {
            memory = memory
                .saturating_add(Encoder::memory(target, rules.compression_level))
                .saturating_add(largest_section(rules));
        }
        Ok(Opening {
            scanner: RecordScanner::new(header.records_count),
            header,
            section,
            codec,
            target,
            rules: rules.clone(),
            now,
            topic: place.topic.to_owned(),
            index: place.index,
            decoder,
            survey,
            encoder: None,
            piece: vec![0; PIECE].into_boxed_slice(),
            memory,
            held: None,
        })
    }

    /// About the most bytes of memory that this will take.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Whether its first step is cheap enough for a connection's task.
    pub(crate) fn is_small(&self) -> bool {
        self.target == self.codec && self.section.len() <= SMALL
    }

    /// Notes that the memory is reserved; what a new section takes of it is given back with the
    /// batch.
    pub(crate) fn hold(&mut self, memory: Held) {
        self.held = Some(memory);
    }

    /// Opens about `bytes` more plain bytes.
    ///
    /// # Errors
    /// [`Refusal`], after which this is over.
    pub(crate) fn step(&mut self, bytes: usize) -> Result<Progress, Refusal> {
        if self.target != self.codec && self.encoder.is_none() {
            let output = Capped::new(largest_section(&self.rules));
            let encoder = Encoder::new(self.target, self.rules.compression_level, output);
            self.encoder = Some(encoder.map_err(failed)?);
        }
        let mut done = 0;
        while done < bytes {
            let read = self.decoder.read(&mut self.piece);
            let count = read.map_err(|error| match is_limit(&error) {
                true => self.too_large(),
                false => failed(error),
            })?;
            let plain = self.piece.get(..count).unwrap_or_default();
            if plain.is_empty() {
                return self.finish().map(Progress::Done);
            }
            let place = Place {
                topic: &self.topic,
                index: self.index,
            };
            let survey = &mut self.survey;
            self.scanner
                .feed(plain, |outline| survey.note(outline, place))
                .map_err(invalid)?;
            if let Some(encoder) = &mut self.encoder {
                encoder.write_all(plain).map_err(failed)?;
            }
            done += count;
        }
        Ok(Progress::More)
    }

    /// A bound of this node, which no header shows: whoever meets it has to be told.
    fn too_large(&self) -> Refusal {
        let Opening { topic, index, .. } = self;
        static SAID: Throttle = Throttle::new();
        if SAID.may_speak() {
            let bytes = self.section.len();
            let most = MAX_OPENED_BYTES;
            tracing::warn!(?topic, partition = index, bytes, most, "batch not opened");
        }
        let text = format!(
            "The records of the batch are more than {MAX_OPENED_BYTES} bytes uncompressed, which \
             is the most that {topic}-{index} opens."
        );
        Refusal::with_text(ErrorCode::MESSAGE_TOO_LARGE, text)
    }

    fn finish(&mut self) -> Result<ValidBatch, Refusal> {
        self.scanner.finish().map_err(invalid)?;
        let max_timestamp = self.survey.conclude()?;
        let section = match self.encoder.take() {
            Some(encoder) => {
                let output = encoder.finish().map_err(failed)?;
                output
                    .into_bytes()
                    .ok_or(Refusal::new(ErrorCode::MESSAGE_TOO_LARGE))?
            }
            None => self.section.clone(),
        };
        let (rules, now) = (&self.rules, self.now);
        let mut batch = conclude(self.header, section, self.target, max_timestamp, rules, now)?;
        // The codecs' memory goes with this; only a new section stays.
        let stays = match self.target == self.codec {
            true => 0,
            false => batch.section.len(),
        };
        batch.held = self.held.take().and_then(|held| held.shrunk(stays));
        Ok(batch)
    }
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening")
            .field("bytes", &self.section.len())
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// The most bytes that the records of one batch may take as stored.
fn largest_section(rules: &RecordRules) -> usize {
    rules.max_message_bytes.saturating_sub(BATCH_HEADER_LEN)
}

/// Final for the client: a code it retries on would send the same bytes again.
#[allow(clippy::needless_pass_by_value, reason = "called by map_err")]
fn failed(error: io::Error) -> Refusal {
    tracing::debug!(%error, "records not opened");
    Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR)
}

#[allow(clippy::needless_pass_by_value, reason = "called by map_err")]
fn invalid(error: palisade_protocol::batch::BatchError) -> Refusal {
    tracing::debug!(%error, "records refused");
    Refusal::new(ErrorCode::INVALID_RECORD)
}

/// Collects a new records section up to a size; past it only the fact is kept, since the records
/// are judged before the size.
struct Capped {
    bytes: Vec<u8>,
    most: usize,
    over: bool,
}

impl Capped {
    fn new(most: usize) -> Capped {
        Capped {
            bytes: Vec::new(),
            most,
            over: false,
        }
    }

    fn into_bytes(self) -> Option<Bytes> {
        (!self.over).then(|| Bytes::from(self.bytes))
    }
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.over |= self.bytes.len().saturating_add(bytes.len()) > self.most;
        if self.over {
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
