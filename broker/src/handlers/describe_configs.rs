//! DescribeConfigs (key 32), versions 1 to 4: the settings in force and where they come from.
//!
//! v1 sources and synonyms (KIP-226), v3 types and documentation (KIP-569). Topics, groups and this
//! node are described; loggers and client metrics have no settings here yet and are refused, after
//! their rights. A resource that is named twice has one row, with the keys of both.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};

use palisade_auth::access::Access;
use palisade_auth::grant::DescribeConfigs;
use palisade_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use palisade_protocol::{ErrorCode, Str};

use crate::config::{Reported, ReportedSource};
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::foreign;
use crate::metadata::group_config::{self, GroupKey};
use crate::metadata::topic_config::{ConfigKind, DescribedConfig, describe};
use crate::metadata::topic_name;
use crate::metadata::{ConfigMap, ConfigResourceType};
use crate::task::Budget;

/// Codes of `config_source` for settings of a node (configs.md §4).
const STATIC_BROKER: i8 = 4;
const DEFAULT: i8 = 5;
/// The same for settings of a group.
const GROUP: i8 = 8;

/// Most resources of one request.
const MAX_ROWS: usize = 1_000;

/// Why a resource has no answer.
#[derive(Clone)]
struct Refused(ErrorCode, String);

/// Answers a DescribeConfigs request.
pub(crate) async fn handle(
    ctx: &RequestContext,
    req: DescribeConfigsRequest,
) -> Handled<DescribeConfigsResponse> {
    let results = match kinds(&req.resources) {
        Ok(kinds) => describe_all(ctx, kinds, req).await,
        Err(refused) => {
            let each = |resource| refuse(resource, refused.clone());
            req.resources.into_iter().map(each).collect()
        }
    };
    Handled::Now(DescribeConfigsResponse {
        results,
        ..DescribeConfigsResponse::default()
    })
}

/// The kind of each resource, or why the whole request is refused before any right is asked.
fn kinds(resources: &[DescribeConfigsResource]) -> Result<Vec<ConfigResourceType>, Refused> {
    if resources.len() > MAX_ROWS {
        // Each row of an answer takes kilobytes, each of the request a few bytes.
        let text = format!("At most {MAX_ROWS} resources");
        return Err(Refused(ErrorCode::POLICY_VIOLATION, text));
    }
    let kinds = resources
        .iter()
        .map(|resource| ConfigResourceType::from_code(resource.resource_type));
    kinds.collect::<Option<_>>().ok_or_else(|| {
        let text = "Unexpected resource type in the request";
        Refused(ErrorCode::INVALID_REQUEST, text.to_owned())
    })
}

/// A row for each resource, whose `kinds` are given in the same order.
async fn describe_all(
    ctx: &RequestContext,
    kinds: Vec<ConfigResourceType>,
    req: DescribeConfigsRequest,
) -> Vec<DescribeConfigsResult> {
    let access = ctx.access();
    let shown = Shown {
        synonyms: req.include_synonyms,
        documentation: req.include_documentation,
    };
    let report = OnceCell::new();
    let mut budget = Budget::start();
    let mut rows = Vec::new();
    for (kind, resource) in each_once(kinds.into_iter().zip(req.resources)) {
        let found = configs(ctx, &access, kind, &resource, shown, &report);
        rows.push(match found {
            Ok(configs) => row(resource, configs),
            Err(refused) => refuse(resource, refused),
        });
        budget.breathe(0).await;
    }
    rows
}

/// What the request wants to see beside the values.
#[derive(Clone, Copy)]
struct Shown {
    synonyms: bool,
    documentation: bool,
}

