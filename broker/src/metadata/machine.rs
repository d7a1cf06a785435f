//! The metadata as the raft group's machine: applies records, decides requests, publishes images.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use openssl::rand::rand_bytes;
use palisade_auth::audit::{Action, AuditContext, AuditEvent, Change, Outcome};
use palisade_protocol::types::{BrokerId, LeaderEpoch, Offset};
use tracing::{error, info};

use super::actor::{Actor, Rights};
use super::builder::ImageBuilder;
use super::controller::{
    Context, ControllerError, ControllerSettings, MAX_BATCH_BYTES, MAX_RECORDS,
};
use super::delta::ClusterDelta;
use super::handle::MetadataHandle;
use super::image::ClusterImage;
use super::intents::{Intents, Plan};
use super::record::{MetadataRecord, decode_batch, encode_batch, offset_of_index};
use super::snapshot;
use crate::raft::{Machine, MachineError, ProposeError, Proposer, RoleChange};

/// Requests that may wait for a new leader's first entry.
const PARKED: usize = 1024;

/// A request before its decision.
pub(super) trait Job: Send {
    /// Decides it.
    fn decide(self: Box<Self>, context: &mut Context<'_>) -> Decided;
    /// Answers it without a decision.
    fn fail(self: Box<Self>, error: ControllerError);
}

/// A request after its decision.
pub(super) trait Pending: Send {
    /// Answers it: its records are applied, or never will be.
    fn complete(self: Box<Self>, result: Result<(), ControllerError>);
    /// Has its changes announced before it is asked for again; nothing was done.
    fn announce(self: Box<Self>, plan: Plan);
}

/// A decision without the type of its answer.
pub(super) struct Decided {
    pub(super) records: Vec<MetadataRecord>,
    pub(super) changes: Vec<(Action, Change)>,
    pub(super) pending: Box<dyn Pending>,
}

/// A request with its actor, on the way to the raft thread.
pub struct Submission {
    job: Box<dyn Job>,
    actor: Actor,
    /// What the audit log was told of it in advance.
    intents: Option<Intents>,
}

impl Submission {
    pub(super) fn new(job: Box<dyn Job>, actor: Actor, intents: Option<Intents>) -> Submission {
        Submission {
            job,
            actor,
            intents,
        }
    }
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submission")
            .field("actor", &self.actor)
            .finish_non_exhaustive()
    }
}

/// What waits for an entry to be applied.
struct Waiter {
    index: u64,
    term: u64,
    /// Whether the entry at `index` turned out to be the one proposed; `None` until applied.
    ours: Option<bool>,
    pending: Box<dyn Pending>,
    told: Told,
}

/// How the audit log learns of the result of a change.
enum Told {
    /// The intents become results.
    Announced(Intents),
    /// The broker's own changes are not announced.
    After(Vec<(Action, Change)>),
}

/// This node's part in the group, as the controller needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leadership {
    /// Another node decides.
    Follower { leader: Option<BrokerId> },
    /// This node leads, but entries of older terms may still have to be applied.
    Elected { term: u64, caught_up: bool },
    /// This node decides.
    Leading { term: u64 },
}

/// The replicated metadata.
pub struct MetadataMachine {
    metadata: MetadataHandle,
    settings: Arc<ControllerSettings>,
    committed: Arc<ClusterImage>,
    building: Option<ImageBuilder>,
    leadership: Leadership,
    /// Committed, and the own tail; meaningful while leading.
    proposed: ClusterImage,
    last_proposed: u64,
    applied: u64,
    waiters: VecDeque<Waiter>,
    parked: VecDeque<Submission>,
    /// First records of a new cluster.
    bootstrap: Vec<MetadataRecord>,
}

impl MetadataMachine {
    /// A machine without state; `bootstrap` is proposed if the group turns out to be new.
    #[must_use]
    pub fn new(
        metadata: MetadataHandle,
        settings: Arc<ControllerSettings>,
        bootstrap: Vec<MetadataRecord>,
    ) -> MetadataMachine {
        MetadataMachine {
            committed: metadata.image(),
            proposed: ClusterImage::empty(),
            metadata,
            settings,
            building: None,
            leadership: Leadership::Follower { leader: None },
            last_proposed: 0,
            applied: 0,
            waiters: VecDeque::new(),
            parked: VecDeque::new(),
            bootstrap,
        }
    }

    fn publish(&mut self) {
        let Some(building) = self.building.take() else {
            return;
        };
        let (delta, image) = building.finish();
        self.committed = Arc::new(image);
        self.metadata.publish(&delta, &self.committed);
    }

