//! What cannot be kept is refused, each with its reason.

use super::{
    Config,
    tests::{BASE, load, sources},
};

/// One line on top of `BASE`, and what must be said about it.
const REFUSED: &[(&str, &str)] = &[
    (
        "listner=x",
        "t.properties:4: unknown key listner; did you mean listeners?",
    ),
    ("foo=x", "t.properties:4: unknown key foo"),
    (
        "num.partitions=zero",
        "t.properties:4: num.partitions=zero: expected a 32-bit whole",
    ),
    ("advertised.listeners=B://h:1", "B is not in listeners"),
    (
        "advertised.listeners=SASL_PLAINTEXT://0.0.0.0:1",
        "cannot dial",
    ),
    (
        "inter.broker.listener.name=B",
        "B is not among the advertised listeners",
    ),
    (
        "inter.broker.listener.name=SASL_PLAINTEXT\nsecurity.inter.broker.protocol=SSL",
        "only one of the two may be set",
    ),
    (
        "inter.broker.listener.name=SASL_PLAINTEXT\nsasl.enabled.mechanisms=SCRAM-SHA-256",
        "SCRAM-SHA-512 is not enabled on SASL_PLAINTEXT",
    ),
    (
        "max.connections.per.ip=0",
        "0 without overrides would refuse everybody",
    ),
    (
        "max.connections.per.ip.overrides=host:1",
        "names are not resolved",
    ),
    (
        "connection.failed.authentication.delay.ms=100\nconnections.max.idle.ms=100",
        "100 must be below 100",
    ),
    (
        "queued.max.request.bytes=1000",
        "1000 must be at least 104857600",
    ),
    ("sasl.enabled.mechanisms=", "enables no mechanism"),
    ("sasl.enabled.mechanisms=GSSAPI", "GSSAPI is not built"),
    ("sasl.enabled.mechanisms=scram-sha-256", "in upper case"),
    (
        "sasl.enabled.mechanisms=PLAIN",
        "palisade.danger.allow.plain.without.tls=true",
    ),
    (
        "connections.max.reauth.ms=1000",
        "re-authentication (KIP-368) is not built",
    ),
    (
        "process.roles=broker",
        "a node is broker and controller in one so far",
    ),
    (
        "process.roles=controller",
        "a node is broker and controller in one so far",
    ),
    (
        "process.roles=",
        "a node is broker and controller in one so far",
    ),
    (
        "controller.quorum.voters=1@a:1,2@b:1",
        "clusters of several nodes are not built yet",
    ),
    (
        "controller.quorum.voters=2@a:1",
        "the only voter must be this node",
    ),
    ("controller.quorum.voters=a:1", "expected id@host:port"),
    (
        "controller.quorum.bootstrap.servers=a:1,b:1",
        "clusters of several nodes",
    ),
    ("broker.id=2", "1 and 2 must be equal"),
    (
        "default.replication.factor=3",
        "a single node holds every replica so far",
    ),
    (
        "offsets.topic.replication.factor=3",
        "a single node holds every replica so far",
    ),
    (
        "transaction.state.log.min.isr=2",
        "a single node holds every replica so far",
    ),
    (
        "remote.log.storage.system.enable=true",
        "tiered storage is not built",
    ),
    (
        "create.topic.policy.class.name=com.example.P",
        "classes cannot be loaded",
    ),
    (
        "principal.builder.class=com.example.B",
        "classes cannot be loaded",
    ),
    (
        "sasl.server.callback.handler.class=com.example.H",
        "classes cannot be loaded",
    ),
    (
        "authorizer.class.name=com.example.A",
        "classes cannot be loaded",
    ),
    ("authorizer.class.name=", "everybody may do everything"),
    ("super.users=admin", "expected Type:name;Type:name"),
    (
        "delegation.token.secret.key=geheim",
        "delegation tokens are not built",
    ),
    ("log.dirs=/a,/b", "one data directory is supported so far"),
    (
        "metadata.log.dir=/a",
        "the metadata log lies in the data directory",
    ),
    (
        "group.consumer.session.timeout.ms=1",
        "45000 may not exceed 1",
    ),
    (
        "group.coordinator.rebalance.protocols=consumer",
        "classic must be among them",
    ),
    (
        "palisade.log.flush.policy=interval",
        "nothing would ever be synced",
    ),
    (
        "palisade.log.flush.policy=never",
        "one of ack, interval, os",
    ),
    (
        "palisade.tls.handshake.timeout.ms=1",
        "has no effect: no listener uses TLS",
    ),
    (
        "palisade.danger.allow.plain.without.tls=true",
        "has no effect: no SASL_PLAINTEXT listener",
    ),
    (
        "palisade.danger.disable.audit=true\npalisade.audit.dir=/x",
        "palisade.audit.dir has no effect: palisade.danger.disable.audit is on",
    ),
    (
        "palisade.danger.disable.audit=true\npalisade.audit.reserve.bytes=1",
        "palisade.audit.reserve.bytes has no effect: palisade.danger.disable.audit is on",
    ),
    ("palisade.audit.full.policy=drop", "one of block, count"),
    (
        "palisade.audit.reserve.bytes=-1",
        "palisade.audit.reserve.bytes",
    ),
    (
        "palisade.log.scrub.interval.ms=0\npalisade.log.scrub.bytes.per.second=1",
        "palisade.log.scrub.bytes.per.second has no effect: palisade.log.scrub.interval.ms is 0",
    ),
    ("palisade.nonsense=1", "unknown key palisade.nonsense"),
    (
        "listener.name.other.max.connections=1",
        "there is no listener OTHER",
    ),
    (
        "listener.name.SASL_PLAINTEXT.max.connections=1",
        "in lower case here: sasl_plaintext",
    ),
    (
        "listener.name.sasl_plaintext.num.partitions=1",
        "cannot be set per listener",
    ),
    (
        "listener.name.sasl_plaintext.plain.max.connections=1",
        "cannot be set per mechanism",
    ),
    (
        "listener.name.sasl_plaintext.ssl.client.auht=x",
        "did you mean listener.name.sasl_plaintext.ssl.client.auth?",
    ),
    ("ssl.client.auth=maybe", "one of required, requested, none"),
    (
        "ssl.enabled.protocols=TLSv1.1,TLSv1.2",
        "a list of TLSv1.2, TLSv1.3",
    ),
    ("a=\\u12", "malformed \\uXXXX escape"),
    (
        "ssl.key.password=${vault:a:b}",
        "that config.providers does not declare",
    ),
    ("config.providers.x.class=y", "named in config.providers"),
];

