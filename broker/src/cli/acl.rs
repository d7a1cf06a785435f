//! `palisade acl`: access control lists of a cluster, written as rules.

use clap::{Args, Subcommand};
use palisade_auth::{
    acl::{AclBinding, AclFilter, Operation, PatternType, Permission, ResourceType, WILDCARD},
    principal::USER,
};
use palisade_protocol::{
    ErrorCode, Str,
    messages::{
        create_acls::{AclCreation, CreateAclsRequest},
        delete_acls::{DeleteAclsFilter, DeleteAclsRequest},
        describe_acls::{DescribeAclsRequest, DescribeAclsResponse},
    },
};
use serde_json::{Value, json};

use super::{
    client::{Admin, ClientError, Right, printable},
    outcome::{accept, first_code, line, some_refused},
    output::Output,
    remote::Remote,
    rule::{AsRule, Rule, parse_resource},
};

/// Arguments of `palisade acl`.
#[derive(Debug, Args)]
pub(crate) struct AclArgs {
    #[command(subcommand)]
    command: AclCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum AclCommand {
    /// Add ACLs, for example 'allow User:alice read,write topic:orders'
    ///
    /// RULE: allow|deny PRINCIPAL OPERATION[,OPERATION…] RESOURCE [from HOST], where RESOURCE is
    /// topic:NAME, group:NAME, transactional-id:NAME or cluster; a trailing * means every name that
    /// begins so, a lone * every name. A word with blanks stands in double quotes:
    /// 'allow "User:CN=a b,O=c" read topic:x'.
    Add {
        /// Rules, each one argument
        #[arg(required = true, value_name = "RULE")]
        rules: Vec<String>,
    },
    /// List ACLs as rules
    List {
        /// Only those of this principal, as Type:name
        #[arg(long, value_parser = principal)]
        principal: Option<String>,
        /// Only those that concern this resource, as topic:NAME
        #[arg(long, value_name = "RESOURCE")]
        resource: Option<String>,
    },
    /// Remove ACLs; each must be there exactly as the rule says, written as for add
    Remove {
        /// Rules, each one argument
        #[arg(required = true, value_name = "RULE")]
        rules: Vec<String>,
    },
}

pub(crate) fn rule(text: &str) -> Result<Rule, String> {
    Rule::parse(text).map_err(|error| error.to_string())
}

/// A rule to add. One about a topic that cannot exist, or of `user:` somebody, would be stored and
/// never hold; such rules can be removed, for others may have made them.
pub(crate) fn new_rule(text: &str) -> Result<Rule, String> {
    let rule = rule(text)?;
    for acl in &rule.0 {
        if let Some((kind, name)) = acl.principal.split_once(':')
            && kind != USER
            && kind.eq_ignore_ascii_case(USER)
        {
            let principal = &acl.principal;
            return Err(format!(
                "{principal:?}: write {USER}:{name}; letters count in it"
            ));
        }
    }
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let topics = rule.0.iter();
    let mut topics = topics.filter(|acl| acl.resource_type == ResourceType::Topic);
    let is_none = |acl: &&AclBinding| {
        let name = &*acl.resource_name;
        name != WILDCARD && !name.chars().all(is_legal)
    };
    match topics.find(is_none) {
        None => Ok(rule),
        Some(acl) => Err(format!(
            "{:?}: the name of a topic has letters, digits, '.', '_' and '-' only; one rule is \
             about one resource",
            acl.resource_name
        )),
    }
}

/// Reads rules, and goes on behind one that is wrong.
///
/// # Errors
/// All that are wrong, a line for each.
pub(crate) fn read_all(
    texts: &[String],
    read: fn(&str) -> Result<Rule, String>,
) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    let mut wrong = Vec::new();
    for text in texts {
        match read(text) {
            Ok(rule) => rules.push(rule),
            Err(reason) => wrong.push(format!("{}: {reason}", printable(text))),
        }
    }
    match wrong.as_slice() {
        [] => Ok(rules),
        [only] => Err(only.clone()),
        lines => Err(format!(
            "{} of {} arguments are no rules\n  {}",
            lines.len(),
            texts.len(),
            lines.join("\n  ")
        )),
    }
}

/// A principal as ACLs name it; any other text would find none.
fn principal(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok(text.to_owned()),
        _ => Err("expected Type:name, for example User:alice".to_owned()),
    }
}

impl AclArgs {
    pub(crate) fn output(&self) -> Output {
        self.remote.output()
    }

