//! What the commands say of certificates that one side does not accept: whose, why, and what to do.

use palisade_tests::access::{Access, Login};
use palisade_tests::certs::{Authority, Identity, Validity};
use palisade_tests::node::Node;
use palisade_tests::paths;

use crate::cli_data::Cli;

/// Words that only someone who knows OpenSSL's source understands.
const RAW: [&str; 4] = ["error:", "SSL routines", ".c:", "alert number"];

fn refused(access: &Access, words: &[&str]) {
    let cli = Cli::new(access);
    for arguments in [&["topic", "list"][..], &["group", "list"]] {
        let (code, out, err) = cli.run(&[arguments, &["--timeout", "5"]].concat());
        assert_eq!(code, 3, "{words:?}: {out}\n{err}");
        for word in words {
            assert!(err.contains(word), "no {word:?} in {err}");
        }
        for raw in RAW {
            assert!(!err.contains(raw), "{raw:?} in {err}");
        }
    }
}

#[test]
fn the_brokers_certificate() {
    for (validity, words) in [
        (Validity::Expired, ["has expired", "renew it at the broker"]),
        (Validity::NotYet, ["is not valid yet", "look at the clocks"]),
        (
            Validity::Elsewhere,
            ["is not for 127.0.0.1", "as its certificate does"],
        ),
    ] {
        let mut node = Node::prepare();
        let server = node.authority().issue_as(node.dir(), "odd", validity);
        node.set("ssl.keystore.location", server.store.display().to_string());
        node.allow("certificate").allow("handshake");
        node.run();
        refused(&node.certificate(), &words);
    }
}

#[test]
fn an_authority_that_is_not_trusted() {
    let mut node = Node::prepare();
    node.run();
    let dir = paths::scratch();
    let trust = dir.path().join("other.pem");
    Authority::new("another CA").write_trust(&trust);
    let access = Access {
        trust,
        ..node.certificate()
    };
    refused(
        &access,
        &["no authority that is trusted here", "ssl.ca.location"],
    );
}

#[test]
fn the_clients_certificate() {
    let mut node = Node::prepare();
    node.run();
    let dir = paths::scratch();
    let own = |validity| node.authority().issue_as(dir.path(), "odd", validity);
    let with = |identity: &Identity| Access {
        login: Login::Certificate(identity.clone()),
        ..node.certificate()
    };
    let expired = own(Validity::Expired);
    let file = expired.store.display().to_string();
    refused(&with(&expired), &["has expired; renew it", &file]);
    refused(
        &with(&own(Validity::NotYet)),
        &["look at the time it is valid"],
    );
    refused(
        &with(&own(Validity::ServerOnly)),
        &["not be meant for clients"],
    );
    for (authority, words) in [
        ("another CA", "does not trust the authority that signed"),
        ("test CA", "does not accept this client's certificate"),
    ] {
        let stranger = Authority::new(authority).issue(dir.path(), "stranger");
        refused(&with(&stranger), &[words]);
    }
}
