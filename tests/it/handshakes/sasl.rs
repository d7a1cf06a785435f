//! The keys of SASL.

use std::io;

use palisade_tests::kafka::{ADMIN, ADMIN_PASSWORD};
use palisade_tests::node::Node;
use palisade_tests::wire::Connection;

const MECHANISMS: [&str; 2] = ["SCRAM-SHA-256", "SCRAM-SHA-512"];

#[test]
fn enabled_mechanisms() {
    for enabled in MECHANISMS {
        let mut node = Node::prepare();
        node.set("sasl.enabled.mechanisms", enabled);
        node.set("sasl.mechanism.inter.broker.protocol", enabled);
        node.run();
        node.create_admin();
        for mechanism in MECHANISMS {
            let login = Connection::open(&node.scram(mechanism));
            if mechanism == enabled {
                login.expect("an enabled mechanism");
            } else {
                let error = login.expect_err("a mechanism that is not enabled");
                // UNSUPPORTED_SASL_MECHANISM
                assert_eq!(error.to_string(), "handshake error 33");
            }
        }
    }
}

#[test]
fn jaas_config() {
    let mut node = Node::prepare();
    node.set("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-512");
    node.set(
        "listener.name.sasl_ssl.plain.sasl.jaas.config",
        "org.apache.kafka.common.security.plain.PlainLoginModule required user_carol=\"plain-secret\";",
    );
    node.run();
    let login = |user: &str, password: &str| {
        let mut connection = Connection::tls(&node.scram("SCRAM-SHA-512"))?;
        connection.login_plain(user, password)
    };
    login("carol", "plain-secret").expect("the configured user");
    for (user, password) in [("carol", "other"), ("dave", "plain-secret"), ("carol", "")] {
        let error = login(user, password).expect_err("not the configured user");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    }
}

/// A token above the limit ends the connection; one below it is judged on its merits.
#[test]
fn max_receive_size() {
    let token = vec![b'x'; 4000];
    let answer = |limit: &str| {
        let mut node = Node::prepare();
        node.set("sasl.server.max.receive.size", limit);
        node.run();
        let mut connection = Connection::tls(&node.scram("SCRAM-SHA-512")).expect("TLS");
        connection.handshake("SCRAM-SHA-512").expect("a handshake");
        connection
            .authenticate(&token)
            .expect_err("no login")
            .kind()
    };
    assert_eq!(answer("524288"), io::ErrorKind::PermissionDenied);
    assert_ne!(answer("2000"), io::ErrorKind::PermissionDenied);
}

/// A mechanism between nodes that no listener offers is an error at the start.
#[test]
fn mechanism_between_nodes() {
    let mut node = Node::prepare();
    node.set("inter.broker.listener.name", "SASL_SSL");
    node.set("sasl.enabled.mechanisms", "SCRAM-SHA-512");
    node.set("sasl.mechanism.inter.broker.protocol", "SCRAM-SHA-256");
    let said = node.refuses_to_start();
    assert!(
        said.contains("sasl.mechanism.inter.broker.protocol"),
        "{said}"
    );

    node.set("sasl.mechanism.inter.broker.protocol", "SCRAM-SHA-512");
    node.run();
    node.create_admin();
    let access = node
        .scram("SCRAM-SHA-512")
        .as_user("SCRAM-SHA-512", ADMIN, ADMIN_PASSWORD);
    Connection::open(&access).expect("a login");
}
