//! `palisade dev --json` as a child: the one line it prints says how to reach it.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::access::{Access, Login};
use crate::certs::Identity;
use crate::paths;
use crate::process::Process;

/// A running development broker.
pub struct Dev {
    process: Process,
    said: Value,
}

impl Dev {
    /// Starts one on ports of the system's choice.
    ///
    /// # Panics
    /// When it does not say within 30 s that it is ready.
    pub fn start(arguments: &[&str]) -> Dev {
        let mut command = paths::palisade();
        command
            .args(["dev", "--json", "--port", "0"])
            .args(arguments);
        let process = Process::spawn("palisade dev", &mut command);
        let line = process.wait_for_line(Duration::from_secs(30), |line| line.starts_with('{'));
        let said = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Dev { process, said }
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A text of the line, by the names on the way to it.
    ///
    /// # Panics
    /// When there is none.
    pub fn text(&self, way: &[&str]) -> &str {
        way.iter()
            .fold(&self.said, |at, name| &at[name])
            .as_str()
            .unwrap_or_else(|| panic!("no text at {way:?} in {}", self.said))
    }

    /// Whether there is no value at the end of the way.
    pub fn lacks(&self, way: &[&str]) -> bool {
        way.iter().fold(&self.said, |at, name| &at[name]).is_null()
    }

    /// A file that was made for clients, by its name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.text(&["files", name]).into()
    }

    /// The administrator, by SCRAM.
    pub fn admin(&self) -> Access {
        assert_eq!(self.text(&["admin", "mechanism"]), "SCRAM-SHA-512");
        self.by_scram(
            self.text(&["admin", "username"]),
            self.text(&["admin", "password"]),
        )
    }

    /// Any user, by SCRAM.
    pub fn by_scram(&self, user: &str, password: &str) -> Access {
        Access {
            bootstrap: self.text(&["bootstrap"]).to_owned(),
            trust: self.file("ca_pem"),
            login: Login::Scram {
                mechanism: "SCRAM-SHA-512",
                user: user.to_owned(),
                password: password.to_owned(),
            },
        }
    }

    /// `User:client`, by the certificate made for it. It has no PKCS#12 file.
    pub fn client(&self) -> Access {
        Access {
            bootstrap: self.text(&["listeners", "SSL", "address"]).to_owned(),
            trust: self.file("ca_pem"),
            login: Login::Certificate(Identity {
                certificate: self.file("client_cert_pem"),
                key: self.file("client_key_pem"),
                store: PathBuf::new(),
                pkcs12: PathBuf::new(),
            }),
        }
    }
}
