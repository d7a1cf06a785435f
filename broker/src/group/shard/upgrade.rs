//! A native member comes to a classic group that has members.

use palisade_auth::principal::Principal;
use palisade_protocol::Str;

use super::Shard;
use super::consumer::{HeartbeatAsk, Owners, answer};
use crate::group::budget::Growth;
use crate::group::consumer::{self, ConsumerGroup, Heartbeat};
use crate::group::decision::{TimerChange, TimerKey};
use crate::group::error::GroupError;
use crate::group::step::{Asker, Step};
use crate::logging::Throttle;

impl Shard {
    /// Turns the classic group into a consumer group that the sender of a heartbeat joins.
    pub(super) fn upgrade(
        &mut self,
        id: &Str,
        ask: HeartbeatAsk,
        owners: Owners,
        asker: Asker<Result<Heartbeat, GroupError>>,
        at: &consumer::Moment<'_>,
    ) -> Step {
        let by = &ask.client.principal;
        let Some(classic) = self.classic(id) else {
            return answer(asker, Err(GroupError::group_not_found(id)));
        };
        let outlook = classic.outlook(&ask.member_id, by);
        if let Err(error) =
            ConsumerGroup::check_upgrade(id, &outlook, &ask.request, &ask.judged, at)
        {
            tell_not_converted(id, by, &error);
            return answer(asker, Err(error));
        }
        // Names of topics take more room than the metadata that they were in.
        let (recorded, kept) = outlook.sizes.unwrap_or_default();
        let growth = Growth::of(Some((outlook.held, None)), kept, by);
        let owed = growth.bytes;
        let reserved = match self.reserve(id, &Growth { owed, ..growth }, by) {
            Ok(reserved) => reserved.into_iter().collect(),
            Err(error) => return answer(asker, Err(error)),
        };
        if let Err(error) = self.budget.rewrites().admit(by, recorded, at.now) {
            return answer(asker, Err(error));
        }
        let Some(classic) = self.classic(id) else {
            return answer(asker, Err(GroupError::group_not_found(id)));
        };
        let (parked, view) = (classic.parked(), classic.view());
        let (mut group, mut records) = match ConsumerGroup::upgrade(id, &view, at) {
            Ok(upgraded) => upgraded,
            Err(error) => return answer(asker, Err(error)),
        };
        let mut decision =
            group.heartbeat(&ask.request, &ask.member_id, &ask.client, &ask.judged, at);
        if decision.answer.is_err() {
            return self.heard(id, decision, owners, ask.look_up, asker);
        }
        // Whoever joins comes last: he may take the place of one of these.
        let members = view.members.into_iter();
        let members = members.filter_map(|one| Some((one.id, one.owner?)));
        let owners = members.chain(owners).collect();
        records.append(&mut decision.records);
        decision.records = records;
        let mut timers = group.timers(at);
        for key in [
            TimerKey::Join { group: id.clone() },
            TimerKey::Sync { group: id.clone() },
        ] {
            timers.push(TimerChange::Cancel { key });
        }
        timers.append(&mut decision.timers);
        decision.timers = timers;
        let step = self.upgraded(id, decision, (parked, owners), ask.look_up, asker);
        Step { reserved, ..step }
    }
}

/// Tells of a conversion that the log would not take: its members must say less first. The other
/// reasons are the policy's and the members' own.
pub(super) fn tell_not_converted(group: &Str, by: &Principal, error: &GroupError) {
    static SAID: Throttle = Throttle::new();
    if matches!(error, GroupError::Unknown(_)) && SAID.may_speak() {
        let (group, principal) = (group.as_str(), by.to_string());
        tracing::warn!(?group, ?principal, %error, "classic group not converted");
    }
}
