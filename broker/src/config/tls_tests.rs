//! TLS settings of listeners, and the example configurations, with real key material.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use palisade_auth::tls::{ClientAuth, TlsVersion};

use super::*;
use crate::cli::dev::material::Material;

struct Keys {
    dir: tempfile::TempDir,
    material: Material,
}

impl Keys {
    fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let material = Material::ensure(dir.path(), &["localhost".to_owned()]).unwrap();
        Self { dir, material }
    }

    fn load(&self, lines: &str) -> Result<(Config, Warnings), ConfigErrors> {
        let text = format!(
            "node.id=1\nlog.dirs=/nowhere/data\nssl.keystore.location={}\n{lines}",
            self.material.server_keystore_pem.display()
        );
        Config::load(&Sources::new().text("t", &text).host_name("box"))
    }

    fn trust(&self) -> String {
        format!(
            "ssl.truststore.location={}\n",
            self.material.ca_pem.display()
        )
    }

    fn refused(&self, lines: &str) -> String {
        match self.load(lines) {
            Ok(_) => panic!("{lines}: accepted"),
            Err(errors) => errors.to_string(),
        }
    }
}

fn settings<'a>(config: &'a Config, name: &str) -> &'a TlsSettings {
    config.listener(name).unwrap().tls.as_ref().unwrap()
}

#[test]
fn listeners_see_their_own_keys_first() {
    let keys = Keys::make();
    let lines = format!(
        "{}listeners=SSL://:1,SASL_SSL://:2,B://:3\n\
         listener.security.protocol.map=SSL:SSL,SASL_SSL:SASL_SSL,B:SASL_SSL\n\
         ssl.client.auth=required\nlistener.name.b.ssl.client.auth=requested\n\
         listener.name.b.ssl.enabled.protocols=TLSv1.3\nssl.protocol=TLS\n",
        keys.trust()
    );
    let (config, warnings) = keys.load(&lines).unwrap();
    assert_eq!(settings(&config, "SSL").client_auth, ClientAuth::Required);
    // The bare key is not for SASL_SSL (KIP-684), which is said where nothing else is set.
    let note = "listener SASL_SSL: ssl.client.auth is for listeners of protocol SSL, and no \
                certificate is asked for here: to ask for one, set \
                listener.name.sasl_ssl.ssl.client.auth";
    assert_eq!(warnings.0, [Warning::Note(note.to_owned())]);
    assert_eq!(settings(&config, "SASL_SSL").client_auth, ClientAuth::None);
    assert_eq!(settings(&config, "B").client_auth, ClientAuth::Requested);
    assert_eq!(settings(&config, "B").protocols, [TlsVersion::Tls13]);
    assert_eq!(settings(&config, "SSL").protocols.len(), 2);
}