/// Each resource where it is named first, with all the keys that it is asked for: a row of an
/// answer may be a thousand times as long as a name, and lists of keys that differ are as short.
fn each_once(
    asked: impl Iterator<Item = (ConfigResourceType, DescribeConfigsResource)>,
) -> Vec<(ConfigResourceType, DescribeConfigsResource)> {
    let mut places = HashMap::new();
    let mut rows: Vec<(ConfigResourceType, DescribeConfigsResource)> = Vec::new();
    for (kind, resource) in asked {
        let name = &resource.resource_name;
        // A number has many spellings.
        let id = match kind {
            ConfigResourceType::Broker => name.parse::<i32>().ok(),
            _ => None,
        };
        let name = id.is_none().then(|| name.clone());
        match places.entry((kind, id, name)) {
            Entry::Vacant(place) => {
                place.insert(rows.len());
                rows.push((kind, resource));
            }
            Entry::Occupied(place) => {
                if let Some((_, first)) = rows.get_mut(*place.get()) {
                    let keys = first.configuration_keys.take();
                    first.configuration_keys = both(keys, resource.configuration_keys);
                }
            }
        }
    }
    rows
}

/// The keys of two lists, of which one without any stands for all keys.
fn both(one: Option<Vec<Str>>, other: Option<Vec<Str>>) -> Option<Vec<Str>> {
    let mut one = one.filter(|keys| !keys.is_empty())?;
    one.extend(other.filter(|keys| !keys.is_empty())?);
    Some(one)
}

fn configs(
    ctx: &RequestContext,
    access: &Access,
    kind: ConfigResourceType,
    resource: &DescribeConfigsResource,
    shown: Shown,
    report: &OnceCell<Vec<Reported>>,
) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    let name = &*resource.resource_name;
    authorize(access, kind, name)?;
    let wanted = Wanted::of(resource);
    // One for all rows: it takes every setting of the node.
    let report = || &**report.get_or_init(|| ctx.broker.config.report());
    match kind {
        ConfigResourceType::Topic => topic_configs(ctx, name, &wanted, shown),
        ConfigResourceType::Broker => node_configs(ctx, name, report, &wanted, shown),
        ConfigResourceType::Group => group_configs(ctx, name, report, &wanted, shown),
        ConfigResourceType::BrokerLogger | ConfigResourceType::ClientMetrics => Err(Refused(
            ErrorCode::INVALID_REQUEST,
            "This broker has no settings for this type of resource yet".to_owned(),
        )),
    }
}

/// The keys that the request names; without any it wants all.
struct Wanted<'a>(HashSet<&'a str>);

impl<'a> Wanted<'a> {
    fn of(resource: &'a DescribeConfigsResource) -> Self {
        let keys = resource.configuration_keys.as_deref().unwrap_or_default();
        Wanted(keys.iter().map(|key| &**key).collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.contains(name)
    }
}

fn topic_configs(
    ctx: &RequestContext,
    name: &str,
    wanted: &Wanted<'_>,
    shown: Shown,
) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    topic_name::validate(name).map_err(|text| Refused(ErrorCode::INVALID_TOPIC_EXCEPTION, text))?;
    let topic = ctx.image.topics.get(name).ok_or_else(|| {
        // Kafka sends an empty text with this code (configs.md §4).
        Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, String::new())
    })?;
    let described = describe(&ctx.broker.config.topic_defaults, &topic.config).into_iter();
    let described = described.filter(|config| wanted.has(config.name));
    Ok(described
        .map(|config| topic_config(config, shown))
        .collect())
}

fn node_configs<'a>(
    ctx: &RequestContext,
    name: &str,
    report: impl FnOnce() -> &'a [Reported],
    wanted: &Wanted<'_>,
    shown: Shown,
) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    // Settings of all brokers that changed at run time: there are none yet.
    if name.is_empty() {
        return Ok(Vec::new());
    }
    let own = ctx.broker.node_id.value();
    if name.parse() != Ok(own) {
        return Err(Refused(
            ErrorCode::INVALID_REQUEST,
            format!("Unexpected broker id, expected {own} or the empty string"),
        ));
    }
    let reported = report().iter().filter(|config| wanted.has(&config.name));
    Ok(reported
        .map(|config| broker_config(config, shown))
        .collect())
}