    fn answer_applied(&mut self) {
        while let Some(ours) = self.waiters.front().and_then(|waiter| waiter.ours) {
            let waiter = self.waiters.pop_front().expect("the front was just seen");
            match waiter.told {
                Told::Announced(intents) if ours => intents.applied(waiter.index, waiter.term),
                Told::Announced(intents) => {
                    intents.told(Outcome::Error, Some("leadership_lost"), None);
                }
                Told::After(changes) if ours => {
                    self.record_own(changes, (waiter.index, waiter.term));
                }
                Told::After(_) => {}
            }
            let result = ours.then_some(()).ok_or(ControllerError::LeadershipLost);
            waiter.pending.complete(result);
        }
    }

    fn record_own(&self, changes: Vec<(Action, Change)>, committed: (u64, u64)) {
        let Some(audit) = &self.settings.audit else {
            return;
        };
        for (action, mut change) in changes {
            change.committed = Some(committed);
            let event = AuditEvent::new(action, Outcome::Ok, AuditContext::default());
            audit.record(event.with_change(change));
        }
    }

    /// Becomes the one who decides, once nothing of an older term can still change the image.
    fn lead(&mut self, term: u64, proposer: &mut Proposer<'_>) {
        self.leadership = Leadership::Leading { term };
        self.proposed = self.committed.as_ref().clone();
        self.last_proposed = self.applied;
        info!(
            term,
            offset = self.committed.offset.value(),
            "leading the metadata group"
        );
        if !self.proposed.is_bootstrapped() && !self.bootstrap.is_empty() {
            let records = std::mem::take(&mut self.bootstrap);
            if let Err(error) = self.propose(&records, false, proposer) {
                error!(%error, "the first metadata records could not be proposed");
                self.bootstrap = records;
            }
        }
        for parked in std::mem::take(&mut self.parked) {
            self.decide(parked, proposer);
        }
    }

    /// Proposes records as one batch and remembers them in the proposed image. `limited`: a client
    /// asked for them.
    fn propose(
        &mut self,
        records: &[MetadataRecord],
        limited: bool,
        proposer: &mut Proposer<'_>,
    ) -> Result<u64, ControllerError> {
        // Tried on the proposed image first: what does not fit must never reach the log, where it
        // would stop every node.
        let mut builder = ImageBuilder::new(&self.proposed);
        for record in records {
            if let Err(error) = builder.apply(record) {
                error!(%error, "a decision does not fit the metadata");
                return Err(ControllerError::Inconsistent);
            }
        }
        let batch = encode_batch(records);
        if limited && (records.len() > MAX_RECORDS || batch.len() > MAX_BATCH_BYTES) {
            return Err(ControllerError::TooLarge {
                records: records.len(),
                bytes: batch.len(),
            });
        }
        let index = proposer.propose(batch).map_err(|error| match error {
            ProposeError::NotLeader { leader } => ControllerError::NotLeader { leader },
            ProposeError::Full => ControllerError::Busy,
        })?;
        self.proposed = builder.into_proposed();
        self.last_proposed = index;
        Ok(index)
    }

    fn decide(&mut self, submission: Submission, proposer: &mut Proposer<'_>) {
        let Submission {
            job,
            actor,
            intents,
        } = submission;
        // Rights are judged by what is committed: an ACL holds once its creator was answered.
        let rights = Rights::of(
            actor,
            &self.settings.authorizer,
            self.committed.acls.cache(),
            self.settings.audit.clone().map(|audit| audit as Arc<_>),
        );
        let mut chance = Chance::after(intents.as_ref());
        let decided = job.decide(&mut Context {
            image: &self.proposed,
            committed: (self.last_proposed > self.applied).then_some(&*self.committed),
            rights: &rights,
            settings: &self.settings,
            next_offset: offset_of_index(proposer.next_index()),
            random: &mut |bytes| chance.fill(bytes),
        });
        let announced = self.settings.audit.is_some() && !rights.is_internal();
        let changes = decided.changes;
        let told = match intents {
            Some(intents) if intents.are_for(&changes) => Told::Announced(intents),
            _ if announced && !changes.is_empty() => {
                // Judged again when this is announced; the log is told of that judgement only.
                rights.forget();
                return decided.pending.announce(Plan {
                    changes,
                    chance: chance.drawn,
                });
            }
            _ => Told::After(changes),
        };
        // The broker's own steps are as large as the cluster, as when it registers.
        let limited = !rights.is_internal();
        drop(rights);
        let index = if decided.records.is_empty() {
            self.last_proposed
        } else {
            match self.propose(&decided.records, limited, proposer) {
                Ok(index) => index,
                Err(error) => return decided.pending.complete(Err(error)),
            }
        };
        if index <= self.applied {
            return decided.pending.complete(Ok(()));
        }
        self.waiters.push_back(Waiter {
            index,
            term: proposer.term(),
            ours: None,
            pending: decided.pending,
            told: match told {
                Told::Announced(intents) => Told::Announced(intents.begun()),
                after @ Told::After(_) => after,
            },
        });
    }
}