#[test]
fn what_cannot_be_kept_is_refused_with_its_reason() {
    for (line, part) in REFUSED {
        let text = match load(&format!("{BASE}{line}\n")) {
            Err(errors) => errors.to_string(),
            Ok(_) => panic!("{line}: accepted"),
        };
        assert!(text.contains(part), "{line}:\n{text}");
    }
}

/// A value may be as long as the file, and hold whatever an escape can say.
#[test]
fn what_is_wrong_with_a_value_is_one_short_line() {
    let long = "9".repeat(70_000);
    for (line, begin, end) in [
        (
            format!("num.partitions={long}"),
            "t.properties:4: num.partitions=999",
            "…: expected a 32-bit whole number, at least 1",
        ),
        (
            format!("controller.quorum.voters={long}"),
            "controller.quorum.voters: 999",
            "999: expected id@host:port",
        ),
        (
            format!("super.users={long}"),
            "super.users: ",
            "for example User:admin",
        ),
        (format!("a{long}=x"), "t.properties:4: unknown key a9", "…"),
        (
            "advertised.listeners=\\u001b[1m\\n://h:1".to_owned(),
            "advertised.listeners: \\u{1b}[1m\\u{a}://h:1: ",
            "'_', '-' and '.'",
        ),
        (
            "log.dirs=\\u0000".to_owned(),
            "t.properties:4: log.dirs=\\u{0}: expected ",
            "without NUL characters",
        ),
        (
            "palisade.audit.dir=/a\\u0000b".to_owned(),
            "t.properties:4: palisade.audit.dir=/a\\u{0}b: expected ",
            "without NUL characters",
        ),
    ] {
        let text = load(&format!("{BASE}{line}\n")).unwrap_err().to_string();
        let begin = format!("configuration: {begin}");
        assert!(text.starts_with(&begin) && text.ends_with(end), "{text}");
        assert!(text.len() < 2_000, "{text}");
    }
}

