//! What a broker sends reaches the terminal as text and never acts on it: no colour, no cursor, no line of its own,
//! no other reading direction. What contradicts itself is asked for again as long as the user waits, and not at full
//! speed.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use palisade_protocol::batch::Codec;
use palisade_protocol::messages::consumer_group_describe::{
    self, ConsumerGroupDescribeResponse, Member,
};
use palisade_protocol::messages::create_acls::{AclCreationResult, CreateAclsResponse};
use palisade_protocol::messages::create_topics::{CreatableTopicResult, CreateTopicsResponse};
use palisade_protocol::messages::delete_topics::{DeletableTopicResult, DeleteTopicsResponse};
use palisade_protocol::messages::describe_acls::{
    AclDescription, DescribeAclsResource, DescribeAclsResponse,
};
use palisade_protocol::messages::describe_configs::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult,
};
use palisade_protocol::messages::describe_user_scram_credentials::{
    CredentialInfo, DescribeUserScramCredentialsResponse, DescribeUserScramCredentialsResult,
};
use palisade_protocol::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use palisade_protocol::messages::find_coordinator::FindCoordinatorResponse;
use palisade_protocol::messages::init_producer_id::InitProducerIdResponse;
use palisade_protocol::messages::join_group::JoinGroupResponse;
use palisade_protocol::messages::list_groups::{ListGroupsResponse, ListedGroup};
use palisade_protocol::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use palisade_protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use palisade_protocol::messages::offset_fetch::{
    OffsetFetchResponse, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use palisade_protocol::messages::produce::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use palisade_protocol::records::Records;
use palisade_protocol::{ApiKey, ErrorCode, Str};
use palisade_tests::dev::Dev;
use palisade_tests::liar::{Asked, Liar};
use palisade_tests::process::KillOnDrop;
use palisade_tests::{paths, requests, tools};
use rustix::pty::{self, OpenptFlags};
use serde_json::Value;

use crate::cli_data::Cli;

/// Colour, a control of eight bits, right to left, a line of its own.
const POISON: &str =
    "p\u{1b}[1m\u{9b}2J\u{7f}\u{8}\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\r\nforged\tx";
const RULE: &str = "allow User:x read topic:t";

fn acts(c: char) -> bool {
    let shapes_text = matches!(c, '\n' | '\t');
    c.is_control() && !shapes_text
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        )
        || matches!(c, '\u{2066}'..='\u{2069}')
}

/// Output that is text and nothing else; and each line of it is the command's own.
fn tame(arguments: &[&str], bytes: Vec<u8>) -> String {
    let text = String::from_utf8(bytes).expect("text");
    let found = text.chars().find(|c| acts(*c));
    assert_eq!(found, None, "{arguments:?}: {text:?}");
    let forged = text.lines().find(|line| line.starts_with("forged"));
    assert_eq!(forged, None, "{arguments:?}: {text:?}");
    text
}

/// Runs a command against `liar`; its status, and both streams.
fn run(liar: &Liar, arguments: &[&str]) -> (Option<i32>, String, String) {
    let dir = paths::scratch();
    let config = dir.path().join("plain.properties");
    let address = liar.address();
    let settings = format!("bootstrap.servers={address}\nsecurity.protocol=PLAINTEXT\n");
    paths::write_private(&config, settings);
    let cli = Cli::with_file(&tools::text(&config));
    let said = cli.command(arguments).output().expect("it runs");
    let [out, err] = [said.stdout, said.stderr].map(|bytes| tame(arguments, bytes));
    (said.status.code(), out, err)
}

fn broker(node_id: i32, host: &str, port: i32) -> MetadataResponseBroker {
    MetadataResponseBroker {
        node_id,
        host: Str::copy(host),
        port,
        ..MetadataResponseBroker::default()
    }
}

#[test]
fn hosts_in_errors() {
    let liar = Liar::open(|asked, port| match asked.key {
        ApiKey::Metadata => Some(asked.answer(&MetadataResponse {
            brokers: vec![broker(1, POISON, port)],
            controller_id: 1,
            ..MetadataResponse::default()
        })),
        ApiKey::FindCoordinator => Some(asked.answer(&FindCoordinatorResponse {
            node_id: 2,
            host: Str::copy(POISON),
            port,
            ..FindCoordinatorResponse::default()
        })),
        _ => None,
    });
    for command in [
        &["group", "list"][..],
        &["group", "describe", "g", "--timeout", "1"],
        &["user", "delete", "x"],
        &["acl", "remove", RULE],
        &["topic", "list"],
    ] {
        let (code, out, err) = run(&liar, command);
        assert_eq!((code, &*out), (Some(3), ""), "{command:?}: {err}");
        assert!(err.contains("[1m"), "{command:?}: {err}");
        let (code, out, err) = run(&liar, &[command, &["--json"]].concat());
        assert_eq!((code, &*err), (Some(3), ""), "{command:?}: {out}");
        let object: Value = serde_json::from_str(&out).expect("JSON");
        let message = object["error"]["message"].as_str().expect("a message");
        tame(command, message.as_bytes().to_vec());
    }
}

