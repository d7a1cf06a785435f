//! The tables of spec/security.md §4.2, §4.4 and §4.5.

mod any;

use super::*;
use crate::acl::{AclBinding, AclSet, CLUSTER_NAME, PatternType, Permission};
use Operation::*;
use PatternType::{Literal, Prefixed};
use Permission::{Allow, Deny};

const T: ResourceType = ResourceType::Topic;

struct Rules(Vec<AclBinding>);

impl Rules {
    fn new() -> Self {
        Self(Vec::new())
    }

    /// An ACL on a topic for everyone from everywhere.
    fn with(self, permission: Permission, op: Operation, pattern: PatternType, n: &str) -> Self {
        self.full(permission, op, T, pattern, n, "User:*", "*")
    }

    #[allow(clippy::too_many_arguments, reason = "an ACL has that many fields")]
    fn full(
        mut self,
        permission: Permission,
        operation: Operation,
        resource_type: ResourceType,
        pattern_type: PatternType,
        name: &str,
        principal: &str,
        host: &str,
    ) -> Self {
        self.0.push(AclBinding {
            resource_type,
            resource_name: name.into(),
            pattern_type,
            principal: principal.into(),
            host: host.into(),
            operation,
            permission,
        });
        self
    }

    fn cache(&self) -> AclCache {
        AclCache::build(&self.0.iter().cloned().collect::<AclSet>())
    }

    fn decide(&self, op: Operation, name: &str) -> bool {
        closed()
            .decide(&self.cache(), &bob(), op, T, name)
            .is_allowed()
    }

    fn decide_any(&self, op: Operation) -> bool {
        closed()
            .decide_any(&self.cache(), &bob(), op, T)
            .is_allowed()
    }
}

fn bob() -> Caller {
    caller("User:bob", "10.1.2.3")
}

fn caller(principal: &str, host: &str) -> Caller {
    Caller::new(principal.parse().unwrap(), host.parse().unwrap())
}

fn closed() -> Authorizer {
    Authorizer::new(AuthorizerConfig::default())
}

fn open() -> Authorizer {
    Authorizer::new(AuthorizerConfig {
        allow_everyone_if_no_acl_found: true,
        ..AuthorizerConfig::default()
    })
}

fn with_super(users: &str) -> Authorizer {
    Authorizer::new(AuthorizerConfig {
        super_users: SuperUsers::parse(users).unwrap(),
        ..AuthorizerConfig::default()
    })
}

#[test]
fn implications_and_precedence() {
    let t = Rules::new;
    let cases = [
        (
            "DENY READ + ALLOW DESCRIBE",
            t().with(Deny, Read, Literal, "t")
                .with(Allow, Describe, Literal, "t"),
            vec![(Describe, true), (Read, false)],
        ),
        (
            "DENY DESCRIBE + ALLOW READ",
            t().with(Deny, Describe, Literal, "t")
                .with(Allow, Read, Literal, "t"),
            vec![(Read, true), (Describe, false)],
        ),
        (
            "DENY ALL + ALLOW anything",
            t().with(Deny, All, Literal, "t")
                .with(Allow, Read, Literal, "t"),
            vec![(Read, false), (Describe, false)],
        ),
        (
            "ALLOW WRITE",
            t().with(Allow, Write, Literal, "t"),
            vec![
                (Write, true),
                (Describe, true),
                (Read, false),
                (Create, false),
            ],
        ),
        (
            "ALLOW CREATE",
            t().with(Allow, Create, Literal, "t"),
            vec![(Create, true), (Describe, false)],
        ),
        (
            "ALLOW DESCRIBE_CONFIGS",
            t().with(Allow, DescribeConfigs, Literal, "t"),
            vec![(DescribeConfigs, true), (Describe, false)],
        ),
        (
            "ALLOW ALTER_CONFIGS",
            t().with(Allow, AlterConfigs, Literal, "t"),
            vec![
                (AlterConfigs, true),
                (DescribeConfigs, true),
                (Describe, false),
            ],
        ),
        (
            "DENY on * beats ALLOW literal",
            t().with(Deny, Read, Literal, "*")
                .with(Allow, Read, Literal, "t"),
            vec![(Read, false)],
        ),
        (
            "ALLOW on * loses to DENY literal",
            t().with(Allow, Read, Literal, "*")
                .with(Deny, Read, Literal, "t"),
            vec![(Read, false)],
        ),
        (
            "DENY prefixed beats ALLOW literal",
            t().with(Deny, Read, Prefixed, "t")
                .with(Allow, Read, Literal, "t"),
            vec![(Read, false)],
        ),
        (
            "LITERAL * covers every topic",
            t().with(Allow, Read, Literal, "*"),
            vec![(Read, true)],
        ),
        (
            "PREFIXED * is an ordinary prefix",
            t().with(Allow, Read, Prefixed, "*"),
            vec![(Read, false)],
        ),
    ];
    for (name, rules, answers) in cases {
        for (op, allowed) in answers {
            assert_eq!(rules.decide(op, "t"), allowed, "{name}: {op}");
        }
    }
    let all = t().with(Allow, All, Literal, "t");
    for op in Operation::VALUES.iter().filter(|op| op.code() > 2) {
        assert!(all.decide(*op, "t"), "{op}");
    }
    assert!(t().with(Allow, Read, Prefixed, "*").decide(Read, "*x"));
}

