//! `palisade dev`: a broker to develop against, secured as in production.
//!
//! One directory holds everything: `data` the logs, `dev` the key material, the administrator's
//! password, the ports, and ready-made client settings. Started again on the same directory, it
//! keeps all of them, and the users, topics and ACLs of its cluster. Nothing of its own start
//! depends on the administrator's password, which may have been changed meanwhile.

mod announce;
pub mod client_files;
mod home;
pub(super) mod leftovers;
pub mod material;
mod settings;
mod state;
mod test_broker;

use std::{collections::BTreeMap, env, net::TcpListener, path::PathBuf, process, time::Duration};

use clap::Args;
use palisade_auth::{
    Secret,
    acl::{AclBinding, Permission},
    scram::ScramMechanism,
};

pub use self::test_broker::{TestBroker, TestBrokerBuilder, TestBrokerError};

use self::{
    announce::{AdminRow, Announcement, ListenerRow, Rights},
    client_files::{ClientFiles, Login},
    home::Home,
    material::{CLIENT_NAME, Material},
    settings::{ADMIN, DevSettings, is_wildcard},
    state::Ports,
};
use super::{
    acl,
    client::{Admin, ClientSettings},
    declare::{self, Declarations, DeclaredTopic, DeclaredUser},
    node::{self, NodeError, SharedBroker},
    output,
    rule::Rule,
};
use crate::{
    broker::Broker,
    config::{Config, SaslMechanism, Warning},
    foreign,
    metadata::TopicImage,
    shutdown::{CallOff, Signals},
    startup::{Running, start_prepared},
};

/// SASL mechanism of the ready-made settings.
const MECHANISM: ScramMechanism = ScramMechanism::Sha512;

/// Keys that the command line decides here, and how.
const DECIDED: [(&str, &str); 4] = [
    ("listeners", "--bind, --port and --plaintext choose"),
    (
        "listener.security.protocol.map",
        "--bind, --port and --plaintext choose",
    ),
    ("log.dirs", "--data-dir chooses"),
    ("log.dir", "--data-dir chooses"),
];

/// How long the broker's own first client may take.
const CHECK_TIME: Duration = Duration::from_secs(10);

/// Arguments of `palisade dev`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct DevArgs {
    /// Directory to keep everything in; without it a temporary one, removed at the end
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address of this machine to listen on; 0.0.0.0 or :: for all
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    bind: String,
    /// Port of the SASL_SSL listener; SSL takes the next one, PLAINTEXT the one after it
    ///
    /// 0 lets the system choose. Without it the ports that the same directory was started with before
    /// are taken, at first 9092, 9093 and 9094; any of them that is busy is replaced by a free one. A
    /// directory keeps the ports that it announced first, or those of the last --port.
    #[arg(long)]
    port: Option<u16>,
    /// Print one line of JSON instead of the readable block
    #[arg(long)]
    json: bool,
    /// Create a topic, repeatable; one partition if no number is given
    #[arg(long = "topic", value_name = "NAME[:PARTITIONS]", value_parser = topic)]
    topics: Vec<DeclaredTopic>,
    /// Create a user for SCRAM, repeatable; only for throw-away passwords
    ///
    /// A user who is there with another password gets this one.
    #[arg(long = "user", value_name = "NAME:PASSWORD", value_parser = user)]
    users: Vec<DeclaredUser>,
    /// Add an ACL, repeatable, for example 'allow User:alice read,write topic:orders'
    ///
    /// RULE: allow|deny PRINCIPAL OPERATION[,OPERATION…] RESOURCE [from HOST], where RESOURCE is
    /// topic:NAME, group:NAME, transactional-id:NAME or cluster; a trailing * means every name that
    /// begins so, a lone * every name.
    #[arg(long = "acl", value_name = "RULE", value_parser = acl::rule)]
    acls: Vec<Rule>,
    /// Add a loopback listener without TLS and login, whose clients are User:ANONYMOUS
    #[arg(long)]
    plaintext: bool,
    /// Set one configuration key, repeatable, for example auto.create.topics.enable=false
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  palisade dev
  palisade dev --data-dir ~/broker --topic orders:3 --user alice:secret \\
    --acl 'allow User:alice read,write topic:orders' --acl 'allow User:alice read group:*'";

