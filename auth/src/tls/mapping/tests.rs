use proptest::prelude::*;

use super::*;

fn map(rules: &str, dn: &str) -> Option<String> {
    MappingRules::parse(rules).unwrap().apply(dn)
}

const R1: &str = "RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/L";
const R2: &str = "RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L";
const R3: &str = "RULE:^cn=(.*?),ou=(.*?),dc=(.*?),dc=(.*?)$/$1@$2/U";
const R4: &str = "RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/U";

#[test]
fn the_table_of_the_specification() {
    let all = format!("{R1}, {R2}, {R3}, {R4}, DEFAULT");
    let cases = [
        (R1, "CN=Duke,OU=ServiceUsers,O=Org,C=US", "duke"),
        (R2, "CN=Duke,OU=SME,O=mycp,L=Fulton,ST=MD,C=US", "duke@sme"),
        (R3, "cn=duke,ou=sme,dc=mycp,dc=com", "DUKE@SME"),
        (R4, "cN=duke,OU=JavaSoft,O=Sun Microsystems", "DUKE"),
        (
            all.as_str(),
            "OU=JavaSoft,O=Sun Microsystems,C=US",
            "OU=JavaSoft,O=Sun Microsystems,C=US",
        ),
        (all.as_str(), "CN=Duke,OU=ServiceUsers,O=Org,C=US", "duke"),
        (
            r"RULE:^CN=([^,]+)\.example\.com,OU=brokers,.*$/$1/,DEFAULT",
            "CN=kafka-1.example.com,OU=brokers,O=Acme",
            "kafka-1",
        ),
        (
            r"RULE:^CN=((\\, *|\w)+)(,.*|$)/$1/",
            r"CN=Tkac\, Adam,OU=ITZ,DC=geodis,DC=cz",
            r"Tkac\, Adam",
        ),
    ];
    for (rules, dn, name) in cases {
        assert_eq!(map(rules, dn).as_deref(), Some(name), "{rules}");
    }
    assert_eq!(map(R1, "CN=Duke,O=Org"), None);
}

#[test]
fn replaces_every_occurrence_as_java_does() {
    assert_eq!(map("RULE:(.*)/x-$1/", "CN=a,O=b").unwrap(), "x-CN=a,O=bx-");
    assert_eq!(map("RULE:^(.*)$/x-$1/", "CN=a,O=b").unwrap(), "x-CN=a,O=b");
    assert_eq!(map("RULE:(.*?)/<$1>/", "ab").unwrap(), "<>a<>b<>");
}

#[test]
fn group_references() {
    let cases = [
        ("RULE:^CN=(.*)$/$12/", "a2"),
        ("RULE:^CN=(.*)$/$2/", "$2"),
        ("RULE:^CN=(.*)$/$9$1/", "$9a"),
        (r"RULE:^CN=(.*)$/\$1/", "$1"),
        ("RULE:^CN=(.*)$/$0/", "CN=a"),
        ("RULE:^CN=.*$/$0/", "CN=a"),
        (r"RULE:^CN=(.*)$/x\/$1/", "x/a"),
        ("RULE:^CN=(?<who>.*)$/${who}!/", "a!"),
        ("RULE:^CN=(a)(b)?$/$1$2-/", "a-"),
        ("RULE:^CN=(.*)$//", ""),
    ];
    for (rules, name) in cases {
        assert_eq!(map(rules, "CN=a").as_deref(), Some(name), "{rules}");
    }
    for rules in [
        "RULE:^CN=.*$/$1/",
        "RULE:^CN=(.*)$/$x/",
        "RULE:^CN=(.*)$/$/",
        "RULE:^CN=(.*)$/${nobody}/",
    ] {
        let error = MappingRules::parse(rules).unwrap_err();
        assert!(matches!(error, MappingError::Replacement(_)), "{rules}");
    }
}

#[test]
fn items_and_blanks() {
    assert_eq!(map(" , DEFAULT ,, ", "CN=a").unwrap(), "CN=a");
    // A comma inside a rule belongs to it.
    assert_eq!(
        map("RULE:^CN=(.*),O=b$/$1,x/,DEFAULT", "CN=a,O=b").unwrap(),
        "a,x"
    );
    assert_eq!(map("RULE:^CN=a b$/c d/", "CN=a b").unwrap(), "c d");
}

