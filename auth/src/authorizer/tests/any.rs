//! "May he do this to anything?", the table of spec/security.md §4.4.

use super::*;

#[test]
fn ask_anything() {
    let t = Rules::new;
    let cases = [
        (t(), false),
        (t().with(Allow, Write, Literal, "a"), true),
        (t().with(Allow, All, Literal, "a"), true),
        (
            t().with(Allow, Write, Literal, "a")
                .with(Deny, Write, Literal, "a"),
            false,
        ),
        (
            t().with(Allow, Write, Prefixed, "ab")
                .with(Deny, Write, Prefixed, "a"),
            false,
        ),
        (
            t().with(Allow, Write, Prefixed, "ab")
                .with(Deny, All, Prefixed, "ab"),
            false,
        ),
        (
            t().with(Allow, Write, Prefixed, "a")
                .with(Deny, Write, Prefixed, "ab"),
            true,
        ),
        (
            t().with(Allow, Write, Prefixed, "a")
                .with(Deny, Write, Literal, "a"),
            true,
        ),
        (
            t().with(Allow, Write, Literal, "ab")
                .with(Deny, Write, Prefixed, "a"),
            false,
        ),
        (
            t().with(Allow, Write, Literal, "*")
                .with(Deny, Write, Prefixed, "x"),
            true,
        ),
        (
            t().with(Allow, Write, Literal, "*")
                .with(Deny, Write, Literal, "*"),
            false,
        ),
        (
            t().with(Allow, Write, Literal, "a")
                .with(Deny, Write, Literal, "*"),
            false,
        ),
        (t().with(Allow, Read, Prefixed, "a"), false),
        (
            t().with(Allow, Write, Literal, "a")
                .with(Deny, Write, Literal, "a")
                .with(Allow, Write, Literal, "b"),
            true,
        ),
        (
            t().full(Allow, Write, T, Literal, "a", "User:eve", "*"),
            false,
        ),
        (
            t().full(Allow, Write, T, Literal, "a", "User:bob", "10.9.9.9"),
            false,
        ),
        (
            t().full(Allow, Write, T, Literal, "a", "User:bob", "10.0.0.0/8"),
            true,
        ),
        (
            t().with(Allow, Write, Literal, "a").full(
                Deny,
                Write,
                T,
                Literal,
                "a",
                "User:bob",
                "192.168.0.0/16",
            ),
            true,
        ),
    ];
    for (i, (rules, allowed)) in cases.iter().enumerate() {
        assert_eq!(rules.decide_any(Write), *allowed, "case {i}");
    }
    let open_regime = open().decide_any(&t().cache(), &bob(), Write, T);
    assert_eq!(open_regime, Decision::DefaultAllow);
    let denied = t().with(Deny, Write, Literal, "*").cache();
    assert!(!open().decide_any(&denied, &bob(), Write, T).is_allowed());
    assert_eq!(
        with_super("User:bob").decide_any(&denied, &bob(), Write, T),
        Decision::SuperUser
    );
}