fn topic(text: &str) -> Result<DeclaredTopic, String> {
    let (name, partitions) = match text.rsplit_once(':') {
        Some((name, count)) => {
            let count = count.parse().ok().filter(|count| *count >= 1);
            (name, count.ok_or("expected NAME:PARTITIONS, at least 1")?)
        }
        None => (text, 1),
    };
    if name.is_empty() {
        return Err("expected NAME[:PARTITIONS]".to_owned());
    }
    Ok(DeclaredTopic {
        name: name.to_owned(),
        partitions,
    })
}

fn user(text: &str) -> Result<DeclaredUser, String> {
    match text.split_once(':') {
        // Its password is kept beside the keys, and every start logs in with it.
        Some(("admin", _)) => Err("admin is made anyway, with a password of its own".to_owned()),
        Some((name, password)) if !name.is_empty() && !password.is_empty() => Ok(DeclaredUser {
            name: name.to_owned(),
            password: Secret::from(password),
            only_if_absent: false,
        }),
        _ => Err("expected NAME:PASSWORD".to_owned()),
    }
}

impl DevArgs {
    pub(crate) async fn run(self) -> Result<(), NodeError> {
        let mut signals = Signals::listen().map_err(NodeError::system("signals"))?;
        self.check()?;
        let home = Home::open(self.data_dir.as_deref())?;
        let json = self.json;
        let say = |text: &str| {
            if !json {
                // The broker serves, and stops, whoever reads this or not.
                let _ = output::print(text);
            }
        };
        let stopping = || say("stopping; Ctrl-C again ends it at once");
        let at_once = || say(&format!("ended at once; {}", home.left_at_once()));
        let call_off = CallOff::default();
        let starting = self.start(&home, &call_off);
        let started = node::started(starting, &mut signals, &call_off, stopping, at_once).await?;
        if let Some((running, announcement)) = started {
            if !call_off.is_called_off() {
                let shown = match json {
                    true => announcement.json(),
                    false => announcement.text(),
                };
                let _ = output::print(shown.trim_end());
                tokio::task::spawn_blocking(tell_leftovers);
                signals.requested().await;
                stopping();
            }
            node::unless_interrupted(home.stop(running), &mut signals, at_once).await?;
        }
        say(&format!("stopped; {}", home.close()?));
        Ok(())
    }

    /// Finds what makes no sense before anything is written.
    fn check(&self) -> Result<(), NodeError> {
        if let Err(error) = TcpListener::bind((self.bind.as_str(), 0)) {
            return Err(NodeError::Usage(format!(
                "--bind {:?}: cannot listen there ({error}); give an address of this machine, such \
                 as 127.0.0.1, ::1 or 0.0.0.0",
                self.bind
            )));
        }
        let keys = self
            .overrides
            .iter()
            .filter_map(|text| text.split_once('='));
        for (key, _) in keys {
            if let Some((key, how)) = DECIDED.iter().find(|(decided, _)| *decided == key.trim()) {
                return Err(NodeError::Usage(format!(
                    "--override {key}: {how} in palisade dev; palisade start takes the key from a \
                     configuration"
                )));
            }
        }
        Ok(())
    }

