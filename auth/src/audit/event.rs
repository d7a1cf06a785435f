//! Events, and what they say.

use super::UnixMicros;
use super::context::{AuditContext, AuthInfo, ConnectionInfo, RequestInfo};
use crate::acl::{Operation, ResourceType};
use crate::decision::Decision;

/// The class of an event: it decides the default, and what happens when the log stalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Logins and their failures. A login waits for its event, then fails.
    Authn,
    /// Denied questions. The denial is answered, the event waits or is counted.
    AuthzDenied,
    /// Permitted questions, of admin APIs by default.
    AuthzAllowed,
    /// Changes. Written ahead: no event, no operation.
    Admin,
    /// What the node itself does. No event, not ready.
    Node,
    /// Limits that were hit.
    Limits,
}

impl Class {
    /// Every class.
    pub const VALUES: &'static [Self] = &[
        Self::Authn,
        Self::AuthzDenied,
        Self::AuthzAllowed,
        Self::Admin,
        Self::Node,
        Self::Limits,
    ];

    /// The name in the line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authn => "authn",
            Self::AuthzDenied => "authz_denied",
            Self::AuthzAllowed => "authz_allowed",
            Self::Admin => "admin",
            Self::Node => "node",
            Self::Limits => "limits",
        }
    }

    /// Tells whether a request must not succeed unless its event was taken by the log.
    ///
    /// True for logins and changes: they fail closed, and the reserve on the disk is theirs.
    /// Denials are refusals anyway; for permitted questions `palisade.audit.full.policy` decides.
    pub const fn fails_closed(self) -> bool {
        matches!(self, Self::Authn | Self::Admin | Self::Node)
    }
}

macro_rules! actions {
    ($($class:ident { $($variant:ident $text:literal,)+ })+) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each name is explained by spec/security.md §5.2")]
        pub enum Action { $($($variant,)+)+ }

        impl Action {
            /// Every action.
            pub const VALUES: &'static [Self] = &[$($(Self::$variant,)+)+];

            /// The name in the line.
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$variant => $text,)+)+ }
            }

            /// The class it belongs to.
            pub const fn class(self) -> Class {
                match self { $($(Self::$variant => Class::$class,)+)+ }
            }
        }
    };
}

actions! {
    Authn {
        TlsFailed "tls_failed", LoginOk "login_ok", LoginFailed "login_failed",
        SessionRevoked "session_revoked", PrincipalMappingFailed "principal_mapping_failed",
        Logout "logout",
    }
    AuthzDenied {
        Denied "denied",
    }
    AuthzAllowed {
        Allowed "allowed",
    }
    Admin {
        TopicCreate "topic_create", TopicDelete "topic_delete",
        PartitionsCreate "partitions_create", RecordsDelete "records_delete",
        ConfigAlter "config_alter", AclCreate "acl_create", AclDelete "acl_delete",
        ScramUpsert "scram_upsert", ScramDelete "scram_delete", GroupDelete "group_delete",
        OffsetsDelete "offsets_delete",
    }
    Node {
        Start "start", Stop "stop", AuditGap "audit_gap", AuditReserve "audit_reserve",
        ClockStep "clock_step", UncleanStart "unclean_start",
        ConfigEffective "config_effective", AclLoaded "acl_loaded",
    }
    Limits {
        ConnRejected "conn_rejected", OversizeFrame "oversize_frame", Malformed "malformed",
        ScopeViolation "scope_violation",
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Announced, and not begun: the line that is durable before a change. The result follows in
    /// a line of the same connection, correlation and target.
    Intent,
    /// As asked.
    Ok,
    /// Refused by a rule.
    Denied,
    /// Refused by a check, such as a wrong password.
    Failed,
    /// Broken by something else.
    Error,
}

impl Outcome {
    /// The name in the line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Error => "error",
        }
    }
}

/// One authorization question in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthzRow {
    /// The operation asked for.
    pub operation: Operation,
    /// The type of the resource.
    pub resource_type: ResourceType,
    /// The name of the resource.
    pub name: String,
    /// The decision with its rule.
    pub decision: Decision,
    /// How often the request asked.
    pub refs: u32,
    /// The least ACL that would have allowed, on a default denial.
    pub needs: Option<String>,
}

/// A secret in a change: the first eight bytes of a keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretDigest(pub [u8; 8]);

/// What an admin call changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// What was changed, for example `topic orders`.
    pub target: String,
    /// The state before; no secrets.
    pub before: Option<String>,
    /// The state after; no secrets.
    pub after: Option<String>,
    /// A fingerprint of the secret that was set.
    pub secret: Option<SecretDigest>,
    /// Index and term of the metadata log at the commit.
    pub committed: Option<(u64, u64)>,
}

/// One event, before it has a place in the chain.
#[derive(Debug, Clone)]
pub struct AuditEvent {
    /// What happened.
    pub action: Action,
    /// How it ended.
    pub outcome: Outcome,
    /// A stable code such as `bad_credentials`.
    pub reason: Option<&'static str>,
    /// Where it comes from.
    pub context: AuditContext,
    /// The questions, for `denied` and `allowed`.
    pub authz: Vec<AuthzRow>,
    /// The change, for admin events.
    pub change: Option<Change>,
    /// The login this event is about, where the connection does not know it (yet).
    pub auth: Option<AuthInfo>,
    /// Free text of `node` and `limits` events.
    pub detail: Option<String>,
    /// What was only counted, for `audit_gap`.
    pub gap: Option<Gap>,
    /// How often the same happened after it was first written.
    pub agg: Option<Aggregate>,
}

