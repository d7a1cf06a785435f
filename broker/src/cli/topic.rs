//! `palisade topic`: create, list, describe, alter, delete.

mod describe;

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use palisade_protocol::{
    ApiKey, ErrorCode, Str,
    messages::{
        create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic},
        create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest},
        delete_topics::{DeleteTopicState, DeleteTopicsRequest},
        incremental_alter_configs::{
            AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
        },
        metadata::MetadataResponseTopic,
    },
};
use serde_json::json;

use super::{
    client::{Admin, ClientError, Right, printable},
    outcome::{accept, failure, first_code, line, no_answer, once, some_refused},
    output::Output,
    remote::Remote,
};

/// Resource type of topics in configuration requests.
const TOPIC: i8 = 2;

/// Operations of IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;

/// Arguments of `palisade topic`.
#[derive(Debug, Args)]
pub(crate) struct TopicArgs {
    #[command(subcommand)]
    command: TopicCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// Create a topic
    Create {
        /// Name of the topic
        name: String,
        /// Number of partitions; the broker's default if not given
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// Number of replicas; the broker's default if not given
        #[arg(long, value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// Topic configuration, repeatable
        #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
        configs: Vec<(String, String)>,
        /// Succeed when the topic is there already
        #[arg(long)]
        if_not_exists: bool,
    },
    /// List topics
    List {
        /// Show internal topics too
        #[arg(long)]
        internal: bool,
    },
    /// Describe topics: partitions, replicas, configuration
    Describe {
        /// Names of the topics; all if not given
        names: Vec<String>,
    },
    /// Change a topic's number of partitions or its configuration
    Alter {
        /// Name of the topic
        name: String,
        /// New number of partitions, more than now
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// Set a configuration key, repeatable
        #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
        configs: Vec<(String, String)>,
        /// Return a configuration key to its default, repeatable
        #[arg(long = "delete-config", value_name = "KEY")]
        deletions: Vec<String>,
    },
    /// Delete topics and everything in them
    Delete {
        /// Names of the topics
        #[arg(required = true)]
        names: Vec<String>,
        /// Also what the cluster keeps for itself: groups and their offsets, transactions
        #[arg(long)]
        force: bool,
    },
}

pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

impl TopicArgs {
    pub(crate) fn output(&self) -> Output {
        self.remote.output()
    }

    pub(crate) async fn run(&self) -> Result<(), ClientError> {
        self.check()?;
        let mut admin = self.remote.connect().await?;
        let output = self.remote.output();
        match &self.command {
            TopicCommand::Create {
                name,
                partitions,
                replication_factor,
                configs,
                if_not_exists,
            } => {
                let topic = CreatableTopic {
                    name: Str::copy(name),
                    num_partitions: partitions.unwrap_or(-1),
                    replication_factor: replication_factor.unwrap_or(-1),
                    assignments: Vec::new(),
                    configs: configs.iter().map(creatable).collect(),
                };
                self.create(&mut admin, output, topic, *if_not_exists).await
            }
            TopicCommand::List { internal } => list(&mut admin, output, *internal).await,
            TopicCommand::Describe { names } => describe::run(&mut admin, output, names).await,
            TopicCommand::Alter {
                name,
                partitions,
                configs,
                deletions,
            } => {
                if !(configs.is_empty() && deletions.is_empty()) {
                    alter_configs(&mut admin, name, configs, deletions).await?;
                }
                if let Some(count) = partitions {
                    self.add_partitions(&mut admin, name, *count).await?;
                }
                output.show(&json!({ "topic": name }), &format!("altered {name}"))
            }
            TopicCommand::Delete { names, force } => {
                if !force {
                    must_not_be_internal(&mut admin, names).await?;
                }
                self.delete(&mut admin, output, names).await
            }
        }
    }

    /// What makes no sense at any broker is said before one is asked.
    fn check(&self) -> Result<(), ClientError> {
        let (configs, deletions): (&[_], &[_]) = match &self.command {
            TopicCommand::Create { configs, .. } => (configs, &[]),
            TopicCommand::Alter {
                partitions,
                configs,
                deletions,
                ..
            } => {
                if partitions.is_none() && configs.is_empty() && deletions.is_empty() {
                    let text = "nothing to alter: give --partitions, --config or --delete-config";
                    return Err(ClientError::Usage(text.to_owned()));
                }
                (configs, deletions)
            }
            _ => return Ok(()),
        };
        let mut keys = BTreeSet::new();
        let mut named = configs.iter().map(|(key, _)| key).chain(deletions);
        match named.find(|key| !keys.insert(key.as_str())) {
            None => Ok(()),
            Some(twice) => {
                let text = format!("{}: the key is given more than once", printable(twice));
                Err(ClientError::Usage(text))
            }
        }
    }

