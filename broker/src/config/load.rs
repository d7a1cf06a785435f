//! From sources to a [`Config`]: gather, sort, assemble, check, and report everything at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use palisade_auth::Principal;

use super::{
    AuditFullPolicy, AuditSettings, AuthorizerSettings, CleanerSettings, Config, ConfigError,
    ConfigErrors, FlushPolicyName, Limits, LogSettings, RecordValidation, ScrubSettings, Sources,
    TopicSettings, Warning, Warnings, checks, files, follow_ons, indirection::Providers, listeners,
    listeners::relation, own_keys, source, topic_defaults, values::Values,
};

impl Config {
    /// Reads, checks and types a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it, in one value.
    pub fn load(sources: &Sources) -> Result<(Self, Warnings), ConfigErrors> {
        Self::load_and(sources, |_| None)
    }

    /// As [`load`](Self::load). Where something is wrong, `look_at` says what else is with the data
    /// directory: a start that is refused anyway does not come to it.
    ///
    /// # Errors
    /// Everything that is wrong, in one value.
    pub(crate) fn load_and(
        sources: &Sources,
        look_at: impl FnOnce(&Path) -> Option<String>,
    ) -> Result<(Self, Warnings), ConfigErrors> {
        let mut errors = Vec::new();
        let mut warnings = Vec::new();
        let given = source::gather(sources, &mut errors, &mut warnings);
        let providers = Providers::declared(&given, sources.variables(), &mut errors);
        let values = Values::sort(
            given,
            |given| providers.expand(&given.value),
            &mut errors,
            &mut warnings,
        );
        let listeners =
            listeners::assemble(&values, sources.machine_name(), &mut errors, &mut warnings);
        checks::roles(&values, &mut errors);
        checks::relations(&values, &mut errors);
        let data_dir = data_dir(&values, &mut errors, &mut warnings);
        files::check_config_file(sources.file_path(), &values, &mut errors, &mut warnings);
        let config = Self {
            node_id: checks::node_id(&values, &mut errors),
            cluster_id: values.filled("palisade.cluster.id").map(str::to_owned),
            rack: values.filled("broker.rack").map(str::to_owned),
            limits: limits(&values, &mut errors),
            authorizer: authorizer(&values, &mut errors, &mut warnings),
            audit: audit(&values, &data_dir),
            log: log(&values),
            topics: topics(&values),
            topic_defaults: topic_defaults::resolve(&values),
            listeners: listeners.bound,
            data_dir,
            values,
        };
        note_nobody(&config, &mut warnings);
        own_keys::check(&config, listeners.is_partial, &mut errors, &mut warnings);
        follow_ons::drop(&config.values, &mut errors);
        follow_ons::merge(&mut errors);
        if errors.is_empty() {
            return Ok((config, Warnings(warnings)));
        }
        // As whoever mends them goes through the file; the sort keeps the others as they are.
        errors.sort_by_key(|error| error.line().unwrap_or(usize::MAX));
        if !is_told_of_data_dir(&config.values, &errors)
            && let Some(reason) = look_at(&config.data_dir)
        {
            relation(&mut errors, "log.dirs", reason);
        }
        Err(ConfigErrors(errors))
    }
}

fn millis(values: &Values, key: &'static str) -> Duration {
    Duration::from_millis(u64::try_from(values.number(key)).unwrap_or(0))
}

fn size(values: &Values, key: &'static str) -> usize {
    usize::try_from(values.number(key)).unwrap_or(0)
}

/// A kernel buffer's size; -1 leaves it to the system.
fn buffer(values: &Values, key: &'static str) -> Option<usize> {
    usize::try_from(values.number(key)).ok()
}

fn data_dir(
    values: &Values,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<Warning>,
) -> PathBuf {
    // Kafka reads log.dirs first; log.dir is a list there too.
    let key = if values.set("log.dirs").is_some() {
        "log.dirs"
    } else {
        "log.dir"
    };
    let items = values.items(key);
    if items.len() > 1 {
        relation(
            errors,
            key,
            "one data directory is supported so far".to_owned(),
        );
    }
    if values.set(key).is_none() {
        warnings.push(Warning::Note(
            "log.dirs is not set: data goes to /tmp/kafka-logs, which a restart may empty"
                .to_owned(),
        ));
    }
    let dir = PathBuf::from(items.first().copied().unwrap_or_default());
    if let Some(metadata) = values.filled("metadata.log.dir")
        && dir != Path::new(metadata)
    {
        relation(
            errors,
            "metadata.log.dir",
            "the metadata log lies in the data directory; leave this key out".to_owned(),
        );
    }
    files::check_data_dir(key, &dir, errors, warnings);
    dir
}

