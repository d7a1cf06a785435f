//! AlterUserScramCredentials: which changes of one request stand (spec/security.md §3.5,
//! KIP-554).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use thiserror::Error;

use super::credential::{MAX_ITERATIONS, MIN_ITERATIONS, ScramCredential};
use super::mechanism::ScramMechanism;
use crate::secret::Secret;

/// The least and most bytes of a salt.
const SALT_MIN: usize = 8;
const SALT_MAX: usize = 1024;

/// The longest user name, in bytes.
const NAME_MAX: usize = 255;

/// An asked-for removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The user.
    pub name: String,
    /// The mechanism's type code as received.
    pub mechanism: i8,
}

/// An asked-for new or replaced credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upsertion {
    /// The user.
    pub name: String,
    /// The mechanism's type code as received.
    pub mechanism: i8,
    /// The iterations as received.
    pub iterations: i32,
    /// The salt the client chose.
    pub salt: Vec<u8>,
    /// PBKDF2 of the password; turned into keys at once, then wiped.
    pub salted_password: Secret,
}

/// Why a user's change is refused. The text is the wire's error message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AlterError {
    /// DUPLICATE_RESOURCE.
    #[error("A user credential cannot be altered twice in the same request")]
    Twice,
    /// UNACCEPTABLE_CREDENTIAL.
    #[error("Username must not be empty")]
    EmptyName,
    /// UNSUPPORTED_SASL_MECHANISM.
    #[error("Unknown SCRAM mechanism")]
    UnknownMechanism,
    /// UNACCEPTABLE_CREDENTIAL.
    #[error("Too few iterations")]
    TooFewIterations,
    /// UNACCEPTABLE_CREDENTIAL.
    #[error("Too many iterations")]
    TooManyIterations,
    /// RESOURCE_NOT_FOUND.
    #[error("Attempt to delete a user credential that does not exist")]
    NotFound,
    /// UNACCEPTABLE_CREDENTIAL.
    #[error("Salted password must have the length of the hash")]
    SaltedPasswordLength,
    /// UNACCEPTABLE_CREDENTIAL.
    #[error("Salt must have {SALT_MIN} to {SALT_MAX} bytes")]
    SaltLength,
    /// UNACCEPTABLE_CREDENTIAL.
    #[error("Username must have at most {NAME_MAX} bytes and no control characters")]
    UnusableName,
    /// UNKNOWN_SERVER_ERROR.
    #[error("Hashing failed")]
    Internal,
}

/// A change that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScramChange {
    /// Remove the user's credential of this mechanism.
    Delete(ScramMechanism),
    /// Set it.
    Upsert(ScramCredential),
}

/// What becomes of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserResult {
    /// The user.
    pub name: String,
    /// The change to record, or the error to answer.
    pub result: Result<ScramChange, AlterError>,
}

/// Decides a whole request: one result per distinct user, in order of the names.
///
/// Deletions come before upsertions. A second entry of a user voids a valid first one; after
/// a failed one the first failure stays. `exists` tells whether a credential is there.
pub fn plan(
    deletions: Vec<Deletion>,
    upsertions: Vec<Upsertion>,
    exists: impl Fn(&str, ScramMechanism) -> bool,
) -> Vec<UserResult> {
    let mut users: BTreeMap<String, Result<ScramChange, AlterError>> = BTreeMap::new();
    for deletion in deletions {
        let result = delete(&deletion, &exists);
        enter(&mut users, deletion.name, result);
    }
    for upsertion in upsertions {
        let result = upsert(&upsertion);
        enter(&mut users, upsertion.name, result);
    }
    users
        .into_iter()
        .map(|(name, result)| UserResult { name, result })
        .collect()
}

fn enter(
    users: &mut BTreeMap<String, Result<ScramChange, AlterError>>,
    name: String,
    result: Result<ScramChange, AlterError>,
) {
    match users.entry(name) {
        Entry::Vacant(free) => {
            free.insert(result);
        }
        Entry::Occupied(mut taken) => {
            if taken.get().is_ok() {
                *taken.get_mut() = Err(AlterError::Twice);
            }
        }
    }
}

fn delete(
    deletion: &Deletion,
    exists: &impl Fn(&str, ScramMechanism) -> bool,
) -> Result<ScramChange, AlterError> {
    let mechanism = check_names(&deletion.name, deletion.mechanism)?;
    if exists(&deletion.name, mechanism) {
        Ok(ScramChange::Delete(mechanism))
    } else {
        Err(AlterError::NotFound)
    }
}

