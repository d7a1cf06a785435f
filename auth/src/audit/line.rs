//! One event as one line of JSON (spec/security.md §5.2).
//!
//! Members come in a fixed order. Texts from outside are cut at 1 KiB, which a member
//! `<name>_truncated` beside them tells, and everything that could move a terminal's cursor
//! or turn its reading direction is escaped.

use std::fmt::Write;
use std::net::SocketAddr;

use super::UnixMicros;
use super::context::{AuthInfo, CertificateInfo, RequestInfo, TlsInfo};
use super::event::{Aggregate, AuditEvent, AuthzRow, Change, Gap};
use crate::host::java_text;

/// The longest text, in bytes.
const TEXT_MAX: usize = 1024;

/// As much of a text as is worth keeping for an event: what a line shows, and where that is cut one
/// character more, so that the line says so.
pub fn shown(text: &str) -> &str {
    let mut end = text.len().min(TEXT_MAX + 1);
    while !text.is_char_boundary(end) {
        end += 1;
    }
    text.get(..end).unwrap_or_default()
}

/// What the chain adds to an event.
pub(super) struct Place<'a> {
    pub(super) stream: &'a str,
    pub(super) seq: u64,
    pub(super) at: UnixMicros,
    /// The hash of the line before, in hex.
    pub(super) prev: &'a str,
}

/// Writes a line up to and without its `hash` member.
pub(super) fn write_line(event: &AuditEvent, place: &Place<'_>) -> String {
    let mut json = Json::default();
    json.open('{');
    json.number("v", 1);
    json.text("stream", place.stream);
    json.number("seq", place.seq);
    json.text("ts", &place.at.to_string());
    json.text("class", event.class().name());
    json.text("action", event.action.name());
    json.text("outcome", event.outcome.name());
    json.maybe("reason", event.reason);
    let connection = event.context.connection.as_deref();
    if let Some(connection) = connection {
        json.text("listener", &connection.listener);
        json.text("conn", &connection.conn);
        json.endpoint("src", connection.src);
        json.endpoint("dst", connection.dst);
        if let Some(tls) = &connection.tls {
            json.tls(tls);
        }
    }
    let auth = event.auth.as_ref();
    if let Some(auth) = auth.or_else(|| connection.and_then(|c| c.auth.as_ref())) {
        json.auth(auth);
    }
    if let Some(request) = &event.context.request {
        json.request(request);
    }
    if !event.authz.is_empty() {
        json.name("authz");
        json.open('[');
        for row in &event.authz {
            json.row(row);
        }
        json.close(']');
    }
    if let Some(change) = &event.change {
        json.change(change);
    }
    if let Some(gap) = &event.gap {
        json.gap(gap);
    }
    if let Some(agg) = &event.agg {
        json.aggregate(agg);
    }
    json.maybe("detail", event.detail.as_deref());
    json.text("prev", place.prev);
    json.out
}

#[derive(Default)]
struct Json {
    out: String,
    /// A comma is due before the next member.
    comma: bool,
}

impl Json {
    fn open(&mut self, bracket: char) {
        self.separate();
        self.out.push(bracket);
        self.comma = false;
    }

    fn close(&mut self, bracket: char) {
        self.out.push(bracket);
        self.comma = true;
    }

    fn separate(&mut self) {
        if std::mem::replace(&mut self.comma, true) {
            self.out.push(',');
        }
    }

    fn name(&mut self, name: &str) {
        self.separate();
        self.quote(name);
        self.out.push(':');
        self.comma = false;
    }

    fn object(&mut self, name: &str) {
        self.name(name);
        self.open('{');
    }

    fn number(&mut self, name: &str, value: impl Into<i128>) {
        self.name(name);
        let value: i128 = value.into();
        // Writing to a string cannot fail.
        let _ = write!(self.out, "{value}");
        self.comma = true;
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.name(name);
        self.out.push_str(if value { "true" } else { "false" });
        self.comma = true;
    }

    fn text(&mut self, name: &str, value: &str) {
        let mut end = value.len().min(TEXT_MAX);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        self.name(name);
        self.quote(value.get(..end).unwrap_or_default());
        self.comma = true;
        if end < value.len() {
            self.flag(&format!("{name}_truncated"), true);
        }
    }