fn group_configs<'a>(
    ctx: &RequestContext,
    name: &str,
    report: impl FnOnce() -> &'a [Reported],
    wanted: &Wanted<'_>,
    shown: Shown,
) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    if name.is_empty() {
        let text = "Default group resources are not allowed.";
        return Err(Refused(ErrorCode::INVALID_REQUEST, text.to_owned()));
    }
    let configs = &ctx.image.configs;
    let own = configs.get(ConfigResourceType::Group, name);
    let node = report();
    let keys = group_config::KEYS.iter();
    let keys = keys.filter(|key| wanted.has(key.name));
    let settings = keys.filter_map(|key| {
        let node = node.iter().find(|config| config.name == key.node_key)?;
        let own = own.and_then(|own| own.get(key.name));
        Some(group_setting(key, own, node, shown))
    });
    Ok(settings.collect())
}

fn authorize(access: &Access, kind: ConfigResourceType, name: &str) -> Result<(), Refused> {
    let (is_granted, code) = match kind {
        ConfigResourceType::Topic => (
            access.topic::<DescribeConfigs>(name).is_ok(),
            ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ),
        ConfigResourceType::Group => (
            access.group::<DescribeConfigs>(name).is_ok(),
            ErrorCode::GROUP_AUTHORIZATION_FAILED,
        ),
        ConfigResourceType::Broker
        | ConfigResourceType::BrokerLogger
        | ConfigResourceType::ClientMetrics => (
            access.cluster::<DescribeConfigs>().is_ok(),
            ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
        ),
    };
    match is_granted {
        true => Ok(()),
        false => Err(Refused(
            code,
            "DESCRIBE_CONFIGS on the resource is needed".to_owned(),
        )),
    }
}

fn topic_config(config: DescribedConfig, shown: Shown) -> DescribeConfigsResourceResult {
    let synonyms = config
        .synonyms
        .iter()
        .filter(|_| shown.synonyms)
        .map(|synonym| DescribeConfigsSynonym {
            name: Str::from(synonym.name),
            value: synonym.value.as_deref().map(Str::copy),
            source: synonym.source.code(),
        });
    DescribeConfigsResourceResult {
        name: Str::from(config.name),
        read_only: DescribedConfig::READ_ONLY,
        config_source: config.source.code(),
        is_sensitive: DescribedConfig::SENSITIVE,
        synonyms: synonyms.collect(),
        config_type: config.config_type,
        documentation: shown.documentation.then(|| Str::from(config.documentation)),
        value: config.value.map(Str::from),
    }
}

fn broker_config(config: &Reported, shown: Shown) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        synonyms: broker_synonyms(config, shown),
        config_source: source_code(config),
        name: Str::copy(&config.name),
        value: config.value.as_deref().map(Str::copy),
        // Nothing of a node can be changed while it runs yet, whatever Kafka allows.
        read_only: true,
        is_sensitive: config.is_sensitive,
        config_type: config.key.kind.code(),
        documentation: None,
    }
}

fn source_code(config: &Reported) -> i8 {
    match config.source {
        ReportedSource::Static => STATIC_BROKER,
        ReportedSource::Default => DEFAULT,
    }
}

fn broker_synonyms(config: &Reported, shown: Shown) -> Vec<DescribeConfigsSynonym> {
    let mut synonyms = Vec::new();
    if shown.synonyms {
        let synonym = |value: Option<&str>, source| DescribeConfigsSynonym {
            name: Str::copy(config.key.name),
            value: value.map(Str::copy),
            source,
        };
        if config.source == ReportedSource::Static {
            synonyms.push(DescribeConfigsSynonym {
                name: Str::copy(&config.name),
                ..synonym(config.written.as_deref(), STATIC_BROKER)
            });
        }
        if let Some(default) = config.key.default {
            synonyms.push(synonym((!config.is_sensitive).then_some(default), DEFAULT));
        }
    }
    synonyms
}

