//! What `palisade dev` does once its broker serves: it writes the clients' files, proves with one
//! of them that a client succeeds, and gathers what is to be told.

use std::{collections::BTreeMap, env, io, path::PathBuf, process, time::Duration};

use palisade_auth::{
    Secret,
    acl::{AclBinding, Permission},
};

use super::{
    MECHANISM,
    announce::{AdminRow, Announcement, Example, ListenerRow, Rights},
    client_files::{ClientFiles, Login},
    home::Home,
    material::{CLIENT_NAME, Material},
    settings::ADMIN,
    state::{self, PortPlan, Ports},
};
use crate::{
    broker::Broker,
    cli::{
        client::{Admin, ClientSettings},
        declare,
        node::NodeError,
    },
    metadata::topic_config::TopicConfig,
    startup::Running,
};

/// How long the broker's own first client may take.
pub(super) const CHECK_TIME: Duration = Duration::from_secs(10);

/// The administrator's password as it was written down.
pub(super) struct Written {
    pub(super) password: Secret,
    /// Made just now.
    pub(super) is_new: bool,
}

/// A broker that serves, and what it was started with.
pub(super) struct Ready<'a> {
    pub(super) running: &'a Running,
    pub(super) home: &'a Home,
    pub(super) material: &'a Material,
    pub(super) admin: &'a Written,
    pub(super) ports: PortPlan,
    /// The first topic that was declared.
    pub(super) topic: Option<String>,
}

impl Ready<'_> {
    /// Writes what clients need, proves that one succeeds, and gathers the rest.
    ///
    /// # Errors
    /// A file is not written, or the client does not succeed.
    pub(super) async fn announce(self) -> Result<Announcement, NodeError> {
        let rows = listener_rows(self.running);
        let files = self.write_files(&rows)?;
        let ports = &self.ports;
        ports
            .remember(&self.home.dev_dir(), bound(self.running))
            .map_err(NodeError::system("ports"))?;
        let topic = self.example().map_err(NodeError::system("topic"))?;
        let fits = self.prove(&files).await?;
        let password = self.admin.password.expose_str().unwrap_or_default();
        let broker = self.running.broker();
        Ok(Announcement {
            pid: process::id(),
            version: env!("CARGO_PKG_VERSION"),
            cluster_id: broker.cluster_id().to_string(),
            node_id: broker.node_id.value(),
            data_dir: self.home.path.clone(),
            bootstrap: address(&rows, "SASL_SSL").to_owned(),
            listeners: rows,
            admin: AdminRow {
                username: ADMIN.to_owned(),
                password: fits.then(|| password.to_owned()),
                mechanism: MECHANISM.name(),
            },
            files,
            is_temporary: self.home.is_temporary(),
            program: program(),
            topic,
            taken_ports: self.ports.taken,
            client_rights: rights(broker, CLIENT_NAME),
            anonymous_rights: rights(broker, "ANONYMOUS"),
        })
    }

    /// The topic to show the next steps with: the first one of this start, or of the last start
    /// that declared any; another one, if need be, that takes records without keys; or one to be
    /// made.
    fn example(&self) -> io::Result<Example> {
        let broker = self.running.broker();
        let dir = self.home.dev_dir();
        let image = broker.metadata.image();
        let takes_any =
            |name: &String| image.topics.get(name).is_some() && !wants_keys(broker, name);
        let name = match &self.topic {
            Some(declared) => {
                state::remember_topic(&dir, declared)?;
                declared.clone()
            }
            None => {
                let known = image.topics.iter().filter(|topic| !topic.is_internal());
                let mut known = known.map(|topic| topic.name.to_string());
                state::remembered_topic(&dir)
                    .filter(takes_any)
                    .or_else(|| known.find(takes_any))
                    .unwrap_or_else(|| "orders".to_owned())
            }
        };
        Ok(Example {
            is_there: image.topics.get(&name).is_some(),
            wants_keys: wants_keys(broker, &name),
            name,
        })
    }

    fn write_files(&self, rows: &BTreeMap<String, ListenerRow>) -> Result<ClientFiles, NodeError> {
        let login = Login {
            username: ADMIN,
            password: &self.admin.password,
            mechanism: MECHANISM.name(),
        };
        let (sasl, ssl) = (address(rows, "SASL_SSL"), address(rows, "SSL"));
        let dir = self.home.dev_dir();
        ClientFiles::write(&dir, self.material, &login, sasl, ssl)
            .map_err(NodeError::system("client settings"))
    }

    /// Has a client succeed, and tells whether the administrator's password still is what was
    /// written down.
    ///
    /// The client comes with its certificate: what it shows of keys, listeners and requests holds
    /// for every other, and it costs no derivation of a password. The administrator's password is
    /// compared with the credential itself meanwhile.
    async fn prove(&self, files: &ClientFiles) -> Result<bool, NodeError> {
        let settings = ClientSettings::load(Some(&files.java_mtls_properties), None)?;
        let (connected, fits) = tokio::join!(Admin::connect(settings, CHECK_TIME), async {
            self.admin.is_new || fits(self.running.broker(), self.admin.password.clone()).await
        });
        connected?;
        if !fits {
            tracing::warn!(
                "the password of {ADMIN} was changed: the client settings made here log in no longer. \
                 Write it to {path}, or remove that file and start again to get a new password",
                path = self.home.dev_dir().join(state::PASSWORD_FILE).display()
            );
        }
        Ok(fits)
    }
}

/// The ports of the listeners; 0 for one that there is not.
fn bound(running: &Running) -> Ports {
    let bound: BTreeMap<String, u16> = running
        .listeners()
        .into_iter()
        .map(|(name, address)| (name, address.port()))
        .collect();
    let port = |name: &str| bound.get(name).copied().unwrap_or(0);
    Ports {
        sasl_ssl: port("SASL_SSL"),
        ssl: port("SSL"),
        plaintext: port("PLAINTEXT"),
    }
}

fn address<'a>(rows: &'a BTreeMap<String, ListenerRow>, name: &str) -> &'a str {
    rows.get(name).map_or("", |row| row.address.as_str())
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

/// Whether a topic of this name takes no records without keys, or would not if it were made now.
fn wants_keys(broker: &Broker, name: &str) -> bool {
    let image = broker.metadata.image();
    let config = image.topics.get(name).map(|topic| topic.config.clone());
    let defaults = &broker.config.topic_defaults;
    TopicConfig::effective(defaults, &config.unwrap_or_default()).cleanup_compact
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
