//! DescribeUserScramCredentials: what is told of which user (spec/security.md §3.4, KIP-554).

use std::collections::HashSet;

use thiserror::Error;

use super::mechanism::ScramMechanism;

/// Why a listed user has no credentials to show. The text is the wire's error message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DescribeError {
    /// RESOURCE_NOT_FOUND.
    #[error("Attempt to describe a user credential that does not exist: {0}")]
    NotFound(String),
    /// DUPLICATE_RESOURCE.
    #[error("Cannot describe SCRAM credentials for the same user twice in a single request: {0}")]
    Twice(String),
}

/// Mechanism and iterations of one credential; salts and keys are never told.
pub type CredentialInfo = (ScramMechanism, u32);

/// One row of the answer: the user and its credentials.
pub type Described = (String, Result<Vec<CredentialInfo>, DescribeError>);

/// Answers for the listed users in their order, one row each.
///
/// `known` gives a user's credentials, empty for a user without. A request for everybody
/// (no list, or an empty one) is for the caller to spell out.
pub fn describe(users: &[String], known: impl Fn(&str) -> Vec<CredentialInfo>) -> Vec<Described> {
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    for user in users {
        if !seen.insert(user) {
            twice.insert(user);
        }
    }
    let mut answered = HashSet::new();
    let once = users.iter().filter(|user| answered.insert(*user));
    once.map(|user| {
        let row = if twice.contains(user) {
            Err(DescribeError::Twice(user.clone()))
        } else {
            Some(known(user))
                .filter(|infos| !infos.is_empty())
                .ok_or_else(|| DescribeError::NotFound(user.clone()))
        };
        (user.clone(), row)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_per_listed_user() {
        let infos = vec![(ScramMechanism::Sha256, 4096)];
        let known = |user: &str| {
            if user == "alice" {
                infos.clone()
            } else {
                vec![]
            }
        };
        let users = ["bob", "alice", "eve", "bob"].map(str::to_owned);
        let rows = describe(&users, known);
        assert_eq!(rows[0].1, Err(DescribeError::Twice("bob".into())));
        assert_eq!(rows[1].1, Ok(infos.clone()));
        let absent = rows[2].1.clone().unwrap_err();
        assert_eq!(
            absent.to_string(),
            "Attempt to describe a user credential that does not exist: eve"
        );
        assert_eq!(rows.len(), 3);
    }
}