/// Poison wherever there is a text.
fn poisoned(asked: &Asked, port: i32) -> Option<Vec<u8>> {
    let poison = || Str::copy(POISON);
    let refused = ErrorCode::POLICY_VIOLATION;
    Some(match asked.key {
        ApiKey::Metadata => asked.answer(&MetadataResponse {
            brokers: vec![broker(1, "127.0.0.1", port)],
            controller_id: 1,
            topics: vec![MetadataResponseTopic {
                name: Some(poison()),
                partitions: vec![MetadataResponsePartition {
                    leader_id: 1,
                    ..MetadataResponsePartition::default()
                }],
                ..MetadataResponseTopic::default()
            }],
            ..MetadataResponse::default()
        }),
        ApiKey::FindCoordinator => asked.answer(&FindCoordinatorResponse {
            node_id: 1,
            host: "127.0.0.1".into(),
            port,
            ..FindCoordinatorResponse::default()
        }),
        ApiKey::ListGroups => asked.answer(&ListGroupsResponse {
            groups: vec![ListedGroup {
                group_id: poison(),
                protocol_type: poison(),
                group_state: poison(),
                group_type: poison(),
            }],
            ..ListGroupsResponse::default()
        }),
        ApiKey::ConsumerGroupDescribe => asked.answer(&ConsumerGroupDescribeResponse {
            groups: vec![consumer_group_describe::DescribedGroup {
                group_state: poison(),
                assignor_name: poison(),
                members: vec![Member {
                    member_id: poison(),
                    instance_id: Some(poison()),
                    client_id: poison(),
                    client_host: poison(),
                    ..Member::default()
                }],
                ..Default::default()
            }],
            ..ConsumerGroupDescribeResponse::default()
        }),
        ApiKey::OffsetFetch => asked.answer(&OffsetFetchResponse {
            topics: vec![OffsetFetchResponseTopic {
                name: poison(),
                partitions: vec![OffsetFetchResponsePartition {
                    metadata: Some(poison()),
                    ..OffsetFetchResponsePartition::default()
                }],
            }],
            ..OffsetFetchResponse::default()
        }),
        ApiKey::ListOffsets => asked.answer(&ListOffsetsResponse {
            topics: vec![ListOffsetsTopicResponse {
                name: poison(),
                partitions: vec![ListOffsetsPartitionResponse::default()],
            }],
            ..ListOffsetsResponse::default()
        }),
        ApiKey::DescribeConfigs => asked.answer(&DescribeConfigsResponse {
            results: vec![DescribeConfigsResult {
                resource_name: poison(),
                configs: vec![DescribeConfigsResourceResult {
                    name: poison(),
                    value: Some(poison()),
                    config_source: 1,
                    ..DescribeConfigsResourceResult::default()
                }],
                ..DescribeConfigsResult::default()
            }],
            ..DescribeConfigsResponse::default()
        }),
        ApiKey::DeleteTopics => asked.answer(&DeleteTopicsResponse {
            responses: vec![DeletableTopicResult {
                name: Some(poison()),
                ..DeletableTopicResult::default()
            }],
            ..DeleteTopicsResponse::default()
        }),
        ApiKey::CreateTopics => asked.answer(&CreateTopicsResponse {
            topics: vec![CreatableTopicResult {
                error_code: refused,
                error_message: Some(poison()),
                ..CreatableTopicResult::default()
            }],
            ..CreateTopicsResponse::default()
        }),
        ApiKey::DescribeUserScramCredentials => {
            asked.answer(&DescribeUserScramCredentialsResponse {
                results: vec![DescribeUserScramCredentialsResult {
                    user: poison(),
                    credential_infos: vec![CredentialInfo {
                        mechanism: 1,
                        iterations: 4096,
                    }],
                    ..DescribeUserScramCredentialsResult::default()
                }],
                ..DescribeUserScramCredentialsResponse::default()
            })
        }
        ApiKey::DescribeAcls => asked.answer(&DescribeAclsResponse {
            resources: vec![DescribeAclsResource {
                resource_type: 2,
                resource_name: poison(),
                pattern_type: 3,
                acls: vec![AclDescription {
                    principal: poison(),
                    host: poison(),
                    operation: 3,
                    permission_type: 3,
                }],
            }],
            ..DescribeAclsResponse::default()
        }),
        ApiKey::CreateAcls => asked.answer(&CreateAclsResponse {
            results: vec![AclCreationResult {
                error_code: refused,
                error_message: Some(poison()),
            }],
            ..CreateAclsResponse::default()
        }),
        _ => return None,
    })
}

