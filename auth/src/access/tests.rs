use super::*;
use crate::acl::{AclSet, PatternType, Permission};
use crate::audit::{Action, Outcome};
use crate::authorizer::{AuthorizerConfig, SuperUsers};
use crate::grant::{DescribeConfigs, Read, Write};
use crate::principal::Principal;
use Operation as Op;
use ResourceType as R;

#[derive(Default)]
struct Sink(Mutex<Vec<AuditEvent>>);

impl AuditSink for Sink {
    fn record(&self, event: AuditEvent) {
        self.0.lock().push(event);
    }
}

fn allow(resource_type: R, name: &str, operation: Op) -> AclBinding {
    AclBinding {
        resource_type,
        resource_name: name.into(),
        pattern_type: PatternType::Literal,
        principal: "User:bob".into(),
        host: "*".into(),
        operation,
        permission: Permission::Allow,
    }
}

fn deny(resource_type: R, name: &str, operation: Op) -> AclBinding {
    AclBinding {
        permission: Permission::Deny,
        ..allow(resource_type, name, operation)
    }
}

fn access_with(acls: Vec<AclBinding>, sink: &Arc<Sink>, log_allowed: bool) -> Access {
    let set: AclSet = acls.into_iter().collect();
    let authorizer = Authorizer::new(AuthorizerConfig {
        super_users: SuperUsers::parse("User:root").unwrap(),
        ..AuthorizerConfig::default()
    });
    authorizer.access(
        Arc::new(AclCache::build(&set)),
        Caller::new(Principal::user("bob"), "10.1.2.3".parse().unwrap()),
        Some(Arc::clone(sink) as Arc<dyn AuditSink>),
        AuditContext {
            log_allowed,
            ..AuditContext::default()
        },
    )
}

fn access(acls: Vec<AclBinding>) -> Access {
    access_with(acls, &Arc::default(), false)
}

/// Handlers keep these across waits, on any worker.
#[test]
fn moves_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Access>();
    check::<Granted<Topic, Write>>();
    check::<crate::audit::AuditQueue>();
    check::<crate::tls::ServerTls>();
    fn moves<T: Send>() {}
    moves::<crate::sasl::Exchange>();
    moves::<crate::audit::AuditWriter>();
}

#[test]
fn a_grant_names_its_resource_and_its_rule() {
    let access = access(vec![allow(R::Topic, "orders", Op::Write)]);
    let grant = access.topic::<Write>("orders").unwrap();
    assert_eq!(grant.name(), "orders");
    assert_eq!(grant.decision().acl().unwrap().operation, Op::Write);
    assert_eq!(format!("{grant:?}"), "Granted(WRITE TOPIC \"orders\")");
    let denied = access.topic::<Read>("orders").unwrap_err();
    assert_eq!(
        (denied.operation, denied.resource_type, denied.not_ready),
        (Op::Read, R::Topic, false)
    );
}

#[test]
fn either_of_two_rights() {
    let cluster = |op| allow(R::Cluster, CLUSTER_NAME, op);
    let topic = |op| allow(R::Topic, "t", op);

    assert!(access(vec![cluster(Op::Create)]).create_topic("t").is_ok());
    assert!(access(vec![topic(Op::Create)]).create_topic("t").is_ok());
    let denied = access(vec![topic(Op::Alter)])
        .create_topic("t")
        .unwrap_err();
    assert_eq!(
        (denied.operation, denied.resource_type),
        (Op::Create, R::Topic)
    );

    assert!(access(vec![cluster(Op::Delete)]).delete_topic("t").is_ok());
    assert!(access(vec![topic(Op::Delete)]).delete_topic("t").is_ok());
    let denied = access(vec![]).delete_topic("t").unwrap_err();
    assert_eq!(denied.operation, Op::Describe);
    let denied = access(vec![topic(Op::Describe)])
        .delete_topic("t")
        .unwrap_err();
    assert_eq!(denied.operation, Op::Delete);
    let hidden = vec![topic(Op::Delete), deny(R::Topic, "t", Op::Describe)];
    let denied = access(hidden).delete_topic("t").unwrap_err();
    assert_eq!(denied.operation, Op::Describe);

    let idempotent = |acls| access(acls).idempotent_write();
    assert!(idempotent(vec![cluster(Op::IdempotentWrite)]).is_ok());
    assert!(idempotent(vec![topic(Op::Write)]).is_ok());
    // A DENY on one way leaves the other.
    let denied_c = deny(R::Cluster, CLUSTER_NAME, Op::IdempotentWrite);
    assert!(idempotent(vec![denied_c, topic(Op::Write)]).is_ok());
    let denied_t = deny(R::Topic, "*", Op::Write);
    assert!(idempotent(vec![denied_t.clone(), cluster(Op::IdempotentWrite)]).is_ok());
    assert!(idempotent(vec![denied_t, topic(Op::Write)]).is_err());
    assert!(idempotent(vec![topic(Op::Read)]).is_err());

    assert!(
        access(vec![cluster(Op::ClusterAction)])
            .epoch_or_describe("t")
            .is_ok()
    );
    assert!(access(vec![topic(Op::Read)]).epoch_or_describe("t").is_ok());
    assert!(access(vec![]).epoch_or_describe("t").is_err());

    assert!(access(vec![cluster(Op::Alter)]).write_txn_markers().is_ok());
    assert!(
        access(vec![cluster(Op::ClusterAction)])
            .write_txn_markers()
            .is_ok()
    );
    assert!(access(vec![]).write_txn_markers().is_err());

    let lists = |acls| access(acls).listed_group("g").is_some();
    assert!(lists(vec![cluster(Op::Describe)]));
    assert!(lists(vec![allow(R::Group, "g", Op::Read)]));
    assert!(lists(vec![
        deny(R::Cluster, CLUSTER_NAME, Op::Describe),
        allow(R::Group, "g", Op::Describe)
    ]));
    assert!(!lists(vec![]));

    let follower = access(vec![cluster(Op::ClusterAction)]);
    let grant = follower.cluster::<ClusterAction>().unwrap();
    assert_eq!(grant.read_topic("any").name(), "any");
}

