//! One authorization among 10,000 ACLs, with the snapshot that every request takes.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use palisade_auth::acl::{AclBinding, AclCache, Operation, PatternType, Permission, ResourceType};
use palisade_auth::audit::{AuditContext, AuditEvent, AuditSink};
use palisade_auth::grant::Write;
use palisade_auth::{Authorizer, AuthorizerConfig, Caller, Principal};

/// Literal ACLs on topics, a user each.
const LITERAL: usize = 8_000;
/// ACLs on prefixes of topics.
const PREFIXED: usize = 1_500;
/// ACLs that deny, on literal topics that are allowed too.
const DENIALS: usize = 500;

/// Takes audit events and keeps none.
struct Discard;

impl AuditSink for Discard {
    fn record(&self, event: AuditEvent) {
        black_box(event);
    }
}

fn authorize(c: &mut Criterion) {
    let mut group = c.benchmark_group("authorize among 10,000 ACLs");
    let acls = Arc::new(AclCache::build(&acls().into_iter().collect()));
    assert_eq!(acls.len(), LITERAL + PREFIXED + DENIALS);
    let authorizer = Authorizer::new(AuthorizerConfig::default());
    let audit: Arc<dyn AuditSink> = Arc::new(Discard);
    let cases = [
        ("allowed by a literal ACL", "user-70", "topic-2070", true),
        ("allowed by a prefix", "user-71", "team-71.orders.new", true),
        ("denied by an ACL", "user-42", "topic-42", false),
        ("denied by default", "user-1", "topic-2070", false),
    ];
    for (name, user, topic, allowed) in cases {
        let caller = Caller::new(Principal::user(user), IpAddr::V4(Ipv4Addr::LOCALHOST));
        group.bench_function(name, |b| {
            b.iter(|| {
                let access = authorizer.access(
                    Arc::clone(&acls),
                    caller.clone(),
                    Some(Arc::clone(&audit)),
                    AuditContext::default(),
                );
                let granted = access.topic::<Write>(black_box(topic));
                assert_eq!(granted.is_ok(), allowed);
                black_box(granted).is_ok()
            });
        });
    }
    group.finish();
}

fn acls() -> Vec<AclBinding> {
    let literal = (0..LITERAL).map(|at| {
        let topic = format!("topic-{}", at % 4_000);
        let user = (at + at / 4_000) % 100;
        acl(PatternType::Literal, topic, user, Permission::Allow)
    });
    let prefixed = (0..PREFIXED).map(|at| {
        let prefix = match at % 3 {
            0 => format!("team-{}.", at / 3),
            1 => format!("team-{}.orders", at / 3),
            _ => format!("team-{}.payments", at / 3),
        };
        acl(PatternType::Prefixed, prefix, at / 3, Permission::Allow)
    });
    let denials = (0..DENIALS).map(|at| {
        let topic = format!("topic-{at}");
        acl(PatternType::Literal, topic, at % 100, Permission::Deny)
    });
    literal.chain(prefixed).chain(denials).collect()
}

fn acl(
    pattern_type: PatternType,
    resource_name: String,
    user: usize,
    permission: Permission,
) -> AclBinding {
    AclBinding {
        resource_type: ResourceType::Topic,
        resource_name,
        pattern_type,
        principal: format!("User:user-{user}"),
        host: "*".to_owned(),
        operation: Operation::Write,
        permission,
    }
}

criterion_group!(benches, authorize);
criterion_main!(benches);