    async fn start(
        self,
        home: &Home,
        call_off: &CallOff,
    ) -> Result<(Running, Announcement), NodeError> {
        let dev_dir = home.dev_dir();
        let host_name = node::host_name();
        let material = Material::ensure_by(home.write(), &dev_dir, &names(&self.bind, &host_name))?;
        let (password, is_new) = state::admin_password(&dev_dir, home.write())
            .map_err(NodeError::system("admin password"))?;
        let remembered = Ports::remembered(&dev_dir);
        let ports = Ports::choose(self.port, remembered, |port| {
            state::is_free(&self.bind, port)
        });
        let mut taken = Ports::taken(self.port, remembered, ports, self.plaintext);
        taken.retain(|port| {
            let is_known = remembered.is_some_and(|known| known.have(*port));
            if is_known {
                tracing::warn!(
                    "port {port} is in use by another process: a free one is taken for this run; \
                     clients need the new address until a start finds {port} free"
                );
            }
            !is_known
        });
        let declared = self.topics.first().map(|topic| topic.name.clone());
        let is_audited = is_audited(&self.overrides);
        let mut sources = DevSettings {
            log_dir: &home.path.join("data"),
            bind: &self.bind,
            host_name: &host_name,
            ports,
            plaintext: self.plaintext,
            material: &material,
            overrides: self.overrides,
        }
        .sources();
        if home.is_temporary() && is_audited {
            // An audit log that goes with its directory keeps no disk free for its last lines.
            sources = sources.set("palisade.audit.reserve.bytes", "0");
        }
        let (config, mut warnings) = Config::load(&sources)?;
        check_mechanism(&config)?;
        // An open listener was asked for in so many words, and stays on this machine.
        warnings
            .0
            .retain(|warning| !matches!(warning, Warning::Plaintext(_)));
        node::warn(&warnings);

        let mut declarations = Declarations {
            users: vec![DeclaredUser {
                name: ADMIN.to_owned(),
                password: password.clone(),
                only_if_absent: !is_new,
            }],
            topics: self.topics,
            acls: self.acls.into_iter().flat_map(|rule| rule.0).collect(),
        };
        declarations.users.extend(self.users);
        let running = start_prepared(
            config,
            Vec::new(),
            call_off,
            async |broker: &SharedBroker| {
                let applied = declarations.apply(broker).await;
                let applied = applied.map(|replaced| {
                // Whoever took the administrator's away wants another one.
                for user in replaced.into_iter().filter(|user| *user != ADMIN) {
                    tracing::warn!(
                        "the password of {user} was set anew: --user gives another one than it had",
                        user = foreign::line(user)
                    );
                }
            });
                applied.map_err(|error| match node::audit_trouble(broker) {
                    Some(trouble) => node::prepare_error(trouble),
                    None => node::prepare_error(error),
                })
            },
        )
        .await?;
        let keep = |bound| Ports::kept(self.port, remembered, bound);
        match announce(&running, home, &material, password, is_new, keep).await {
            Ok(announcement) => {
                let announcement = Announcement {
                    topic: declared.or_else(|| some_topic(running.broker())),
                    taken_ports: taken,
                    ..announcement
                };
                Ok((running, announcement))
            }
            Err(error) => {
                // Looked at before the end, at which everything is closed.
                let error = node::audit_trouble(running.broker()).unwrap_or(error);
                if let Err(error) = running.shutdown().await {
                    tracing::error!(%error, "not stopped cleanly");
                }
                Err(error)
            }
        }
    }
}

/// Whether overrides, of which the last one of a key wins, leave the audit log on.
fn is_audited(overrides: &[String]) -> bool {
    let pairs = overrides.iter().filter_map(|text| text.split_once('='));
    let mut off = pairs.filter(|(key, _)| key.trim() == "palisade.danger.disable.audit");
    off.next_back()
        .is_none_or(|(_, value)| !value.trim().eq_ignore_ascii_case("true"))
}

/// The ready-made settings must be able to log in.
fn check_mechanism(config: &Config) -> Result<(), NodeError> {
    let sasl = config
        .listener("SASL_SSL")
        .and_then(|one| one.sasl.as_ref());
    if sasl.is_some_and(|sasl| sasl.mechanisms.contains(&SaslMechanism::ScramSha512)) {
        return Ok(());
    }
    Err(NodeError::Usage(format!(
        "--override sasl.enabled.mechanisms: the client settings made here log in with \
         {MECHANISM}; keep it among them"
    )))
}

