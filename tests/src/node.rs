//! The node under test, started from a configuration file as an operator would.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::access::{Access, Login};
use crate::certs::{Authority, Identity};
use crate::check::eventually;
use crate::kafka::{ADMIN, ADMIN_PASSWORD};
use crate::paths;
use crate::process::{Process, is_complaint};
use crate::requests;
use crate::wire::Connection;

const START: Duration = Duration::from_secs(30);

/// A node's directory, certificates and settings; the process comes and goes.
pub struct Node {
    process: Option<Process>,
    settings: BTreeMap<String, String>,
    environment: Vec<(String, String)>,
    descriptors: Option<&'static str>,
    allowed: Vec<&'static str>,
    /// The process before this one was killed.
    after_kill: bool,
    authority: Authority,
    admin: Identity,
    sasl: u16,
    ssl: u16,
    dir: TempDir,
}

impl Node {
    /// A node with default settings, running, with the administrator's SCRAM users made.
    pub fn start() -> Node {
        let mut node = Node::prepare();
        node.run();
        node.create_admin();
        node
    }

    /// A node that does not run yet, so that settings can be changed first.
    pub fn prepare() -> Node {
        let dir = paths::scratch();
        let authority = Authority::new("test CA");
        let trust = dir.path().join("ca.pem");
        authority.write_trust(&trust);
        let server = authority.issue(dir.path(), "server");
        let admin = authority.issue(dir.path(), ADMIN);
        let sasl = paths::free_port();
        let ssl = paths::free_port();
        let settings = [
            ("node.id", "1".to_owned()),
            (
                "listeners",
                format!("SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{ssl}"),
            ),
            ("log.dirs", dir.path().join("data").display().to_string()),
            (
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
            ),
            ("super.users", format!("User:{ADMIN};User:CN={ADMIN}")),
            ("ssl.keystore.type", "PEM".to_owned()),
            ("ssl.keystore.location", server.store.display().to_string()),
            ("ssl.truststore.type", "PEM".to_owned()),
            ("ssl.truststore.location", trust.display().to_string()),
            ("listener.name.ssl.ssl.client.auth", "required".to_owned()),
            (
                "sasl.enabled.mechanisms",
                "SCRAM-SHA-256,SCRAM-SHA-512".to_owned(),
            ),
            ("auto.create.topics.enable", "false".to_owned()),
        ];
        Node {
            process: None,
            settings: settings
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
            environment: Vec::new(),
            descriptors: None,
            allowed: Vec::new(),
            after_kill: false,
            authority,
            admin,
            sasl,
            ssl,
            dir,
        }
    }

    /// Sets a key of the configuration for the next start.
    pub fn set(&mut self, key: &str, value: impl Into<String>) -> &mut Node {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    /// Adds a listener of that security protocol, which is also its name, and returns its address.
    pub fn add_listener(&mut self, protocol: &str) -> String {
        let address = format!("127.0.0.1:{}", paths::free_port());
        let before = &self.settings["listeners"];
        let all = format!("{before},{protocol}://{address}");
        self.set("listeners", all);
        address
    }

    /// Tells clients of the listener for SCRAM to come to another address, that of a door before it.
    pub fn advertise(&mut self, address: &str) -> &mut Node {
        let all = format!("SASL_SSL://{address},SSL://127.0.0.1:{}", self.ssl);
        self.set("advertised.listeners", all)
    }

    /// Leaves a key out of the configuration for the next start.
    pub fn unset(&mut self, key: &str) -> &mut Node {
        self.settings.remove(key);
        self
    }

    /// Sets an environment variable for the next start.
    pub fn env(&mut self, key: &str, value: impl Into<String>) -> &mut Node {
        self.environment.push((key.to_owned(), value.into()));
        self
    }

    /// Bounds the file descriptors of the process from the next start on: both limits, or `soft:hard`.
    pub fn limit_descriptors(&mut self, limits: &'static str) -> &mut Node {
        self.descriptors = Some(limits);
        self
    }

    /// Declares log lines of level WARN or ERROR that this test causes on purpose, by a part of their text.
    pub fn allow(&mut self, part: &'static str) -> &mut Node {
        self.allowed.push(part);
        self
    }

    /// Starts the process and waits until it serves.
    ///
    /// # Panics
    /// When it ends or stays silent instead.
    pub fn run(&mut self) {
        let process = self.spawn();
        eventually("the listener of certificates", START, || {
            if process.exit().is_some() {
                panic!("the node ended:\n{}", process.output());
            }
            TcpStream::connect(("127.0.0.1", self.ssl)).map_err(|error| error.to_string())
        });
        self.process = Some(process);
    }

    /// Starts the process without waiting, for starts that must fail.
    pub fn spawn(&self) -> Process {
        let file = self.dir.path().join("server.properties");
        let text: String = self
            .settings
            .iter()
            .map(|(key, value)| format!("{key}={value}\n"))
            .collect();
        paths::write_private(&file, text);
        let mut command = match self.descriptors {
            None => paths::palisade(),
            Some(limits) => paths::palisade_below(limits),
        };
        command.arg("start").arg("--config").arg(&file);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        Process::spawn("palisade", &mut command)
    }

    /// Starts the process, which must refuse to run, and returns what it said.
    ///
    /// # Panics
    /// When it runs, or ends as if all were well.
    pub fn refuses_to_start(&self) -> String {
        let process = self.spawn();
        let exit = process.wait(START);
        assert!(!exit.success(), "{exit:?}:\n{}", process.output());
        process.output()
    }

    /// The running process.
    ///
    /// # Panics
    /// When the node does not run.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("the node runs")
    }

