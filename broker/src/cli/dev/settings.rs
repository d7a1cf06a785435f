//! The configuration of a development broker.

use std::path::Path;

use super::{
    material::{MAPPING_RULES, Material},
    state::Ports,
};
use crate::config::Sources;

/// Name of the administrator, who is a super user.
pub(crate) const ADMIN: &str = "admin";

/// What the settings depend on.
pub(crate) struct DevSettings<'a> {
    /// Directory of the logs.
    pub(crate) log_dir: &'a Path,
    /// Address to bind.
    pub(crate) bind: &'a str,
    /// Name that is advertised instead, where the address means every interface.
    pub(crate) host_name: &'a str,
    /// Ports to bind.
    pub(crate) ports: Ports,
    /// Whether a loopback PLAINTEXT listener is wanted.
    pub(crate) plaintext: bool,
    /// Key material.
    pub(crate) material: &'a Material,
    /// `key=value` texts, which beat everything here.
    pub(crate) overrides: Vec<String>,
}

impl DevSettings<'_> {
    /// The sources to load. The process's environment is not among them: what a development
    /// broker does depends on its command line alone.
    pub(crate) fn sources(self) -> Sources {
        let endpoint = |name: &str, host: &str, port: u16| {
            if host.contains(':') {
                format!("{name}://[{host}]:{port}")
            } else {
                format!("{name}://{host}:{port}")
            }
        };
        let all = |host: &str| {
            let mut all = vec![
                endpoint("SASL_SSL", host, self.ports.sasl_ssl),
                endpoint("SSL", host, self.ports.ssl),
            ];
            if self.plaintext {
                all.push(endpoint("PLAINTEXT", "127.0.0.1", self.ports.plaintext));
            }
            all.join(",")
        };
        let keystore = self.material.server_keystore_pem.display().to_string();
        let truststore = self.material.ca_pem.display().to_string();
        let mut sources = Sources::new()
            .host_name(self.host_name)
            .set("node.id", "1")
            .set("listeners", all(self.bind))
            .set("log.dirs", self.log_dir.display().to_string())
            .set("super.users", format!("User:{ADMIN}"))
            .set("ssl.keystore.type", "PEM")
            .set("ssl.keystore.location", keystore)
            .set("ssl.truststore.type", "PEM")
            .set("ssl.truststore.location", truststore)
            .set("listener.name.ssl.ssl.client.auth", "required")
            .set("ssl.principal.mapping.rules", MAPPING_RULES)
            .set("palisade.log.flush.policy", "os")
            // As in the server.properties that Kafka ships: who develops starts one consumer and
            // waits for it.
            .set("group.initial.rebalance.delay.ms", "0")
            .overrides(self.overrides);
        if is_wildcard(self.bind) {
            sources = sources.set("advertised.listeners", all(self.host_name));
        }
        sources
    }
}

/// Whether an address stands for every interface.
pub(crate) fn is_wildcard(address: &str) -> bool {
    address
        .parse::<std::net::IpAddr>()
        .is_ok_and(|address| address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use palisade_auth::tls::ClientAuth;

    use super::*;
    use crate::config::{Config, FlushPolicyName, SecurityProtocol};

    fn load(bind: &str, plaintext: bool, overrides: &[&str]) -> (Config, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let material = Material::ensure(dir.path(), &["localhost".to_owned()]).unwrap();
        let sources = DevSettings {
            log_dir: &dir.path().join("data"),
            bind,
            host_name: "box",
            ports: Ports::default(),
            plaintext,
            material: &material,
            overrides: overrides.iter().map(|text| (*text).to_owned()).collect(),
        }
        .sources();
        let (config, warnings) = Config::load(&sources).unwrap();
        (config, warnings.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn it_is_secured_like_any_other() {
        let (config, warnings) = load("127.0.0.1", false, &[]);
        assert!(warnings.is_empty(), "{warnings:?}");
        let sasl = config.listener("SASL_SSL").unwrap();
        assert_eq!(sasl.advertised.to_string(), "127.0.0.1:0");
        assert_eq!(sasl.tls.as_ref().unwrap().client_auth, ClientAuth::None);
        let ssl = config.listener("SSL").unwrap().tls.as_ref().unwrap();
        assert_eq!(ssl.client_auth, ClientAuth::Required);
        assert_eq!(
            ssl.mapping_rules.apply("CN=client").as_deref(),
            Some("client")
        );
        assert_eq!(ssl.mapping_rules.apply("CN=client,O=x"), None);
        assert!(config.authorizer.enabled);
        assert_eq!(config.authorizer.super_users, ["User:admin"]);
        assert_eq!(config.log.flush_policy, FlushPolicyName::Os);
    }

    #[test]
    fn a_group_waits_for_nobody_unless_told_to() {
        let delay = |overrides: &[&str]| {
            let (config, _) = load("127.0.0.1", false, overrides);
            config.number("group.initial.rebalance.delay.ms")
        };
        assert_eq!(delay(&[]), 0);
        let told = delay(&["group.initial.rebalance.delay.ms=3000"]);
        assert_eq!(told, 3000);
    }

    #[test]
    fn everywhere_means_the_machines_name_and_plaintext_stays_at_home() {
        for bind in ["0.0.0.0", "::"] {
            let (config, _) = load(bind, true, &["palisade.log.flush.policy=ack"]);
            let hosts: Vec<(&str, &str)> = config
                .listeners
                .iter()
                .map(|listener| (listener.host.as_str(), listener.advertised.host.as_str()))
                .collect();
            assert_eq!(
                hosts,
                [(bind, "box"), (bind, "box"), ("127.0.0.1", "127.0.0.1")]
            );
            assert_eq!(config.listeners[2].protocol, SecurityProtocol::Plaintext);
            assert_eq!(config.log.flush_policy, FlushPolicyName::Ack);
        }
    }
}