/// Chance that can be had twice: a request whose changes were announced is decided with the same.
struct Chance {
    left: VecDeque<u8>,
    drawn: Vec<u8>,
}

impl Chance {
    fn after(intents: Option<&Intents>) -> Chance {
        let left = intents.map(|intents| intents.chance().to_vec());
        Chance {
            left: left.unwrap_or_default().into(),
            drawn: Vec::new(),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        if self.left.len() < bytes.len() {
            rand_bytes(bytes).expect("OpenSSL has a source of chance");
        } else {
            let drawn = self.left.drain(..bytes.len()).collect::<Vec<_>>();
            bytes.copy_from_slice(&drawn);
        }
        self.drawn.extend_from_slice(bytes);
    }
}

impl Machine for MetadataMachine {
    type Request = Submission;

    fn restore(&mut self, index: u64, _term: u64, bytes: &[u8]) -> Result<(), MachineError> {
        let image = snapshot::decode(bytes)?;
        self.building = None;
        self.applied = index;
        self.committed = Arc::new(image);
        self.metadata
            .publish(&ClusterDelta::everything(&self.committed), &self.committed);
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        assert!(
            self.building.is_none(),
            "a snapshot is taken between batches"
        );
        snapshot::encode(&self.committed)
    }

    fn apply(&mut self, index: u64, term: u64, data: &[u8]) -> Result<(), MachineError> {
        let building = self
            .building
            .get_or_insert_with(|| ImageBuilder::new(self.committed.as_ref()));
        if !data.is_empty() {
            for record in decode_batch(data)? {
                building.apply(&record)?;
            }
        }
        let epoch = LeaderEpoch::new(i32::try_from(term)?);
        building.advance(Offset::new(i64::try_from(index)?), epoch);
        self.applied = index;
        for waiter in self
            .waiters
            .iter_mut()
            .skip_while(|waiter| waiter.ours.is_some())
        {
            if waiter.index > index {
                break;
            }
            waiter.ours = Some(waiter.index == index && waiter.term == term);
        }
        // Its own first entry is applied after every entry of an older term.
        if let Leadership::Elected {
            term: elected,
            caught_up,
        } = &mut self.leadership
            && *elected == term
        {
            *caught_up = true;
        }
        Ok(())
    }

    fn applied(&mut self, proposer: &mut Proposer<'_>) {
        self.publish();
        self.answer_applied();
        if let Leadership::Elected {
            term,
            caught_up: true,
        } = self.leadership
        {
            self.lead(term, proposer);
        }
    }

    fn role_changed(&mut self, role: RoleChange) {
        self.leadership = match self.leadership {
            Leadership::Leading { term } | Leadership::Elected { term, .. }
                if role.is_leader && term == role.term =>
            {
                return;
            }
            _ if role.is_leader => Leadership::Elected {
                term: role.term,
                caught_up: false,
            },
            _ => Leadership::Follower {
                leader: role.leader,
            },
        };
        // The tail proposed under the old role may be lost: nothing may be decided by it any more.
        self.proposed = ClusterImage::empty();
        if let Leadership::Follower { leader } = self.leadership {
            for parked in self.parked.drain(..) {
                parked.job.fail(ControllerError::NotLeader { leader });
            }
        }
    }

    fn handle(&mut self, request: Submission, proposer: &mut Proposer<'_>) {
        match self.leadership {
            Leadership::Leading { .. } => self.decide(request, proposer),
            Leadership::Elected { .. } if self.parked.len() < PARKED => {
                self.parked.push_back(request);
            }
            Leadership::Elected { .. } => request.job.fail(ControllerError::Busy),
            Leadership::Follower { leader } => {
                request.job.fail(ControllerError::NotLeader { leader });
            }
        }
    }
}

#[cfg(test)]
mod tests;
