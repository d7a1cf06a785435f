//! Why a batch was refused, in the words that clients of Kafka know.

use palisade_protocol::batch::BatchHeader;
use palisade_protocol::{ErrorCode, Str};

/// Records named in the text of a refusal; the list of errors names more.
const SHOWN: usize = 3;
/// Most faults that an answer lists: each has a text, and a batch may hold millions of records.
pub(super) const MAX_FAULTS: usize = 1000;

/// One record at fault (KIP-467).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFault {
    /// Position in the batch, from 0.
    pub index: i32,
    /// What is wrong with it.
    pub text: Str,
}

/// A refused batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's code.
    pub code: ErrorCode,
    /// Text of the whole refusal; only steps 0 and 6 of the pipeline have one.
    pub text: Option<String>,
    /// The records at fault, for the causes that are told per record; the first thousand at most.
    pub faults: Vec<RecordFault>,
}

impl Refusal {
    /// A refusal that its code explains.
    pub(crate) fn new(code: ErrorCode) -> Refusal {
        Refusal {
            code,
            text: None,
            faults: Vec::new(),
        }
    }

    /// A refusal with a text.
    pub(crate) fn with_text(code: ErrorCode, text: String) -> Refusal {
        Refusal {
            code,
            text: Some(text),
            faults: Vec::new(),
        }
    }

    /// A refusal for `total` records at fault, of which `faults` lists the first; `untimely` when
    /// one of them failed on its timestamp.
    pub(super) fn of_records(faults: Vec<RecordFault>, total: usize, untimely: bool) -> Refusal {
        let (code, text) = if untimely {
            let text = "One or more records have been rejected due to invalid timestamp";
            (ErrorCode::INVALID_TIMESTAMP, text.to_owned())
        } else {
            (ErrorCode::INVALID_RECORD, summary(&faults, total))
        };
        Refusal {
            code,
            text: Some(text),
            faults,
        }
    }

    /// A refusal of a batch that claims to be stamped by a broker.
    ///
    /// Kafka lists each record that it can read. Here none is read: the header claims it of all,
    /// and one fault stands for them, since how many there are is no more than a claim too.
    pub(super) fn append_time_claimed(header: &BatchHeader) -> Refusal {
        let text = Str::from(format!(
            "Invalid timestamp type in message with timestamp {}. Producer should not set \
             timestamp type to LogAppendTime.",
            header.max_timestamp
        ));
        Refusal::of_records(vec![RecordFault { index: 0, text }], 1, true)
    }
}

fn summary(faults: &[RecordFault], total: usize) -> String {
    let shown: Vec<String> = faults
        .iter()
        .take(SHOWN)
        .map(|fault| {
            format!(
                "RecordError(batchIndex={}, message='{}')",
                fault.index, fault.text
            )
        })
        .collect();
    format!(
        "One or more records have been rejected due to {} record errors in total, and only \
         showing the first three errors at most: [{}]",
        total,
        shown.join(", ")
    )
}