/// Whether some text in it is the poison, whole.
fn has_poison(value: &Value) -> bool {
    match value {
        Value::String(text) => text == POISON,
        Value::Array(all) => all.iter().any(has_poison),
        Value::Object(all) => {
            let mut all = all.iter();
            all.any(|(key, value)| key == POISON || has_poison(value))
        }
        _ => false,
    }
}

#[test]
fn names_and_words() {
    let liar = Liar::open(poisoned);
    for command in [
        &["group", "list"][..],
        &["group", "describe", "g"],
        &["topic", "list"],
        &["topic", "describe"],
        &["topic", "delete", "t"],
        &["user", "list"],
        &["acl", "list"],
    ] {
        let (code, out, err) = run(&liar, command);
        assert_eq!(code, Some(0), "{command:?}: {out}\n{err}");
        assert!(out.contains("[1m"), "{command:?}: {out}");
        let (code, out, err) = run(&liar, &[command, &["--json"]].concat());
        assert_eq!(code, Some(0), "{command:?}: {out}\n{err}");
        // What a program reads is what the broker said.
        let object: Value = serde_json::from_str(&out).expect("JSON");
        assert!(has_poison(&object), "{command:?}: {out}");
        assert!(!out.contains('\t'), "{command:?}: {out}");
    }
    for command in [&["topic", "create", "t"][..], &["acl", "add", RULE]] {
        let (code, out, err) = run(&liar, command);
        assert_eq!((code, &*out), (Some(1), ""), "{command:?}: {err}");
        assert!(err.contains("[1m"), "{command:?}: {err}");
        let (code, out, _) = run(&liar, &[command, &["--json"]].concat());
        assert_eq!(code, Some(1), "{command:?}: {out}");
        assert!(out.contains("[1m"), "{command:?}: {out}");
    }
}

/// Records are bytes to a program, and text to people; JSON is the same for both.
#[test]
fn records() {
    let dev = Dev::start(&["--topic", "records"]);
    let cli = Cli::new(&dev.admin());
    let value = POISON.replace('\n', "");
    let bytes = [value.as_bytes(), b"\x9b1m\xff\n"].concat();
    cli.done(&["produce", "records", "--file", &cli.file("poison", &bytes)]);
    let consume = ["consume", "records", "--until-end"];
    let piped = cli.command(&consume).output().expect("it runs");
    assert_eq!(piped.stdout, bytes);

    let json = [&consume[..], &["--json"]].concat();
    let said = cli.command(&json).output().expect("it runs");
    tame(&json, said.stdout);

    let text = "\t%v é\u{1b}[0m\\n";
    let on_terminal = [&consume[..], &["--format", text]].concat();
    let seen = seen_on_terminal(cli.command(&on_terminal));
    // The format is the user's own, and the terminal's lines end so.
    let rest = seen.replace("\u{1b}[0m\r\n", "").replace('é', "");
    let shown = tame(&on_terminal, rest.into_bytes());
    assert!(shown.contains("p\\u{1b}[1m\\u{9b}2J"), "{shown}");
    assert!(shown.contains("\\x9b1m\\xff"), "{shown}");
}

/// What a command shows on a terminal, to its end.
fn seen_on_terminal(mut command: Command) -> String {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let watcher = pty::openpt(flags).expect("a terminal");
    pty::grantpt(&watcher).expect("an own terminal");
    pty::unlockpt(&watcher).expect("an own terminal");
    let terminal = pty::ioctl_tiocgptpeer(&watcher, flags).expect("its other side");
    command.stdin(Stdio::null());
    command.stdout(terminal.try_clone().expect("a copy"));
    command.stderr(terminal);
    let mut child = KillOnDrop::spawn(&mut command);
    // It holds the terminal's other side too, which has to be the child's alone.
    drop(command);
    let mut seen = Vec::new();
    let mut part = [0; 4096];
    let mut watcher = File::from(watcher);
    loop {
        match watcher.read(&mut part) {
            Ok(0) => break,
            Ok(length) => seen.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // So Linux says that nobody writes any more.
            Err(_) => break,
        }
    }
    child.wait().expect("its end");
    String::from_utf8(seen).expect("text")
}

