use super::*;
use property::Properties;

fn matches(pattern: &str, topic: &str) -> bool {
    let parsed = TopicPattern::parse(pattern);
    parsed
        .unwrap_or_else(|error| panic!("{error}"))
        .matches(topic)
}

#[test]
fn whole_names_match() {
    assert!(matches("order.*", "orders"));
    assert!(!matches("order", "orders"));
    assert!(!matches("rders", "orders"));
    assert!(matches("a|orders", "orders"));
    assert!(!matches("(?m)^a$", "a\nb"));
    assert!(matches("", ""));
    assert!(!matches("", "a"));
}

#[test]
fn the_words_are_those_of_re2() {
    let same = [
        (r"\Qa.b\E+", "a.bb"),
        (r"\Qa.b", "a.b"),
        (r"\d\w\s", "1_ "),
        (r"[\d\w.-]+", "a-1.b"),
        (r"[^\W]+", "a_1"),
        (r"[]a]+", "]a"),
        (r"[^]a]+", "bc"),
        (r"[a[b]+", "[ab"),
        (r"[a&&b]+", "a&b"),
        (r"[a~~b]+", "~"),
        (r"[+--]+", "+,-"),
        (r"[[:alpha:]_]+", "ab_"),
        (r"\<a\>", "<a>"),
        (r"a{,2}", "a{,2}"),
        (r"a{", "a{"),
        (r"a{2,3}", "aaa"),
        (r"(?i)ORDERS", "orders"),
        (r"(?i:O)rders", "orders"),
        (r"(?ii)ORDERS", "orders"),
        (r"(?)orders", "orders"),
        (r"(?i-i)orders", "orders"),
        (r"(?P<n>a)(?<m>b)(?:c)", "abc"),
        (r"\pL\p{Greek}?", "a"),
        (r"\Aab\z", "ab"),
        (r"a\b-\Bb?-", "a--"),
        (r"\x61\x{62}", "ab"),
        (r"a(?:.*?)z", "abcz"),
        (r"\.\-\_", ".-_"),
    ];
    for (pattern, topic) in same {
        assert!(matches(pattern, topic), "{pattern} should match {topic}");
    }
    assert!(!matches(r"\d", "٣"), "only ASCII has digits");
}

#[test]
fn others_are_refused() {
    let wrong = [
        "(",
        ")",
        "a)|(b",
        "[",
        "[a",
        "*a",
        r"\",
        r"(a)\1",
        "(?=a)",
        "(?!a)",
        "(?<=a)",
        "(?<!a)",
        "(?x)a b",
        "(?R)a",
        "(?-)a",
        "(?i--s)a",
        "(?>a)",
        r"\C",
        r"\Z",
        r"\h",
        r"\8",
        "a{1001}",
        "a{2,1}",
        r"[z-a]",
        "[[:nope:]]",
        r"\p{Nope}",
        "(?P<a>x)(?P<a>y)",
    ];
    for pattern in wrong {
        assert!(
            TopicPattern::parse(pattern).is_err(),
            "{pattern} is not RE2"
        );
    }
}

#[test]
fn what_would_grow_is_refused() {
    let long = "a".repeat(MAX_PATTERN + 1);
    assert!(TopicPattern::parse(&long).unwrap_err().contains("longer"));
    assert!(TopicPattern::parse(&"a".repeat(MAX_PATTERN)).is_ok());
    let huge = TopicPattern::parse("((a{1000}){1000}){1000}").unwrap_err();
    assert!(huge.contains("too large"), "{huge}");
    let deep = format!("{}a{}", "(".repeat(200), ")".repeat(200));
    assert!(TopicPattern::parse(&deep).is_err());
    // Exponential elsewhere.
    let evil = TopicPattern::parse("(a|a)*(a*)*b").unwrap();
    assert!(!evil.matches(&"a".repeat(249)));
}

