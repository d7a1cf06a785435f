//! Development brokers started in this process, and their command line.

use clap::Parser;
use palisade_protocol::{
    ErrorCode, Str,
    messages::{
        alter_user_scram_credentials::{AlterUserScramCredentialsRequest, ScramCredentialDeletion},
        create_topics::{CreatableTopic, CreateTopicsRequest},
        describe_acls::DescribeAclsRequest,
    },
};

use super::{client_files::ClientFiles, ready::CHECK_TIME, *};
use crate::cli::{
    client::{Admin, ClientError, ClientSettings},
    rule::Rule,
};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    dev: DevArgs,
}

fn arguments(words: &[&str]) -> DevArgs {
    let words = ["dev", "--port", "0"].iter().chain(words);
    Line::try_parse_from(words).unwrap().dev
}

async fn client(files: &ClientFiles) -> Admin {
    let settings = ClientSettings::load(Some(&files.java_properties), None).unwrap();
    Admin::connect(settings, CHECK_TIME).await.unwrap()
}

/// Settings of another user on the same listener.
fn as_user(announcement: &Announcement, name: &str, password: &str) -> ClientSettings {
    let files = &announcement.files;
    let mut settings = ClientSettings::load(Some(&files.librdkafka_conf), None).unwrap();
    let credentials = settings.credentials.as_mut().unwrap();
    credentials.user = name.to_owned();
    credentials.password = Secret::from(password);
    settings
}