/// A broker with one topic that tells the same lie to all other questions, in words that `answer` finds, and counts
/// them. After a thousand it refuses for good, so that a client that asks at full speed ends too.
fn stubborn(
    answer: impl Fn(&Asked, ErrorCode) -> Option<Vec<u8>> + Send + Sync + 'static,
    lie: ErrorCode,
) -> (Liar, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let liar = Liar::open(move |asked, port| {
        let topic = MetadataResponseTopic {
            name: Some("t".into()),
            partitions: vec![MetadataResponsePartition {
                leader_id: 1,
                ..MetadataResponsePartition::default()
            }],
            ..MetadataResponseTopic::default()
        };
        Some(match asked.key {
            ApiKey::Metadata => asked.answer(&MetadataResponse {
                brokers: vec![broker(1, "127.0.0.1", port)],
                controller_id: 1,
                topics: vec![topic],
                ..MetadataResponse::default()
            }),
            ApiKey::FindCoordinator => asked.answer(&FindCoordinatorResponse {
                node_id: 1,
                host: "127.0.0.1".into(),
                port,
                ..FindCoordinatorResponse::default()
            }),
            ApiKey::ListOffsets => asked.answer(&ListOffsetsResponse {
                topics: vec![ListOffsetsTopicResponse {
                    name: "t".into(),
                    partitions: vec![ListOffsetsPartitionResponse {
                        offset: 5,
                        ..ListOffsetsPartitionResponse::default()
                    }],
                }],
                ..ListOffsetsResponse::default()
            }),
            _ => {
                let code = match counted.fetch_add(1, Ordering::Relaxed) {
                    0..1_000 => lie,
                    _ => ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
                };
                return answer(asked, code);
            }
        })
    });
    (liar, count)
}

#[test]
fn groups_that_nobody_gets_into() {
    for lie in [
        ErrorCode::MEMBER_ID_REQUIRED,
        ErrorCode::REBALANCE_IN_PROGRESS,
    ] {
        let answer = |asked: &Asked, error_code| {
            let joined = JoinGroupResponse {
                error_code,
                member_id: "m".into(),
                ..JoinGroupResponse::default()
            };
            (asked.key == ApiKey::JoinGroup).then(|| asked.answer(&joined))
        };
        let (liar, count) = stubborn(answer, lie);
        let (code, out, err) = run(&liar, &["consume", "t", "--group", "g", "--timeout", "1"]);
        assert_ne!(code, Some(0), "{out}");
        assert!(err.contains(lie.name()), "{err}");
        let count = count.load(Ordering::Relaxed);
        assert!((2..100).contains(&count), "{lie}: {count} times");
    }
}

#[test]
fn an_offset_that_is_there_and_is_not() {
    let lie = ErrorCode::OFFSET_OUT_OF_RANGE;
    let answer = |asked: &Asked, error_code| {
        let partition = PartitionData {
            error_code,
            ..PartitionData::default()
        };
        let fetched = FetchResponse {
            responses: vec![FetchableTopicResponse {
                topic: "t".into(),
                partitions: vec![partition],
                ..FetchableTopicResponse::default()
            }],
            ..FetchResponse::default()
        };
        (asked.key == ApiKey::Fetch).then(|| asked.answer(&fetched))
    };
    let (liar, count) = stubborn(answer, lie);
    let (code, out, err) = run(
        &liar,
        &["consume", "t", "--from", "offset:5", "--timeout", "1"],
    );
    assert_ne!(code, Some(0), "{out}");
    assert!(!err.contains("going on at"), "{err}");
    let count = count.load(Ordering::Relaxed);
    assert!((2..100).contains(&count), "{count} times");
}

#[test]
fn refusals_of_records_that_were_not_sent() {
    for (name, index, status, words) in [
        ("t", 99, 1, "2 records refused, the first in line 1"),
        ("t", -1, 1, "2 records refused, the first in line 1"),
        ("t", 1, 1, "2 records refused, the first in line 1"),
        ("u", 0, 3, "the broker's answer lacks a partition"),
    ] {
        let answer = move |asked: &Asked, code: ErrorCode| match asked.key {
            ApiKey::InitProducerId => Some(asked.answer(&InitProducerIdResponse {
                producer_id: 1,
                ..InitProducerIdResponse::default()
            })),
            ApiKey::Produce => Some(asked.answer(&ProduceResponse {
                responses: vec![TopicProduceResponse {
                    name: Str::copy(name),
                    partition_responses: vec![PartitionProduceResponse {
                        error_code: if name == "t" { code } else { ErrorCode::NONE },
                        record_errors: vec![BatchIndexAndErrorMessage {
                            batch_index: index,
                            ..BatchIndexAndErrorMessage::default()
                        }],
                        ..PartitionProduceResponse::default()
                    }],
                    ..TopicProduceResponse::default()
                }],
                ..ProduceResponse::default()
            })),
            _ => None,
        };
        let (liar, count) = stubborn(answer, ErrorCode::INVALID_RECORD);
        let dir = paths::scratch();
        let lines = dir.path().join("lines");
        std::fs::write(&lines, "a\nb\n").expect("a scratch file can be written");
        let (code, out, err) = run(&liar, &["produce", "t", "--file", &tools::text(&lines)]);
        assert_eq!(code, Some(status), "{index}: {out}\n{err}");
        assert!(err.contains(words), "{index}: {err}");
        let count = count.load(Ordering::Relaxed);
        assert!(count < 5, "{index}: {count} times");
    }
}