#[test]
fn bit_fields_have_the_values_seen() {
    let all = |resource_type, name| vec![allow(resource_type, name, Op::All)];
    let cases = [
        (R::Topic, "t", 3576),
        (R::Group, "g", 3400),
        (R::Cluster, CLUSTER_NAME, 8096),
        (R::TransactionalId, "x", 33040),
        (R::DelegationToken, "d", 256),
        (R::User, "User:u", 24576),
    ];
    for (resource_type, name, bits) in cases {
        let granted = access(all(resource_type, name));
        assert_eq!(granted.authorized_operations(resource_type, name), bits);
        assert_eq!(access(vec![]).authorized_operations(resource_type, name), 0);
    }
    let reader = access(vec![allow(R::Topic, "t", Op::Read)]);
    assert_eq!(reader.authorized_operations(R::Topic, "t"), 264);
    assert_eq!(OPERATIONS_NOT_REQUESTED, -2_147_483_648);
}

#[test]
fn the_cluster_field_needs_describe() {
    let sink = Arc::new(Sink::default());
    let acls = vec![allow(R::Cluster, CLUSTER_NAME, Op::Create)];
    let access = access_with(acls, &sink, false);
    assert_eq!(access.cluster_operations(), 0);
    drop(access);
    let events = sink.0.lock();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].authz[0].operation, Op::Describe);
    drop(events);
    let acls = vec![allow(R::Cluster, CLUSTER_NAME, Op::Describe)];
    assert_eq!(
        access_with(acls, &sink, false).cluster_operations(),
        1 << Op::Describe.code()
    );
}

#[test]
fn denials_are_recorded_once_and_probes_never() {
    let sink = Arc::new(Sink::default());
    let access = access_with(vec![allow(R::Topic, "a", Op::Write)], &sink, false);
    let _ = access.topic::<Write>("a");
    let _ = access.topic::<Write>("b");
    let _ = access.topic::<Write>("b");
    let _ = access.probe_topic::<DescribeConfigs>("c");
    let _ = access.create_topic("d");
    let _ = access.authorized_operations(R::Topic, "e");
    drop(access);
    let events = sink.0.lock();
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!(
        (event.action, event.outcome),
        (Action::Denied, Outcome::Denied)
    );
    assert_eq!(event.reason, Some("no_acl"));
    let rows: Vec<_> = event
        .authz
        .iter()
        .map(|row| (row.operation, row.name.as_str(), row.refs))
        .collect();
    assert_eq!(rows, [(Op::Write, "b", 2), (Op::Create, "d", 1)]);
    assert_eq!(
        event.authz[0].needs.as_deref(),
        Some("ALLOW User:bob WRITE TOPIC LITERAL b host 10.1.2.3")
    );
}

#[test]
fn idempotent_write_is_denied_in_one_line() {
    let sink = Arc::new(Sink::default());
    let _ = access_with(vec![], &sink, false).idempotent_write();
    let events = sink.0.lock();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].authz.len(), 1);
    assert_eq!(events[0].authz[0].operation, Op::IdempotentWrite);
}

#[test]
fn permitted_questions_are_recorded_where_asked() {
    let sink = Arc::new(Sink::default());
    let access = access_with(vec![allow(R::Topic, "a", Op::Alter)], &sink, true);
    let _ = access.topic::<Alter>("a");
    let _ = access.topic::<Alter>("b");
    access.flush();
    access.flush();
    let actions: Vec<_> = sink.0.lock().iter().map(|event| event.action).collect();
    assert_eq!(actions, [Action::Denied, Action::Allowed]);
}

#[test]
fn many_rows_become_several_lines() {
    let sink = Arc::new(Sink::default());
    let access = access_with(vec![], &sink, false);
    for i in 0..150 {
        let _ = access.topic::<Read>(&format!("t{i}"));
    }
    drop(access);
    let sizes: Vec<_> = sink
        .0
        .lock()
        .iter()
        .map(|event| event.authz.len())
        .collect();
    assert_eq!(sizes, [64, 64, 22]);
}

#[test]
fn not_loaded_is_no_denial_but_no_grant_either() {
    let access = Authorizer::new(AuthorizerConfig::default()).access(
        Arc::new(AclCache::not_loaded()),
        Caller::new(Principal::user("bob"), "::1".parse().unwrap()),
        None,
        AuditContext::default(),
    );
    assert!(access.topic::<Read>("t").unwrap_err().not_ready);
}