fn upsert(upsertion: &Upsertion) -> Result<ScramChange, AlterError> {
    let mechanism = check_names(&upsertion.name, upsertion.mechanism)?;
    let iterations = u32::try_from(upsertion.iterations)
        .ok()
        .filter(|iterations| *iterations >= MIN_ITERATIONS)
        .ok_or(AlterError::TooFewIterations)?;
    if iterations > MAX_ITERATIONS {
        return Err(AlterError::TooManyIterations);
    }
    let salted_password = upsertion.salted_password.expose();
    if salted_password.len() != mechanism.key_len() {
        return Err(AlterError::SaltedPasswordLength);
    }
    if !(SALT_MIN..=SALT_MAX).contains(&upsertion.salt.len()) {
        return Err(AlterError::SaltLength);
    }
    if upsertion.name.len() > NAME_MAX || upsertion.name.chars().any(char::is_control) {
        return Err(AlterError::UnusableName);
    }
    ScramCredential::from_salted_password(mechanism, salted_password, &upsertion.salt, iterations)
        .map(ScramChange::Upsert)
        .map_err(|_| AlterError::Internal)
}

fn check_names(name: &str, mechanism: i8) -> Result<ScramMechanism, AlterError> {
    if name.is_empty() {
        return Err(AlterError::EmptyName);
    }
    ScramMechanism::from_code(mechanism).ok_or(AlterError::UnknownMechanism)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deletion(name: &str, mechanism: i8) -> Deletion {
        Deletion {
            name: name.into(),
            mechanism,
        }
    }

    fn upsertion(name: &str) -> Upsertion {
        Upsertion {
            name: name.into(),
            mechanism: 1,
            iterations: 4096,
            salt: b"saltsalt".to_vec(),
            salted_password: Secret::new(vec![7; 32]),
        }
    }

    fn errors(deletions: Vec<Deletion>, upsertions: Vec<Upsertion>) -> Vec<Option<AlterError>> {
        plan(deletions, upsertions, |name, _| name == "there")
            .into_iter()
            .map(|user| user.result.err())
            .collect()
    }

    #[test]
    fn good_entries_stand() {
        let results = plan(
            vec![deletion("there", 2)],
            vec![upsertion("new")],
            |_, _| true,
        );
        assert_eq!(results.len(), 2);
        assert!(matches!(&results[0].result, Ok(ScramChange::Upsert(c)) if c.iterations == 4096));
        assert_eq!(
            results[1].result,
            Ok(ScramChange::Delete(ScramMechanism::Sha512))
        );
    }

    #[test]
    fn each_check_refuses_as_the_table_says() {
        let check = |change: fn(&mut Upsertion), expected: AlterError| {
            let mut entry = upsertion("u");
            change(&mut entry);
            assert_eq!(errors(vec![], vec![entry]), [Some(expected)]);
        };
        check(|u| u.name.clear(), AlterError::EmptyName);
        for code in [0, 3, -1] {
            assert_eq!(
                errors(vec![deletion("there", code)], vec![]),
                [Some(AlterError::UnknownMechanism)]
            );
        }
        check(|u| u.iterations = 4095, AlterError::TooFewIterations);
        check(|u| u.iterations = -1, AlterError::TooFewIterations);
        check(|u| u.iterations = 16385, AlterError::TooManyIterations);
        check(|u| u.iterations = i32::MAX, AlterError::TooManyIterations);
        check(
            |u| u.salted_password = Secret::new(vec![7; 31]),
            AlterError::SaltedPasswordLength,
        );
        check(|u| u.salt.clear(), AlterError::SaltLength);
        check(|u| u.name = "a\nb".into(), AlterError::UnusableName);
        check(|u| u.name = "a".repeat(256), AlterError::UnusableName);
        assert_eq!(
            errors(vec![deletion("absent", 1)], vec![]),
            [Some(AlterError::NotFound)]
        );
    }

    #[test]
    fn a_user_twice_is_refused_once_and_others_go_on() {
        assert_eq!(
            errors(
                vec![deletion("there", 1)],
                vec![upsertion("there"), upsertion("zoe")]
            ),
            [Some(AlterError::Twice), None]
        );
        let mut other = upsertion("u");
        other.mechanism = 2;
        assert_eq!(
            errors(vec![], vec![upsertion("u"), other]),
            [Some(AlterError::Twice)]
        );
        // The first failure stays.
        assert_eq!(
            errors(vec![deletion("absent", 1)], vec![upsertion("absent")]),
            [Some(AlterError::NotFound)]
        );
    }

    #[test]
    fn the_messages_are_the_references() {
        assert_eq!(
            AlterError::Twice.to_string(),
            "A user credential cannot be altered twice in the same request"
        );
        assert_eq!(
            AlterError::TooFewIterations.to_string(),
            "Too few iterations"
        );
    }
}