/// Names that the server's certificate covers.
fn names(bind: &str, host_name: &str) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    for name in [bind, host_name] {
        if !is_wildcard(name) && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Writes the clients' files, proves with one of them that a client succeeds, and tells the rest.
///
/// The client that proves it comes with its certificate: what it shows of keys, listeners and
/// requests holds for every other, and it costs no derivation of a password. The administrator's
/// password is compared with the credential itself meanwhile.
async fn announce(
    running: &Running,
    home: &Home,
    material: &Material,
    password: Secret,
    is_new: bool,
    keep: impl FnOnce(Ports) -> Ports,
) -> Result<Announcement, NodeError> {
    let dev_dir = home.dev_dir();
    let rows = listener_rows(running);
    let address = |name: &str| rows.get(name).map_or("", |row| row.address.as_str());
    let login = Login {
        username: ADMIN,
        password: &password,
        mechanism: MECHANISM.name(),
    };
    let files = ClientFiles::write(
        &dev_dir,
        material,
        &login,
        address("SASL_SSL"),
        address("SSL"),
    )
    .map_err(NodeError::system("client settings"))?;
    let bound: BTreeMap<String, u16> = running
        .listeners()
        .into_iter()
        .map(|(name, address)| (name, address.port()))
        .collect();
    let port = |name: &str| bound.get(name).copied().unwrap_or(0);
    let ports = Ports {
        sasl_ssl: port("SASL_SSL"),
        ssl: port("SSL"),
        plaintext: port("PLAINTEXT"),
    };
    keep(ports)
        .remember(&dev_dir)
        .map_err(NodeError::system("ports"))?;
    let broker = running.broker();
    let settings = ClientSettings::load(Some(&files.java_mtls_properties), None)?;
    let (connected, fits) = tokio::join!(Admin::connect(settings, CHECK_TIME), async {
        is_new || fits(broker, password.clone()).await
    });
    connected?;
    if !fits {
        tracing::warn!(
            "the password of {ADMIN} was changed: the client settings made here log in no longer. \
             Write it to {path}, or remove that file and start again to get a new password",
            path = dev_dir.join(state::PASSWORD_FILE).display()
        );
    }
    let shown = password.expose_str().unwrap_or_default().to_owned();
    Ok(Announcement {
        pid: process::id(),
        version: env!("CARGO_PKG_VERSION"),
        cluster_id: broker.cluster_id().to_string(),
        node_id: broker.node_id.value(),
        data_dir: home.path.clone(),
        bootstrap: address("SASL_SSL").to_owned(),
        listeners: rows,
        admin: AdminRow {
            username: ADMIN.to_owned(),
            password: fits.then_some(shown),
            mechanism: MECHANISM.name(),
        },
        files,
        is_temporary: home.is_temporary(),
        program: program(),
        topic: None,
        taken_ports: Vec::new(),
        client_rights: rights(broker, CLIENT_NAME),
        anonymous_rights: rights(broker, "ANONYMOUS"),
    })
}

/// Removes what killed brokers left, and says so.
fn tell_leftovers() {
    let removed = leftovers::remove();
    if !removed.is_empty() {
        let removed: Vec<String> = removed
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let removed = removed.join(", ");
        output::warn(&format!(
            "removed {removed}: left by a palisade dev that was killed"
        ));
    }
}

/// A topic of an earlier start, to show the next steps with: one that takes records without keys.
fn some_topic(broker: &Broker) -> Option<String> {
    let image = broker.metadata.image();
    let is_compacted = |topic: &TopicImage| {
        let policy = topic.config.get("cleanup.policy");
        policy.is_some_and(|policy| policy.contains("compact"))
    };
    let mut topics = image.topics.iter();
    let shown = topics.find(|topic| !topic.is_internal() && !is_compacted(topic));
    shown.map(|topic| topic.name.to_string())
}

/// What a user may do beside what everybody may.
fn rights(broker: &Broker, user: &str) -> Rights {
    let principal = format!("User:{user}");
    let rules = &broker.config.authorizer;
    if !rules.enabled || rules.super_users.contains(&principal) {
        return Rights::All;
    }
    let image = broker.metadata.image();
    let gives = |acl: &AclBinding| {
        let is_theirs = acl.principal == principal || acl.principal == "User:*";
        is_theirs && acl.permission == Permission::Allow
    };
    let has_some =
        rules.allow_everyone_if_no_acl_found || image.acls.set().iter().any(|acl| gives(acl));
    match has_some {
        true => Rights::Some,
        false => Rights::None,
    }
}

/// This program as a shell finds it from any directory: by its name if it was called so.
fn program() -> String {
    let called = env::args_os().next().map(PathBuf::from);
    let by_name = called.is_some_and(|called| called.components().count() == 1);
    match env::current_exe() {
        Ok(path) if !by_name => path.display().to_string(),
        _ => "palisade".to_owned(),
    }
}

/// Whether the administrator logs in with this password.
async fn fits(broker: &Broker, password: Secret) -> bool {
    let image = broker.metadata.image();
    match image.scram.get(ADMIN, MECHANISM).cloned() {
        Some(credential) => declare::fits(credential, password).await,
        None => false,
    }
}

/// Listeners as clients dial them, with the ports that they really have.
fn listener_rows(running: &Running) -> BTreeMap<String, ListenerRow> {
    let config = &running.broker().config;
    let rows = running.listeners().into_iter().filter_map(|(name, bound)| {
        let listener = config.listener(&name)?;
        let mut endpoint = listener.advertised.clone();
        if endpoint.port == 0 {
            endpoint.port = bound.port();
        }
        let row = ListenerRow {
            protocol: listener.protocol.name(),
            address: endpoint.to_string(),
        };
        Some((name, row))
    });
    rows.collect()
}

#[cfg(test)]
mod tests;
