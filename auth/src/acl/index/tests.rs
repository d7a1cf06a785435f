//! The index against a naive model of spec/security.md §4.2 and §4.4.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::principal::Principal;

fn relevant(acl: &AclBinding, name: &str) -> bool {
    match acl.pattern_type {
        PatternType::Literal => acl.resource_name == name || acl.resource_name == "*",
        PatternType::Prefixed => name.starts_with(&acl.resource_name),
        _ => false,
    }
}

fn speaks_of(acl: &AclBinding, caller: &Caller) -> bool {
    let host = acl.host == "*" || acl.host.parse() == Ok(caller.host);
    host && (acl.principal == "User:*" || acl.principal == caller.principal.to_string())
}

/// The decision as a sentence: allowed, denied, nothing applies, nothing relevant.
fn naive(acls: &[AclBinding], caller: &Caller, op: Operation, name: &str) -> &'static str {
    let relevant: Vec<_> = acls.iter().filter(|acl| relevant(acl, name)).collect();
    let applies = |permission, covers: fn(Operation, Operation) -> bool| {
        relevant.iter().any(|acl| {
            acl.permission == permission && speaks_of(acl, caller) && covers(acl.operation, op)
        })
    };
    if applies(Permission::Deny, Operation::deny_covers) {
        "denied"
    } else if applies(Permission::Allow, Operation::allow_covers) {
        "allowed"
    } else if relevant.is_empty() {
        "nothing relevant"
    } else {
        "nothing applies"
    }
}

fn naive_any(acls: &[AclBinding], caller: &Caller, op: Operation) -> bool {
    let fits = |acl: &&AclBinding| {
        speaks_of(acl, caller) && (acl.operation == op || acl.operation == Operation::All)
    };
    let of = |permission: Permission| {
        let fitting = acls.iter().filter(fits);
        fitting.filter(move |acl| acl.permission == permission)
    };
    let star =
        |acl: &AclBinding| acl.pattern_type == PatternType::Literal && acl.resource_name == "*";
    if of(Permission::Deny).any(star) {
        return false;
    }
    of(Permission::Allow).any(|allow| {
        star(allow)
            || !of(Permission::Deny).any(|deny| match deny.pattern_type {
                PatternType::Prefixed => allow.resource_name.starts_with(&deny.resource_name),
                _ => {
                    allow.pattern_type == PatternType::Literal
                        && allow.resource_name == deny.resource_name
                }
            })
    })
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Denied(_) => "denied",
        Verdict::Allowed(_) => "allowed",
        Verdict::NoneApplies => "nothing applies",
        Verdict::NoneRelevant => "nothing relevant",
    }
}

fn acl() -> impl Strategy<Value = AclBinding> {
    (
        "[ab]{1,3}|\\*",
        select(vec![PatternType::Literal, PatternType::Prefixed]),
        select(vec!["User:bob", "User:eve", "User:*", "Group:bob", "bob"]),
        select(vec!["*", "10.0.0.1", "10.0.0.2", "::1", "nowhere"]),
        select(vec![
            Operation::All,
            Operation::Read,
            Operation::Write,
            Operation::Describe,
            Operation::AlterConfigs,
        ]),
        select(vec![Permission::Allow, Permission::Deny, Permission::Allow]),
    )
        .prop_map(
            |(name, pattern_type, principal, host, operation, permission)| AclBinding {
                resource_type: ResourceType::Topic,
                resource_name: name,
                pattern_type,
                principal: principal.into(),
                host: host.into(),
                operation,
                permission,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn decides_as_the_model(acls in vec(acl(), 0..12), name in "[ab]{1,4}|\\*", host in select(vec!["10.0.0.1", "::1"])) {
        let cache = AclCache::build(&acls.iter().cloned().collect());
        let caller = Caller::new(Principal::user("bob"), host.parse().unwrap());
        for op in [Operation::Read, Operation::Write, Operation::Describe, Operation::DescribeConfigs] {
            let verdict = cache.decide(&caller, op, ResourceType::Topic, &name);
            prop_assert_eq!(word(&verdict), naive(&acls, &caller, op, &name));
            let any = cache.decide_any(&caller, op, ResourceType::Topic);
            prop_assert_eq!(matches!(any, Verdict::Allowed(_)), naive_any(&acls, &caller, op));
        }
    }
}

#[test]
fn additions_and_removals_follow_the_model() {
    // A fixed walk through adding and removing, with the decision checked at each step.
    let names = ["a", "ab", "abc", "b", "*"];
    let mut set = AclSet::new();
    let mut model: Vec<AclBinding> = Vec::new();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let caller = Caller::new(Principal::user("bob"), "10.0.0.1".parse().unwrap());
    for _ in 0..3000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let pick = |shift: u32, of: usize| (state >> shift) as usize % of;
        let acl = AclBinding {
            resource_type: ResourceType::Topic,
            resource_name: names[pick(8, names.len())].into(),
            pattern_type: [PatternType::Literal, PatternType::Prefixed][pick(16, 2)],
            principal: ["User:bob", "User:*"][pick(24, 2)].into(),
            host: "*".into(),
            operation: [Operation::Read, Operation::All][pick(32, 2)],
            permission: [Permission::Allow, Permission::Deny][pick(40, 2)],
        };
        if model.contains(&acl) {
            model.retain(|known| *known != acl);
            assert!(set.remove(&acl));
        } else {
            model.push(acl.clone());
            assert!(set.insert(acl));
        }
        assert_eq!(set.len(), model.len());
        let cache = AclCache::build(&set);
        for name in ["a", "abc", "c"] {
            let verdict = cache.decide(&caller, Operation::Read, ResourceType::Topic, name);
            assert_eq!(
                word(&verdict),
                naive(&model, &caller, Operation::Read, name)
            );
        }
    }
}
