//! Why a batch was refused, in the words that clients of Kafka know.

use palisade_protocol::batch::BatchHeader;
use palisade_protocol::{ErrorCode, Str};

/// Records named in the text of a refusal; the list of errors names all.
const SHOWN: usize = 3;

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
    /// Every record at fault, for the causes that are told per record.
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

    /// A refusal for records at fault; `untimely` when one of them failed on its timestamp.
    pub(super) fn of_records(faults: Vec<RecordFault>, untimely: bool) -> Refusal {
        let (code, text) = if untimely {
            let text = "One or more records have been rejected due to invalid timestamp";
            (ErrorCode::INVALID_TIMESTAMP, text.to_owned())
        } else {
            (ErrorCode::INVALID_RECORD, summary(&faults))
        };
        Refusal {
            code,
            text: Some(text),
            faults,
        }
    }

    /// A refusal of a batch that claims to be stamped by a broker.
    pub(super) fn append_time_claimed(header: &BatchHeader) -> Refusal {
        let text = Str::from(format!(
            "Invalid timestamp type in message with timestamp {}. Producer should not set \
             timestamp type to LogAppendTime.",
            header.max_timestamp
        ));
        let faults = (0..header.records_count)
            .map(|index| RecordFault {
                index,
                text: text.clone(),
            })
            .collect();
        Refusal::of_records(faults, true)
    }
}

fn summary(faults: &[RecordFault]) -> String {
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
        faults.len(),
        shown.join(", ")
    )
}