/// A group's key: its own value, or else the node's. As in Kafka the value that was set is shown,
/// even where the node's bounds are others by now and a bounded one is in force.
fn group_setting(
    key: &GroupKey,
    own: Option<&str>,
    node: &Reported,
    shown: Shown,
) -> DescribeConfigsResourceResult {
    let own = own.map(group_config::canonical);
    let mut synonyms = broker_synonyms(node, shown);
    if let Some(own) = own.as_ref().filter(|_| shown.synonyms) {
        let synonym = DescribeConfigsSynonym {
            name: Str::from(key.name),
            value: Some(own.clone()),
            source: GROUP,
        };
        synonyms.insert(0, synonym);
    }
    let documentation = shown.documentation.then(|| Str::from(key.documentation));
    DescribeConfigsResourceResult {
        name: Str::from(key.name),
        read_only: false,
        config_source: own.as_ref().map_or(source_code(node), |_| GROUP),
        value: own.or_else(|| node.value.as_deref().map(Str::copy)),
        is_sensitive: false,
        synonyms,
        config_type: ConfigKind::Int.code(),
        documentation,
    }
}

fn row(
    resource: DescribeConfigsResource,
    mut configs: Vec<DescribeConfigsResourceResult>,
) -> DescribeConfigsResult {
    configs.iter_mut().for_each(withhold);
    DescribeConfigsResult {
        error_code: ErrorCode::NONE,
        error_message: Some(Str::default()),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        configs,
    }
}

/// Leaves out what no answer can carry. That a value is set and not shown is what clients take from
/// `is_sensitive`; without it they would take it for unset, and some would copy that elsewhere.
fn withhold(config: &mut DescribeConfigsResourceResult) {
    let is_too_long = |value: &mut Str| value.len() > ConfigMap::LONGEST;
    config.is_sensitive |= config.value.take_if(is_too_long).is_some();
    for synonym in &mut config.synonyms {
        synonym.value.take_if(is_too_long);
    }
}

fn refuse(resource: DescribeConfigsResource, refused: Refused) -> DescribeConfigsResult {
    let Refused(error_code, text) = refused;
    DescribeConfigsResult {
        error_code,
        error_message: Some(foreign::sentence(&text)),
        ..row(resource, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use palisade_protocol::api::ApiKey;
    use palisade_protocol::frame;

    use super::*;
    use crate::config::TopicDefaults;

    /// A file of the node may hold such a value, and so may the metadata of an earlier release.
    #[test]
    fn a_value_too_long_for_an_answer_is_withheld() {
        let key = "follower.replication.throttled.replicas";
        let settings = |bytes| {
            let items = ["10:10"; 6_000].join(",");
            ConfigMap::from_iter([(key, &items[..bytes])])
        };
        let answer = |bytes| {
            let shown = Shown {
                synonyms: true,
                documentation: true,
            };
            let described = describe(&TopicDefaults::default(), &settings(bytes)).into_iter();
            let described = described
                .map(|config| topic_config(config, shown))
                .collect();
            DescribeConfigsResponse {
                results: vec![row(DescribeConfigsResource::default(), described)],
                ..DescribeConfigsResponse::default()
            }
        };
        for (bytes, is_withheld) in [(32_765, false), (35_999, true)] {
            let answer = answer(bytes);
            let row = answer.results[0].configs.iter();
            let row = row.clone().find(|config| &*config.name == key).unwrap();
            assert_eq!(row.value.is_none(), is_withheld, "{bytes}");
            assert_eq!(row.is_sensitive, is_withheld, "{bytes}");
            assert_eq!(row.synonyms[0].value.is_none(), is_withheld, "{bytes}");
            assert_eq!(row.config_source, 1, "it is set");
            for version in 1..=4 {
                let buffer = bytes::BytesMut::new();
                let key = ApiKey::DescribeConfigs;
                let encoded = frame::encode_response(buffer, key, version, 1, &answer);
                assert!(encoded.is_ok(), "{bytes} bytes in version {version}");
            }
        }
    }
}