    pub(crate) async fn run(&self) -> Result<(), ClientError> {
        let output = self.remote.output();
        match &self.command {
            AclCommand::Add { rules } => {
                let rules = read_all(rules, new_rule).map_err(ClientError::Usage)?;
                let mut admin = self.remote.connect().await?;
                add(&mut admin, output, &bindings(&rules)).await
            }
            AclCommand::List {
                principal,
                resource,
            } => {
                let filter = filter(principal.clone(), resource.as_deref())?;
                let mut admin = self.remote.connect().await?;
                list(&mut admin, output, &filter).await
            }
            AclCommand::Remove { rules } => {
                let rules = read_all(rules, rule).map_err(ClientError::Usage)?;
                let mut admin = self.remote.connect().await?;
                remove(&mut admin, output, &bindings(&rules)).await
            }
        }
    }
}

fn bindings(rules: &[Rule]) -> Vec<&AclBinding> {
    rules.iter().flat_map(|rule| &rule.0).collect()
}

fn filter(principal: Option<String>, resource: Option<&str>) -> Result<AclFilter, ClientError> {
    let mut filter = AclFilter {
        principal,
        ..AclFilter::any()
    };
    if let Some(text) = resource {
        let (resource_type, _, cluster) =
            parse_resource(text).map_err(|error| ClientError::Usage(error.to_string()))?;
        filter.resource_type = resource_type;
        filter.pattern_type = PatternType::Match;
        filter.resource_name = Some(match text.split_once(':') {
            Some((_, name)) if resource_type != ResourceType::Cluster => name.to_owned(),
            _ => cluster,
        });
    }
    Ok(filter)
}

/// The ACL in the request that stores it.
pub(crate) fn creation(acl: &AclBinding) -> AclCreation {
    AclCreation {
        resource_type: acl.resource_type.code(),
        resource_name: Str::copy(&acl.resource_name),
        resource_pattern_type: acl.pattern_type.code(),
        principal: Str::copy(&acl.principal),
        host: Str::copy(&acl.host),
        operation: acl.operation.code(),
        permission_type: acl.permission.code(),
    }
}

fn shown(acl: &AclBinding) -> String {
    printable(&AsRule(acl).to_string())
}

fn object(acl: &AclBinding) -> Value {
    json!({
        "permission": acl.permission.name(),
        "principal": acl.principal,
        "operation": acl.operation.name(),
        "resource_type": acl.resource_type.name(),
        "pattern_type": acl.pattern_type.name(),
        "resource_name": acl.resource_name,
        "host": acl.host,
    })
}

/// What became of several ACLs, each on its own.
#[derive(Default)]
struct Tally {
    rows: Vec<Value>,
    text: String,
    refused: Vec<ClientError>,
}

impl Tally {
    fn note(&mut self, acl: &AclBinding, done: &str, outcome: Result<(), ClientError>) {
        let mut row = object(acl);
        match outcome {
            Ok(()) => line(&mut self.text, format_args!("{done} {}", shown(acl))),
            Err(error) => {
                row["error"] = json!(error.to_string());
                self.refused.push(error);
            }
        }
        self.rows.push(row);
    }

    fn show(self, output: Output) -> Result<(), ClientError> {
        let shown = output.show(&json!({ "acls": self.rows }), &self.text);
        some_refused(output, &self.refused)?;
        shown
    }
}

async fn add(admin: &mut Admin, output: Output, acls: &[&AclBinding]) -> Result<(), ClientError> {
    let mut there = Vec::new();
    for acl in acls {
        there.push(is_there(admin, acl).await?);
    }
    let request = CreateAclsRequest {
        creations: acls.iter().map(|acl| creation(acl)).collect(),
    };
    let response = admin
        .decide(&request, |response| {
            first_code(response.results.iter().map(|one| one.error_code))
        })
        .await?;
    let mut tally = Tally::default();
    for ((acl, result), is_there) in acls.iter().zip(&response.results).zip(there) {
        let message = result.error_message.as_deref();
        let done = match is_there {
            true => "there already:",
            false => "added",
        };
        let added = accept(&shown(acl), result.error_code, message);
        let added = added.map_err(|error| error.needing(Right::on_it("ALTER")));
        tally.note(acl, done, added);
    }
    tally.show(output)
}

