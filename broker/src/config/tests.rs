//! Whole configurations: which start, which do not, and what is said about it.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use super::*;

const PLAIN_MODULE: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
pub(super) const BASE: &str =
    "node.id=1\nlisteners=SASL_PLAINTEXT://localhost:9092\nlog.dirs=/nowhere/data\n";

pub(super) fn sources(text: &str) -> Sources {
    Sources::new().text("t.properties", text).host_name("box")
}

pub(super) fn load(text: &str) -> Result<(Config, Warnings), ConfigErrors> {
    Config::load(&sources(text))
}

fn good(text: &str) -> (Config, Vec<String>) {
    let (config, warnings) = load(text).unwrap_or_else(|errors| panic!("{text}: {errors}"));
    let warnings = warnings.0.iter().map(ToString::to_string).collect();
    (config, warnings)
}

#[test]
fn a_stock_single_node_file_starts() {
    let text = "process.roles=broker,controller\nnode.id=1\n\
        controller.quorum.bootstrap.servers=localhost:9093\n\
        listeners=PLAINTEXT://:9092,CONTROLLER://:9093\n\
        inter.broker.listener.name=PLAINTEXT\n\
        advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
        controller.listener.names=CONTROLLER\n\
        listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,\
        SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL\n\
        num.network.threads=3\nnum.io.threads=8\nsocket.send.buffer.bytes=102400\n\
        socket.receive.buffer.bytes=102400\nsocket.request.max.bytes=104857600\n\
        log.dirs=/nowhere/kraft-combined-logs\nnum.partitions=1\n\
        num.recovery.threads.per.data.dir=1\noffsets.topic.replication.factor=1\n\
        share.coordinator.state.topic.replication.factor=1\n\
        share.coordinator.state.topic.min.isr=1\n\
        transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
        log.retention.hours=168\nlog.segment.bytes=1073741824\n\
        log.retention.check.interval.ms=300000\n";
    let (config, warnings) = good(text);
    assert_eq!(config.listeners.len(), 1);
    let listener = config.listener("plaintext").unwrap();
    assert!(listener.inter_broker);
    assert_eq!(listener.advertised.to_string(), "localhost:9092");
    assert_eq!(
        warnings,
        [
            "keys without meaning here: num.io.threads, num.network.threads",
            "controller listener CONTROLLER is not bound: a single voter needs no quorum traffic",
            "listeners without encryption: PLAINTEXT",
            "nobody may do anything until ACLs say so, and nobody may set them: add a SASL listener, \
             for which an administrator is made, or name one in super.users",
        ]
    );
}

#[test]
fn the_cleaners_keys_take_effect() {
    let cleaner = |text: &str| {
        let (config, warnings) = good(&format!("{BASE}{text}"));
        let idle = |warning: &String| warning.contains("without meaning");
        assert!(!warnings.iter().any(idle), "{warnings:?}");
        config.log.cleaner
    };
    let set = cleaner(
        "log.cleaner.threads=3\nlog.cleaner.backoff.ms=7\nlog.cleaner.dedupe.buffer.size=2097152\n\
         log.cleaner.io.buffer.size=4096\nlog.cleaner.io.buffer.load.factor=0.5\n\
         log.cleaner.io.max.bytes.per.second=1e6\n",
    );
    let wanted = CleanerSettings {
        threads: 3,
        backoff: Duration::from_millis(7),
        max_bytes_per_second: 1e6,
        map_bytes: 2 << 20,
        map_load: 0.5,
        buffer_bytes: 4096,
    };
    assert_eq!(set, wanted);
    assert_eq!(cleaner("log.cleaner.enable=false\n").threads, 0);
    assert_eq!(cleaner("").map_bytes, 40 << 20);
}

#[test]
fn levels_that_are_obeyed_are_not_called_meaningless() {
    let levels = "compression.gzip.level=1\ncompression.zstd.level=1\ncompression.lz4.level=1\n";
    let (config, warnings) = good(&format!("{BASE}{levels}"));
    let idle: Vec<&String> = warnings
        .iter()
        .filter(|warning| warning.contains("without meaning"))
        .collect();
    assert_eq!(idle, ["keys without meaning here: compression.lz4.level"]);
    let level = |key| config.topic_defaults.get(key).unwrap().value.clone();
    assert_eq!(level("compression.gzip.level"), "1");
    assert_eq!(level("compression.zstd.level"), "1");
}