#[test]
fn syntax_errors_stop_the_start() {
    for rules in [
        "default",
        "DEFAULT/L",
        "DEFAULT/",
        "DEFAULTX",
        "rule:^CN=(.*)$/$1/",
        "RULE:^CN=(.*)$/$1",
        "RULE:^CN=(.*)$",
        "RULE:",
        "RULE:^CN=(.*)$/$1/LU",
        "RULE:^CN=(.*)$/$1/L/U",
        "RULE:^CN=(.*)$/$1/l",
        "DEFAULT DEFAULT",
        "CN=a",
    ] {
        let error = MappingRules::parse(rules).unwrap_err();
        assert!(matches!(error, MappingError::Syntax(_)), "{rules}: {error}");
    }
    assert!(matches!(
        MappingRules::parse(" , "),
        Err(MappingError::Empty)
    ));
    assert!(matches!(
        MappingRules::parse("RULE:^CN=(.*$/$1/"),
        Err(MappingError::Pattern { .. })
    ));
    assert!(matches!(
        MappingRules::parse("RULE:((a{1000}){1000}){1000}/$1/"),
        Err(MappingError::Pattern { .. })
    ));
}

#[test]
fn what_the_engine_lacks_is_named() {
    use Unsupported::*;
    let cases = [
        ("(?=a)", LookAround),
        ("(?!a)", LookAround),
        ("(?<=a)", LookAround),
        ("(?<!a)", LookAround),
        ("(?>a)", AtomicGroup),
        ("(?i)a", Flags),
        (r"(a)\1", BackReference),
        (r"(?<n>a)\k<n>", BackReference),
        ("a*+", Possessive),
        ("a++", Possessive),
        ("a?+", Possessive),
        ("a{2}+", Possessive),
        (r"\h", Escape('h')),
        (r"\07", Escape('0')),
        (r"\ca", Escape('c')),
        (r"\G", Escape('G')),
        (r"\R", Escape('R')),
        (r"\b{g}", Escape('b')),
        (r"\p{IsLatin}", Property("IsLatin".into())),
        ("[a&&b]", SetOperator("&&")),
        ("[a--b]", SetOperator("--")),
        ("[[:alpha:]]", SetOperator("[:")),
        ("a{x}", Brace),
        ("[a", Incomplete),
    ];
    for (pattern, expected) in cases {
        match MappingRules::parse(&format!("RULE:{pattern}/x/")).unwrap_err() {
            MappingError::Unsupported { problem, .. } => assert_eq!(problem, expected),
            other => panic!("{pattern}: {other}"),
        }
    }
}

#[test]
fn java_patterns_keep_their_meaning() {
    let cases = [
        // Java's \w, \d, \s are of ASCII.
        (r"^CN=(\w+)$", "CN=Zo\u{eb}", false),
        (r"^CN=(\w+)$", "CN=Zoe_1", true),
        (r"^CN=[\w.-]+$", "CN=a.b-c", true),
        (r"^CN=[^\W_]+$", "CN=a", true),
        (r"^CN=\d+$", "CN=\u{0663}", false),
        (r"^CN=\Qa.b\E$", "CN=a.b", true),
        (r"^CN=\Qa.b\E$", "CN=axb", false),
        (r"^CN=\<a\>$", "CN=<a>", true),
        (r"^CN=\p{Alpha}+$", "CN=ab", true),
        (r"^CN=\p{Lu}\P{Lu}$", "CN=Ab", true),
        (r"^CN=\x41\u0062\x{63}$", "CN=Abc", true),
        (r"^CN=[a~&]+$", "CN=a~&", true),
        (r"^CN=[]a]+$", "CN=]a", true),
        (r"^CN=a{2,3}?$", "CN=aaa", true),
        (r"^CN=(?:a|b)+\z", "CN=ab", true),
    ];
    for (pattern, dn, matches) in cases {
        let rules = format!("RULE:{}/x/", pattern.replace('/', r"\/"));
        assert_eq!(map(&rules, dn).is_some(), matches, "{pattern} {dn}");
    }
}

#[test]
fn loose_rules_are_told() {
    let warned = MappingRules::parse(&format!("{R4},DEFAULT")).unwrap();
    assert_eq!(warned.warnings().len(), 1);
    // The trap: a second name inside another attribute value wins.
    assert_eq!(
        warned.apply(r"O=x CN\=admin,CN=bob").as_deref(),
        Some("BOB")
    );
    assert_eq!(
        warned.apply("CN=bob,O=x CN=admin").as_deref(),
        Some("ADMIN")
    );
    assert!(MappingRules::parse(R1).unwrap().warnings().is_empty());
}

proptest! {
    #[test]
    fn nothing_panics(rules in ".{0,60}", body in r"[\\\[\]()*+?{},a-c0-9^$|.&~:<>=!pPQEdwx-]{0,30}", dn in ".{0,40}") {
        if let Ok(rules) = MappingRules::parse(&rules) {
            let _ = rules.apply(&dn);
        }
        if let Ok(rules) = MappingRules::parse(&format!("RULE:{body}/$1x/")) {
            let _ = rules.apply(&dn);
        }
    }
}
