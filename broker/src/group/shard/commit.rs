//! OffsetCommit (coordination.md §3).

use palisade_protocol::{ErrorCode, Str, Uuid};

use super::{Group, Shard};
use crate::group::consumer::Committer;
use crate::group::decision::Decision;
use crate::group::error::GroupError;
use crate::group::record::{GroupRecord, OffsetCommitValue};
use crate::group::step::Moment;

/// A commit; its rows name topics and partitions that exist and may be consumed by who asks.
#[derive(Clone, Debug)]
pub(crate) struct CommitAsk {
    /// The member, empty for none.
    pub(crate) member_id: Str,
    /// The instance id of a static member.
    pub(crate) instance_id: Option<Str>,
    /// The generation or member epoch; negative for none.
    pub(crate) generation: i32,
    /// How long the offsets are to be kept, in milliseconds, where the commit says so.
    pub(crate) retention_ms: Option<i64>,
    /// The client knows consumer groups and their errors (version 9).
    pub(crate) knows_consumer_groups: bool,
    /// What is committed.
    pub(crate) rows: Vec<CommitRow>,
}

/// One partition of a commit.
#[derive(Clone, Debug)]
pub(crate) struct CommitRow {
    /// The topic's name.
    pub(crate) topic: Str,
    /// Its id.
    pub(crate) topic_id: Uuid,
    /// The partition.
    pub(crate) partition: i32,
    /// The next offset to consume.
    pub(crate) offset: i64,
    /// The leader epoch of the last consumed record; -1 for none.
    pub(crate) leader_epoch: i32,
    /// The client's own text.
    pub(crate) metadata: Str,
}

impl Shard {
    /// Decides a commit; one code for each row.
    pub(crate) fn commit(
        &self,
        id: &Str,
        ask: CommitAsk,
        moment: &Moment<'_>,
    ) -> Decision<Vec<ErrorCode>> {
        let timers = match self.groups.get(id.as_str()).map(|entry| &entry.group) {
            Some(Group::Classic(group)) => {
                let instance = ask.instance_id.as_deref();
                match group.commit(&ask.member_id, instance, ask.generation) {
                    Ok(effects) => effects.timers,
                    Err(error) => return Decision::refuse(error),
                }
            }
            Some(Group::Consumer(group)) => {
                let committer = Committer {
                    member_id: &ask.member_id,
                    epoch: ask.generation,
                    knows_epochs: ask.knows_consumer_groups,
                    transactional: false,
                };
                let rows = ask.rows.iter();
                let partitions = rows.map(|row| (row.topic_id, row.partition));
                match group.check_commit(&committer, partitions) {
                    Ok(()) => Vec::new(),
                    Err(error) => return Decision::refuse(error),
                }
            }
            None if ask.generation < 0 => Vec::new(),
            None if ask.knows_consumer_groups => {
                return Decision::refuse(GroupError::group_not_found(id));
            }
            None => return Decision::refuse(GroupError::IllegalGeneration),
        };
        let mut decision = Decision::answer(Vec::new());
        decision.timers = timers;
        let now = moment.now.value();
        let expire_timestamp = match ask.retention_ms {
            Some(retention) => now.saturating_add(retention),
            None => -1,
        };
        let mut codes = Vec::with_capacity(ask.rows.len());
        for row in ask.rows {
            if row.metadata.encode_utf16().count() > moment.config.offset_metadata_max {
                codes.push(GroupError::OffsetMetadataTooLarge.code());
                continue;
            }
            codes.push(ErrorCode::NONE);
            decision.records.push(GroupRecord::Offset {
                group: id.clone(),
                topic: row.topic,
                partition: row.partition,
                value: Some(OffsetCommitValue {
                    offset: row.offset,
                    leader_epoch: row.leader_epoch,
                    metadata: row.metadata,
                    commit_timestamp: now,
                    expire_timestamp,
                    topic_id: row.topic_id,
                }),
            });
        }
        decision.answer = Ok(codes);
        decision
    }
}