/// How often something happened beside its first occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aggregate {
    /// How often.
    pub count: u64,
    /// The first time counted here.
    pub first: UnixMicros,
    /// The last time.
    pub last: UnixMicros,
    /// There were too many kinds: principal, address and resource are one example of many.
    pub collapsed: bool,
}

/// Events of one class that were counted instead of kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Their class.
    pub class: Class,
    /// How many.
    pub count: u64,
    /// When the first was.
    pub first: UnixMicros,
    /// When the last was.
    pub last: UnixMicros,
    /// Why they could not be kept.
    pub cause: Cause,
}

/// Why events are counted instead of kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// More of them than the disk takes.
    #[default]
    QueueFull,
    /// The disk has no room.
    DiskFull,
    /// The file cannot be written for another reason.
    WriteFailed,
}

impl Cause {
    /// The reason in the line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::DiskFull => "disk_full",
            Self::WriteFailed => "write_failed",
        }
    }
}

impl AuditEvent {
    /// An event with nothing but its action and outcome.
    pub fn new(action: Action, outcome: Outcome, context: AuditContext) -> Self {
        Self {
            action,
            outcome,
            reason: None,
            context,
            authz: Vec::new(),
            change: None,
            auth: None,
            detail: None,
            gap: None,
            agg: None,
        }
    }

    /// Denied questions of one request.
    pub fn denied(context: AuditContext, rows: Vec<AuthzRow>) -> Self {
        let reason = rows.first().map(|row| match row.decision {
            Decision::Denied(_) => "acl_deny",
            Decision::NotReady => "not_ready",
            _ => "no_acl",
        });
        Self {
            reason,
            authz: rows,
            ..Self::new(Action::Denied, Outcome::Denied, context)
        }
    }

    /// Permitted questions of one request.
    pub fn allowed(context: AuditContext, rows: Vec<AuthzRow>) -> Self {
        Self {
            authz: rows,
            ..Self::new(Action::Allowed, Outcome::Ok, context)
        }
    }

    /// Adds a reason code.
    #[must_use]
    pub fn with_reason(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Adds what was changed.
    #[must_use]
    pub fn with_change(mut self, change: Change) -> Self {
        self.change = Some(change);
        self
    }

    /// Adds a text; it is escaped and cut like everything from outside.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the login this event is about.
    #[must_use]
    pub fn with_auth(mut self, auth: AuthInfo) -> Self {
        self.auth = Some(auth);
        self
    }

    /// The class of the event.
    pub fn class(&self) -> Class {
        self.action.class()
    }

    /// About how many bytes its line has, for the bound of the queue. At least as many as the texts
    /// have that it keeps in memory, shared ones included: it may be the last to hold them.
    pub(crate) fn weight(&self) -> usize {
        let rows: usize = self
            .authz
            .iter()
            .map(|row| 256 + 2 * row.name.len() + row.needs.as_ref().map_or(0, String::len))
            .sum();
        let change = self.change.as_ref().map_or(0, |change| {
            change.target.len()
                + change.before.as_ref().map_or(0, String::len)
                + change.after.as_ref().map_or(0, String::len)
        });
        let connection = self.context.connection.as_deref();
        let auth = connection.and_then(|connection| connection.auth.as_ref());
        let auth = auth.into_iter().chain(&self.auth);
        let texts = connection.map_or(0, ConnectionInfo::weight)
            + auth.map(AuthInfo::weight).sum::<usize>()
            + self.context.request.as_ref().map_or(0, RequestInfo::weight);
        1024 + rows + change + texts + self.detail.as_ref().map_or(0, String::len)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use super::*;
    use crate::audit::{CertificateInfo, TlsInfo};
    use crate::principal::Principal;

    #[test]
    fn names_are_unique_and_classes_complete() {
        let names: HashSet<_> = Action::VALUES.iter().map(|a| a.name()).collect();
        assert_eq!(names.len(), Action::VALUES.len());
        for class in Class::VALUES {
            assert!(Action::VALUES.iter().any(|a| a.class() == *class));
        }
        assert_eq!(Action::ScopeViolation.class(), Class::Limits);
        assert_eq!(Action::UncleanStart.class(), Class::Node);
    }

    #[test]
    fn what_a_client_chooses_has_weight() {
        let bare = AuditEvent::new(Action::Denied, Outcome::Denied, AuditContext::default());
        let long = || "x".repeat(1024);
        let request = RequestInfo {
            api: "Metadata",
            key: 3,
            version: 13,
            correlation: 1,
            client_id: Some(long().into()),
            software: Some(long().into()),
        };
        let mut asked = bare.clone();
        asked.context.request = Some(request);
        assert!(asked.weight() >= bare.weight() + 2 * 1024);
        let mut known = bare.clone();
        known.context.connection = Some(Arc::new(ConnectionInfo {
            tls: Some(TlsInfo {
                sni: Some(long()),
                certificate: Some(CertificateInfo {
                    subject: long(),
                    issuer: long(),
                    ..CertificateInfo::default()
                }),
                ..TlsInfo::default()
            }),
            ..ConnectionInfo::default()
        }));
        assert!(known.weight() >= bare.weight() + 3 * 1024);
        let tried = bare.clone().with_auth(AuthInfo {
            mechanism: "PLAIN".to_owned(),
            principal: Some(Principal::user(long())),
        });
        assert!(tried.weight() >= bare.weight() + 1024);
    }

    #[test]
    fn logins_and_changes_fail_closed() {
        let closed: Vec<_> = Class::VALUES
            .iter()
            .filter(|class| class.fails_closed())
            .map(|class| class.name())
            .collect();
        assert_eq!(closed, ["authn", "admin", "node"]);
    }
}
