//! What a development broker says about itself once clients would succeed.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    path::PathBuf,
};

use serde::Serialize;

use super::{client_files::ClientFiles, material::CLIENT_NAME};

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ListenerRow {
    /// Security protocol.
    pub(crate) protocol: &'static str,
    /// `host:port` to dial.
    pub(crate) address: String,
}

/// The administrator, for whoever starts the broker from a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AdminRow {
    pub(crate) username: String,
    /// In clear: the reader of this line owns the broker. `None` when it was changed since it was
    /// written down.
    pub(crate) password: Option<String>,
    pub(crate) mechanism: &'static str,
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    None,
    /// What ACLs say.
    Some,
    All,
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no rights until an ACL gives them",
            Self::Some => "may do what the ACLs allow it",
            Self::All => "may do everything",
        })
    }
}

/// A topic to show the next steps with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) name: String,
    pub(crate) is_there: bool,
    /// It is compacted, and takes no records without keys.
    pub(crate) wants_keys: bool,
}

/// The single line of `--json`, and what the readable block is made of.
#[derive(Clone, Serialize)]
pub(crate) struct Announcement {
    pub(crate) pid: u32,
    pub(crate) version: &'static str,
    pub(crate) cluster_id: String,
    pub(crate) node_id: i32,
    pub(crate) data_dir: PathBuf,
    /// The SASL_SSL listener.
    pub(crate) bootstrap: String,
    pub(crate) listeners: BTreeMap<String, ListenerRow>,
    pub(crate) admin: AdminRow,
    pub(crate) files: ClientFiles,
    #[serde(skip)]
    pub(crate) is_temporary: bool,
    /// How to call this program again.
    #[serde(skip)]
    pub(crate) program: String,
    /// A topic to show the next steps with.
    #[serde(skip)]
    pub(crate) topic: Example,
    /// Ports that others have, so that this broker took some else.
    #[serde(skip)]
    pub(crate) taken_ports: Vec<u16>,
    #[serde(skip)]
    pub(crate) client_rights: Rights,
    #[serde(skip)]
    pub(crate) anonymous_rights: Rights,
}

impl Announcement {
    /// What is said of each port that others have.
    pub(crate) fn taken(&self) -> impl Iterator<Item = String> {
        self.taken_ports.iter().map(|port| {
            format!("port {port} is in use by another process: a free one was taken instead")
        })
    }

    /// One line of JSON.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always serialize")
    }

    /// A block for people: where it listens, as whom to come, and what to type next.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let mut say = |line: fmt::Arguments<'_>| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{line}");
        };
        let files = &self.files;
        say(format_args!(
            "palisade {} is ready: cluster {}, process {}",
            self.version, self.cluster_id, self.pid
        ));
        say(format_args!(""));
        for (name, listener) in &self.listeners {
            let address = &listener.address;
            match listener.protocol {
                "SASL_SSL" => say(format_args!(
                    "  {name:<10} {address:<22} {}, user {}, {}",
                    self.admin.mechanism,
                    self.admin.username,
                    match &self.admin.password {
                        Some(password) => format!("password {password}"),
                        None => "with the password that it was given since".to_owned(),
                    }
                )),
                "SSL" => say(format_args!(
                    "  {name:<10} {address:<22} client certificate, User:{CLIENT_NAME}, {}",
                    self.client_rights
                )),
                "PLAINTEXT" => say(format_args!(
                    "  {name:<10} {address:<22} User:ANONYMOUS, {}",
                    self.anonymous_rights
                )),
                other => say(format_args!("  {name:<10} {address:<22} {other}")),
            }
        }
        let fate = if self.is_temporary {
            "temporary, removed at the end"
        } else {
            "kept"
        };
        say(format_args!(
            "  data       {} ({fate})",
            self.data_dir.display()
        ));
        for taken in self.taken() {
            say(format_args!("  {taken}"));
        }
        let program = quote(&self.program);
        let java = quote(&files.java_properties.display().to_string());
        let conf = quote(&files.librdkafka_conf.display().to_string());
        let mtls = quote(&files.librdkafka_mtls_conf.display().to_string());
        say(format_args!(""));
        say(format_args!("type next:"));
        let topic = &self.topic.name;
        if !self.topic.is_there {
            say(format_args!(
                "  {program} topic create {topic} --partitions 3 --command-config {java}"
            ));
        }
        match self.topic.wants_keys {
            true => say(format_args!(
                "  echo key:hello | kcat -F {conf} -P -t {topic} -K:"
            )),
            false => say(format_args!("  echo hello | kcat -F {conf} -P -t {topic}")),
        }
        say(format_args!("  kcat -F {conf} -C -t {topic} -e"));
        say(format_args!(
            "  kafka-topics.sh --bootstrap-server {} --command-config {java} --list",
            self.bootstrap
        ));
        if self.client_rights != Rights::All {
            say(format_args!(
                "  {program} acl add 'allow User:{CLIENT_NAME} all topic:{topic}' --command-config \
                 {java}"
            ));
        }
        say(format_args!("  kcat -F {mtls} -C -t {topic} -e"));
        say(format_args!(""));
        say(format_args!("Ctrl-C ends it."));
        out
    }
}