#[test]
fn listeners_are_refused_with_their_reason() {
    for (listeners, part) in [
        (
            "",
            "listeners=: expected one item or more, separated by commas",
        ),
        ("PLAINTEXT:9092", "expected NAME://host:port"),
        ("OTHER://:9092", "listener OTHER is mapped to no protocol"),
        (
            "PLAINTEXT://:9092,plaintext://:9093",
            "name PLAINTEXT is given twice",
        ),
        ("PLAINTEXT://:1,SASL_PLAINTEXT://:1", "share port 1"),
        ("PLAINTEXT://0.0.0.0:1", "clients cannot dial 0.0.0.0"),
    ] {
        let text = load(&format!(
            "node.id=1\nlog.dirs=/nowhere\nlisteners={listeners}\n"
        ))
        .unwrap_err()
        .to_string();
        assert!(text.contains(part), "{listeners}:\n{text}");
    }
    let text = load("log.dirs=/nowhere").unwrap_err().to_string();
    assert!(text.contains("listeners is not set"), "{text}");
    assert!(text.contains("node.id is not set"), "{text}");
    assert!(text.contains("configuration: 2 problems\n"), "{text}");
}

#[test]
fn problems_of_a_file_stand_in_the_order_of_its_lines() {
    let text = load(
        "node.id=1\nlog.dirs=/nowhere\nlisteners=PLAINTEXT://h:1\nnum.partitions=x\n\
         num.partition=1\n\nlog.retention.ms=y\nnum.network.thread=1\n",
    );
    let text = text.unwrap_err().to_string();
    let lines: Vec<usize> = text
        .lines()
        .filter_map(|line| line.split(':').nth(1)?.parse().ok())
        .collect();
    assert_eq!(lines, [4, 5, 7, 8], "{text}");
}

#[test]
fn a_problem_is_not_reported_for_what_follows_from_it() {
    for (text, expected) in [
        (
            "node.id=one\nlistener=SASL_SSL://:1\n",
            &["node.id=one: expected", "did you mean listeners?"][..],
        ),
        (
            "node.id=1\nlisteners=A:/9092\nadvertised.listeners=A://h:1\n\
             inter.broker.listener.name=A\nlistener.name.a.max.connections=1\n\
             palisade.tls.handshake.timeout.ms=1\n",
            &["A:/9092: expected NAME://host:port"],
        ),
        (
            "node.id=1\nlisteners=A://h:1\nlistener.security.protocol.map=A:TLS\n\
             palisade.login.timeout.ms=10000\n",
            &["the protocol is one of"],
        ),
        (
            "node.id=1\nlisteners=A://0.0.0.0:1\nlistener.security.protocol.map=A:PLAINTEXT\n\
             advertised.listeners=A//h:1\n",
            &["A//h:1: expected NAME://host:port"],
        ),
        (
            "node.id=1\nlisteners=SASL_PLAINTEXT://h:1\nconnections.max.idle.ms=ten\n\
             connection.failed.authentication.delay.ms=700000\n",
            &["connections.max.idle.ms=ten: expected"],
        ),
        (
            "node.id=1\nlisteners=SASL_PLAINTEXT://h:1\npalisade.log.flush.policy=interval\n\
             log.flush.interval.ms=often\n",
            &["log.flush.interval.ms=often: expected"],
        ),
        (
            "node.id=1\nlisteners=SASL_SSL://h:1\nssl.keystore.locaton=/x\n",
            &["did you mean ssl.keystore.location?"],
        ),
        (
            "node.id=1\nlisteners=SASL_PLAINTEXT://h:1\nsasl.enabled.mechanisms=SCRAM-SHA512\n\
             inter.broker.listener.name=SASL_PLAINTEXT\n\
             sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512\n",
            &["SCRAM-SHA512: expected PLAIN"],
        ),
        (
            "node.id=1\nlisteners=SASL_PLAINTEXT://h:1\nconfig.providers=d\n\
             config.providers.d.class=\
             org.apache.kafka.common.config.provider.DirectoryConfigProvider\n\
             config.providers.d.param.allowed.paths=/nowhere/secrets\n",
            &["config.providers.d.param.allowed.paths: /nowhere/secrets: No such file"],
        ),
    ] {
        let text = format!("log.dirs=/nowhere/data\n{text}");
        let errors = load(&text).map(drop).unwrap_err();
        let shown = errors.to_string();
        for part in expected {
            assert!(shown.contains(part), "{text}\n{part} is not in:\n{shown}");
        }
        assert_eq!(errors.0.len(), expected.len(), "{text}\n{shown}");
    }
}