#[test]
fn prefixes_are_found_among_their_like() {
    let mut rules = Rules::new();
    for prefix in ["a", "ab", "abc", "abd", "b", "abcde", "zz"] {
        rules = rules.with(Deny, Delete, Prefixed, prefix);
    }
    let rules = rules.with(Allow, Read, Prefixed, "abcd");
    let cache = rules.cache();
    let ask = |name: &str| closed().decide(&cache, &bob(), Read, T, name);
    for name in ["abcd", "abcde", "abcd-x", "abcdz"] {
        assert!(ask(name).is_allowed(), "{name}");
    }
    for name in ["abc", "abce", "ABCD", "b", "zzz", "\u{10ffff}", "abc\u{e9}"] {
        assert!(!ask(name).is_allowed(), "{name}");
    }
    assert_eq!(ask("abcdx").acl().unwrap().resource_name, "abcd");
}

#[test]
fn the_open_regime_ends_with_the_first_acl() {
    let open = open();
    let ask = |rules: &Rules, caller: &Caller, name: &str| {
        open.decide(&rules.cache(), caller, Read, T, name)
    };
    assert_eq!(ask(&Rules::new(), &bob(), "t"), Decision::DefaultAllow);
    // One DENY for somebody else, and everybody is out.
    let deny = Rules::new().full(Deny, Read, T, Literal, "t", "User:eve", "*");
    assert_eq!(ask(&deny, &bob(), "t"), Decision::DefaultDeny);
    assert_eq!(ask(&deny, &bob(), "u"), Decision::DefaultAllow);
    let prefixed = Rules::new().full(Allow, Read, T, Prefixed, "a", "User:eve", "*");
    assert_eq!(ask(&prefixed, &bob(), "abc"), Decision::DefaultDeny);
    assert_eq!(ask(&prefixed, &bob(), "b"), Decision::DefaultAllow);
    let wildcard = Rules::new().full(Allow, Write, T, Literal, "*", "User:eve", "*");
    assert_eq!(ask(&wildcard, &bob(), "anything"), Decision::DefaultDeny);
    // An ACL that can apply to nobody counts too.
    let nobody = Rules::new().full(Allow, Read, T, Literal, "t", "nocolon", "*");
    assert_eq!(ask(&nobody, &bob(), "t"), Decision::DefaultDeny);
}

#[test]
fn principals_compare_exactly() {
    let ask = |acl: &str, who: &str| {
        let rules = Rules::new().full(Allow, Read, T, Literal, "t", acl, "*");
        closed()
            .decide(&rules.cache(), &caller(who, "10.0.0.1"), Read, T, "t")
            .is_allowed()
    };
    assert!(ask("User:bob", "User:bob"));
    assert!(ask("User:*", "User:bob"));
    assert!(ask("User:*", "Group:devs"));
    assert!(ask("User:*", "User:ANONYMOUS"));
    assert!(ask("User:ANONYMOUS", "User:ANONYMOUS"));
    for acl in [
        "user:bob",
        "User:Bob",
        "User: bob",
        "User:bo*",
        "User:al*",
        "Group:*",
        "Group:bob",
        "bob",
    ] {
        assert!(!ask(acl, "User:bob"), "{acl}");
    }
    assert!(!ask("User:ANONYMOUS", "User:bob"));
}