    /// Kills the process at once and judges its log.
    pub fn kill(&mut self) {
        let process = self.process.take().expect("the node runs");
        process.kill();
        self.judge_log(&process);
        self.after_kill = true;
    }

    /// Asks the process to end, expects success, judges its log, and returns that log.
    pub fn terminate(&mut self) -> Vec<String> {
        let process = self.process.take().expect("the node runs");
        let exit = process.terminate();
        assert!(exit.success(), "{exit:?}:\n{}", process.output());
        self.judge_log(&process);
        self.after_kill = false;
        process.lines()
    }

    fn judge_log(&self, process: &Process) {
        let unexpected: Vec<_> = process
            .lines()
            .into_iter()
            .filter(|line| is_complaint(line))
            .filter(|line| !self.allowed.iter().any(|part| line.contains(part)))
            .filter(|line| !(self.after_kill && is_torn_tail(line)))
            .collect();
        assert!(
            unexpected.is_empty(),
            "unexpected log lines: {unexpected:#?}"
        );
    }

    /// Creates the administrator's SCRAM credentials through the listener that takes its certificate.
    pub fn create_admin(&self) {
        let mut connection = Connection::open(&self.certificate()).expect("the listener serves");
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            requests::set_user(&mut connection, ADMIN, mechanism, ADMIN_PASSWORD)
                .expect("the administrator may create users");
        }
    }

    /// The administrator by SCRAM with the given mechanism.
    pub fn scram(&self, mechanism: &'static str) -> Access {
        Access {
            bootstrap: format!("127.0.0.1:{}", self.sasl),
            trust: self.trust(),
            login: Login::Scram {
                mechanism,
                user: ADMIN.to_owned(),
                password: ADMIN_PASSWORD.to_owned(),
            },
        }
    }

    /// The administrator by client certificate.
    pub fn certificate(&self) -> Access {
        self.certificate_of(&self.admin)
    }

    /// A client of the listener for certificates, with an identity of the caller's.
    pub fn certificate_of(&self, identity: &Identity) -> Access {
        Access {
            bootstrap: format!("127.0.0.1:{}", self.ssl),
            trust: self.trust(),
            login: Login::Certificate(identity.clone()),
        }
    }

    /// The authority that signed the node's certificate and whose clients it trusts.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The node's scratch directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn trust(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }
}

/// Whether a line tells that the last write of a killed process was cut short, and of no other damage.
fn is_torn_tail(line: &str) -> bool {
    let is_sum = line.contains("log recovered with losses") && line.contains("damaged_ranges=0");
    is_sum || line.contains("torn tail cut")
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
            if !thread::panicking() {
                self.judge_log(&process);
            } else {
                eprintln!("log of the node:\n{}", process.output());
            }
        }
    }
}