/// An answer to each Fetch: of the topic `name`, with these records.
fn fetched(asked: &Asked, error_code: ErrorCode, name: &str, records: Option<&Records>) -> Vec<u8> {
    let is_over = error_code.is_error();
    let partition = PartitionData {
        error_code,
        records: records.cloned(),
        ..PartitionData::default()
    };
    asked.answer(&FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic: Str::copy(if is_over { "t" } else { name }),
            partitions: vec![partition],
            ..FetchableTopicResponse::default()
        }],
        ..FetchResponse::default()
    })
}

#[test]
fn fetches_that_lead_nowhere() {
    let early = || Some(Records::from(requests::batch(Codec::None, &["a"], 1)));
    for (name, records, words) in [
        (
            "t",
            None,
            "t-0: offset 3: the broker sends nothing, though the log ends at 5",
        ),
        (
            "t",
            early(),
            "t-0: offset 3: the broker sends records before it only",
        ),
        ("u", early(), "the broker's answer lacks a partition"),
    ] {
        let answer = move |asked: &Asked, code| {
            (asked.key == ApiKey::Fetch).then(|| fetched(asked, code, name, records.as_ref()))
        };
        let (liar, count) = stubborn(answer, ErrorCode::NONE);
        let consume = ["consume", "t", "--from", "offset:3", "--until-end"];
        let (code, out, err) = run(&liar, &[&consume[..], &["--timeout", "1"]].concat());
        assert_ne!(code, Some(0), "{words}: {out}");
        assert_eq!(out, "", "{words}");
        assert!(err.ends_with(&format!("{words}\n")), "{words}: {err}");
        let count = count.load(Ordering::Relaxed);
        assert!((2..100).contains(&count), "{words}: {count} times");
    }
}

/// Rows of a few bytes need hundreds in memory: what no broker has to say is not read.
#[test]
fn an_answer_of_many_rows() {
    let size = 17_i32 << 20;
    let liar = Liar::open(move |_, _| Some(size.to_be_bytes().to_vec()));
    let (code, out, err) = run(&liar, &["topic", "list", "--timeout", "1"]);
    assert_eq!((code, &*out), (Some(3), ""), "{err}");
    let words = "the broker's answer to Metadata has 17825792 bytes, and no more than 16777216 are";
    assert!(err.contains(words), "{err}");
}

/// A denial in Kafka's own words names no right: that is added, for what was asked first.
#[test]
fn denials_without_words() {
    let error_code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
    let error_message = Some(Str::from("Cluster authorization failed."));
    let liar = Liar::open(move |asked, port| {
        Some(match asked.key {
            ApiKey::Metadata => asked.answer(&MetadataResponse {
                brokers: vec![broker(1, "127.0.0.1", port)],
                controller_id: 1,
                ..MetadataResponse::default()
            }),
            ApiKey::DescribeAcls => asked.answer(&DescribeAclsResponse {
                error_code,
                error_message: error_message.clone(),
                ..DescribeAclsResponse::default()
            }),
            ApiKey::DescribeUserScramCredentials => {
                asked.answer(&DescribeUserScramCredentialsResponse {
                    error_code,
                    error_message: error_message.clone(),
                    ..DescribeUserScramCredentialsResponse::default()
                })
            }
            _ => return None,
        })
    });
    for (command, what) in [
        (&["user", "delete", "x"][..], "users"),
        (&["user", "list"], "users"),
        (&["acl", "list"], "ACLs"),
    ] {
        let (code, _, err) = run(&liar, command);
        let words = format!(
            "palisade: {what}: Cluster authorization failed; DESCRIBE on the cluster is needed \
             (CLUSTER_AUTHORIZATION_FAILED)\n"
        );
        assert_eq!((code, err), (Some(1), words), "{command:?}");
    }
}
