//! Users, topics and ACLs that must be in force before the first client is answered.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use palisade_auth::{
    Secret,
    acl::{AclBinding, CLUSTER_NAME, Operation, PatternType, Permission, ResourceType, WILDCARD},
    scram::{CredentialError, DEFAULT_ITERATIONS, ScramCredential, ScramMechanism},
};
use palisade_protocol::{
    ErrorCode, Str,
    messages::{
        alter_user_scram_credentials::AlterUserScramCredentialsRequest,
        create_acls::CreateAclsRequest,
        create_topics::{CreatableTopic, CreateTopicsRequest},
    },
};
use thiserror::Error;

use super::{acl::creation, client::ClientError, private_file, random, upsertion::upsertion};
use crate::{
    broker::Broker,
    config::Config,
    metadata::{
        Actor, ControllerError, ControllerRequest, Internal,
        controller::{Context, Decision},
    },
};

/// Name of the administrator that a first start makes.
pub(crate) const FIRST_ADMIN: &str = "admin";

/// File in the data directory that holds that administrator's password.
const PASSWORD_FILE: &str = "admin.password";

/// A SCRAM user with both mechanisms; one whose password is this one already is left alone.
#[derive(Debug, Clone)]
pub(crate) struct DeclaredUser {
    pub(crate) name: String,
    pub(crate) password: Secret,
    /// A user that is there already keeps its password.
    pub(crate) only_if_absent: bool,
}

/// A topic with the node's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeclaredTopic {
    pub(crate) name: String,
    pub(crate) partitions: i32,
}

/// Everything that one start declares.
#[derive(Debug, Clone, Default)]
pub(crate) struct Declarations {
    pub(crate) users: Vec<DeclaredUser>,
    pub(crate) topics: Vec<DeclaredTopic>,
    pub(crate) acls: Vec<AclBinding>,
}

/// Why a declaration is not in force.
#[derive(Debug, Error)]
pub(crate) enum DeclareError {
    /// The controller did not decide.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// The controller refused.
    #[error(transparent)]
    Refused(ClientError),
    /// The topic of an earlier start looks different.
    #[error(
        "topic {name} is there already and has another number of partitions ({found}, not {asked}): \
         start without it; `palisade topic alter` adds partitions"
    )]
    Partitions {
        name: String,
        found: usize,
        asked: i32,
    },
    /// No randomness.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// No randomness.
    #[error(transparent)]
    Openssl(#[from] openssl::error::ErrorStack),
    /// The password cannot be kept.
    #[error("{}: {source}", path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl Declarations {
    /// Puts everything into force; what is already so stays. Gives the users who had another
    /// password before.
    ///
    /// # Errors
    /// The first declaration that is refused.
    pub(crate) async fn apply(&self, broker: &Broker) -> Result<Vec<&str>, DeclareError> {
        let mut replaced = Vec::new();
        for user in &self.users {
            let known = broker.metadata.image().scram.user(&user.name).is_some();
            if known && user.only_if_absent {
                continue;
            }
            let (verified, held) = verified(broker, user).await;
            if verified < ScramMechanism::VALUES.len() {
                let together = Together {
                    acls: Vec::new(),
                    credentials: credentials(&user.name, &user.password)?,
                };
                together.submit(broker).await?;
            }
            if verified < held {
                replaced.push(user.name.as_str());
            }
        }
        create_topics(broker, &self.topics).await?;
        let together = Together {
            acls: self.acls.clone(),
            credentials: Vec::new(),
        };
        together.submit(broker).await?;
        Ok(replaced)
    }
}

/// How many credentials a user has already, and how many of them its password belongs to: those
/// first.
async fn verified(broker: &Broker, user: &DeclaredUser) -> (usize, usize) {
    let image = broker.metadata.image();
    let (mut verified, mut held) = (0, 0);
    for mechanism in ScramMechanism::VALUES {
        if let Some(credential) = image.scram.get(&user.name, *mechanism) {
            held += 1;
            let fits = fits(credential.clone(), user.password.clone()).await;
            verified += usize::from(fits);
        }
    }
    (verified, held)
}

/// Whether a password is that of a credential.
pub(crate) async fn fits(credential: Arc<ScramCredential>, password: Secret) -> bool {
    // Thousands of rounds of hashing are no work for a task.
    let verified =
        tokio::task::spawn_blocking(move || credential.verify_password(password.expose()));
    matches!(verified.await, Ok(Ok(true)))
}

fn actor() -> Actor {
    Actor::internal(Internal::for_purpose("declared at start"))
}

fn accept(what: &str, code: ErrorCode, message: Option<&str>) -> Result<(), DeclareError> {
    if code == ErrorCode::NONE {
        return Ok(());
    }
    let error = ClientError::refused(what, code, message);
    Err(DeclareError::Refused(error))
}

