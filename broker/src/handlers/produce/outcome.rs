//! How the append of one partition ended, or what it still waits for.

use std::sync::Arc;

use palisade_auth::grant::Write;
use palisade_protocol::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, PartitionProduceResponse,
};
use palisade_protocol::types::{LeaderEpoch, Offset};
use palisade_protocol::{ErrorCode, Str};

use crate::partition::validate::refusal::Refusal;
use crate::partition::waiter::Waiter;
use crate::partition::{Partition, PartitionError};

/// One partition's part of the answer.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The row as far as it is known; its index is set by the caller.
    pub(super) row: PartitionProduceResponse,
    /// What has to happen before the row counts.
    pub(super) pending: Option<Pending>,
}

impl Outcome {
    /// A row that is final.
    pub(super) fn done(row: PartitionProduceResponse) -> Outcome {
        Outcome { row, pending: None }
    }

    /// A failure that its code explains.
    pub(super) fn failed(code: ErrorCode) -> Outcome {
        Outcome::done(PartitionProduceResponse {
            error_code: code,
            base_offset: -1,
            ..PartitionProduceResponse::default()
        })
    }

    /// A failure found in the log layer, whose answers carry the log start offset.
    pub(super) fn failed_in_log(code: ErrorCode, log_start_offset: Offset) -> Outcome {
        let mut outcome = Outcome::failed(code);
        outcome.set_log_start(log_start_offset);
        outcome
    }

    /// A refused batch, with Kafka's texts.
    pub(super) fn refused(refusal: Refusal) -> Outcome {
        let mut outcome = Outcome::failed(refusal.code);
        outcome.row.error_message = refusal.text.map(Str::from);
        outcome.row.record_errors = refusal
            .faults
            .into_iter()
            .map(|fault| BatchIndexAndErrorMessage {
                batch_index: fault.index,
                batch_index_error_message: Some(fault.text),
            })
            .collect();
        outcome
    }

    /// Adds the log start where errors of this kind carry it (records.md §4).
    pub(super) fn set_log_start(&mut self, log_start_offset: Offset) {
        let bare = [
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            ErrorCode::MESSAGE_TOO_LARGE,
            ErrorCode::RECORD_LIST_TOO_LARGE,
            ErrorCode::CORRUPT_MESSAGE,
        ];
        if !bare.contains(&self.row.error_code) {
            self.row.log_start_offset = log_start_offset.value();
        }
    }

    /// The row, for a partition of this index.
    pub(super) fn into_response(mut self, index: i32) -> PartitionProduceResponse {
        self.row.index = index;
        self.row
    }
}

/// A batch that was appended and waits for the high watermark. Holds positions, no bytes.
#[derive(Debug)]
pub(super) struct Pending {
    partition: Partition<Write>,
    /// First offset after the batch.
    end: Offset,
    /// The leader epoch it was appended in.
    epoch: LeaderEpoch,
    /// Whether the version has room for the leader.
    hints: bool,
    /// Topic and row of the response.
    pub(super) at: (usize, usize),
}

impl Pending {
    /// Waits for `end` on `partition`.
    pub(super) fn new(
        partition: Partition<Write>,
        end: Offset,
        epoch: LeaderEpoch,
        hints: bool,
    ) -> Pending {
        Pending {
            partition,
            end,
            epoch,
            hints,
            at: (0, 0),
        }
    }

    /// Lets `waiter` know when this partition is decided.
    pub(super) fn register(&self, waiter: &Arc<Waiter>) {
        self.partition
            .await_high_watermark(self.end, self.epoch, waiter);
    }

    /// Writes the end of the wait into the row, which so far tells of success.
    pub(super) fn decide(&self, row: &mut PartitionProduceResponse) {
        let code = self.verdict();
        if code == ErrorCode::NONE {
            return;
        }
        let base_offset = row.base_offset;
        let mut outcome = Outcome::failed_in_log(code, self.partition.log_start_offset());
        if code == ErrorCode::REQUEST_TIMED_OUT {
            // The batch is there, only its copies are not known yet.
            outcome.row.base_offset = base_offset;
        }
        if code == ErrorCode::NOT_LEADER_OR_FOLLOWER && self.hints {
            outcome.row.current_leader = leader_of(&self.partition);
        }
        *row = outcome.into_response(row.index);
    }

    fn verdict(&self) -> ErrorCode {
        // The epoch comes first: what an earlier leader appended may be cut by a later one, even
        // if it was below the high watermark for a moment (reliability.md §5).
        let leadership = match self.partition.lead(None) {
            Ok(leadership) if leadership.leader_epoch == self.epoch => leadership,
            Ok(_) => return ErrorCode::NOT_LEADER_OR_FOLLOWER,
            Err(error) => return error.code(),
        };
        if self.partition.high_watermark() < self.end {
            return ErrorCode::REQUEST_TIMED_OUT;
        }
        let min_isr = self.partition.settings().min_insync_replicas;
        if leadership.enough_to_acknowledge(min_isr) {
            ErrorCode::NONE
        } else {
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        }
    }
}

/// Who leads, for a client that asked the wrong node.
pub(super) fn leader_of(partition: &Partition<Write>) -> LeaderIdAndEpoch {
    let leadership = partition.leadership();
    LeaderIdAndEpoch {
        leader_id: leadership.leader.map_or(-1, |leader| leader.value()),
        leader_epoch: leadership.leader_epoch.value(),
    }
}

/// The row of a partition that could not append.
pub(super) fn not_appended(partition: &Partition<Write>, error: &PartitionError) -> Outcome {
    let mut outcome = Outcome::failed(error.code());
    outcome.set_log_start(partition.log_start_offset());
    outcome
}