#[test]
fn hosts_compare_as_addresses() {
    let ask = |host: &str, from: &str| {
        let rules = Rules::new().full(Allow, Read, T, Literal, "t", "User:bob", host);
        closed()
            .decide(&rules.cache(), &caller("User:bob", from), Read, T, "t")
            .is_allowed()
    };
    assert!(ask("10.1.2.3", "10.1.2.3"));
    assert!(ask("10.1.2.3", "::ffff:10.1.2.3"));
    assert!(ask("::1", "::1"));
    assert!(ask("10.0.0.0/8", "10.200.0.1"));
    assert!(!ask("10.1.2.3", "10.1.2.4"));
    assert!(!ask("localhost", "127.0.0.1"));
    let deny = Rules::new().with(Allow, Read, Literal, "t").full(
        Deny,
        All,
        T,
        Literal,
        "t",
        "User:bob",
        "10.0.0.0/8",
    );
    let from = |host| {
        closed()
            .decide(&deny.cache(), &caller("User:bob", host), Read, T, "t")
            .is_allowed()
    };
    assert!(!from("10.9.9.9") && from("192.168.0.1"));
}

#[test]
fn super_users_stand_above() {
    let deny = Rules::new().with(Deny, All, Literal, "*");
    let authorizer = with_super(r" User:bob ; User:CN=kafka-1,OU=x,O=Acme\, Inc.;;");
    let ask = |who: &str| authorizer.decide(&deny.cache(), &caller(who, "::1"), Read, T, "t");
    assert_eq!(ask("User:bob"), Decision::SuperUser);
    assert_eq!(
        ask(r"User:CN=kafka-1,OU=x,O=Acme\, Inc."),
        Decision::SuperUser
    );
    for who in ["User:Bob", "Group:bob", "User:bo", "User:CN=kafka-1"] {
        assert!(!ask(who).is_allowed(), "{who}");
    }
    assert!(SuperUsers::parse("bob").is_err());
    assert!(SuperUsers::parse("User:a;b").is_err());
    assert_eq!(SuperUsers::parse("").unwrap(), SuperUsers::default());
    // No wildcards.
    let everyone = SuperUsers::parse("User:*").unwrap();
    assert!(!everyone.contains(&Principal::user("bob")));
}

#[test]
fn nothing_is_decided_before_the_acls_are_there() {
    let cache = AclCache::not_loaded();
    assert_eq!(
        open().decide(&cache, &bob(), Read, T, "t"),
        Decision::NotReady
    );
    assert_eq!(
        with_super("User:bob").decide(&cache, &bob(), Read, T, "t"),
        Decision::SuperUser
    );
    assert_eq!(
        open().decide_any(&cache, &bob(), Write, T),
        Decision::NotReady
    );
}

#[test]
fn an_empty_name_is_denied_before_the_look_up() {
    let rules = Rules::new().with(Allow, All, Literal, "*");
    assert!(!rules.decide(Read, ""));
    assert!(rules.decide(Read, "t"));
}

#[test]
fn without_authorizer_everything_goes() {
    let none = Authorizer::new(AuthorizerConfig {
        enabled: false,
        ..AuthorizerConfig::default()
    });
    assert!(!none.is_enabled());
    assert_eq!(
        none.decide(&AclCache::not_loaded(), &bob(), Read, T, "t"),
        Decision::NoAuthorizer
    );
}

#[test]
fn clusters_are_resources_like_others() {
    let rules = Rules::new().full(
        Allow,
        ClusterAction,
        ResourceType::Cluster,
        Literal,
        CLUSTER_NAME,
        "User:bob",
        "*",
    );
    let ask = |op| {
        closed()
            .decide(
                &rules.cache(),
                &bob(),
                op,
                ResourceType::Cluster,
                CLUSTER_NAME,
            )
            .is_allowed()
    };
    assert!(ask(ClusterAction) && !ask(Describe) && !ask(Alter));
}

#[test]
fn removing_one_of_three_leaves_two() {
    // CVE-2024-27309.
    let rules = Rules::new()
        .with(Allow, Read, Literal, "t")
        .full(Deny, Read, T, Literal, "t", "User:eve", "*")
        .full(Allow, Write, T, Literal, "t", "User:bob", "*");
    let mut set: AclSet = rules.0.iter().cloned().collect();
    assert!(set.remove(&rules.0[2]));
    let cache = AclCache::build(&set);
    let ask = |who, op| {
        closed()
            .decide(&cache, &caller(who, "::1"), op, T, "t")
            .is_allowed()
    };
    assert!(ask("User:bob", Read) && !ask("User:bob", Write) && !ask("User:eve", Read));
}
