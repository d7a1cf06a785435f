//! Floods of equal denials become two lines a minute, with exact counts (spec/security.md
//! §5.2, aggregation).
//!
//! The first occurrence is written at once. Those that follow within a minute are counted in
//! fixed memory, and one line tells their number when the minute is over. Beyond a number of
//! distinct keys, one key per API and decision takes the rest and says what it collapsed.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use super::UnixMicros;
use super::event::{Action, Aggregate, AuditEvent, AuthzRow, Class};
use crate::acl::{Operation, ResourceType};

/// How long occurrences are counted into one line.
const WINDOW_MICROS: i64 = 60_000_000;

/// Distinct keys that are told apart.
const KEYS_MAX: usize = 10_000;

/// The part of a name that is kept, in bytes.
const NAME_MAX: usize = 256;

/// What makes two occurrences the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    action: Action,
    reason: Option<&'static str>,
    api: Option<&'static str>,
    who: Option<Who>,
    rule: Option<&'static str>,
    detail: Option<String>,
}

/// The dimensions that a flood can multiply.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Who {
    principal: Option<String>,
    ip: Option<IpAddr>,
    resource: Option<(Operation, ResourceType, String, usize)>,
}

#[derive(Debug)]
struct Entry {
    example: AuditEvent,
    seen: Option<Aggregate>,
}

/// The counters of one node.
#[derive(Debug, Default)]
pub(super) struct Aggregator {
    entries: HashMap<Key, Entry>,
    /// The keys in the order in which their windows end.
    order: VecDeque<(UnixMicros, Key)>,
}

impl Aggregator {
    /// Takes out of an event what was written within the last minute; `None` when nothing of
    /// it is left.
    pub(super) fn admit(&mut self, mut event: AuditEvent, at: UnixMicros) -> Option<AuditEvent> {
        match event.class() {
            Class::AuthzDenied | Class::AuthzAllowed if !event.authz.is_empty() => {
                let rows = std::mem::take(&mut event.authz);
                let fresh = rows
                    .into_iter()
                    .filter(|row| self.is_first(&event, Some(row), at));
                event.authz = fresh.collect();
                (!event.authz.is_empty()).then_some(event)
            }
            Class::Limits => self.is_first(&event, None, at).then_some(event),
            // Anybody can cause these without knowing a name; a tried credential is never merged.
            Class::Authn
                if event.auth.is_none()
                    && matches!(event.action, Action::TlsFailed | Action::LoginFailed) =>
            {
                self.is_first(&event, None, at).then_some(event)
            }
            _ => Some(event),
        }
    }

    /// The lines that tell what was counted in windows that are over.
    pub(super) fn expired(&mut self, now: UnixMicros) -> Vec<AuditEvent> {
        self.end_windows(|began| now.value().saturating_sub(began.value()) >= WINDOW_MICROS)
    }

    /// The lines of all that was counted, for the end.
    pub(super) fn all(&mut self) -> Vec<AuditEvent> {
        self.end_windows(|_| true)
    }

    fn end_windows(&mut self, over: impl Fn(UnixMicros) -> bool) -> Vec<AuditEvent> {
        let mut events = Vec::new();
        while self.order.front().is_some_and(|(began, _)| over(*began)) {
            let Some((_, key)) = self.order.pop_front() else {
                break;
            };
            let Some(entry) = self.entries.remove(&key) else {
                continue;
            };
            if let Some(seen) = entry.seen {
                let mut event = entry.example;
                event.agg = Some(seen);
                events.push(event);
            }
        }
        events
    }

    fn is_first(&mut self, event: &AuditEvent, row: Option<&AuthzRow>, at: UnixMicros) -> bool {
        let mut key = Key::of(event, row);
        if !self.entries.contains_key(&key) && self.entries.len() >= KEYS_MAX {
            key.who = None;
        }
        let times = row.map_or(1, |row| u64::from(row.refs));
        if let Some(entry) = self.entries.get_mut(&key) {
            let seen = entry.seen.get_or_insert(Aggregate {
                count: 0,
                first: at,
                last: at,
                collapsed: key.who.is_none(),
            });
            seen.count += times;
            seen.last = at;
            return false;
        }
        let mut example = event.clone();
        example.authz = row.into_iter().map(short).collect();
        let entry = Entry {
            example,
            seen: None,
        };
        self.entries.insert(key.clone(), entry);
        self.order.push_back((at, key));
        true
    }
}