/// Whether what is wrong with the data directory's key has been said.
fn is_told_of_data_dir(values: &Values, errors: &[ConfigError]) -> bool {
    ["log.dirs", "log.dir"].into_iter().any(|key| {
        let is_about =
            |error: &ConfigError| matches!(error, ConfigError::Relation { keys, .. } if keys == key);
        values.is_spoiled(key) || errors.iter().any(is_about)
    })
}

fn limits(values: &Values, errors: &mut Vec<ConfigError>) -> Limits {
    let idle = values.number("connections.max.idle.ms");
    let rate = values.number("max.connection.creation.rate");
    let queued = values.number("queued.max.request.bytes");
    Limits {
        max_connections: size(values, "max.connections"),
        max_connections_per_ip: size(values, "max.connections.per.ip"),
        max_connections_per_ip_overrides: per_ip_overrides(values, errors),
        max_connection_creation_rate: u32::try_from(rate)
            .ok()
            .filter(|_| values.set("max.connection.creation.rate").is_some()),
        max_unauthenticated: size(values, "palisade.max.unauthenticated.connections"),
        max_unauthenticated_per_ip: size(values, "palisade.max.unauthenticated.connections.per.ip"),
        request_max_bytes: size(values, "socket.request.max.bytes"),
        sasl_max_bytes: size(values, "sasl.server.max.receive.size"),
        queued_max_bytes: usize::try_from(queued).ok().filter(|bytes| *bytes > 0),
        idle: u64::try_from(idle).ok().map(Duration::from_millis),
        failed_authentication_delay: millis(values, "connection.failed.authentication.delay.ms"),
        tls_handshake: millis(values, "palisade.tls.handshake.timeout.ms"),
        login: millis(values, "palisade.login.timeout.ms"),
        frame: millis(values, "palisade.frame.timeout.ms"),
        listen_backlog: u32::try_from(values.number("socket.listen.backlog.size")).unwrap_or(50),
        send_buffer_bytes: buffer(values, "socket.send.buffer.bytes"),
        receive_buffer_bytes: buffer(values, "socket.receive.buffer.bytes"),
        fetch_max_bytes: size(values, "fetch.max.bytes"),
        fetch_session_slots: size(values, "max.incremental.fetch.session.cache.slots"),
        describe_partitions_max: size(values, "max.request.partition.size.limit"),
    }
}

fn per_ip_overrides(values: &Values, errors: &mut Vec<ConfigError>) -> BTreeMap<IpAddr, usize> {
    let key = "max.connections.per.ip.overrides";
    let mut overrides = BTreeMap::new();
    for item in values.items(key) {
        // The count is behind the last colon: IPv6 addresses have some of their own.
        let parsed = item.rsplit_once(':').and_then(|(host, count)| {
            let host = host.trim().trim_start_matches('[').trim_end_matches(']');
            Some((host.parse::<IpAddr>().ok()?, count.trim().parse().ok()?))
        });
        match parsed {
            Some((address, count)) => {
                overrides.insert(address, count);
            }
            None => relation(
                errors,
                key,
                format!("{item}: expected address:count; names are not resolved"),
            ),
        }
    }
    overrides
}

fn authorizer(
    values: &Values,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<Warning>,
) -> AuthorizerSettings {
    let class = values.text("authorizer.class.name").unwrap_or_default();
    let disabled = values.flag("palisade.danger.disable.authorizer");
    match class {
        "org.apache.kafka.metadata.authorizer.StandardAuthorizer" => {}
        "" if disabled => {}
        "" => relation(
            errors,
            "authorizer.class.name",
            "without an authorizer everybody may do everything; leave the key out, or \
             acknowledge it with palisade.danger.disable.authorizer=true"
                .to_owned(),
        ),
        _ => relation(
            errors,
            "authorizer.class.name",
            "classes cannot be loaded; the built-in authorizer follows \
             org.apache.kafka.metadata.authorizer.StandardAuthorizer"
                .to_owned(),
        ),
    }
    if values.flag("allow.everyone.if.no.acl.found") {
        warnings.push(Warning::Note(
            "allow.everyone.if.no.acl.found is on: a resource without ACLs is open to all"
                .to_owned(),
        ));
    }
    AuthorizerSettings {
        enabled: !disabled,
        super_users: super_users(values, errors),
        allow_everyone_if_no_acl_found: values.flag("allow.everyone.if.no.acl.found"),
    }
}

