//! AlterUserScramCredentials.

use bytes::Bytes;
use palisade_auth::acl::{Operation, ResourceType};
use palisade_auth::scram::ScramMechanism;
use palisade_protocol::messages::alter_user_scram_credentials::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};

use super::super::testing::{Bench, allow, user};
use super::*;
use crate::metadata::delta::ScramChange as DeltaChange;

fn upsertion(name: &'static str) -> ScramCredentialUpsertion {
    ScramCredentialUpsertion {
        name: Str::from(name),
        mechanism: 1,
        iterations: 4096,
        salt: Bytes::from_static(b"0123456789"),
        salted_password: Bytes::from_static(&[7; 32]),
    }
}

fn deletion(name: &'static str) -> ScramCredentialDeletion {
    ScramCredentialDeletion {
        name: Str::from(name),
        mechanism: 1,
    }
}

fn submit(
    bench: &mut Bench,
    deletions: Vec<ScramCredentialDeletion>,
    upsertions: Vec<ScramCredentialUpsertion>,
    who: &str,
) -> Vec<(String, ErrorCode)> {
    let request = AlterUserScramCredentialsRequest {
        deletions,
        upsertions,
    };
    let results = bench.submit(&request, 0, user(who)).results;
    results
        .iter()
        .map(|row| (row.user.to_string(), row.error_code))
        .collect()
}

#[test]
fn a_credential_comes_and_goes() {
    let mut bench = Bench::new();
    let rows = submit(&mut bench, vec![], vec![upsertion("ann")], "root");
    assert_eq!(rows, [("ann".to_owned(), ErrorCode::NONE)]);
    let credential = bench
        .image
        .scram
        .get("ann", ScramMechanism::Sha256)
        .unwrap();
    assert_eq!(credential.iterations, 4096);
    assert!(
        bench
            .image
            .scram
            .get("ann", ScramMechanism::Sha512)
            .is_none()
    );
    assert!(
        bench
            .last_delta
            .scram
            .contains(&("ann".to_owned(), DeltaChange::Set(1)))
    );
    let rows = submit(
        &mut bench,
        vec![deletion("ann"), deletion("bob")],
        vec![],
        "root",
    );
    assert_eq!(
        rows,
        [
            ("ann".to_owned(), ErrorCode::NONE),
            ("bob".to_owned(), ErrorCode::RESOURCE_NOT_FOUND),
        ]
    );
    assert!(bench.image.scram.is_empty());
    assert!(
        bench
            .last_delta
            .scram
            .contains(&("ann".to_owned(), DeltaChange::Removed(1)))
    );
}

#[test]
fn one_row_for_each_user() {
    let mut bench = Bench::new();
    let rows = submit(
        &mut bench,
        vec![deletion("absent")],
        vec![
            upsertion("twice"),
            upsertion("absent"),
            ScramCredentialUpsertion {
                mechanism: 2,
                ..upsertion("twice")
            },
            ScramCredentialUpsertion {
                iterations: 4095,
                ..upsertion("few")
            },
            ScramCredentialUpsertion {
                iterations: 16_385,
                ..upsertion("many")
            },
            ScramCredentialUpsertion {
                mechanism: 3,
                ..upsertion("mechanism")
            },
            upsertion(""),
            ScramCredentialUpsertion {
                salted_password: Bytes::new(),
                ..upsertion("short")
            },
            upsertion("good"),
        ],
        "root",
    );
    let found: Vec<(&str, ErrorCode)> = rows.iter().map(|(user, code)| (&**user, *code)).collect();
    assert_eq!(
        found,
        [
            ("", ErrorCode::UNACCEPTABLE_CREDENTIAL),
            ("absent", ErrorCode::RESOURCE_NOT_FOUND),
            ("few", ErrorCode::UNACCEPTABLE_CREDENTIAL),
            ("good", ErrorCode::NONE),
            ("many", ErrorCode::UNACCEPTABLE_CREDENTIAL),
            ("mechanism", ErrorCode::UNSUPPORTED_SASL_MECHANISM),
            ("short", ErrorCode::UNACCEPTABLE_CREDENTIAL),
            ("twice", ErrorCode::DUPLICATE_RESOURCE),
        ]
    );
    assert_eq!(bench.image.scram.len(), 1);
}

#[test]
fn rights() {
    let mut bench = Bench::new();
    let rows = submit(
        &mut bench,
        vec![deletion("b")],
        vec![upsertion("b"), upsertion("a")],
        "ann",
    );
    let denied = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
    assert_eq!(rows, [("a".to_owned(), denied), ("b".to_owned(), denied)]);
    bench.apply(&[allow(
        "ann",
        Operation::Alter,
        ResourceType::Cluster,
        "kafka-cluster",
    )]);
    assert_eq!(
        submit(&mut bench, vec![], vec![upsertion("b")], "ann")[0].1,
        ErrorCode::NONE
    );
}

#[test]
fn no_secret_prints() {
    let mut bench = Bench::new();
    submit(&mut bench, vec![], vec![upsertion("ann")], "root");
    let credential = bench
        .image
        .scram
        .get("ann", ScramMechanism::Sha256)
        .unwrap();
    let key = format!("{:?}", credential.stored_key.expose());
    assert!(!format!("{:?}", bench.image).contains(&key));
}