/// Whether just this ACL is there, as far as this user may know.
async fn is_there(admin: &mut Admin, acl: &AclBinding) -> Result<bool, ClientError> {
    let same = AclFilter {
        resource_type: acl.resource_type,
        resource_name: Some(acl.resource_name.clone()),
        pattern_type: acl.pattern_type,
        principal: Some(acl.principal.clone()),
        host: Some(acl.host.clone()),
        operation: acl.operation,
        permission: acl.permission,
    };
    match found(admin, &same).await {
        Ok(acls) => Ok(acls.contains(acl)),
        Err(ClientError::Refused { .. } | ClientError::Unserved(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The ACLs of one principal as rules.
///
/// # Errors
/// Those of sending; `Refused` to whoever may not see them.
pub(crate) async fn rules_of(
    admin: &mut Admin,
    principal: &str,
) -> Result<Vec<String>, ClientError> {
    let filter = AclFilter {
        principal: Some(principal.to_owned()),
        ..AclFilter::any()
    };
    let acls = found(admin, &filter).await?;
    Ok(acls.iter().map(|acl| AsRule(acl).to_string()).collect())
}

async fn remove(
    admin: &mut Admin,
    output: Output,
    acls: &[&AclBinding],
) -> Result<(), ClientError> {
    let exact = |acl: &&AclBinding| DeleteAclsFilter {
        resource_type_filter: acl.resource_type.code(),
        resource_name_filter: Some(Str::copy(&acl.resource_name)),
        pattern_type_filter: acl.pattern_type.code(),
        principal_filter: Some(Str::copy(&acl.principal)),
        host_filter: Some(Str::copy(&acl.host)),
        operation: acl.operation.code(),
        permission_type: acl.permission.code(),
    };
    let request = DeleteAclsRequest {
        filters: acls.iter().map(exact).collect(),
    };
    let response = admin
        .decide(&request, |response| {
            first_code(response.filter_results.iter().map(|one| one.error_code))
        })
        .await?;
    let mut tally = Tally::default();
    for (acl, result) in acls.iter().zip(&response.filter_results) {
        let text = shown(acl);
        let outcome =
            accept(&text, result.error_code, result.error_message.as_deref()).and_then(|()| {
                match result.matching_acls.first() {
                    Some(deleted) => {
                        accept(&text, deleted.error_code, deleted.error_message.as_deref())
                    }
                    None => Err(ClientError::refused(
                        text,
                        ErrorCode::RESOURCE_NOT_FOUND,
                        Some("there is no such ACL"),
                    )),
                }
            });
        let outcome = outcome.map_err(|error| error.needing(Right::on_it("ALTER")));
        tally.note(acl, "removed", outcome);
    }
    tally.show(output)
}

async fn list(admin: &mut Admin, output: Output, filter: &AclFilter) -> Result<(), ClientError> {
    let acls = found(admin, filter).await?;
    let mut text = String::new();
    acls.iter()
        .for_each(|acl| line(&mut text, format_args!("{}", shown(acl))));
    let rows: Vec<Value> = acls.iter().map(object).collect();
    output.show(&json!({ "acls": rows }), &text)
}

async fn found(admin: &mut Admin, filter: &AclFilter) -> Result<Vec<AclBinding>, ClientError> {
    let request = DescribeAclsRequest {
        resource_type_filter: filter.resource_type.code(),
        resource_name_filter: filter.resource_name.as_deref().map(Str::copy),
        pattern_type_filter: filter.pattern_type.code(),
        principal_filter: filter.principal.as_deref().map(Str::copy),
        host_filter: filter.host.as_deref().map(Str::copy),
        operation: filter.operation.code(),
        permission_type: filter.permission.code(),
    };
    let response = admin.send(&request).await?;
    let message = response.error_message.as_deref();
    accept("ACLs", response.error_code, message)
        .map_err(|error| error.needing(Right::on_it("DESCRIBE")))?;
    Ok(described(&response))
}

fn described(response: &DescribeAclsResponse) -> Vec<AclBinding> {
    let mut acls = Vec::new();
    for resource in &response.resources {
        for acl in &resource.acls {
            acls.push(AclBinding {
                resource_type: ResourceType::from_code(resource.resource_type),
                resource_name: resource.resource_name.to_string(),
                pattern_type: PatternType::from_code(resource.pattern_type),
                principal: acl.principal.to_string(),
                host: acl.host.to_string(),
                operation: Operation::from_code(acl.operation),
                permission: Permission::from_code(acl.permission_type),
            });
        }
    }
    acls.sort();
    acls
}