/// An administrator is made where SASL lets one log in; elsewhere only `super.users` begins.
fn note_nobody(config: &Config, warnings: &mut Vec<Warning>) {
    let has_sasl = config.listeners.iter().any(|one| one.sasl.is_some());
    let rules = &config.authorizer;
    let is_open = !rules.enabled || rules.allow_everyone_if_no_acl_found;
    if !has_sasl && !is_open && rules.super_users.is_empty() {
        warnings.push(Warning::Note(
            "nobody may do anything until ACLs say so, and nobody may set them: add a SASL listener, for \
             which an administrator is made, or name one in super.users"
                .to_owned(),
        ));
    }
}

/// Principals separated by semicolons, for names of certificates have commas.
fn super_users(values: &Values, errors: &mut Vec<ConfigError>) -> Vec<String> {
    let mut users = BTreeSet::new();
    let text = values.text("super.users").unwrap_or_default();
    for item in text
        .split(';')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        match item.parse::<Principal>() {
            Ok(_) => {
                users.insert(item.to_owned());
            }
            Err(error) => relation(
                errors,
                "super.users",
                format!("{error}; expected Type:name;Type:name, for example User:admin"),
            ),
        }
    }
    users.into_iter().collect()
}

fn audit(values: &Values, data_dir: &Path) -> Option<AuditSettings> {
    if values.flag("palisade.danger.disable.audit") {
        return None;
    }
    let dir = values
        .filled("palisade.audit.dir")
        .map_or_else(|| data_dir.join("audit"), PathBuf::from);
    Some(AuditSettings {
        dir,
        queue_max_bytes: size(values, "palisade.audit.queue.max.bytes"),
        block_max: millis(values, "palisade.audit.block.max.ms"),
        full_policy: match values.text("palisade.audit.full.policy") {
            Some("count") => AuditFullPolicy::Count,
            _ => AuditFullPolicy::Block,
        },
        reserve_bytes: size(values, "palisade.audit.reserve.bytes") as u64,
    })
}

fn log(values: &Values) -> LogSettings {
    LogSettings {
        flush_policy: match values.text("palisade.log.flush.policy") {
            Some("interval") => FlushPolicyName::Interval,
            Some("os") => FlushPolicyName::Os,
            _ => FlushPolicyName::Ack,
        },
        record_validation: match values.text("palisade.record.validation") {
            Some("full") => RecordValidation::Full,
            _ => RecordValidation::Header,
        },
        retention_check_interval: millis(values, "log.retention.check.interval.ms"),
        producer_id_expiration: millis(values, "producer.id.expiration.ms"),
        checkpoint_interval: millis(values, "log.flush.offset.checkpoint.interval.ms"),
        recovery_threads: size(values, "num.recovery.threads.per.data.dir"),
        cleaner: cleaner(values),
        scrub: scrub(values),
    }
}

fn scrub(values: &Values) -> Option<ScrubSettings> {
    let interval = millis(values, "palisade.log.scrub.interval.ms");
    let bytes = values.number("palisade.log.scrub.bytes.per.second");
    (!interval.is_zero()).then(|| ScrubSettings {
        interval,
        bytes_per_second: u64::try_from(bytes).unwrap_or(1).max(1),
    })
}

fn cleaner(values: &Values) -> CleanerSettings {
    let fraction = |key, or: f64| {
        let text: Option<f64> = values.text(key).and_then(|text| text.parse().ok());
        text.filter(|value| *value > 0.0).unwrap_or(or)
    };
    let threads = match values.flag("log.cleaner.enable") {
        true => size(values, "log.cleaner.threads"),
        false => 0,
    };
    CleanerSettings {
        threads,
        backoff: millis(values, "log.cleaner.backoff.ms"),
        max_bytes_per_second: fraction("log.cleaner.io.max.bytes.per.second", f64::INFINITY),
        map_bytes: size(values, "log.cleaner.dedupe.buffer.size"),
        map_load: fraction("log.cleaner.io.buffer.load.factor", 0.9),
        buffer_bytes: size(values, "log.cleaner.io.buffer.size"),
    }
}

fn topics(values: &Values) -> TopicSettings {
    TopicSettings {
        auto_create: values.flag("auto.create.topics.enable"),
        delete_enabled: values.flag("delete.topic.enable"),
        num_partitions: i32::try_from(values.number("num.partitions")).unwrap_or(1),
        default_replication_factor: i16::try_from(values.number("default.replication.factor"))
            .unwrap_or(1),
    }
}