    async fn create(
        &self,
        admin: &mut Admin,
        output: Output,
        topic: CreatableTopic,
        if_not_exists: bool,
    ) -> Result<(), ClientError> {
        let name = topic.name.to_string();
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: self.remote.timeout_ms(),
            validate_only: false,
        };
        let response = admin
            .decide(&request, |response| {
                first_code(response.topics.iter().map(|t| t.error_code))
            })
            .await?;
        let Some(result) = response.topics.first() else {
            return Err(no_answer("CreateTopics"));
        };
        let exists = result.error_code == ErrorCode::TOPIC_ALREADY_EXISTS;
        if exists && if_not_exists {
            let object = json!({ "topic": name, "created": false });
            return output.show(&object, &format!("{name} exists"));
        }
        accept_topic(&name, result.error_code, result.error_message.as_deref())
            .map_err(|error| error.needing(Right::on_it("CREATE")))?;
        let object = json!({
            "topic": name,
            "created": true,
            "topic_id": result.topic_id.to_string(),
            "partitions": result.num_partitions,
            "replication_factor": result.replication_factor,
        });
        output.show(&object, &format!("created {name}"))
    }

    async fn add_partitions(
        &self,
        admin: &mut Admin,
        name: &str,
        count: i32,
    ) -> Result<(), ClientError> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: Str::copy(name),
                count,
                assignments: None,
            }],
            timeout_ms: self.remote.timeout_ms(),
            validate_only: false,
        };
        let response = admin
            .decide(&request, |response| {
                first_code(response.results.iter().map(|t| t.error_code))
            })
            .await?;
        let result = response
            .results
            .first()
            .ok_or_else(|| no_answer("CreatePartitions"))?;
        accept_topic(name, result.error_code, result.error_message.as_deref())
            .map_err(|error| error.needing(Right::on_it("ALTER")))
    }

    async fn delete(
        &self,
        admin: &mut Admin,
        output: Output,
        names: &[String],
    ) -> Result<(), ClientError> {
        let mut request = DeleteTopicsRequest {
            timeout_ms: self.remote.timeout_ms(),
            ..DeleteTopicsRequest::default()
        };
        let names = once(names);
        let all = names.iter().map(|name| Str::copy(name));
        if admin.version(ApiKey::DeleteTopics)? >= 6 {
            let state = |name| DeleteTopicState {
                name: Some(name),
                ..DeleteTopicState::default()
            };
            request.topics = all.map(state).collect();
        } else {
            request.topic_names = all.collect();
        }
        let response = admin
            .decide(&request, |response| {
                first_code(response.responses.iter().map(|t| t.error_code))
            })
            .await?;
        let mut rows = Vec::new();
        let mut text = String::new();
        let mut refused = Vec::new();
        for result in &response.responses {
            let name = result.name.as_deref().unwrap_or("?");
            let deleted = accept_topic(name, result.error_code, result.error_message.as_deref());
            match deleted.map_err(|error| error.needing(Right::on_it("DELETE"))) {
                Ok(()) => {
                    line(&mut text, format_args!("deleted {}", printable(name)));
                    rows.push(json!({ "topic": name, "deleted": true }));
                }
                Err(error) => {
                    let shown = failure(&error, result.error_code);
                    rows.push(json!({ "topic": name, "deleted": false, "error": shown }));
                    refused.push(error);
                }
            }
        }
        let shown = output.show(&json!({ "topics": rows }), &text);
        some_refused(output, &refused)?;
        shown
    }
}

/// A cluster's own topics are made anew when they are needed, and what was in them is not.
async fn must_not_be_internal(admin: &mut Admin, names: &[String]) -> Result<(), ClientError> {
    let metadata = admin.metadata(Some(&once(names))).await?;
    let mut internal = metadata.topics.iter().filter(|topic| topic.is_internal);
    let Some(name) = internal.find_map(|topic| topic.name.as_deref()) else {
        return Ok(());
    };
    let lost = match name {
        "__consumer_offsets" => "every group and the offsets it has committed",
        "__transaction_state" => "every transaction that is open, and who may go on with it",
        _ => "what the cluster keeps in it",
    };
    Err(ClientError::Usage(format!(
        "topic {}: a topic of the cluster's own, and with it goes {lost}; --force deletes it all the \
         same",
        printable(name)
    )))
}

/// Turns the answer about one topic into an error; of a missing one the broker's own words speak of
/// a server that does not host it.
fn accept_topic(name: &str, code: ErrorCode, message: Option<&str>) -> Result<(), ClientError> {
    let message = message.filter(|_| code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    accept(&format!("topic {}", printable(name)), code, message)
}

fn creatable((key, value): &(String, String)) -> CreatableTopicConfig {
    CreatableTopicConfig {
        name: Str::copy(key),
        value: Some(Str::copy(value)),
    }
}

async fn list(admin: &mut Admin, output: Output, internal: bool) -> Result<(), ClientError> {
    let metadata = admin.metadata(None).await?;
    let mut topics: Vec<&MetadataResponseTopic> = metadata
        .topics
        .iter()
        .filter(|topic| internal || !topic.is_internal)
        .collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let mut text = String::new();
    let mut rows = Vec::new();
    for topic in topics {
        let name = topic.name.as_deref().unwrap_or("?");
        line(
            &mut text,
            format_args!("{}\t{}", printable(name), topic.partitions.len()),
        );
        rows.push(json!({
            "name": name,
            "topic_id": topic.topic_id.to_string(),
            "internal": topic.is_internal,
            "partitions": topic.partitions.len(),
        }));
    }
    output.show(&json!({ "topics": rows }), &text)
}

async fn alter_configs(
    admin: &mut Admin,
    name: &str,
    configs: &[(String, String)],
    deletions: &[String],
) -> Result<(), ClientError> {
    let set = configs.iter().map(|(key, value)| AlterableConfig {
        name: Str::copy(key),
        config_operation: SET,
        value: Some(Str::copy(value)),
    });
    let delete = deletions.iter().map(|key| AlterableConfig {
        name: Str::copy(key),
        config_operation: DELETE,
        value: None,
    });
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: Str::copy(name),
            configs: set.chain(delete).collect(),
        }],
        validate_only: false,
    };
    let response = admin
        .decide(&request, |response| {
            first_code(response.responses.iter().map(|one| one.error_code))
        })
        .await?;
    let result = response
        .responses
        .first()
        .ok_or_else(|| no_answer("IncrementalAlterConfigs"))?;
    accept_topic(name, result.error_code, result.error_message.as_deref())
        .map_err(|error| error.needing(Right::on_it("ALTER_CONFIGS")))
}
