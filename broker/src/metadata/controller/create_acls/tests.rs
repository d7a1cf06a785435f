//! CreateAcls and DeleteAcls.

use palisade_auth::{Authorizer, AuthorizerConfig};
use palisade_protocol::Str;
use palisade_protocol::messages::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};

use super::super::testing::{Bench, allow, user};
use super::*;

fn creation(name: &'static str, operation: i8) -> AclCreation {
    AclCreation {
        resource_type: 2,
        resource_name: Str::from(name),
        resource_pattern_type: 3,
        principal: Str::from("User:ann"),
        host: Str::from("*"),
        operation,
        permission_type: 3,
    }
}

fn create(bench: &mut Bench, creations: Vec<AclCreation>, who: &str) -> Vec<ErrorCode> {
    let response = bench.submit(&CreateAclsRequest { creations }, 3, user(who));
    response.results.iter().map(|row| row.error_code).collect()
}

fn filter(name: Option<&'static str>) -> DeleteAclsFilter {
    DeleteAclsFilter {
        resource_type_filter: 2,
        resource_name_filter: name.map(Str::from),
        pattern_type_filter: 3,
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
    }
}

#[test]
fn entries_stand_for_themselves() {
    let mut bench = Bench::new();
    let codes = create(
        &mut bench,
        vec![
            creation("a", 3),
            creation("", 3),
            creation("a", 99),
            AclCreation {
                resource_type: 1,
                ..creation("a", 3)
            },
            AclCreation {
                resource_pattern_type: 2,
                ..creation("a", 3)
            },
            AclCreation {
                permission_type: 0,
                ..creation("a", 3)
            },
            AclCreation {
                principal: Str::from("ann"),
                ..creation("a", 3)
            },
            AclCreation {
                resource_type: 4,
                ..creation("other-cluster", 3)
            },
            creation("a", 3),
            creation("b", 4),
        ],
        "root",
    );
    let bad = ErrorCode::INVALID_REQUEST;
    let good = ErrorCode::NONE;
    assert_eq!(codes, [good, bad, bad, bad, bad, bad, bad, bad, good, good]);
    assert_eq!(bench.image.acls.set().len(), 2);
    assert_eq!(bench.last_delta.acls_added.len(), 2);
    // The second time nothing changes, and it is a success all the same.
    let before = bench.image.offset;
    assert_eq!(create(&mut bench, vec![creation("a", 3)], "root"), [good]);
    assert_eq!(bench.image.offset, before, "no record");
}

#[test]
fn a_new_acl_binds_the_next_request() {
    let mut bench = Bench::new();
    assert_eq!(
        create(&mut bench, vec![creation("x", 3)], "ann"),
        [ErrorCode::CLUSTER_AUTHORIZATION_FAILED]
    );
    bench.apply(&[allow(
        "ann",
        Operation::Alter,
        ResourceType::Cluster,
        "kafka-cluster",
    )]);
    assert_eq!(
        create(&mut bench, vec![creation("x", 3)], "ann"),
        [ErrorCode::NONE]
    );
}

#[test]
fn filters_report_what_they_match_and_remove_it_once() {
    let mut bench = Bench::new();
    create(
        &mut bench,
        vec![creation("a", 3), creation("a", 4), creation("b", 3)],
        "root",
    );
    let filters = vec![
        filter(Some("a")),
        filter(None),
        filter(Some("none")),
        DeleteAclsFilter {
            operation: 0,
            ..filter(None)
        },
    ];
    let request = DeleteAclsRequest { filters };
    let denied = bench.submit(&request, 3, user("ann")).filter_results;
    assert!(
        denied
            .iter()
            .all(|row| row.error_code == ErrorCode::CLUSTER_AUTHORIZATION_FAILED)
    );
    let rows = bench.submit(&request, 3, user("root")).filter_results;
    let counts: Vec<(ErrorCode, usize)> = rows
        .iter()
        .map(|row| (row.error_code, row.matching_acls.len()))
        .collect();
    assert_eq!(
        counts,
        [
            (ErrorCode::NONE, 2),
            (ErrorCode::NONE, 3),
            (ErrorCode::NONE, 0),
            (ErrorCode::INVALID_REQUEST, 0),
        ]
    );
    assert_eq!(&*rows[0].matching_acls[0].principal, "User:ann");
    assert!(bench.image.acls.set().is_empty());
    assert_eq!(bench.last_delta.acls_removed.len(), 3);
}

/// 201 ACLs, and filters that name each of them again.
#[test]
fn an_answer_of_more_matches_than_a_request_may_remove_is_none() {
    let mut bench = Bench::new();
    let names = (0..201).map(|number| format!("t{number}"));
    let acls: Vec<_> = names
        .map(|name| allow("ann", Operation::Read, ResourceType::Topic, &name))
        .collect();
    bench.apply(&acls);
    let delete = |bench: &mut Bench, filters: usize| {
        let filters = vec![filter(None); filters];
        let rows = bench.submit(&DeleteAclsRequest { filters }, 3, user("root"));
        let rows = rows.filter_results.into_iter();
        rows.map(|row| (row.error_code, row.matching_acls.len()))
            .collect::<Vec<_>>()
    };
    let refused = (ErrorCode::POLICY_VIOLATION, 0);
    assert_eq!(delete(&mut bench, 150), vec![refused; 150]);
    assert_eq!(bench.image.acls.set().len(), 201);
    assert_eq!(delete(&mut bench, 149), vec![(ErrorCode::NONE, 201); 149]);
    assert!(bench.image.acls.set().is_empty());
}

/// 3,001 ACLs, of which ten thousand filters match none.
#[test]
fn filters_that_match_nothing_are_bounded_too() {
    let mut bench = Bench::new();
    let names = (0..3001).map(|number| format!("t{number}"));
    let acls: Vec<_> = names
        .map(|name| allow("ann", Operation::Read, ResourceType::Topic, &name))
        .collect();
    bench.apply(&acls);
    let delete = |bench: &mut Bench, filters: Vec<_>| {
        let rows = bench.submit(&DeleteAclsRequest { filters }, 3, user("root"));
        let rows = rows.filter_results.into_iter();
        rows.map(|row| (row.error_code, row.matching_acls.len()))
            .collect::<Vec<_>>()
    };
    let mut filters = vec![filter(Some("none")); 9_999];
    filters.push(filter(Some("t0")));
    let refused = (ErrorCode::POLICY_VIOLATION, 0);
    let rows = delete(&mut bench, filters);
    assert_eq!(rows.len(), 10_000);
    assert_eq!(rows.iter().find(|row| **row != refused), None);
    assert_eq!(bench.image.acls.set().len(), 3001);
    let one = vec![filter(Some("t0"))];
    assert_eq!(delete(&mut bench, one), [(ErrorCode::NONE, 1)]);
}

#[test]
fn without_an_authorizer_there_is_nothing_to_change() {
    let mut bench = Bench::new();
    bench.settings.authorizer = Authorizer::new(AuthorizerConfig {
        enabled: false,
        ..AuthorizerConfig::default()
    });
    let codes = create(&mut bench, vec![creation("a", 3)], "anyone");
    assert_eq!(codes, [ErrorCode::SECURITY_DISABLED]);
    let request = DeleteAclsRequest {
        filters: vec![filter(None)],
    };
    let rows = bench.submit(&request, 3, user("anyone")).filter_results;
    assert_eq!(rows[0].error_code, ErrorCode::SECURITY_DISABLED);
}
