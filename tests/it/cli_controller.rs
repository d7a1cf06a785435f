//! A cluster that is choosing its controller is asked again, as long as the user waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use palisade_protocol::messages::create_acls::{AclCreationResult, CreateAclsResponse};
use palisade_protocol::messages::create_partitions::{
    CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use palisade_protocol::messages::create_topics::{CreatableTopicResult, CreateTopicsResponse};
use palisade_protocol::messages::delete_topics::{DeletableTopicResult, DeleteTopicsResponse};
use palisade_protocol::messages::describe_acls::DescribeAclsResponse;
use palisade_protocol::messages::incremental_alter_configs::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};
use palisade_protocol::messages::metadata::{MetadataResponse, MetadataResponseBroker};
use palisade_protocol::{ApiKey, ErrorCode, Str};
use palisade_tests::liar::{Asked, Liar};
use palisade_tests::{paths, tools};

use crate::cli_data::Cli;

const RULE: &str = "allow User:x read topic:t";

fn answer(asked: &Asked, error_code: ErrorCode) -> Option<Vec<u8>> {
    Some(match asked.key {
        ApiKey::CreateTopics => asked.answer(&CreateTopicsResponse {
            topics: vec![CreatableTopicResult {
                error_code,
                ..CreatableTopicResult::default()
            }],
            ..CreateTopicsResponse::default()
        }),
        ApiKey::CreatePartitions => asked.answer(&CreatePartitionsResponse {
            results: vec![CreatePartitionsTopicResult {
                error_code,
                ..CreatePartitionsTopicResult::default()
            }],
            ..CreatePartitionsResponse::default()
        }),
        ApiKey::IncrementalAlterConfigs => asked.answer(&IncrementalAlterConfigsResponse {
            responses: vec![AlterConfigsResourceResponse {
                error_code,
                ..AlterConfigsResourceResponse::default()
            }],
            ..IncrementalAlterConfigsResponse::default()
        }),
        ApiKey::DeleteTopics => asked.answer(&DeleteTopicsResponse {
            responses: vec![DeletableTopicResult {
                name: Some(Str::from("t")),
                error_code,
                ..DeletableTopicResult::default()
            }],
            ..DeleteTopicsResponse::default()
        }),
        ApiKey::CreateAcls => asked.answer(&CreateAclsResponse {
            results: vec![AclCreationResult {
                error_code,
                ..AclCreationResult::default()
            }],
            ..CreateAclsResponse::default()
        }),
        ApiKey::DescribeAcls => asked.answer(&DescribeAclsResponse::default()),
        _ => return None,
    })
}

/// A broker that is not the controller for the first `refusals` requests of each kind. It names none first, then a
/// dead one, and then itself.
fn liar(refusals: usize) -> Liar {
    let asked_of = Mutex::new(BTreeMap::<i16, usize>::new());
    Liar::open(move |asked, port| {
        let mut asked_of = asked_of.lock().expect("no test has failed with it");
        let before = asked_of.entry(asked.key.value()).or_default();
        let number = std::mem::replace(before, *before + 1);
        if asked.key != ApiKey::Metadata {
            let is_refused = number < refusals;
            let code = [ErrorCode::NONE, ErrorCode::NOT_CONTROLLER][usize::from(is_refused)];
            return answer(asked, code);
        }
        let broker = |node_id, port| MetadataResponseBroker {
            node_id,
            host: Str::from("127.0.0.1"),
            port,
            ..MetadataResponseBroker::default()
        };
        Some(asked.answer(&MetadataResponse {
            brokers: vec![broker(1, port), broker(2, dead_port())],
            controller_id: [1, -1, 2].get(number).copied().unwrap_or(1),
            ..MetadataResponse::default()
        }))
    })
}

/// One where nobody listens.
fn dead_port() -> i32 {
    i32::from(paths::free_port())
}

fn run(liar: &Liar, arguments: &[&str]) -> (i32, String, String) {
    let dir = paths::scratch();
    let config = dir.path().join("plain.properties");
    let address = liar.address();
    let settings = format!("bootstrap.servers={address}\nsecurity.protocol=PLAINTEXT\n");
    paths::write_private(&config, settings);
    Cli::with_file(&tools::text(&config)).run(arguments)
}

#[test]
fn a_controller_that_moves_is_found() {
    for command in [
        &["topic", "create", "t"][..],
        &[
            "topic",
            "alter",
            "t",
            "--partitions",
            "2",
            "--config",
            "a=b",
        ],
        &["topic", "delete", "t", "--force"],
        &["acl", "add", RULE],
    ] {
        let (code, out, err) = run(&liar(3), command);
        assert_eq!((code, &*err), (0, ""), "{command:?}: {out}");
    }
}

#[test]
fn a_cluster_without_a_controller_is_given_up() {
    let (code, out, err) = run(
        &liar(usize::MAX),
        &["topic", "create", "t", "--timeout", "1"],
    );
    assert_eq!((code, &*out), (1, ""), "{err}");
    let words = "topic t: the cluster is choosing its controller; try again (NOT_CONTROLLER)";
    assert!(err.contains(words), "{err}");
}

/// What a broker says too late would be taken for the answer to the next request.
#[test]
fn a_connection_whose_answer_is_late_is_left() {
    let late = Mutex::new(Vec::new());
    let decided = Arc::new(Mutex::new(0));
    let count = Arc::clone(&decided);
    let liar = Liar::open(move |asked, port| {
        let mut late = late.lock().expect("no test has failed with it");
        if asked.key != ApiKey::Metadata {
            *count.lock().expect("no test has failed with it") += 1;
            let next = answer(asked, ErrorCode::NOT_CONTROLLER)?;
            return Some([std::mem::take(&mut *late), next].concat());
        }
        let found = asked.answer(&MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: 1,
                host: Str::from("127.0.0.1"),
                port,
                ..MetadataResponseBroker::default()
            }],
            controller_id: 1,
            ..MetadataResponse::default()
        });
        // Who was told that another one decides waits for this in vain.
        match *count.lock().expect("no test has failed with it") {
            0 => Some(found),
            _ => {
                *late = found;
                Some(Vec::new())
            }
        }
    });
    let (code, out, err) = run(&liar, &["topic", "create", "t", "--timeout", "3"]);
    assert_eq!((code, &*out), (3, ""), "{err}");
    let words = format!("no answer from {} in time", liar.address());
    assert!(err.contains(&words), "{err}");
    assert_eq!(*decided.lock().expect("no test has failed with it"), 1);
}