async fn topics(admin: &mut Admin) -> Vec<String> {
    let metadata = admin.metadata(None).await.unwrap();
    let names = metadata
        .topics
        .iter()
        .filter_map(|topic| topic.name.as_deref());
    names.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_declared_is_in_force_and_nothing_else() {
    let home = Home::open(None).unwrap();
    let dev = arguments(&[
        "--topic",
        "orders:3",
        "--topic",
        "private",
        "--user",
        "alice:pa:ss",
        "--acl",
        "allow User:alice describe topic:ord*",
    ]);
    let rules = dev.check().unwrap();
    let (running, announcement) = dev.start(&home, rules, &CallOff::default()).await.unwrap();

    let mut admin = client(&announcement.files).await;
    assert_eq!(topics(&mut admin).await, ["orders", "private"]);
    let metadata = admin.metadata(Some(&["orders".to_owned()])).await.unwrap();
    assert_eq!(metadata.topics[0].partitions.len(), 3);

    let settings = as_user(&announcement, "alice", "pa:ss");
    let mut alice = Admin::connect(settings, CHECK_TIME).await.unwrap();
    assert_eq!(topics(&mut alice).await, ["orders"]);
    let create = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Str::from("more"),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        }],
        ..CreateTopicsRequest::default()
    };
    let refused = alice.send(&create).await.unwrap();
    assert_eq!(
        refused.topics[0].error_code,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED
    );

    let settings = ClientSettings::load(Some(&announcement.files.java_mtls_properties), None);
    let mut by_certificate = Admin::connect(settings.unwrap(), CHECK_TIME).await.unwrap();
    assert!(topics(&mut by_certificate).await.is_empty());

    for (user, password) in [("alice", "wrong"), ("nobody", "pa:ss")] {
        let settings = as_user(&announcement, user, password);
        let outcome = Admin::connect(settings, CHECK_TIME).await.map(drop);
        assert!(matches!(outcome, Err(ClientError::Login(_))), "{outcome:?}");
    }
    running.shutdown().await.unwrap();
    home.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_start_finds_everything_again() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(Some(dir.path())).unwrap();
    let dev = arguments(&["--topic", "kept:2", "--user", "bob:x", "--user", "gone:x"]);
    let rules = dev.check().unwrap();
    let (running, first) = dev.start(&home, rules, &CallOff::default()).await.unwrap();
    let mut admin = client(&first.files).await;
    for mechanism in [1, 2] {
        let request = AlterUserScramCredentialsRequest {
            deletions: vec![ScramCredentialDeletion {
                name: Str::from("gone"),
                mechanism,
            }],
            upsertions: Vec::new(),
        };
        let answer = admin.send(&request).await.unwrap();
        assert_eq!(answer.results[0].error_code, ErrorCode::NONE);
    }
    drop(admin);
    running.shutdown().await.unwrap();

    let dev = arguments(&[
        "--topic",
        "kept:2",
        "--acl",
        "allow User:bob all topic:kept",
    ]);
    let rules = dev.check().unwrap();
    let (running, second) = dev.start(&home, rules, &CallOff::default()).await.unwrap();
    assert_eq!(second.cluster_id, first.cluster_id);
    assert_eq!(second.admin, first.admin);
    assert_eq!(second.files, first.files);
    let settings = as_user(&second, "bob", "x");
    let mut bob = Admin::connect(settings, CHECK_TIME).await.unwrap();
    assert_eq!(topics(&mut bob).await, ["kept"]);
    let outcome = Admin::connect(as_user(&second, "gone", "x"), CHECK_TIME).await;
    assert!(matches!(outcome.map(drop), Err(ClientError::Login(_))));
    let mut admin = client(&second.files).await;
    let every = DescribeAclsRequest {
        resource_type_filter: 1,
        resource_name_filter: None,
        pattern_type_filter: 1,
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
    };
    assert_eq!(admin.send(&every).await.unwrap().resources.len(), 1);
    running.shutdown().await.unwrap();

    let error = match arguments(&["--topic", "kept:3"])
        .start(&home, Vec::new(), &CallOff::default())
        .await
    {
        Ok(_) => panic!("started"),
        Err(error) => error.to_string(),
    };
    assert_eq!(
        error,
        "topic kept is there already and has another number of partitions (2, not 3): start without it; \
         `palisade topic alter` adds partitions"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_listener_gives_no_rights() {
    let home = Home::open(None).unwrap();
    let dev = arguments(&["--plaintext", "--topic", "orders"]);
    let rules = dev.check().unwrap();
    let (running, announcement) = dev.start(&home, rules, &CallOff::default()).await.unwrap();
    let address = &announcement.listeners["PLAINTEXT"].address;
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let settings = ClientSettings::load(None, Some(address)).unwrap();
    let mut anybody = Admin::connect(settings, CHECK_TIME).await.unwrap();
    assert!(topics(&mut anybody).await.is_empty());
    running.shutdown().await.unwrap();
}

#[test]
fn arguments_are_taken_apart() {
    for (text, expected) in [
        ("orders:3", Some(("orders", 3))),
        ("orders", Some(("orders", 1))),
        ("orders:0", None),
        ("orders:x", None),
        (":3", None),
        ("", None),
    ] {
        let parsed = topic(text).ok();
        let parsed = parsed
            .as_ref()
            .map(|topic| (topic.name.as_str(), topic.partitions));
        assert_eq!(parsed, expected, "{text}");
    }
    let parsed = user("alice:pa:ss").unwrap();
    assert_eq!(
        (parsed.name.as_str(), parsed.password),
        ("alice", Secret::from("pa:ss"))
    );
    assert!(user("alice").is_err() && user(":x").is_err() && user("alice:").is_err());
    let dev = arguments(&["--acl", "deny User:* all topic:*"]);
    let rule = Rule::parse("deny User:* all topic:*").unwrap();
    assert_eq!(dev.check().unwrap(), [rule]);
    assert_eq!(dev.bind, "127.0.0.1");
}

#[test]
fn the_certificate_covers_what_is_bound() {
    let base = ["localhost", "127.0.0.1", "::1"];
    assert_eq!(names("127.0.0.1", "localhost"), base);
    assert_eq!(names("0.0.0.0", "box"), [&base[..], &["box"]].concat());
    assert_eq!(
        names("10.0.0.7", "box"),
        [&base[..], &["10.0.0.7", "box"]].concat()
    );
}

#[test]
fn the_audit_log_is_off_only_where_that_is_said() {
    let audited = |overrides: &[&str]| {
        let overrides: Vec<_> = overrides.iter().copied().map(str::to_owned).collect();
        is_audited(&overrides)
    };
    let (off, on) = (
        " palisade.danger.disable.audit = True ",
        "palisade.danger.disable.audit=false",
    );
    assert!(audited(&[]) && audited(&[on]) && audited(&[off, on]));
    assert!(audited(&["palisade.audit.dir=/var/disable.audit"]));
    assert!(!audited(&[off]) && !audited(&[on, off]));
}
