//! A session ends with the credential it stands on, whichever mechanism proved it (security.md §3.6, R09).

use std::io;

use palisade_protocol::api::ApiKey;
use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, ScramCredentialDeletion,
};
use palisade_protocol::messages::api_versions::ApiVersionsRequest;
use palisade_protocol::text::Str;
use palisade_tests::audit;
use palisade_tests::node::Node;
use palisade_tests::requests::{self, newest};
use palisade_tests::wire::Connection;

const PASSWORD: &str = "first-secret";

fn delete(admin: &mut Connection, user: &str) {
    let request = AlterUserScramCredentialsRequest {
        deletions: vec![ScramCredentialDeletion {
            name: Str::copy(user),
            mechanism: 2,
        }],
        ..AlterUserScramCredentialsRequest::default()
    };
    let answer = admin.call(newest(ApiKey::AlterUserScramCredentials), &request);
    let code = answer.expect("an answer").results[0].error_code;
    assert_eq!(code, ErrorCode::NONE);
}

fn login(node: &Node, mechanism: &str, user: &str) -> io::Result<Connection> {
    let mut connection = Connection::tls(&node.scram("SCRAM-SHA-512"))?;
    match mechanism {
        "PLAIN" => connection.login_plain(user, PASSWORD)?,
        scram => connection.scram(scram, user, PASSWORD)?,
    }
    connection.call(0, &ApiVersionsRequest::default())?;
    Ok(connection)
}

#[test]
fn a_credential_takes_its_sessions_along() {
    let mut node = Node::prepare();
    node.set(
        "sasl.enabled.mechanisms",
        "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
    );
    node.set(
        "listener.name.sasl_ssl.plain.sasl.jaas.config",
        "org.apache.kafka.common.security.plain.PlainLoginModule required user_fixed=\"first-secret\";",
    );
    node.run();
    let mut admin = Connection::open(&node.certificate()).expect("the administrator");
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        for replaced in [false, true] {
            for user in ["gone", "stays"] {
                requests::set_user(&mut admin, user, "SCRAM-SHA-512", PASSWORD).expect("a user");
            }
            let mut gone = login(&node, mechanism, "gone").expect("a login");
            let mut stays = login(&node, mechanism, "stays").expect("a login");
            let mut fixed = login(&node, "PLAIN", "fixed").expect("a user of the configuration");
            if replaced {
                requests::set_user(&mut admin, "gone", "SCRAM-SHA-512", "second-secret")
                    .expect("another password");
            } else {
                delete(&mut admin, "gone");
            }
            assert!(
                gone.is_closed_by_peer(),
                "{mechanism}, replaced: {replaced}"
            );
            for other in [&mut stays, &mut fixed] {
                other
                    .call(0, &ApiVersionsRequest::default())
                    .expect("other users are not touched");
            }
            // Another mechanism's credential of the same user changes nothing for this one.
            requests::set_user(&mut admin, "stays", "SCRAM-SHA-256", "third-secret")
                .expect("another mechanism");
            stays
                .call(0, &ApiVersionsRequest::default())
                .expect("the own credential is the same");
            let refused = login(&node, mechanism, "gone").map(drop);
            let error = refused.expect_err("the old password is over");
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
        }
    }
    drop(admin);
    node.terminate();
    let lines = audit::verified(&node.dir().join("data/audit/audit.log"));
    let revoked: Vec<_> = lines
        .iter()
        .filter(|line| line["action"] == "session_revoked")
        .map(|line| line["auth"]["principal"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(revoked, ["User:gone"; 4]);
}

/// Whoever deletes the own user is told so, and is gone then.
#[test]
fn the_last_answer_still_arrives() {
    let node = Node::start();
    let mut admin = Connection::open(&node.scram("SCRAM-SHA-512")).expect("a login");
    delete(&mut admin, palisade_tests::kafka::ADMIN);
    assert!(admin.is_closed_by_peer());
}