impl Key {
    fn of(event: &AuditEvent, row: Option<&AuthzRow>) -> Self {
        let connection = event.context.connection.as_deref();
        let auth = connection.and_then(|c| c.auth.as_ref());
        let principal = auth.and_then(|auth| auth.principal.as_ref());
        let source = connection.and_then(|c| c.src);
        Self {
            action: event.action,
            reason: event.reason,
            api: event.context.request.as_ref().map(|request| request.api),
            rule: row.map(|row| row.decision.rule()),
            detail: event.detail.as_deref().map(|text| cut(text).to_owned()),
            who: Some(Who {
                principal: principal.map(|p| cut(&p.to_string()).to_owned()),
                ip: source.map(|address| address.ip()),
                // Two names that differ only beyond the cut are told apart by their length.
                resource: row.map(|row| {
                    let name = cut(&row.name).to_owned();
                    (row.operation, row.resource_type, name, row.name.len())
                }),
            }),
        }
    }
}

/// The row without what could be large.
fn short(row: &AuthzRow) -> AuthzRow {
    AuthzRow {
        operation: row.operation,
        resource_type: row.resource_type,
        name: cut(&row.name).to_owned(),
        decision: row.decision.clone(),
        refs: row.refs,
        needs: None,
    }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(NAME_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{AuditContext, AuthInfo, Outcome};
    use crate::decision::Decision;

    fn at(seconds: i64) -> UnixMicros {
        UnixMicros::new(seconds * 1_000_000)
    }

    fn denied(names: &[&str]) -> AuditEvent {
        let rows = names.iter().map(|name| AuthzRow {
            operation: Operation::Write,
            resource_type: ResourceType::Topic,
            name: (*name).to_owned(),
            decision: Decision::DefaultDeny,
            refs: 2,
            needs: None,
        });
        AuditEvent::denied(AuditContext::default(), rows.collect())
    }

    fn names(event: &AuditEvent) -> Vec<&str> {
        event.authz.iter().map(|row| row.name.as_str()).collect()
    }

    #[test]
    fn a_flood_is_two_lines_with_an_exact_count() {
        let mut counters = Aggregator::default();
        assert_eq!(
            names(&counters.admit(denied(&["a", "b"]), at(0)).unwrap()),
            ["a", "b"]
        );
        for second in 1..=50 {
            assert!(counters.admit(denied(&["a"]), at(second)).is_none());
        }
        let mixed = counters.admit(denied(&["a", "c"]), at(51)).unwrap();
        assert_eq!(names(&mixed), ["c"]);
        assert!(counters.expired(at(59)).is_empty());
        let told = counters.expired(at(60));
        assert_eq!(told.len(), 1);
        assert_eq!(names(&told[0]), ["a"]);
        let expected = Aggregate {
            count: 102,
            first: at(1),
            last: at(51),
            collapsed: false,
        };
        assert_eq!(told[0].agg, Some(expected));
        // The next occurrence is a first one again.
        assert!(counters.admit(denied(&["a"]), at(61)).is_some());
        assert!(counters.expired(at(112)).is_empty());
        assert!(counters.all().is_empty());
    }

    #[test]
    fn too_many_kinds_share_one_key() {
        let mut counters = Aggregator::default();
        for i in 0..KEYS_MAX {
            assert!(counters.admit(denied(&[&format!("t{i}")]), at(0)).is_some());
        }
        // The first of the rest is written, the others counted.
        assert!(counters.admit(denied(&["more"]), at(1)).is_some());
        for i in 0..100 {
            assert!(counters.admit(denied(&[&format!("x{i}")]), at(2)).is_none());
        }
        let told = counters.all();
        assert_eq!(told.len(), 1);
        let seen = told[0].agg.unwrap();
        assert_eq!((seen.count, seen.collapsed), (200, true));
    }

    #[test]
    fn failures_before_a_credential_are_counted_by_their_words() {
        let mut counters = Aggregator::default();
        let failed = |words: &str| {
            AuditEvent::new(Action::TlsFailed, Outcome::Failed, AuditContext::default())
                .with_detail(words)
        };
        assert!(counters.admit(failed("plain text"), at(0)).is_some());
        assert!(counters.admit(failed("plain text"), at(1)).is_none());
        assert!(counters.admit(failed("unknown CA"), at(2)).is_some());
        assert_eq!(counters.all().len(), 1);
    }

    #[test]
    fn other_classes_pass_and_limits_are_counted() {
        let mut counters = Aggregator::default();
        let event = |action| AuditEvent::new(action, Outcome::Ok, AuditContext::default());
        for _ in 0..3 {
            let tried = event(Action::LoginFailed).with_auth(AuthInfo {
                mechanism: "PLAIN".to_owned(),
                principal: None,
            });
            assert!(counters.admit(tried, at(0)).is_some());
            assert!(counters.admit(event(Action::TopicCreate), at(0)).is_some());
        }
        assert!(counters.admit(event(Action::ConnRejected), at(0)).is_some());
        assert!(counters.admit(event(Action::ConnRejected), at(1)).is_none());
        assert_eq!(counters.expired(at(60))[0].agg.unwrap().count, 1);
    }
}
