//! The passes of one fetch over its partitions, and the wait between them.

use std::pin::Pin;

use palisade_protocol::ErrorCode;
use palisade_protocol::messages::fetch::FetchResponse;
use tracing::debug;

use super::opening::Holder;
use super::respond;
use super::visit::{GrantCache, Kind, Room, Row, visit};
use super::{Scene, Terms};
use crate::dispatch::Handled;
use crate::partition::read;
use crate::partition::ready::Slot;
use crate::task::Budget;

/// A fetch in work.
pub(super) struct Run {
    scene: Scene,
    terms: Terms,
    holder: Holder,
    rows: Vec<(Slot, Row)>,
    /// Records found, in bytes.
    bytes: usize,
    /// The partitions push their news into the list.
    subscribed: bool,
}

/// The answer of a fetch, or the wait for it.
pub(super) enum Answer {
    /// Known.
    Ready(FetchResponse),
    /// Parked.
    Parked(Pin<Box<dyn Future<Output = FetchResponse> + Send>>),
}

impl Answer {
    /// As a handler answers.
    pub(super) fn into_handled(self) -> Handled<FetchResponse> {
        match self {
            Answer::Ready(response) => Handled::Now(response),
            Answer::Parked(wait) => Handled::Later(wait),
        }
    }

    /// Waits for it.
    pub(super) async fn wait(self) -> FetchResponse {
        match self {
            Answer::Ready(response) => response,
            Answer::Parked(wait) => wait.await,
        }
    }
}

impl Run {
    /// A fetch over the partitions of `holder`.
    pub(super) fn new(scene: Scene, terms: Terms, holder: Holder) -> Run {
        // A session stays subscribed between requests. For one request it pays only when it has
        // to wait.
        let subscribed = holder.is_remembered();
        Run {
            scene,
            terms,
            holder,
            rows: Vec::new(),
            bytes: 0,
            subscribed,
        }
    }

    /// Makes the first pass, and parks if it found too little.
    pub(super) async fn answer(mut self) -> Answer {
        self.pass().await;
        if self.is_satisfied() {
            return Answer::Ready(self.finish());
        }
        Answer::Parked(Box::pin(async move {
            self.wait().await;
            self.finish()
        }))
    }

    /// Passes again whenever there is news, until there is enough or the time is over.
    async fn wait(&mut self) {
        while let Some(deadline) = self.terms.deadline {
            if self.subscribed {
                let lacking = self.lacking();
                let ready = std::sync::Arc::clone(self.holder.list().ready());
                self.requeue_for_another_look();
                if !ready.park(lacking, deadline).await {
                    // Time is over: one last look at what came without being enough.
                    self.pass().await;
                    return;
                }
            } else {
                // What was published between the first look and the subscription is seen by this
                // pass.
                self.subscribed = true;
                self.requeue_for_another_look();
            }
            self.pass().await;
            if self.is_satisfied() {
                return;
            }
        }
    }

    /// Everything looked at so far has to be looked at again, since its answer was put away.
    fn requeue_for_another_look(&mut self) {
        // In an answer that names all partitions, all are looked at.
        self.rows.sort_by_key(|(slot, _)| *slot);
        for (slot, _) in self.rows.drain(..) {
            if let Some(entry) = self.holder.list().entry(slot) {
                entry.subscription.requeue();
            }
        }
        self.bytes = 0;
    }

    /// Looks at every partition that is due.
    async fn pass(&mut self) {
        let due = self.holder.list().ready().drain();
        let mut grants = GrantCache::default();
        let mut budget = Budget::start();
        let mut cold = Vec::new();
        self.scene.sessions.note_looks(due.len());
        for slot in due {
            let room = self.room();
            let Some(entry) = self.holder.list_mut().entry_mut(slot) else {
                continue;
            };
            let mut row = visit(
                &self.scene,
                &self.terms,
                &mut grants,
                entry,
                room,
                self.subscribed,
            )
            .await;
            let found = row.read.as_ref().map_or(0, read::ReadOutcome::len);
            if row.kind == Kind::Data {
                if row
                    .read
                    .as_ref()
                    .is_some_and(read::ReadOutcome::is_resident)
                {
                    self.bytes += found;
                } else {
                    row.kind = Kind::Held;
                    cold.push(self.rows.len());
                }
            }
            self.rows.push((slot, row));
            budget.breathe(found).await;
        }
        self.serve_cold(&cold);
        if self.holder.is_incremental() {
            self.rows.retain(|(_, row)| row.kind != Kind::Nothing);
        }
    }

    /// Answers cold partitions only where there is nothing else; the others are read ahead and come
    /// first next time (design.md, "I/O and threads").
    fn serve_cold(&mut self, cold: &[usize]) {
        let hot = self.bytes > 0;
        for at in cold {
            let room = self.room();
            let Some((_, row)) = self.rows.get_mut(*at) else {
                continue;
            };
            let Some(found) = row.read.as_ref() else {
                continue;
            };
            if !hot && (room.empty || found.len() <= room.bytes) {
                row.kind = Kind::Data;
                self.bytes += found.len();
            } else {
                found.read_ahead();
            }
        }
    }

    fn room(&self) -> Room {
        let limit = self.terms.max_bytes.unwrap_or(0);
        Room {
            bytes: limit.saturating_sub(self.bytes),
            empty: self.bytes == 0,
        }
    }

    fn lacking(&self) -> u64 {
        self.terms
            .min_bytes
            .saturating_sub(self.bytes as u64)
            .max(1)
    }

    /// Whether the answer is worth sending now.
    fn is_satisfied(&self) -> bool {
        self.terms.deadline.is_none()
            || self.holder.list().is_empty()
            || self.bytes as u64 >= self.terms.min_bytes
            || self.rows.iter().any(|(_, row)| row.kind == Kind::Urgent)
    }

    /// Builds the answer and leaves the session ready for the next request.
    fn finish(mut self) -> FetchResponse {
        let full = !self.holder.is_incremental();
        let mut rows = std::mem::take(&mut self.rows);
        if full {
            // Slots of a fresh list are in the order of the request.
            rows.sort_by_key(|(slot, _)| *slot);
        }
        self.leave_due(&rows);
        let mut builder = respond::Builder::new(&self.scene);
        for (slot, row) in rows {
            let Some(entry) = self.holder.list_mut().entry_mut(slot) else {
                continue;
            };
            let moved = super::visit::sent(&row.data) != entry.sent;
            let silent = matches!(row.kind, Kind::Held | Kind::Nothing) && !moved;
            if silent && !full {
                continue;
            }
            if row.kind != Kind::Urgent || row.data.error_code == ErrorCode::NONE {
                entry.sent = super::visit::sent(&row.data);
            }
            builder.push(&entry.wanted.topic, row);
        }
        let mut response = builder.finish();
        if self.terms.isolation.is_none() {
            response.error_code = ErrorCode::UNKNOWN_SERVER_ERROR;
        }
        response.session_id = self.holder.finish(&self.scene, self.terms.by_id);
        debug!(
            bytes = self.bytes,
            session = response.session_id,
            "fetch answered"
        );
        response
    }

    /// Partitions that still have something come again: first those that were passed over, last
    /// those that were served.
    fn leave_due(&self, rows: &[(Slot, Row)]) {
        for kind in [Kind::Held, Kind::Urgent, Kind::Data] {
            for (slot, row) in rows {
                if row.kind == kind
                    && let Some(entry) = self.holder.list().entry(*slot)
                {
                    entry.subscription.requeue();
                }
            }
        }
    }
}