/// ACLs and credentials that come into force together, in one change: of half of them the next
/// start would take for granted that it is all.
struct Together {
    acls: Vec<AclBinding>,
    /// One request per mechanism: a request may name a user only once (KIP-554).
    credentials: Vec<AlterUserScramCredentialsRequest>,
}

/// What was refused, and how.
type Refusal = (String, ErrorCode, Option<Str>);

impl ControllerRequest for Together {
    type Response = Result<(), Refusal>;

    fn decide(&self, _version: i16, context: &mut Context<'_>) -> Decision<Self::Response> {
        let request = CreateAclsRequest {
            creations: self.acls.iter().map(creation).collect(),
        };
        let Decision {
            mut records,
            response,
            mut changes,
        } = request.decide(3, context);
        let mut refused = self
            .acls
            .iter()
            .zip(response.results)
            .map(|(acl, row)| (format!("ACL {acl}"), row.error_code, row.error_message))
            .find(|(_, code, _)| *code != ErrorCode::NONE);
        for request in &self.credentials {
            let decided = request.decide(0, context);
            records.extend(decided.records);
            changes.extend(decided.changes);
            let rows = decided.response.results.into_iter();
            let mut rows = rows.map(|row| {
                (
                    format!("user {}", row.user),
                    row.error_code,
                    row.error_message,
                )
            });
            refused = refused.or_else(|| rows.find(|(_, code, _)| *code != ErrorCode::NONE));
        }
        match refused {
            Some(refused) => Decision::only(Err(refused)),
            None => Decision {
                records,
                response: Ok(()),
                changes,
            },
        }
    }

    fn refused(&self, _version: i16, error: &ControllerError) -> Self::Response {
        Err(("administration".to_owned(), error.code(), None))
    }
}

impl Together {
    async fn submit(self, broker: &Broker) -> Result<(), DeclareError> {
        if self.acls.is_empty() && self.credentials.is_empty() {
            return Ok(());
        }
        let decided = broker.controller.submit(self, 0, actor()).await?;
        decided.map_err(|(what, code, message)| {
            DeclareError::Refused(ClientError::refused(&what, code, message.as_deref()))
        })
    }
}

fn credentials(
    name: &str,
    password: &Secret,
) -> Result<Vec<AlterUserScramCredentialsRequest>, CredentialError> {
    let one = |mechanism: &ScramMechanism| {
        Ok(AlterUserScramCredentialsRequest {
            deletions: Vec::new(),
            upsertions: vec![upsertion(name, password, *mechanism, DEFAULT_ITERATIONS)?],
        })
    };
    ScramMechanism::VALUES.iter().map(one).collect()
}

async fn create_topics(broker: &Broker, topics: &[DeclaredTopic]) -> Result<(), DeclareError> {
    if topics.is_empty() {
        return Ok(());
    }
    let request = CreateTopicsRequest {
        topics: topics
            .iter()
            .map(|topic| CreatableTopic {
                name: Str::copy(&topic.name),
                num_partitions: topic.partitions,
                replication_factor: -1,
                ..CreatableTopic::default()
            })
            .collect(),
        ..CreateTopicsRequest::default()
    };
    let response = broker.controller.submit(request, 7, actor()).await?;
    let image = broker.metadata.image();
    for topic in topics {
        let name = &topic.name;
        let result = response.topics.iter().find(|one| *one.name == **name);
        let Some(result) = result else { continue };
        if result.error_code != ErrorCode::TOPIC_ALREADY_EXISTS {
            let message = result.error_message.as_deref();
            accept(&format!("topic {name}"), result.error_code, message)?;
            continue;
        }
        let found = image.topics.get(name).map_or(0, |one| one.partitions.len());
        if i32::try_from(found) != Ok(topic.partitions) {
            return Err(DeclareError::Partitions {
                name: name.clone(),
                found,
                asked: topic.partitions,
            });
        }
    }
    Ok(())
}

