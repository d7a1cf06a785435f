//! RULE: one line that says who may, or may not, do what.
//!
//! `allow|deny PRINCIPAL OPERATION[,OPERATION…] RESOURCE [from HOST]`, where RESOURCE is
//! `topic:NAME`, `group:NAME`, `transactional-id:NAME` or `cluster`, whose one name,
//! `kafka-cluster` (or `*`), may be left out. A `*` at the end of a name means every name that
//! begins so, a lone `*` every name. Words with blanks stand in double quotes, with a backslash
//! before a quote or a backslash inside them.

use std::fmt;

use palisade_auth::acl::{
    AclBinding, AclError, AclWarning, CLUSTER_NAME, Operation, PatternType, Permission,
    ResourceType, WILDCARD,
};
use thiserror::Error;

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RuleError {
    /// Fewer words than a rule needs, or more.
    #[error(
        "expected allow|deny PRINCIPAL OPERATION[,OPERATION…] RESOURCE [from HOST]; a word with \
         blanks stands in double quotes: 'allow \"User:CN=a b,O=c\" read topic:x'"
    )]
    Shape,
    /// A quote that is never closed.
    #[error("a quote is not closed")]
    OpenQuote,
    /// The first word.
    #[error("{0:?}: expected allow or deny")]
    Permission(String),
    /// The second word.
    #[error("{0:?}: expected Type:name, for example User:alice, or User:* for everyone")]
    Principal(String),
    /// One of the operations.
    #[error("{word:?}: expected one of {expected}")]
    Operation {
        /// The operation as written.
        word: String,
        /// Operations of the resource's type.
        expected: String,
    },
    /// The resource.
    #[error("{0:?}: expected topic:NAME, group:NAME, transactional-id:NAME or cluster")]
    Resource(String),
    /// A name behind `cluster:` that no cluster has.
    #[error("{0:?}: there is one cluster resource; write cluster")]
    Cluster(String),
    /// What follows the resource.
    #[error("{0:?}: expected an address or a range after from")]
    Host(String),
    /// No broker would store it.
    #[error(transparent)]
    Binding(#[from] AclError),
}

/// A rule, taken apart into the ACLs that it stands for: one per operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule(pub Vec<AclBinding>);

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// The first word that does not fit.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let words = words(text)?;
        let (permission, principal, operations, resource, host) = match words.as_slice() {
            [permission, principal, operations, resource] => {
                (permission, principal, operations, resource, "*")
            }
            [permission, principal, operations, resource, from, host]
                if from.eq_ignore_ascii_case("from") =>
            {
                (permission, principal, operations, resource, host.as_str())
            }
            _ => return Err(RuleError::Shape),
        };
        let permission = match permission.to_ascii_lowercase().as_str() {
            "allow" => Permission::Allow,
            "deny" => Permission::Deny,
            _ => return Err(RuleError::Permission(permission.clone())),
        };
        if !principal
            .split_once(':')
            .is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty())
        {
            return Err(RuleError::Principal(principal.clone()));
        }
        let (resource_type, pattern_type, resource_name) = parse_resource(resource)?;
        let mut bindings: Vec<AclBinding> = Vec::new();
        for word in operations.split(',') {
            let binding = AclBinding {
                resource_type,
                resource_name: resource_name.clone(),
                pattern_type,
                principal: principal.clone(),
                host: host.to_owned(),
                operation: parse_operation(word, resource_type)?,
                permission,
            };
            let warnings = binding.validate()?;
            if warnings
                .iter()
                .any(|warning| matches!(warning, AclWarning::HostMatchesNobody(_)))
            {
                return Err(RuleError::Host(host.to_owned()));
            }
            if !bindings.contains(&binding) {
                bindings.push(binding);
            }
        }
        Ok(Self(bindings))
    }
}