#[test]
fn what_cannot_serve_is_refused_at_the_start() {
    let keys = Keys::make();
    let ssl = "listeners=SSL://:1\n";
    let text = Config::load(&Sources::new().text(
        "t",
        "node.id=1\nlog.dirs=/nowhere\nlisteners=SASL_SSL://h:1\n",
    ))
    .unwrap_err()
    .to_string();
    assert!(
        text.contains("listener SASL_SSL: ssl.keystore.location"),
        "{text}"
    );
    for (lines, part) in [
        (
            "ssl.client.auth=required",
            "public authorities are never trusted",
        ),
        ("ssl.keystore.location=/nowhere/key.pem", "No such file"),
        ("ssl.keystore.type=JKS", "stores of type JKS are not read"),
        (
            "ssl.cipher.suites=TLS_RSA_WITH_RC4_128_SHA",
            "TLS_RSA_WITH_RC4_128_SHA",
        ),
        (
            "ssl.principal.mapping.rules=RULE:(/x/",
            "ssl.principal.mapping.rules",
        ),
        (
            "ssl.protocol=TLSv1.2\nssl.enabled.protocols=TLSv1.3",
            "ssl.protocol",
        ),
        (
            "ssl.keystore.password=hunter2",
            "PEM takes no store password",
        ),
    ] {
        let text = keys.refused(&format!("{ssl}{lines}\n"));
        assert!(
            text.contains("listener SSL:") && text.contains(part),
            "{lines}:\n{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn every_problem_is_named_at_once_and_none_twice() {
    let keys = Keys::make();
    let text = keys.refused(
        "listeners=SSL://:1,SASL_SSL://:2\nssl.client.auth=required\n\
         ssl.keystore.location=/nowhere/key.pem\nssl.truststore.location=/nowhere/ca.pem\n\
         ssl.cipher.suites=TLS_RSA_WITH_RC4_128_SHA\nssl.principal.mapping.rules=RULE:(/x/\n\
         sasl.enabled.mechanisms=SCRAM-SHA-1\nnum.partitions=0\n",
    );
    for part in [
        "listeners SSL, SASL_SSL: ssl.keystore.location: cannot read /nowhere/key.pem",
        "listeners SSL, SASL_SSL: ssl.truststore.location: cannot read /nowhere/ca.pem",
        "listeners SSL, SASL_SSL: ssl.cipher.suites: `TLS_RSA_WITH_RC4_128_SHA`",
        "listeners SSL, SASL_SSL: ssl.principal.mapping.rules: pattern `(`",
        "sasl.enabled.mechanisms: SCRAM-SHA-1: expected",
        "num.partitions=0: expected",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    assert!(text.contains("configuration: 6 problems"), "{text}");
}

/// `none` asks for nothing, so that nothing of it is missed.
#[test]
fn a_bare_client_auth_of_none_is_no_news() {
    let keys = Keys::make();
    let lines = "listeners=SASL_SSL://:1\nssl.client.auth=none\n";
    let (_, warnings) = keys.load(lines).unwrap();
    assert_eq!(warnings.0, []);
}

/// As in Kafka, which loads it whether certificates are asked for or not.
#[test]
fn a_truststore_is_read_wherever_there_is_tls() {
    let keys = Keys::make();
    for protocol in ["SSL", "SASL_SSL"] {
        let lines = format!("listeners={protocol}://:1\nssl.truststore.location=/nowhere/ca.pem\n");
        let text = keys.refused(&lines);
        let part =
            format!("listener {protocol}: ssl.truststore.location: cannot read /nowhere/ca.pem");
        assert!(text.contains(&part), "{text}");
    }
    let lines = format!("listeners=SASL_SSL://:1\n{}", keys.trust());
    let (config, _) = keys.load(&lines).unwrap();
    assert_eq!(settings(&config, "SASL_SSL").client_auth, ClientAuth::None);
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_remedy() {
    let keys = Keys::make();
    let path = &keys.material.server_keystore_pem;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let text = keys.refused("listeners=SSL://:1\n");
    let remedy = format!("chmod 600 {}", path.display());
    assert!(text.contains("0644") && text.contains(&remedy), "{text}");
}

/// One look at the file finds all that is wrong with it.
#[test]
fn a_key_file_is_judged_by_mode_and_by_content() {
    let keys = Keys::make();
    let path = &keys.material.server_keystore_pem;
    fs::copy(&keys.material.ca_pem, path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let text = keys.refused("listeners=SSL://:1,SASL_SSL://:2\n");
    let file = format!(
        "listeners SSL, SASL_SSL: ssl.keystore.location: {}",
        path.display()
    );
    for part in [
        "configuration: 2 problems".to_owned(),
        format!("{file}: there is no private key in it"),
        format!("{file} can be read by others (mode 0644); run: chmod 600 "),
    ] {
        assert!(text.contains(&part), "{part} is not in:\n{text}");
    }
}

/// An example with the paths of this test in place of the documented ones.
fn example(name: &str, keys: &Keys) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/config")
        .join(name);
    let dir = keys.dir.path().display().to_string();
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    text.replace("/etc/palisade", &dir)
        .replace("/run/secrets", &dir)
}

#[test]
fn the_examples_start_without_a_warning() {
    let keys = Keys::make();
    for name in ["server.properties", "mtls-only.properties"] {
        let sources = Sources::new()
            .text(name, &example(name, &keys))
            .host_name("box");
        let (_, warnings) = Config::load(&sources).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(warnings.0.is_empty(), "{name}: {warnings:?}");
    }
    fs::write(keys.dir.path().join("key-password"), "unused").unwrap();
    let variables = example("container.env", &keys);
    let variables = variables
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let sources = Sources::new()
        .environment(variables.collect())
        .host_name("box");
    let (config, warnings) = Config::load(&sources).unwrap_or_else(|e| panic!("container: {e}"));
    assert!(warnings.0.is_empty(), "{warnings:?}");
    let password = settings(&config, "SASL_SSL").key_password.as_ref().unwrap();
    assert_eq!(password, &Secret::from("unused"));
}