    fn maybe(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn quote(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => {
                    self.out.push('\\');
                    self.out.push(c);
                }
                _ if is_unsafe(c) => {
                    let _ = write!(self.out, "\\u{:04x}", u32::from(c));
                }
                _ => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn endpoint(&mut self, name: &str, address: Option<SocketAddr>) {
        let Some(address) = address else { return };
        self.object(name);
        self.text("ip", &java_text(address.ip()));
        self.number("port", address.port());
        self.close('}');
    }

    fn tls(&mut self, tls: &TlsInfo) {
        self.object("tls");
        self.text("version", &tls.version);
        self.text("cipher", &tls.cipher);
        self.maybe("sni", tls.sni.as_deref());
        if let Some(certificate) = &tls.certificate {
            self.certificate(certificate);
            self.flag("verified", tls.verified);
        }
        self.close('}');
    }

    fn certificate(&mut self, certificate: &CertificateInfo) {
        self.object("certificate");
        self.text("subject", &certificate.subject);
        self.text("issuer", &certificate.issuer);
        self.text("serial", &certificate.serial);
        self.text("sha256", &certificate.sha256);
        self.text("not_after", &certificate.not_after);
        self.close('}');
    }

    fn auth(&mut self, auth: &AuthInfo) {
        self.object("auth");
        self.text("mechanism", &auth.mechanism);
        if let Some(principal) = &auth.principal {
            self.text("principal", &principal.to_string());
        }
        self.close('}');
    }

    fn request(&mut self, request: &RequestInfo) {
        self.object("req");
        self.text("api", request.api);
        self.number("key", request.key);
        self.number("version", request.version);
        self.number("correlation", request.correlation);
        self.maybe("client_id", request.client_id.as_deref());
        self.maybe("software", request.software.as_deref());
        self.close('}');
    }

    fn row(&mut self, row: &AuthzRow) {
        let allowed = row.decision.is_allowed();
        self.open('{');
        self.text("op", row.operation.name());
        self.text("type", row.resource_type.name());
        if let Some(acl) = row.decision.acl() {
            self.text("pattern", acl.pattern_type.name());
        }
        self.text("name", &row.name);
        self.text("decision", if allowed { "ALLOW" } else { "DENY" });
        self.text("rule", row.decision.rule());
        if let Some(acl) = row.decision.acl() {
            self.text("acl", &acl.to_string());
        }
        self.number("refs", row.refs);
        self.maybe("needs", row.needs.as_deref());
        self.close('}');
    }

    fn change(&mut self, change: &Change) {
        self.object("change");
        self.text("target", &change.target);
        self.maybe("before", change.before.as_deref());
        self.maybe("after", change.after.as_deref());
        if let Some(secret) = &change.secret {
            self.object("secret");
            let hex: String = secret.0.iter().map(|byte| format!("{byte:02x}")).collect();
            self.text("sha256_8", &hex);
            self.close('}');
        }
        if let Some((index, term)) = change.committed {
            self.number("index", index);
            self.number("term", term);
        }
        self.close('}');
    }

    fn aggregate(&mut self, agg: &Aggregate) {
        self.object("agg");
        self.number("count", agg.count);
        self.text("first", &agg.first.to_string());
        self.text("last", &agg.last.to_string());
        if agg.collapsed {
            self.text("collapsed", "principal,src,resource");
        }
        self.close('}');
    }

    fn gap(&mut self, gap: &Gap) {
        self.object("agg");
        self.text("class", gap.class.name());
        self.number("count", gap.count);
        self.text("first", &gap.first.to_string());
        self.text("last", &gap.last.to_string());
        self.close('}');
    }
}

/// Control characters, line separators, and marks that change the reading direction.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::acl::{Operation, ResourceType};
    use crate::audit::{Action, AuditContext, ConnectionInfo, Outcome};
    use crate::decision::Decision;
    use crate::principal::Principal;

    fn place() -> Place<'static> {
        Place {
            stream: "5L6g/3/17",
            seq: 90112,
            at: UnixMicros::new(1_787_307_330_123_456),
            prev: "ab",
        }
    }

