//! How a client reaches a broker and proves who it is, in the words of each family of clients.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::certs::{Identity, STORE_PASSWORD};
use crate::paths::write_private;

/// One way into a broker.
#[derive(Clone, Debug)]
pub struct Access {
    /// `host:port` of a listener.
    pub bootstrap: String,
    /// The certificate to trust, PEM.
    pub trust: PathBuf,
    /// Who the client says it is.
    pub login: Login,
}

/// The kind of a Java client's key store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// What every program reads but the oldest Java clients, which want such a key encrypted.
    Pem,
    /// What every Java client reads.
    Pkcs12,
}

/// A client's credentials.
#[derive(Clone, Debug)]
pub enum Login {
    /// SASL_SSL with SCRAM.
    Scram {
        /// `SCRAM-SHA-256` or `SCRAM-SHA-512`.
        mechanism: &'static str,
        /// The user's name.
        user: String,
        /// The password.
        password: String,
    },
    /// SSL with a client certificate.
    Certificate(Identity),
}

impl Access {
    /// The same listener with other SCRAM credentials.
    pub fn as_user(&self, mechanism: &'static str, user: &str, password: &str) -> Access {
        Access {
            login: Login::Scram {
                mechanism,
                user: user.to_owned(),
                password: password.to_owned(),
            },
            ..self.clone()
        }
    }

    /// A short name for messages: the mechanism, or `mTLS`.
    pub fn kind(&self) -> &'static str {
        match &self.login {
            Login::Scram { mechanism, .. } => mechanism,
            Login::Certificate(_) => "mTLS",
        }
    }

    /// The text of a Java client's properties file, with a key store of the given kind.
    pub fn java(&self, store: Store) -> String {
        let mut text = format!(
            "bootstrap.servers={}\nssl.truststore.type=PEM\nssl.truststore.location={}\n",
            self.bootstrap,
            self.trust.display()
        );
        let rest = match &self.login {
            Login::Scram {
                mechanism,
                user,
                password,
            } => writeln!(
                text,
                "security.protocol=SASL_SSL\nsasl.mechanism={mechanism}\n\
                 sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule \
                 required username=\"{user}\" password=\"{password}\";"
            ),
            Login::Certificate(identity) => match store {
                Store::Pem => writeln!(
                    text,
                    "security.protocol=SSL\nssl.keystore.type=PEM\nssl.keystore.location={}",
                    identity.store.display()
                ),
                Store::Pkcs12 => writeln!(
                    text,
                    "security.protocol=SSL\nssl.keystore.type=PKCS12\nssl.keystore.location={}\n\
                     ssl.keystore.password={STORE_PASSWORD}",
                    identity.pkcs12.display()
                ),
            },
        };
        rest.expect("writing to a string cannot fail");
        text
    }

    /// Writes the Java properties to `dir/name`.
    pub fn write_java(&self, store: Store, dir: &Path, name: &str) -> PathBuf {
        let path = dir.join(name);
        write_private(&path, self.java(store));
        path
    }

    /// The settings of librdkafka and what is built on it.
    pub fn librdkafka(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("bootstrap.servers", self.bootstrap.clone()),
            ("broker.address.family", "v4".to_owned()),
            ("ssl.ca.location", self.trust.display().to_string()),
        ];
        match &self.login {
            Login::Scram {
                mechanism,
                user,
                password,
            } => settings.extend([
                ("security.protocol", "SASL_SSL".to_owned()),
                ("sasl.mechanisms", (*mechanism).to_owned()),
                ("sasl.username", user.clone()),
                ("sasl.password", password.clone()),
            ]),
            Login::Certificate(identity) => settings.extend([
                ("security.protocol", "SSL".to_owned()),
                ("ssl.certificate.location", path(&identity.certificate)),
                ("ssl.key.location", path(&identity.key)),
            ]),
        }
        settings
    }

    /// The keyword arguments of kafka-python, as JSON.
    pub fn kafka_python(&self) -> String {
        let mut arguments = serde_json::json!({
            "bootstrap_servers": self.bootstrap,
            "ssl_cafile": path(&self.trust),
        });
        let more = match &self.login {
            Login::Scram {
                mechanism,
                user,
                password,
            } => serde_json::json!({
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": mechanism,
                "sasl_plain_username": user,
                "sasl_plain_password": password,
            }),
            Login::Certificate(identity) => serde_json::json!({
                "security_protocol": "SSL",
                "ssl_certfile": path(&identity.certificate),
                "ssl_keyfile": path(&identity.key),
            }),
        };
        let (Some(all), Some(more)) = (arguments.as_object_mut(), more.as_object()) else {
            unreachable!("both were written as objects above");
        };
        all.extend(more.clone());
        arguments.to_string()
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
