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
mod ready;
mod settings;
mod state;
mod test_broker;

use std::{collections::BTreeSet, io, net::TcpListener, path::PathBuf};

use clap::Args;
use palisade_auth::{Secret, scram::ScramMechanism};

pub use self::test_broker::{TestBroker, TestBrokerBuilder, TestBrokerError};

use self::{
    announce::Announcement,
    home::Home,
    material::Material,
    ready::{Ready, Written},
    settings::{ADMIN, DevSettings, is_wildcard},
    state::{PortPlan, Ports},
};
use super::{
    acl,
    declare::{Declarations, DeclaredTopic, DeclaredUser},
    node::{self, NodeError, SharedBroker},
    output,
    rule::Rule,
};
use crate::{
    broker::Broker,
    config::{Config, SaslMechanism, Warning},
    foreign,
    shutdown::{CallOff, Signals},
    startup::{PrepareError, Running, start_prepared},
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
    /// With 0, and without it, the ports that the same directory was started with before are taken;
    /// at its first start the system chooses with 0, and without it they are 9092, 9093 and 9094.
    /// Any of them that is busy is replaced by a free one. A directory keeps the ports that it
    /// announced first, or those of the last --port but 0.
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
    /// begins so, a lone * every name. A word with blanks stands in double quotes:
    /// 'allow "User:CN=a b,O=c" read topic:x'.
    #[arg(long = "acl", value_name = "RULE")]
    acls: Vec<String>,
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
        // Its password is kept beside the keys, where the client settings made here have it from.
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
        let rules = self.check()?;
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
        let starting = self.start(&home, rules, &call_off);
        let started = node::started(starting, &mut signals, &call_off, stopping, at_once).await?;
        if let Some((running, announcement)) = started {
            if !call_off.is_called_off() {
                let shown = match json {
                    true => {
                        announcement
                            .taken()
                            .for_each(|text| tracing::warn!("{text}"));
                        announcement.json()
                    }
                    false => announcement.text(),
                };
                let _ = output::print(shown.trim_end());
                tokio::task::spawn_blocking(tell_leftovers);
                signals.requested().await;
                stopping();
            }
            node::unless_interrupted(home.stop(running), &mut signals, at_once).await?;
        }
        // It may take long, and is the next start's where nobody waits for it.
        let left = home.left_for_the_next();
        let at_once = || say(&format!("ended at once; {left}"));
        let closing = tokio::task::spawn_blocking(move || home.close());
        let closed = node::unless_interrupted(closing, &mut signals, at_once).await;
        let closed = closed
            .map_err(io::Error::other)
            .map_err(NodeError::system("end"))??;
        say(&format!("stopped; {closed}"));
        Ok(())
    }

    /// Finds what makes no sense before anything is written, and reads the rules of `--acl`.
    fn check(&self) -> Result<Vec<Rule>, NodeError> {
        if let Err(error) = TcpListener::bind((self.bind.as_str(), 0)) {
            return Err(NodeError::Usage(format!(
                "--bind {:?}: cannot listen there ({error}); give an address of this machine, such \
                 as 127.0.0.1, ::1 or 0.0.0.0",
                self.bind
            )));
        }
        let mut named = BTreeSet::new();
        if let Some(twice) = self.topics.iter().find(|topic| !named.insert(&topic.name)) {
            return Err(NodeError::Usage(format!(
                "--topic {} is given more than once on the command line",
                foreign::line(&twice.name)
            )));
        }
        let mut named = BTreeSet::new();
        if let Some(twice) = self.users.iter().find(|user| !named.insert(&user.name)) {
            return Err(NodeError::Usage(format!(
                "--user {} is given more than once on the command line",
                foreign::line(&twice.name)
            )));
        }
        let rules = acl::read_all(&self.acls, acl::new_rule)
            .map_err(|wrong| NodeError::Usage(format!("--acl: {wrong}")))?;
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
        Ok(rules)
    }

    async fn start(
        self,
        home: &Home,
        rules: Vec<Rule>,
        call_off: &CallOff,
    ) -> Result<(Running, Announcement), NodeError> {
        let dev_dir = home.dev_dir();
        let host_name = node::host_name();
        let material = Material::ensure_by(home.write(), &dev_dir, &names(&self.bind, &host_name))?;
        let (password, is_new) = state::admin_password(&dev_dir, home.write())
            .map_err(NodeError::system("admin password"))?;
        let admin = Written { password, is_new };
        let ports = PortPlan::new(&dev_dir, &self.bind, self.port, self.plaintext);
        let config = self.configure(home, &material, &host_name, ports.chosen)?;
        let topic = self.topics.first().map(|topic| topic.name.clone());
        let declarations = self.declarations(rules, &admin);
        let prepare = async |broker: &SharedBroker| declare_in(broker, &declarations).await;
        let running = start_prepared(config, Vec::new(), call_off, prepare).await?;
        let ready = Ready {
            running: &running,
            home,
            material: &material,
            admin: &admin,
            ports,
            topic,
        };
        match ready.announce().await {
            Ok(announcement) => Ok((running, announcement)),
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

    fn configure(
        &self,
        home: &Home,
        material: &Material,
        host_name: &str,
        ports: Ports,
    ) -> Result<Config, NodeError> {
        let mut sources = DevSettings {
            log_dir: &home.path.join(home::LOGS),
            bind: &self.bind,
            host_name,
            ports,
            plaintext: self.plaintext,
            material,
            overrides: self.overrides.clone(),
        }
        .sources();
        if home.is_temporary() && is_audited(&self.overrides) {
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
        Ok(config)
    }

    fn declarations(self, rules: Vec<Rule>, admin: &Written) -> Declarations {
        let mut users = vec![DeclaredUser {
            name: ADMIN.to_owned(),
            password: admin.password.clone(),
            only_if_absent: !admin.is_new,
        }];
        users.extend(self.users);
        Declarations {
            users,
            topics: self.topics,
            acls: rules.into_iter().flat_map(|rule| rule.0).collect(),
        }
    }
}

/// Puts into force what was declared, and says whose password it took.
async fn declare_in(broker: &Broker, declarations: &Declarations) -> Result<(), PrepareError> {
    let applied = declarations.apply(broker).await;
    let replaced = applied.map_err(|error| match node::audit_trouble(broker) {
        Some(trouble) => node::prepare_error(trouble),
        None => node::prepare_error(error),
    })?;
    // Whoever took the administrator's away wants another one.
    for user in replaced.into_iter().filter(|user| *user != ADMIN) {
        let user = foreign::line(user);
        tracing::warn!("the password of {user} was set anew: --user gives another one than it had");
    }
    Ok(())
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

#[cfg(test)]
mod tests;