    fn context(client_id: &str, principal: &str) -> AuditContext {
        AuditContext {
            connection: Some(Arc::new(ConnectionInfo {
                listener: "CLIENT".into(),
                conn: "17-4711".into(),
                src: Some("[::ffff:10.1.2.3]:51544".parse().unwrap()),
                dst: Some("10.1.0.9:9093".parse().unwrap()),
                tls: Some(TlsInfo {
                    version: "TLSv1.3".into(),
                    cipher: "TLS_AES_256_GCM_SHA384".into(),
                    sni: Some("kafka-3".into()),
                    ..TlsInfo::default()
                }),
                auth: Some(AuthInfo {
                    mechanism: "SCRAM-SHA-512".into(),
                    principal: Some(Principal::user(principal)),
                }),
            })),
            request: Some(RequestInfo {
                api: "Produce",
                key: 0,
                version: 11,
                correlation: 7,
                client_id: Some(client_id.into()),
                software: Some("apache-kafka-java/3.9.0".into()),
            }),
            ..AuditContext::default()
        }
    }

    #[test]
    fn writes_the_example_of_the_specification() {
        let row = AuthzRow {
            operation: Operation::Write,
            resource_type: ResourceType::Topic,
            name: "test_secure_topic".into(),
            decision: Decision::DefaultDeny,
            refs: 1,
            needs: Some(
                "ALLOW User:insecure_user WRITE TOPIC LITERAL test_secure_topic host 10.1.2.3"
                    .into(),
            ),
        };
        let event = AuditEvent::denied(context("rest-1", "insecure_user"), vec![row]);
        assert_eq!(
            write_line(&event, &place()),
            concat!(
                r#"{"v":1,"stream":"5L6g/3/17","seq":90112,"ts":"2026-08-21T10:15:30.123456Z","#,
                r#""class":"authz_denied","action":"denied","outcome":"denied","reason":"no_acl","#,
                r#""listener":"CLIENT","conn":"17-4711","src":{"ip":"10.1.2.3","port":51544},"#,
                r#""dst":{"ip":"10.1.0.9","port":9093},"tls":{"version":"TLSv1.3","#,
                r#""cipher":"TLS_AES_256_GCM_SHA384","sni":"kafka-3"},"#,
                r#""auth":{"mechanism":"SCRAM-SHA-512","principal":"User:insecure_user"},"#,
                r#""req":{"api":"Produce","key":0,"version":11,"correlation":7,"#,
                r#""client_id":"rest-1","software":"apache-kafka-java/3.9.0"},"#,
                r#""authz":[{"op":"WRITE","type":"TOPIC","name":"test_secure_topic","#,
                r#""decision":"DENY","rule":"default_deny","refs":1,"needs":"#,
                r#""ALLOW User:insecure_user WRITE TOPIC LITERAL test_secure_topic host 10.1.2.3"}],"#,
                r#""prev":"ab""#
            )
        );
    }

    #[test]
    fn long_texts_are_cut_and_marked() {
        let event = AuditEvent::new(
            Action::Malformed,
            Outcome::Failed,
            context(&"\u{e9}".repeat(2000), "bob"),
        );
        let line = write_line(&event, &place()) + "}";
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["req"]["client_id"].as_str().unwrap().len(), 1024);
        assert_eq!(value["req"]["client_id_truncated"], true);
        assert_eq!(value["auth"].get("principal_truncated"), None);
    }

    #[test]
    fn a_text_that_is_kept_looks_as_the_whole_would() {
        let line = |client_id: &str| {
            let event = AuditEvent::new(Action::Denied, Outcome::Denied, context(client_id, "bob"));
            write_line(&event, &place())
        };
        for text in ["x", "\u{e9}", "\u{1f600}"] {
            for count in 0..1100 {
                let whole = text.repeat(count);
                let kept = shown(&whole);
                assert!(kept.len() <= TEXT_MAX + 4);
                assert_eq!(line(kept), line(&whole));
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_stays_one_readable_line(client_id in any::<String>(), principal in any::<String>()) {
            let event = AuditEvent::new(Action::LoginOk, Outcome::Ok, context(&client_id, &principal));
            let line = write_line(&event, &place()) + "}";
            prop_assert!(!line.chars().any(is_unsafe));
            let value: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(value["req"]["client_id"].as_str().unwrap(), client_id);
        }
    }
}