/// Reads what a rule speaks of.
///
/// # Errors
/// `Resource`.
pub(crate) fn parse_resource(text: &str) -> Result<(ResourceType, PatternType, String), RuleError> {
    let refused = || RuleError::Resource(text.to_owned());
    let (kind, name) = match text.split_once(':') {
        Some((kind, name)) => (kind, Some(name)),
        None => (text, None),
    };
    let resource_type = match kind.to_ascii_lowercase().as_str() {
        "topic" => ResourceType::Topic,
        "group" => ResourceType::Group,
        "transactional-id" => ResourceType::TransactionalId,
        "cluster" => ResourceType::Cluster,
        _ => return Err(refused()),
    };
    if resource_type == ResourceType::Cluster {
        return match name {
            None | Some(CLUSTER_NAME | WILDCARD) => {
                Ok((resource_type, PatternType::Literal, CLUSTER_NAME.to_owned()))
            }
            Some(_) => Err(RuleError::Cluster(text.to_owned())),
        };
    }
    let name = name.filter(|name| !name.is_empty()).ok_or_else(refused)?;
    match name.strip_suffix('*') {
        Some("") => Ok((resource_type, PatternType::Literal, WILDCARD.to_owned())),
        Some(prefix) => Ok((resource_type, PatternType::Prefixed, prefix.to_owned())),
        None => Ok((resource_type, PatternType::Literal, name.to_owned())),
    }
}

fn parse_operation(word: &str, resource_type: ResourceType) -> Result<Operation, RuleError> {
    let of_type = resource_type.operations();
    Operation::from_name(word)
        .filter(|operation| {
            *operation == Operation::All
                || of_type.contains(operation)
                || (resource_type, *operation) == (ResourceType::Cluster, Operation::Delete)
        })
        .ok_or_else(|| RuleError::Operation {
            word: word.to_owned(),
            expected: of_type
                .iter()
                .chain(&[Operation::All])
                .map(|operation| lower(operation.name()))
                .collect::<Vec<_>>()
                .join(", "),
        })
}

/// Kafka's upper-case name as it stands in a rule.
fn lower(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn words(text: &str) -> Result<Vec<String>, RuleError> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(words);
        }
        let mut word = String::new();
        let mut quoted = false;
        while let Some(c) = chars.next_if(|c| quoted || !c.is_whitespace()) {
            match c {
                '"' => quoted = !quoted,
                '\\' if quoted => word.extend(chars.next()),
                _ => word.push(c),
            }
        }
        if quoted {
            return Err(RuleError::OpenQuote);
        }
        words.push(word);
    }
}

/// Writes an ACL as a rule, for people; what no rule can say is written in Kafka's words.
pub(crate) struct AsRule<'a>(pub(crate) &'a AclBinding);

impl fmt::Display for AsRule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let acl = self.0;
        let star = match acl.pattern_type {
            PatternType::Prefixed => "*",
            _ => "",
        };
        let resource = match acl.resource_type {
            ResourceType::Cluster => "cluster".to_owned(),
            other => format!("{}:{}{star}", lower(other.name()), acl.resource_name),
        };
        write!(
            f,
            "{} {} {} {}",
            lower(acl.permission.name()),
            quote(&acl.principal),
            lower(acl.operation.name()),
            quote(&resource),
        )?;
        if acl.host == "*" {
            Ok(())
        } else {
            write!(f, " from {}", quote(&acl.host))
        }
    }
}

