//! `palisade dev`: a broker to develop against, secured as in production.
//!
//! One directory holds everything: `data` the logs, `dev` the key material, the administrator's
//! password, the ports, and ready-made client settings. Started again on the same directory, it
//! keeps all of them, and the users, topics and ACLs of its cluster.

mod announce;
pub mod client_files;
pub mod material;
mod settings;
mod state;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use clap::Args;
use palisade_auth::Secret;
use tempfile::TempDir;

use self::{
    announce::{AdminRow, Announcement, ListenerRow},
    client_files::{ClientFiles, Login},
    material::Material,
    settings::{ADMIN, DevSettings, is_wildcard},
    state::Ports,
};
use super::{
    acl,
    client::{Admin, ClientSettings},
    declare::{Declarations, DeclaredTopic, DeclaredUser},
    node::{self, NodeError, SharedBroker},
    output, private_file,
    rule::Rule,
};
use crate::{
    config::{Config, Warning},
    shutdown,
    startup::{Running, start_prepared},
};

/// SASL mechanism of the ready-made settings.
const MECHANISM: &str = "SCRAM-SHA-512";

/// How long the broker's own first client may take.
const CHECK_TIME: Duration = Duration::from_secs(10);

/// Arguments of `palisade dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Directory to keep everything in; without it a temporary one, removed at the end
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    bind: String,
    /// Port of the SASL_SSL listener, the others follow; 0 lets the system choose all
    #[arg(long)]
    port: Option<u16>,
    /// Print one line of JSON instead of the readable block
    #[arg(long)]
    json: bool,
    /// Create a topic, repeatable
    #[arg(long = "topic", value_name = "NAME[:PARTITIONS]", value_parser = topic)]
    topics: Vec<DeclaredTopic>,
    /// Create a user for SCRAM, repeatable; only for throw-away passwords
    #[arg(long = "user", value_name = "NAME:PASSWORD", value_parser = user)]
    users: Vec<DeclaredUser>,
    /// Add an ACL, repeatable: allow|deny PRINCIPAL OPERATION[,OPERATION…] RESOURCE [from HOST]
    #[arg(long = "acl", value_name = "RULE", value_parser = acl::rule)]
    acls: Vec<Rule>,
    /// Add a loopback listener without TLS and login, whose clients are User:ANONYMOUS
    #[arg(long)]
    plaintext: bool,
    /// Set one configuration key, repeatable
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

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

/// The directory of one broker; a temporary one goes with this value.
struct Home {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Home {
    fn open(data_dir: Option<&Path>) -> Result<Self, NodeError> {
        let failed = NodeError::system("data directory");
        match data_dir {
            None => {
                let made = tempfile::Builder::new().prefix("palisade-dev-").tempdir();
                let temporary = made.map_err(failed)?;
                Ok(Self {
                    path: temporary.path().to_owned(),
                    temporary: Some(temporary),
                })
            }
            Some(dir) => {
                let made = private_file::make_dir(dir).and_then(|()| dir.canonicalize());
                Ok(Self {
                    path: made.map_err(NodeError::system(dir.display().to_string()))?,
                    temporary: None,
                })
            }
        }
    }

    fn close(self) -> Result<(), NodeError> {
        match self.temporary {
            Some(temporary) => temporary
                .close()
                .map_err(NodeError::system("removing the temporary directory")),
            None => Ok(()),
        }
    }
}

impl DevArgs {
    pub(crate) async fn run(self) -> Result<(), NodeError> {
        let stop = shutdown::requested().map_err(NodeError::system("signals"))?;
        let home = Home::open(self.data_dir.as_deref())?;
        let json = self.json;
        let (running, announcement) = self.start(&home).await?;
        let shown = if json {
            announcement.json()
        } else {
            announcement.text()
        };
        output::print(shown.trim_end());
        stop.await;
        running.shutdown().await?;
        let removed = home.temporary.is_some().then(|| home.path.clone());
        home.close()?;
        if let (Some(path), false) = (removed, json) {
            output::print(&format!("removed {}", path.display()));
        }
        Ok(())
    }

    async fn start(self, home: &Home) -> Result<(Running, Announcement), NodeError> {
        let dev_dir = home.path.join("dev");
        private_file::make_dir(&dev_dir).map_err(NodeError::system("key directory"))?;
        let host_name = node::host_name();
        let material = Material::ensure(&dev_dir, &names(&self.bind, &host_name))?;
        let (password, is_new) =
            state::admin_password(&dev_dir).map_err(NodeError::system("admin password"))?;
        let ports = Ports::choose(self.port, Ports::remembered(&dev_dir), |port| {
            state::is_free(&self.bind, port)
        });
        let sources = DevSettings {
            log_dir: &home.path.join("data"),
            bind: &self.bind,
            host_name: &host_name,
            ports,
            plaintext: self.plaintext,
            material: &material,
            overrides: self.overrides,
        }
        .sources();
        let (config, mut warnings) = Config::load(&sources)?;
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
        let running = start_prepared(config, Vec::new(), async |broker: &SharedBroker| {
            declarations
                .apply(broker)
                .await
                .map_err(node::prepare_error)
        })
        .await?;
        match announce(&running, home, &dev_dir, &material, &password).await {
            Ok(announcement) => Ok((running, announcement)),
            Err(error) => {
                running.shutdown().await?;
                Err(error)
            }
        }
    }
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
async fn announce(
    running: &Running,
    home: &Home,
    dev_dir: &Path,
    material: &Material,
    password: &Secret,
) -> Result<Announcement, NodeError> {
    let rows = listener_rows(running);
    let address = |name: &str| rows.get(name).map_or("", |row| row.address.as_str());
    let login = Login {
        username: ADMIN,
        password,
        mechanism: MECHANISM,
    };
    let files = ClientFiles::write(
        dev_dir,
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
    ports
        .remember(dev_dir)
        .map_err(NodeError::system("ports"))?;
    for file in [&files.java_properties, &files.java_mtls_properties] {
        let settings = ClientSettings::load(Some(file), None)?;
        Admin::connect(settings, CHECK_TIME).await?;
    }
    let broker = running.broker();
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
            password: password.expose_str().unwrap_or_default().to_owned(),
            mechanism: MECHANISM,
        },
        files,
        is_temporary: home.temporary.is_some(),
    })
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