#[test]
fn letters_beyond_ascii_are_in_no_name() {
    let same = [
        (r"é?a", "a"),
        (r"[^é]", "a"),
        (r"[a-é]", "z"),
        (r"[é\d]", "1"),
        (r"[^\x{100}]\x{e9}*", "-"),
        (r"[!-\x{10ffff}]+", "orders.1"),
        (r"\x{000061}\xE9?", "a"),
        (r"\Qé\E?a", "a"),
        // The long s and the sign of Kelvin are letters of ASCII where case is ignored.
        (r"(?i)\x{17F}[\x{212A}][ſ-ƀ]", "SKs"),
        (r"(a(?i)|ſ)[é]?", "s"),
    ];
    for (pattern, topic) in same {
        assert!(matches(pattern, topic), "{pattern} should match {topic}");
    }
    let others = [
        (r"[a-é]", "A"),
        (r"[é-ü]", "e"),
        (r"(?i)[^ſ]", "S"),
        (r"(?i:k)\x{212A}", "kk"),
        (r"(?i)a(?-i:ſ)", "as"),
        (r"(a(?i))ſ", "as"),
    ];
    for (pattern, topic) in others {
        assert!(!matches(pattern, topic), "{pattern} should not match");
    }
    for pattern in [
        r"[é-a]",
        r"[ü-é]",
        r"\xE",
        r"\xé",
        r"\x{}",
        r"\x{+61}",
        r"\x{110000}",
        r"\x{100000061}",
        r"\x{61",
    ] {
        assert!(TopicPattern::parse(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn properties_are_those_of_letters_of_ascii() {
    let same = [
        (r"[\pL\d]+", "aZ1"),
        (r"\P{L}", "."),
        (r"\p{^L}", "."),
        (r"\P{^L}[\p{^Lu}]", "az"),
        (r"[^\PL]+", "az"),
        (r"\p{Greek}*\P{Greek}", "a"),
        (r"[\p{Greek}a]", "a"),
        (r"[^\p{Greek}]", "a"),
        (r"\p{Any}+", "a-1"),
        (r"(?i)\p{Lu}", "a"),
    ];
    for (pattern, topic) in same {
        assert!(matches(pattern, topic), "{pattern} should match {topic}");
    }
    let others = [
        (r"\P{Any}", "a"),
        (r"\p{Lu}", "a"),
        (r"[\p{Greek}]", "a"),
        (r"(?i)\P{Lu}", "a"),
        (r"\p{^L}", "a"),
    ];
    for (pattern, topic) in others {
        assert!(!matches(pattern, topic), "{pattern} should not match");
    }
    for pattern in [r"\p", r"\p{", r"\p}", r"\p{}", r"\pé", r"\p{^}", r"\p{L"] {
        assert!(TopicPattern::parse(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn ranges_are_those_of_re2() {
    assert!(matches(r"[--0]+", "-./0"));
    assert!(matches(r"[\d-z]+", "1-z"));
    assert!(matches(r"[a-c-e]+", "abc-e"));
    assert!(!matches(r"[a-c-e]+", "d"));
    assert!(TopicPattern::parse(r"[.-\d]").is_err());
}

/// What is compiled holds no class of Unicode, of which each costs a walk over all letters where
/// case is ignored, and no property is looked up twice.
#[test]
fn nothing_is_compiled_for_letters_that_no_name_has() {
    let wide = [
        r"\p{Any}".repeat(2000),
        r"[\D!]".repeat(2000),
        "[!-\u{10ffff}]".repeat(100),
        r"[\W_]\S\pL\P{Greek}".repeat(700),
        "[[:^alpha:]!]é".repeat(1000),
        r"\x{10ffff}[^\xFF]".repeat(900),
    ];
    for pattern in wide {
        let folded = format!("(?i){pattern}");
        let words = translate(&folded).unwrap();
        let is_for_bytes = words.is_ascii()
            && [r"\p", r"\P", r"\x{"]
                .iter()
                .all(|word| !words.contains(word));
        assert!(is_for_bytes, "{}", words.get(..100).unwrap_or(&words));
        assert!(TopicPattern::parse(&folded).is_ok());
    }
    let mut properties = Properties::default();
    for _ in 0..1000 {
        assert_eq!(properties.characters("Nd").unwrap(), b"0123456789");
    }
    assert_eq!(properties.len(), 1);
}

#[test]
fn properties_are_few() {
    let names = [
        "L", "M", "N", "P", "S", "Z", "C", "Lu", "Ll", "Nd", "Greek", "Latin", "Han", "Thai",
        "Cyrillic", "Any",
    ];
    let all = |names: &[&str]| -> String {
        let each = names
            .iter()
            .map(|name| format!(r"\p{{{name}}}?[\P{{{name}}}a]"));
        each.collect()
    };
    assert!(matches(&format!("(?:{})?", all(&names)), ""));
    let refused = TopicPattern::parse(&format!("{}{}", all(&names), r"\p{Zs}"));
    let refused = refused.unwrap_err();
    assert!(
        refused.contains("more than 16 Unicode properties"),
        "{refused}"
    );
}

#[test]
fn many_names_are_an_expression() {
    let names: Vec<String> = (1000..2480).map(|one| format!("topic-{one}")).collect();
    let joined = names.join("|");
    assert!(joined.len() < MAX_PATTERN && joined.len() > MAX_PATTERN - 1500);
    for pattern in [joined.clone(), format!("(?i){joined}")] {
        let parsed = TopicPattern::parse(&pattern).unwrap();
        assert!(names.iter().all(|name| parsed.matches(name)));
        assert!(!parsed.matches("topic-999"));
    }
}
