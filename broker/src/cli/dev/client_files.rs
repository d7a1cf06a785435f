//! Ready-made settings for clients of a development broker.

use std::{
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

use palisade_auth::Secret;
use serde::Serialize;
use zeroize::Zeroizing;

use super::material::Material;
use crate::cli::private_file;

/// The files handed to whoever uses the broker, as `--json` names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClientFiles {
    /// The authority's certificate.
    pub ca_pem: PathBuf,
    /// The client's certificate.
    pub client_cert_pem: PathBuf,
    /// The client's key.
    pub client_key_pem: PathBuf,
    /// Java properties: SASL_SSL as the administrator.
    pub java_properties: PathBuf,
    /// Java properties: mutual TLS as `User:client`.
    pub java_mtls_properties: PathBuf,
    /// librdkafka settings: SASL_SSL as the administrator.
    pub librdkafka_conf: PathBuf,
    /// librdkafka settings: mutual TLS as `User:client`.
    pub librdkafka_mtls_conf: PathBuf,
}

/// The administrator whom the files log in.
#[derive(Debug, Clone)]
pub struct Login<'a> {
    /// Name of the user.
    pub username: &'a str,
    /// Password of the user.
    pub password: &'a Secret,
    /// SASL mechanism.
    pub mechanism: &'a str,
}

impl ClientFiles {
    /// Writes the files into the directory, each with mode 0600.
    ///
    /// `sasl` and `ssl` are `host:port` of the two listeners.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(
        dir: &Path,
        material: &Material,
        login: &Login<'_>,
        sasl: &str,
        ssl: &str,
    ) -> io::Result<Self> {
        let files = Self {
            ca_pem: material.ca_pem.clone(),
            client_cert_pem: material.client_cert_pem.clone(),
            client_key_pem: material.client_key_pem.clone(),
            java_properties: dir.join("client.properties"),
            java_mtls_properties: dir.join("client-mtls.properties"),
            librdkafka_conf: dir.join("client.conf"),
            librdkafka_mtls_conf: dir.join("client-mtls.conf"),
        };
        let password = login.password.expose_str().unwrap_or_default();
        let jaas = Zeroizing::new(format!(
            "org.apache.kafka.common.security.scram.ScramLoginModule required \
             username=\"{}\" password=\"{}\";",
            jaas_escape(login.username),
            jaas_escape(password)
        ));
        let ca = material.ca_pem.display().to_string();
        let java = properties(&[
            ("bootstrap.servers", sasl),
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", login.mechanism),
            ("sasl.jaas.config", &jaas),
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location", &ca),
        ]);
        private_file::refresh(&files.java_properties, java.as_bytes())?;
        // Java clients before 3.0 take a key without a password as a value only, not from a file.
        let key = Zeroizing::new(fs::read_to_string(&material.client_key_pem)?);
        let certificate = fs::read_to_string(&material.client_cert_pem)?;
        let java = properties(&[
            ("bootstrap.servers", ssl),
            ("security.protocol", "SSL"),
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.key", &key),
            ("ssl.keystore.certificate.chain", &certificate),
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location", &ca),
        ]);
        private_file::refresh(&files.java_mtls_properties, java.as_bytes())?;
        let conf = lines(&[
            ("bootstrap.servers", sasl),
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanisms", login.mechanism),
            ("sasl.username", login.username),
            ("sasl.password", password),
            ("ssl.ca.location", &ca),
        ]);
        private_file::refresh(&files.librdkafka_conf, conf.as_bytes())?;
        let conf = lines(&[
            ("bootstrap.servers", ssl),
            ("security.protocol", "SSL"),
            ("ssl.ca.location", &ca),
            (
                "ssl.certificate.location",
                &material.client_cert_pem.display().to_string(),
            ),
            (
                "ssl.key.location",
                &material.client_key_pem.display().to_string(),
            ),
        ]);
        private_file::refresh(&files.librdkafka_mtls_conf, conf.as_bytes())?;
        Ok(files)
    }
}

/// Text inside a double-quoted value of a login module.
fn jaas_escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Settings as Java's properties: backslashes, leading blanks and all but ASCII are escaped.
fn properties(settings: &[(&str, &str)]) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::new());
    for (key, value) in settings {
        out.push_str(key);
        out.push('=');
        let mut is_start = true;
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                ' ' if is_start => out.push_str("\\ "),
                c if c.is_ascii() => out.push(c),
                c => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a string cannot fail.
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
            }
            is_start = false;
        }
        out.push('\n');
    }
    out
}

/// Settings as librdkafka's programs read them: taken as they stand.
fn lines(settings: &[(&str, &str)]) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::new());
    for (key, value) in settings {
        out.push_str(key);
        out.push('=');
        out.push_str(value);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn values_survive_their_formats() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["localhost".to_owned()];
        let material = Material::ensure(dir.path(), &names).unwrap();
        let password = Secret::from(r#"p"\ä"#);
        let login = Login {
            username: "admin",
            password: &password,
            mechanism: "SCRAM-SHA-512",
        };
        let files = ClientFiles::write(dir.path(), &material, &login, "127.0.0.1:1", "127.0.0.1:2")
            .unwrap();
        let java = fs::read_to_string(&files.java_properties).unwrap();
        let jaas = r#"sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="admin" password="p\\"\\\\\u00e4";"#;
        assert!(java.contains(jaas), "{java}");
        assert!(java.contains("bootstrap.servers=127.0.0.1:1\n"), "{java}");
        let conf = fs::read_to_string(&files.librdkafka_conf).unwrap();
        assert!(conf.contains("sasl.password=p\"\\ä\n"), "{conf}");
        for path in [
            &files.java_properties,
            &files.java_mtls_properties,
            &files.librdkafka_conf,
            &files.librdkafka_mtls_conf,
        ] {
            let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
        }
    }
}