#[test]
fn a_fingerprint_changes_with_what_is_in_force_and_not_with_secrets() {
    let of = |text: &str| good(&format!("{BASE}{text}")).0.fingerprint();
    let usual = of("");
    assert_eq!(usual.len(), 64);
    assert_eq!(of("num.partitions=1\n"), usual, "the default, written down");
    assert_ne!(of("num.partitions=2\n"), usual);
    assert_ne!(of("super.users=User:a\n"), usual);
    let secret = |word: &str| of(&format!("ssl.key.password={word}\n"));
    assert_eq!(secret("a"), secret("b"));
}

#[test]
fn the_scrubs_keys_take_effect() {
    let scrub = |text: &str| good(&format!("{BASE}{text}")).0.log.scrub;
    let wanted = |interval, bytes_per_second| {
        Some(ScrubSettings {
            interval,
            bytes_per_second,
        })
    };
    let week = Duration::from_secs(7 * 24 * 3600);
    assert_eq!(scrub(""), wanted(week, 10 << 20));
    assert_eq!(scrub("palisade.log.scrub.interval.ms=0\n"), None);
    let set =
        scrub("palisade.log.scrub.interval.ms=1500\npalisade.log.scrub.bytes.per.second=4096\n");
    assert_eq!(set, wanted(Duration::from_millis(1500), 4096));
}

#[test]
fn defaults_are_those_of_the_tables() {
    let (config, _) = good(BASE);
    let listener = &config.listeners[0];
    let sasl = listener.sasl.as_ref().unwrap();
    assert_eq!(
        sasl.mechanisms,
        [SaslMechanism::ScramSha512, SaslMechanism::ScramSha256]
    );
    assert!(!sasl.strict_nonce);
    assert!(config.authorizer.enabled);
    assert!(!config.authorizer.allow_everyone_if_no_acl_found);
    assert_eq!(config.limits.max_connections, 10_000);
    assert_eq!(config.limits.max_connection_creation_rate, None);
    assert_eq!(config.limits.idle, Some(Duration::from_secs(600)));
    assert_eq!(config.limits.queued_max_bytes, None);
    assert_eq!(config.log.flush_policy, FlushPolicyName::Ack);
    assert_eq!(config.log.record_validation, RecordValidation::Header);
    let audit = config.audit.unwrap();
    assert_eq!(audit.dir, config.data_dir.join("audit"));
    assert_eq!(audit.queue_max_bytes, 16 << 20);
    assert_eq!(audit.block_max, Duration::from_secs(5));
    assert_eq!(audit.full_policy, AuditFullPolicy::Block);
    assert_eq!(audit.reserve_bytes, 64 << 20);
    assert_eq!(config.topics.default_replication_factor, 1);
}

