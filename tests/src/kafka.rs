//! Apache Kafka as the reference: one node in combined mode, with the same ways in as the node under test.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::access::{Access, Login};
use crate::certs::{Authority, Identity};
use crate::paths;
use crate::process::Process;

/// The administrator that every runner of this package creates: super user by SCRAM and by certificate.
pub const ADMIN: &str = "admin";
/// Its SCRAM password.
pub const ADMIN_PASSWORD: &str = "admin-secret";

const CLUSTER_ID: &str = "5L6g3nShT-eMCtK--X86sw";

/// A running Apache Kafka.
pub struct ApacheKafka {
    process: Process,
    trust: std::path::PathBuf,
    sasl: String,
    ssl: String,
    plaintext: String,
    admin: Identity,
    dir: TempDir,
}

impl ApacheKafka {
    /// Formats a directory and starts the broker; returns once it serves.
    ///
    /// # Panics
    /// When the jars are missing (`tests/prepare`) or the broker does not start.
    pub fn start() -> ApacheKafka {
        ApacheKafka::start_with(&[])
    }

    /// The same with more settings, which go above its own.
    ///
    /// # Panics
    /// As [`ApacheKafka::start`].
    pub fn start_with(settings: &[(&str, &str)]) -> ApacheKafka {
        let dir = paths::scratch();
        let authority = Authority::new("reference CA");
        let trust = dir.path().join("ca.pem");
        authority.write_trust(&trust);
        let server = authority.issue(dir.path(), "server");
        let admin = authority.issue(dir.path(), ADMIN);
        let sasl = paths::free_port();
        let ssl = paths::free_port();
        let internal = paths::free_port();
        let mut properties = properties(dir.path(), &trust, &server, [sasl, ssl, internal]);
        for (key, value) in settings {
            // Of two lines for one key the last counts.
            writeln!(properties, "{key}={value}").expect("writing to a string cannot fail");
        }
        let file = dir.path().join("server.properties");
        paths::write_private(&file, properties);
        let log4j = dir.path().join("log4j2.properties");
        paths::write_private(&log4j, LOG4J);

        let mut format = java(&log4j);
        format
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
            .arg(&file);
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            format.arg("--add-scram").arg(format!(
                "{mechanism}=[name={ADMIN},password={ADMIN_PASSWORD}]"
            ));
        }
        let format = Process::spawn("kafka format", &mut format);
        assert!(
            format.wait(Duration::from_secs(60)).success(),
            "{}",
            format.output()
        );
        let process = Process::spawn("kafka", java(&log4j).arg("kafka.Kafka").arg(&file));
        process.wait_for_line(Duration::from_secs(90), |line| {
            line.contains("Kafka Server started")
        });
        ApacheKafka {
            process,
            trust,
            sasl: format!("127.0.0.1:{sasl}"),
            ssl: format!("127.0.0.1:{ssl}"),
            plaintext: format!("127.0.0.1:{internal}"),
            admin,
            dir,
        }
    }

    /// The administrator by SCRAM with the given mechanism.
    pub fn scram(&self, mechanism: &'static str) -> Access {
        Access {
            bootstrap: self.sasl.clone(),
            trust: self.trust.clone(),
            login: Login::Scram {
                mechanism,
                user: ADMIN.to_owned(),
                password: ADMIN_PASSWORD.to_owned(),
            },
        }
    }

    /// The administrator by client certificate.
    pub fn certificate(&self) -> Access {
        Access {
            bootstrap: self.ssl.clone(),
            trust: self.trust.clone(),
            login: Login::Certificate(self.admin.clone()),
        }
    }

    /// The address of a listener in the clear, on which everybody is a super user unless the settings say otherwise.
    pub fn plaintext(&self) -> &str {
        &self.plaintext
    }

    /// The broker's process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A directory that lives as long as the broker.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

fn java(log4j: &Path) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-Xmx1g", "-Xshare:auto", "-XX:TieredStopAtLevel=1"])
        .arg(format!("-Dlog4j2.configurationFile={}", log4j.display()))
        .arg("-cp")
        .arg(paths::clients().join("kafka/*"));
    command
}

const LOG4J: &str = "\
rootLogger.level=INFO
rootLogger.appenderRefs=console
rootLogger.appenderRef.console.ref=Console
appender.console.type=Console
appender.console.name=Console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%p %m (%c)%n
";

fn properties(
    dir: &Path,
    trust: &Path,
    server: &Identity,
    [sasl, ssl, internal]: [u16; 3],
) -> String {
    let controller = paths::free_port();
    let log_dir = dir.join("data");
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{ssl},\
         INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller}\n\
         listener.security.protocol.map=SASL_SSL:SASL_SSL,SSL:SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         inter.broker.listener.name=INTERNAL\n\
         log.dirs={}\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:{ADMIN};User:CN={ADMIN};User:ANONYMOUS\n\
         ssl.keystore.type=PEM\n\
         ssl.keystore.location={}\n\
         ssl.truststore.type=PEM\n\
         ssl.truststore.location={}\n\
         listener.name.ssl.ssl.client.auth=required\n\
         sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512\n\
         auto.create.topics.enable=false\n\
         num.partitions=1\n",
        log_dir.display(),
        server.store.display(),
        trust.display(),
    );
    for mechanism in ["scram-sha-256", "scram-sha-512"] {
        writeln!(
            text,
            "listener.name.sasl_ssl.{mechanism}.sasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required;"
        )
        .expect("writing to a string cannot fail");
    }
    for key in [
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "transaction.state.log.min.isr",
        "share.coordinator.state.topic.replication.factor",
        "share.coordinator.state.topic.min.isr",
    ] {
        writeln!(text, "{key}=1").expect("writing to a string cannot fail");
    }
    text
}