#[test]
fn the_data_directory_is_told_of_unless_its_key_was() {
    let told = |text: &str| {
        let looked = Config::load_and(&sources(text), |_| Some("no such place".to_owned()));
        let text = looked.unwrap_err().to_string();
        assert!(text.contains("log.dir"), "{text}");
        text.contains(": no such place")
    };
    for line in [
        "num.partitions=log.dir",
        "log.directory.kept=x",
        "super.users=log.dirs",
        "metadata.log.dir=/elsewhere",
    ] {
        assert!(told(&format!("{BASE}{line}\n")), "{line}");
    }
    let (base, _) = BASE.split_once("log.dirs").unwrap();
    for line in [
        "log.dirs=/a,/b",
        "log.dir=/a,/b",
        "log.dir=/dev/null",
        "log.drs=/a",
    ] {
        assert!(!told(&format!("{base}{line}\n")), "{line}");
    }
}

/// A listener that could heed an own key, and one that cannot; a key with a prefix is for its own.
#[test]
fn own_keys_are_judged_by_the_listeners_that_they_are_for() {
    const STRICT: &str = "palisade.sasl.scram.strict.nonce=true";
    const DANGER: &str = "palisade.danger.allow.plain.without.tls=true";
    const LOGIN: &str = "palisade.login.timeout.ms=10000";
    let jaas = "listener.name.l.plain.sasl.jaas.config=\
        org.apache.kafka.common.security.plain.PlainLoginModule required user_a=b;";
    let shown = |line: &str, protocols: &str| {
        let text = format!(
            "node.id=1\nlog.dirs=/nowhere\nlisteners=L://h:1,O://h:2\n\
             listener.name.l.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n{jaas}\n\
             listener.security.protocol.map={protocols}\n{DANGER}\n{line}\n"
        );
        load(&text).map_or_else(|errors| errors.to_string(), |_| String::new())
    };
    let logins = "L:SASL_PLAINTEXT,O:PLAINTEXT";
    for good in [
        STRICT.to_owned(),
        LOGIN.to_owned(),
        format!("listener.name.l.{STRICT}"),
    ] {
        assert_eq!(shown(&good, logins), "", "{good}");
    }
    for (bad, reason) in [
        (STRICT, "the listener does not use SCRAM"),
        (DANGER, "the listener is not SASL_PLAINTEXT with PLAIN"),
    ] {
        let (key, _) = bad.split_once('=').unwrap();
        let text = shown(&format!("listener.name.o.{bad}"), logins);
        let expected = format!("listener.name.o.{key} has no effect: {reason}");
        assert!(text.contains(&expected), "{text}");
    }
    // What is not there is told of once.
    let text = shown(&format!("listener.name.x.{STRICT}"), logins);
    assert!(text.contains("there is no listener X"), "{text}");
    assert!(!text.contains("no effect"), "{text}");

    let only_tls = format!(
        "node.id=1\nlog.dirs=/nowhere\nlisteners=SSL://h:1\n{LOGIN}\n\
         palisade.max.unauthenticated.connections=7\n"
    );
    let text = load(&only_tls).map_or_else(|errors| errors.to_string(), |_| String::new());
    let expected = "palisade.login.timeout.ms has no effect: nobody logs in through SASL";
    assert!(text.contains(expected), "{text}");
    assert!(!text.contains("unauthenticated"), "{text}");
}
