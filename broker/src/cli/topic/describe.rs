//! What is known of topics: partitions, replicas, and the settings that somebody gave them.

use std::collections::BTreeMap;

use palisade_protocol::{
    ErrorCode, Str,
    messages::{
        describe_configs::{
            DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
        },
        metadata::{MetadataResponse, MetadataResponseTopic},
    },
};
use serde_json::{Value, json};

use super::{
    super::{
        client::{Admin, ClientError, Right, printable},
        outcome::{failure, line, some_refused},
        output::Output,
    },
    TOPIC, accept_topic,
};
use crate::foreign;

/// Source of a setting that the topic has itself.
const OF_THE_TOPIC: i8 = 1;
/// Topics in one question for settings, of each of which some kilobytes may come.
const AT_A_TIME: usize = 500;

/// Describes topics, all of them if none is named.
///
/// # Errors
/// Some of them may not be seen, or are not there; the others are shown.
pub(super) async fn run(
    admin: &mut Admin,
    output: Output,
    names: &[String],
) -> Result<(), ClientError> {
    let asked = (!names.is_empty()).then_some(names);
    let mut metadata = admin.metadata(asked).await?;
    if asked.is_none() {
        metadata.topics.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let mut configs = DescribeConfigsResponse::default();
    for request in configs_of(&metadata) {
        configs.results.extend(admin.send(&request).await?.results);
    }
    let mut text = String::new();
    let mut rows = Vec::new();
    let mut refused = Vec::new();
    for topic in &metadata.topics {
        let view = View::of(topic, &configs);
        let seen = accept_topic(view.name, topic.error_code, None);
        match seen.map_err(|error| error.needing(Right::on_it("DESCRIBE"))) {
            Ok(()) => {
                text.push_str(&view.text());
                rows.push(view.json());
            }
            Err(error) => {
                let shown = failure(&error, topic.error_code);
                rows.push(json!({ "name": view.name, "error": shown }));
                refused.push(error);
            }
        }
    }
    let shown = output.show(&json!({ "topics": rows }), &text);
    some_refused(output, &refused)?;
    shown
}

/// Questions for the settings of all topics, so many at a time that the answers stay small.
fn configs_of(metadata: &MetadataResponse) -> Vec<DescribeConfigsRequest> {
    let found = metadata
        .topics
        .iter()
        .filter(|topic| topic.error_code == ErrorCode::NONE);
    let resources: Vec<DescribeConfigsResource> = found
        .filter_map(|topic| topic.name.as_deref())
        .map(|name| DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: Str::copy(name),
            configuration_keys: None,
        })
        .collect();
    let pieces = resources.chunks(AT_A_TIME);
    let request = |resources: &[DescribeConfigsResource]| DescribeConfigsRequest {
        resources: resources.to_vec(),
        ..DescribeConfigsRequest::default()
    };
    pieces.map(request).collect()
}

/// One topic as it is shown.
struct View<'a> {
    name: &'a str,
    topic: &'a MetadataResponseTopic,
    /// What was set; `None` to whoever may see the topic but not its configuration.
    configs: Option<BTreeMap<&'a str, Option<&'a str>>>,
}

impl<'a> View<'a> {
    fn of(topic: &'a MetadataResponseTopic, configs: &'a DescribeConfigsResponse) -> Self {
        let name = topic.name.as_deref().unwrap_or("?");
        let mut results = configs.results.iter();
        let result = results.find(|one| &*one.resource_name == name);
        let readable = result.filter(|result| result.error_code == ErrorCode::NONE);
        let configs = readable.map(|result| {
            let set = result.configs.iter();
            set.filter(|entry| entry.config_source == OF_THE_TOPIC)
                .map(|entry| (&*entry.name, entry.value.as_deref()))
                .collect()
        });
        Self {
            name,
            topic,
            configs,
        }
    }

    fn text(&self) -> String {
        let configs = match &self.configs {
            None => "?".to_owned(),
            Some(set) => {
                let set = set.iter();
                let set: Vec<String> = set
                    .map(|(key, value)| format!("{key}={}", value.unwrap_or("?")))
                    .map(|setting| foreign::whole(&setting).into_owned())
                    .collect();
                set.join(",")
            }
        };
        let mut text = String::new();
        line(
            &mut text,
            format_args!(
                "{}\tid {}\tpartitions {}\tconfigs {configs}",
                printable(self.name),
                self.topic.topic_id,
                self.topic.partitions.len(),
            ),
        );
        for partition in &self.topic.partitions {
            line(
                &mut text,
                format_args!(
                    "  {}\tleader {}\treplicas {:?}\tISR {:?}",
                    partition.partition_index,
                    partition.leader_id,
                    partition.replica_nodes,
                    partition.isr_nodes
                ),
            );
        }
        text
    }

    fn json(&self) -> Value {
        let partitions = self.topic.partitions.iter().map(|partition| {
            json!({
                "partition": partition.partition_index,
                "leader": partition.leader_id,
                "leader_epoch": partition.leader_epoch,
                "replicas": partition.replica_nodes,
                "isr": partition.isr_nodes,
                "offline_replicas": partition.offline_replicas,
            })
        });
        json!({
            "name": self.name,
            "topic_id": self.topic.topic_id.to_string(),
            "internal": self.topic.is_internal,
            "partitions": partitions.collect::<Vec<_>>(),
            "configs": self.configs,
        })
    }
}