/// Quotes a word that has blanks, quotes or control characters; a terminal sees none of the last.
fn quote(word: &str) -> String {
    let special = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\');
    if !word.is_empty() && !word.contains(special) {
        return word.to_owned();
    }
    let mut quoted = String::from('"');
    for c in word.chars() {
        if c.is_control() {
            quoted.extend(c.escape_unicode());
            continue;
        }
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let rule = Rule::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        rule.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_become_acls() {
        for (text, acls) in [
            (
                "allow User:alice read,describe topic:orders",
                &[
                    "ALLOW User:alice READ TOPIC LITERAL orders host *",
                    "ALLOW User:alice DESCRIBE TOPIC LITERAL orders host *",
                ][..],
            ),
            (
                "deny User:* ALL topic:pay* from 10.0.0.1",
                &["DENY User:* ALL TOPIC PREFIXED pay host 10.0.0.1"],
            ),
            (
                " Allow  User:a\tREAD  group:* ",
                &["ALLOW User:a READ GROUP LITERAL * host *"],
            ),
            (
                "allow User:a idempotent-write cluster",
                &["ALLOW User:a IDEMPOTENT_WRITE CLUSTER LITERAL kafka-cluster host *"],
            ),
            (
                "allow User:a Delete cluster:kafka-cluster",
                &["ALLOW User:a DELETE CLUSTER LITERAL kafka-cluster host *"],
            ),
            (
                "allow User:a alter cluster:*",
                &["ALLOW User:a ALTER CLUSTER LITERAL kafka-cluster host *"],
            ),
            (
                "allow User:a write,WRITE transactional-id:tx-*",
                &["ALLOW User:a WRITE TRANSACTIONAL_ID PREFIXED tx- host *"],
            ),
            (
                "allow User:a describeconfigs topic:t from 10.0.0.0/8",
                &["ALLOW User:a DESCRIBE_CONFIGS TOPIC LITERAL t host 10.0.0.0/8"],
            ),
            (
                r#"allow "User:CN=a b,O=\"x\"" read "group:my group""#,
                &[r#"ALLOW User:CN=a b,O="x" READ GROUP LITERAL my group host *"#],
            ),
            (
                "allow User:a read topic:a*b",
                &["ALLOW User:a READ TOPIC LITERAL a*b host *"],
            ),
        ] {
            assert_eq!(shown(text), acls, "{text}");
        }
    }

    #[test]
    fn what_is_no_rule_says_why() {
        for (text, part) in [
            ("", "expected allow|deny PRINCIPAL"),
            ("allow User:a read", "expected allow|deny PRINCIPAL"),
            (
                "allow User:CN=a b,O=c read topic:x",
                r#"stands in double quotes: 'allow "User:CN=a b,O=c" read topic:x'"#,
            ),
            (
                "allow User:a read topic:a 10.0.0.1",
                "expected allow|deny PRINCIPAL",
            ),
            (
                "allow User:a read topic:a at 10.0.0.1",
                "expected allow|deny PRINCIPAL",
            ),
            ("permit User:a read topic:a", "expected allow or deny"),
            ("allow alice read topic:a", "expected Type:name"),
            ("allow User: read topic:a", "expected Type:name"),
            (
                "allow User:a eat topic:a",
                "expected one of read, write, create",
            ),
            ("allow User:a read, topic:a", "expected one of read"),
            (
                "allow User:a write group:g",
                "expected one of read, delete, describe",
            ),
            ("allow User:a any topic:a", "expected one of read"),
            ("allow User:a read topic", "expected topic:NAME"),
            ("allow User:a read topic:", "expected topic:NAME"),
            ("allow User:a read table:x", "expected topic:NAME"),
            ("allow User:a describe cluster:mine", "write cluster"),
            ("allow User:a describe cluster:kafka*", "write cluster"),
            ("allow User:a describe cluster:", "write cluster"),
            (
                "allow User:a read topic:a from example.com",
                "expected an address or a range",
            ),
            ("allow \"User:a read topic:a", "a quote is not closed"),
        ] {
            let error = Rule::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let long = format!("allow User:a read topic:{}", "x".repeat(250));
        assert!(matches!(
            Rule::parse(&long),
            Err(RuleError::Binding(AclError::TooLong { .. }))
        ));
    }

    #[test]
    fn an_acl_reads_back_as_its_rule() {
        for text in [
            "allow User:alice read topic:orders",
            "deny User:* all topic:pay* from 10.0.0.1",
            "allow User:a idempotent-write cluster",
            r#"allow "User:CN=a b,O=\"x\"" read "group:my group""#,
            "allow User:a write transactional-id:*",
        ] {
            let rule = Rule::parse(text).unwrap();
            assert_eq!(AsRule(&rule.0[0]).to_string(), text);
        }
    }
}