/// Makes the first administrator of a cluster that clients log in to by SCRAM but that has no user
/// yet; gives the file with the password.
///
/// Without `super.users` the administrator gets every right through ACLs: those are stored with the
/// cluster, listed like any other, and gone for good once removed, while a super user hidden in the
/// program would be neither. Where `super.users` names somebody the operator has decided, and
/// `admin` has the rights that are found there. Without an authorizer there are no ACLs to make.
///
/// # Errors
/// The password cannot be kept, or the controller refuses.
pub(crate) async fn first_admin(
    broker: &Broker,
    config: &Config,
) -> Result<Option<PathBuf>, DeclareError> {
    let by_scram = config
        .listeners
        .iter()
        .any(|listener| listener.sasl.as_ref().is_some_and(|sasl| sasl.has_scram()));
    let image = broker.metadata.image();
    let needs_acls = config.authorizer.enabled && config.authorizer.super_users.is_empty();
    if image.scram.iter().next().is_some() {
        let may_nobody = needs_acls && !config.authorizer.allow_everyone_if_no_acl_found;
        if may_nobody && image.acls.set().is_empty() {
            tracing::warn!(
                "there are users, but no ACLs, and super.users names nobody: nobody has any right; \
                 start once with super.users=User:NAME to add ACLs"
            );
        }
        return Ok(None);
    }
    if !by_scram {
        return Ok(None);
    }
    let path = config.data_dir.join(PASSWORD_FILE);
    let password = random::password()?;
    // Kept before it counts: a user whose password nobody knows would lock everybody out.
    keep(&path, &password)?;
    let together = Together {
        acls: if needs_acls {
            every_right()
        } else {
            Vec::new()
        },
        credentials: credentials(FIRST_ADMIN, &password)?,
    };
    together.submit(broker).await?;
    Ok(Some(path))
}

fn keep(path: &Path, password: &Secret) -> Result<(), DeclareError> {
    private_file::write(path, password.expose()).map_err(|source| DeclareError::File {
        path: path.to_owned(),
        source,
    })
}

fn every_right() -> Vec<AclBinding> {
    let all = [
        (ResourceType::Cluster, CLUSTER_NAME),
        (ResourceType::Topic, WILDCARD),
        (ResourceType::Group, WILDCARD),
        (ResourceType::TransactionalId, WILDCARD),
    ];
    all.into_iter()
        .map(|(resource_type, name)| AclBinding {
            resource_type,
            resource_name: name.to_owned(),
            pattern_type: PatternType::Literal,
            principal: format!("User:{FIRST_ADMIN}"),
            host: WILDCARD.to_owned(),
            operation: Operation::All,
            permission: Permission::Allow,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::{
        config::Sources,
        metadata::{ClusterDelta, ClusterImage, ImageListener},
        startup::{Running, start},
    };

    const LISTENERS: &str = "process.roles=broker,controller\nnode.id=1\n\
         controller.listener.names=C\ncontroller.quorum.voters=1@localhost:9093\n\
         listeners=S://127.0.0.1:0,C://127.0.0.1:0\ninter.broker.listener.name=S\n\
         listener.security.protocol.map=S:SASL_PLAINTEXT,C:PLAINTEXT\n";

    async fn started(dir: &Path, more: &str) -> (Running, Config) {
        let text = format!("{LISTENERS}log.dirs={}\n{more}", dir.display());
        let sources = Sources::new().text("test.properties", &text);
        let (config, _) = Config::load(&sources).unwrap();
        (start(config.clone(), Vec::new()).await.unwrap(), config)
    }

    /// How many credentials and ACLs a start would find after a kill at any moment.
    #[derive(Default)]
    struct Found(Mutex<Vec<(usize, usize)>>);

    impl ImageListener for Found {
        fn changed(&self, _: &ClusterDelta, image: &Arc<ClusterImage>) {
            let users = image.scram.iter();
            let credentials = users.map(|(_, held)| held.iter().count()).sum();
            let mut found = self.0.lock();
            found.push((credentials, image.acls.set().len()));
            found.dedup();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_kill_leaves_half_an_administrator() {
        let dir = tempfile::tempdir().unwrap();
        let (running, config) = started(dir.path(), "").await;
        let found = Arc::new(Found::default());
        let listener = Arc::clone(&found) as Arc<dyn ImageListener>;
        running.broker().metadata.listen(listener);
        let made = first_admin(running.broker(), &config).await.unwrap();
        assert_eq!(made, Some(dir.path().join(PASSWORD_FILE)));
        let both = ScramMechanism::VALUES.len();
        assert_eq!(*found.0.lock(), [(0, 0), (both, every_right().len())]);
        let again = first_admin(running.broker(), &config).await.unwrap();
        assert_eq!(again, None);
        running.shutdown().await.unwrap();
    }

    /// ACLs cannot be made there, and nobody needs any.
    #[tokio::test(flavor = "multi_thread")]
    async fn without_an_authorizer_the_administrator_gets_no_acls() {
        let dir = tempfile::tempdir().unwrap();
        let off = "palisade.danger.disable.authorizer=true\n";
        let (running, config) = started(dir.path(), off).await;
        let made = first_admin(running.broker(), &config).await;
        assert!(made.is_ok(), "{made:?}");
        let image = running.broker().metadata.image();
        assert!(image.scram.user(FIRST_ADMIN).is_some());
        assert!(image.acls.set().is_empty());
        running.shutdown().await.unwrap();
    }
}