#[test]
fn the_command_line_beats_the_environment_beats_the_file() {
    let variables = [
        ("KAFKA_NUM_PARTITIONS", "3"),
        ("KAFKA_LOG_SEGMENT_BYTES", "2000000"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let sources = sources(&format!(
        "{BASE}num.partitions=2\nlog.segment.bytes=3000000\nlog.retention.hours=4\n"
    ))
    .environment(variables.to_vec())
    .overrides(vec![
        "num.partitions=4".to_owned(),
        "num.partitions = 5".to_owned(),
    ]);
    let (config, _) = Config::load(&sources).unwrap();
    assert_eq!(config.topics.num_partitions, 5);
    let default = |key: &str| config.topic_defaults.get(key).unwrap().value.clone();
    assert_eq!(default("segment.bytes"), "2000000");
    assert_eq!(default("retention.ms"), "14400000");
}

#[test]
fn a_listener_prefix_beats_the_plain_key_of_any_source() {
    let sources = sources(
        "node.id=1\nlog.dirs=/nowhere\nlisteners=A://:1,B://:2\n\
         listener.security.protocol.map=A:SASL_PLAINTEXT,B:SASL_PLAINTEXT\n\
         listener.name.b.sasl.enabled.mechanisms=SCRAM-SHA-256\n\
         listener.name.b.max.connections=7\n\
         listener.name.b.palisade.sasl.scram.strict.nonce=true\n",
    )
    .overrides(vec!["sasl.enabled.mechanisms=SCRAM-SHA-512".to_owned()]);
    let (config, _) = Config::load(&sources).unwrap();
    let of = |name: &str| config.listener(name).unwrap().sasl.clone().unwrap();
    assert_eq!(of("A").mechanisms, [SaslMechanism::ScramSha512]);
    assert_eq!(of("B").mechanisms, [SaslMechanism::ScramSha256]);
    assert_eq!((of("A").strict_nonce, of("B").strict_nonce), (false, true));
    assert_eq!(config.listener("B").unwrap().max_connections, Some(7));
    assert_eq!(config.listener("A").unwrap().max_connections, None);
}

#[test]
fn one_port_may_serve_both_families() {
    good(
        "node.id=1\nlog.dirs=/nowhere\n\
         listeners=PLAINTEXT://127.0.0.1:9092,SASL_PLAINTEXT://[::1]:9092\n",
    );
}

#[test]
fn a_listener_without_a_host_advertises_this_machine() {
    let (config, _) = good("node.id=1\nlog.dirs=/nowhere\nlisteners=PLAINTEXT://:0\n");
    assert_eq!(config.listeners[0].advertised.to_string(), "box:0");
}

#[test]
fn all_problems_come_together() {
    let errors = load("nod.id=1\nlisteners=A://:1\nnum.partitions=x\n").unwrap_err();
    // That node.id is missing follows from its mistyped name.
    assert_eq!(errors.0.len(), 3, "{errors}");
}

#[test]
fn secrets_show_nowhere() {
    let marker = "hunter2";
    let users = format!("{PLAIN_MODULE} required user_alice=\"{marker}\";");
    let text = format!(
        "{BASE}ssl.key.password={marker}\nsasl.enabled.mechanisms=PLAIN\n\
         palisade.danger.allow.plain.without.tls=true\n\
         listener.name.sasl_plaintext.plain.sasl.jaas.config={users}\n"
    );
    let (config, _) = good(&text);
    let sasl = config.listeners[0].sasl.as_ref().unwrap();
    assert_eq!(
        sasl.plain_users,
        [("alice".to_owned(), Secret::from(marker))]
    );
    assert!(!format!("{config:?}").contains(marker));
    let row = |name: &str| config.report().into_iter().find(|row| row.name == name);
    let reported = row("ssl.key.password").unwrap();
    assert!(reported.is_sensitive && reported.value.is_none() && reported.written.is_none());

    for key in [
        "ssl.key.password",
        "listener.name.x.ssl.keystore.password",
        "listener.name.x.plain.sasl.jaas.config",
        "LISTENER.NAME.X.SASL.JAAS.CONFIG",
        "sasl.jaas.config ",
    ] {
        let sources = sources(BASE).overrides(vec![format!("{key}={marker}")]);
        let errors = Config::load(&sources).unwrap_err();
        let text = errors.to_string();
        assert!(text.contains("visible to every user"), "{text}");
        assert!(!format!("{text}{errors:?}").contains(marker), "{text}");
    }
    // A text without a separator may be a secret whose key went astray.
    let sources = sources(BASE).overrides(vec!["ssl.key.password hunter2".to_owned()]);
    let text = Config::load(&sources).unwrap_err().to_string();
    assert!(
        text.contains("expected key=value") && !text.contains(marker),
        "{text}"
    );
    let errors = load(&format!("{BASE}delegation.token.secret.key={marker}\n")).unwrap_err();
    assert!(!format!("{errors}{errors:?}").contains(marker));
}

#[test]
fn a_value_from_a_provider_is_not_shown_either() {
    let text = format!(
        "{BASE}config.providers=env\n\
         config.providers.env.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider\n\
         num.partitions=${{env:N}}\nbroker.rack=${{env:R}}\n"
    );
    let variables = vec![
        ("N".to_owned(), "many".to_owned()),
        ("R".to_owned(), "r1".to_owned()),
    ];
    let errors = Config::load(&sources(&text).environment(variables.clone())).unwrap_err();
    assert!(
        errors
            .to_string()
            .contains("num.partitions=[hidden]: expected"),
        "{errors}"
    );
    let text = text.replace("num.partitions=${env:N}\n", "");
    let (config, _) = Config::load(&sources(&text).environment(variables)).unwrap();
    assert_eq!(config.rack.as_deref(), Some("r1"));
    let rows = config.report();
    let rack = rows.iter().find(|row| row.name == "broker.rack").unwrap();
    assert!(rack.is_sensitive && rack.value.is_none());
}

#[test]
fn warnings_name_what_is_without_meaning_or_dangerous() {
    let variables = [("KAFKA_HEAP_OPTS", "-Xmx1g"), ("KAFKA_FOO", "x")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let text = format!(
        "{BASE}zookeeper.connect=z\nnum.io.threads=4\nlistener.name.sasl_plaintext.ssl.provider=x\n\
         rsm.config.a=b\nsasl.enabled.mechanisms=PLAIN\npalisade.danger.allow.plain.without.tls=true\n\
         listener.name.sasl_plaintext.sasl.jaas.config={PLAIN_MODULE} required user_a=b;\n\
         palisade.danger.disable.audit=true\nnum.partitions=1\nnum.partitions=2\n"
    );
    let (config, warnings) = {
        let twice = ["num.partitions=3", "num.partitions=2"].map(str::to_owned);
        let sources = sources(&text).environment(variables.to_vec());
        Config::load(&sources.overrides(twice.to_vec())).unwrap()
    };
    assert!(config.audit.is_none());
    assert_eq!(config.topics.num_partitions, 2);
    let texts: Vec<String> = warnings.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "t.properties:12: num.partitions is set again in line 13, which wins",
            "environment variables that are no keys: KAFKA_FOO, KAFKA_HEAP_OPTS",
            "--override num.partitions is given again, and the last one wins",
            "keys without meaning here: listener.name.sasl_plaintext.ssl.provider, \
             num.io.threads, rsm.config.a, zookeeper.connect",
            "listeners without encryption: SASL_PLAINTEXT",
            "palisade.danger.allow.plain.without.tls is on",
            "palisade.danger.disable.audit is on",
        ]
    );
}

#[test]
fn modes_of_files_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let file = dir.path().join("server.properties");
    let text = format!(
        "node.id=1\nlisteners=SASL_PLAINTEXT://:1\nlog.dirs={}\n\
         sasl.jaas.config={PLAIN_MODULE} required user_a=b;\n",
        data.display()
    );
    fs::write(&file, text).unwrap();
    let run = |file_mode: u32, data_mode: u32| {
        fs::set_permissions(&file, fs::Permissions::from_mode(file_mode)).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(data_mode)).unwrap();
        Config::load(&Sources::new().file(&file).host_name("box"))
    };
    for (file_mode, data_mode) in [(0o600, 0o700), (0o640, 0o700)] {
        let (_, warnings) = run(file_mode, data_mode).unwrap();
        assert_eq!(warnings.0.len(), 1, "{warnings:?}");
    }
    let (_, warnings) = run(0o600, 0o755).unwrap();
    assert!(format!("{warnings:?}").contains("is open to others (mode 0755)"));
    let (_, warnings) = run(0o600, 0o770).unwrap();
    assert!(format!("{warnings:?}").contains("is open to others (mode 0770)"));
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (_, warnings) = run(0o600, 0o700).unwrap();
    let above = format!(
        "{} can be written by everybody (mode 0777), who can put another directory in the place",
        dir.path().display()
    );
    assert!(format!("{warnings:?}").contains(&above), "{warnings:?}");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let text = run(0o644, 0o777).unwrap_err().to_string();
    assert!(text.contains("(mode 0644); chmod 600"), "{text}");
    assert!(
        text.contains("can be written by everybody (mode 0777)"),
        "{text}"
    );
}

#[test]
fn a_missing_file_is_reported() {
    let errors = Config::load(&Sources::new().file("/nowhere/server.properties")).unwrap_err();
    let text = errors.to_string();
    assert!(
        text.starts_with("configuration: /nowhere/server.properties: cannot be read: No such file"),
        "{text}"
    );
}

#[test]
fn the_report_lists_every_key_with_its_source() {
    let (config, _) = good(&format!("{BASE}num.partitions=3\nsuper.users=User:a\n"));
    let rows = config.report();
    assert!(rows.is_sorted_by(|a, b| a.name < b.name));
    let row = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
    assert_eq!(row("num.partitions").source, ReportedSource::Static);
    assert_eq!(row("num.partitions").value.as_deref(), Some("3"));
    assert_eq!(row("log.retention.hours").source, ReportedSource::Default);
    assert_eq!(row("log.retention.ms").value, None);
    assert!(!row("log.retention.ms").is_read_only);
    assert!(row("super.users").is_sensitive);
    assert_eq!(row("broker.id").value.as_deref(), Some("1"));
    assert!(!rows.iter().any(|row| row.name.starts_with("zookeeper.")));
}