/// A word for a shell.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement() -> Announcement {
        let path = |name: &str| PathBuf::from("/tmp/it's").join(name);
        let row = |protocol, address: &str| ListenerRow {
            protocol,
            address: address.to_owned(),
        };
        Announcement {
            pid: 7,
            version: "0.1.0",
            cluster_id: "abc".to_owned(),
            node_id: 1,
            data_dir: path(""),
            bootstrap: "127.0.0.1:9092".to_owned(),
            listeners: [
                ("SASL_SSL".to_owned(), row("SASL_SSL", "127.0.0.1:9092")),
                ("SSL".to_owned(), row("SSL", "127.0.0.1:9093")),
            ]
            .into(),
            admin: AdminRow {
                username: "admin".to_owned(),
                password: Some("pw".to_owned()),
                mechanism: "SCRAM-SHA-512",
            },
            files: ClientFiles {
                ca_pem: path("ca.pem"),
                client_cert_pem: path("c"),
                client_key_pem: path("k"),
                java_properties: path("client.properties"),
                java_mtls_properties: path("m.properties"),
                librdkafka_conf: path("client.conf"),
                librdkafka_mtls_conf: path("m.conf"),
            },
            is_temporary: true,
            program: "/my bin/palisade".to_owned(),
            topic: Example {
                name: "orders".to_owned(),
                is_there: false,
                wants_keys: false,
            },
            taken_ports: Vec::new(),
            client_rights: Rights::None,
            anonymous_rights: Rights::Some,
        }
    }

    #[test]
    fn json_is_one_line_with_the_promised_keys() {
        let line = announcement().json();
        assert!(!line.contains('\n'));
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(
            keys(&object),
            [
                "admin",
                "bootstrap",
                "cluster_id",
                "data_dir",
                "files",
                "listeners",
                "node_id",
                "pid",
                "version"
            ]
        );
        assert_eq!(
            keys(&object["admin"]),
            ["mechanism", "password", "username"]
        );
        assert_eq!(
            keys(&object["files"]),
            [
                "ca_pem",
                "client_cert_pem",
                "client_key_pem",
                "java_mtls_properties",
                "java_properties",
                "librdkafka_conf",
                "librdkafka_mtls_conf"
            ]
        );
        assert_eq!(object["listeners"]["SSL"]["address"], "127.0.0.1:9093");
        assert_eq!(object["listeners"]["SASL_SSL"]["protocol"], "SASL_SSL");
    }

    #[test]
    fn the_block_says_what_is_temporary_and_quotes_for_the_shell() {
        let text = announcement().text();
        assert!(text.contains("temporary, removed at the end"), "{text}");
        assert!(
            text.contains(r"kcat -F '/tmp/it'\''s/client.conf'"),
            "{text}"
        );
        assert!(text.contains("User:client, no rights until"), "{text}");
        assert!(text.contains("  '/my bin/palisade' topic create"), "{text}");
        assert!(text.contains("user admin, password pw"), "{text}");
        assert!(!text.contains("in use by"), "{text}");
        let mut changed = announcement();
        changed.topic.name = "bills".to_owned();
        changed.topic.is_there = true;
        changed.taken_ports = vec![9092];
        changed.client_rights = Rights::All;
        let text = changed.text();
        assert!(
            !text.contains("orders") && !text.contains("acl add"),
            "{text}"
        );
        assert!(text.contains("-P -t bills\n"), "{text}");
        assert!(
            text.contains("port 9092 is in use by another process"),
            "{text}"
        );
        assert!(text.contains("User:client, may do everything"), "{text}");
        changed.topic.wants_keys = true;
        changed.admin.password = None;
        let text = changed.text();
        assert!(text.contains("password that it was given since"), "{text}");
        assert!(text.contains("  echo key:hello | kcat "), "{text}");
        assert!(text.contains("-P -t bills -K:\n"), "{text}");
    }
}
