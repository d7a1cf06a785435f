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
    metadata::{Actor, ControllerError, Internal},
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
    /// Puts everything into force; what is already so stays. Gives the users who had another password
    /// before.
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
                set_password(broker, &user.name, &user.password).await?;
            }
            if verified < held {
                replaced.push(user.name.as_str());
            }
        }
        create_topics(broker, &self.topics).await?;
        create_acls(broker, &self.acls).await?;
        Ok(replaced)
    }
}

/// How many credentials a user has already, and how many of them its password belongs to: those first.
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

/// One request per mechanism: a request may name a user only once (KIP-554).
async fn set_password(broker: &Broker, name: &str, password: &Secret) -> Result<(), DeclareError> {
    for mechanism in ScramMechanism::VALUES {
        let request = AlterUserScramCredentialsRequest {
            deletions: Vec::new(),
            upsertions: vec![upsertion(name, password, *mechanism, DEFAULT_ITERATIONS)?],
        };
        let response = broker.controller.submit(request, 0, actor()).await?;
        for result in &response.results {
            let message = result.error_message.as_deref();
            accept(&format!("user {name}"), result.error_code, message)?;
        }
    }
    Ok(())
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

async fn create_acls(broker: &Broker, acls: &[AclBinding]) -> Result<(), DeclareError> {
    if acls.is_empty() {
        return Ok(());
    }
    let request = CreateAclsRequest {
        creations: acls.iter().map(creation).collect(),
    };
    let response = broker.controller.submit(request, 3, actor()).await?;
    for (acl, result) in acls.iter().zip(&response.results) {
        let message = result.error_message.as_deref();
        accept(&format!("ACL {acl}"), result.error_code, message)?;
    }
    Ok(())
}

/// Makes the first administrator of a cluster that clients log in to by SCRAM but that has no user
/// yet; gives the file with the password.
///
/// Without `super.users` the administrator gets every right through ACLs: those are stored with the
/// cluster, listed like any other, and gone for good once removed, while a super user hidden in the
/// program would be neither. Where `super.users` names somebody the operator has decided, and
/// `admin` has the rights that are found there.
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
    if !by_scram || broker.metadata.image().scram.iter().next().is_some() {
        return Ok(None);
    }
    let path = config.data_dir.join(PASSWORD_FILE);
    let password = random::password()?;
    // Kept before it counts: a user whose password nobody knows would lock everybody out.
    keep(&path, &password)?;
    set_password(broker, FIRST_ADMIN, &password).await?;
    if config.authorizer.super_users.is_empty() {
        create_acls(broker, &every_right()).await?;
    }
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
