//! Which texts may name a topic (records.md §2).

use std::borrow::Cow;

use crate::foreign;

/// Longest topic name, in bytes: a directory `<name>-<partition>` must fit a file system's limit.
pub const MAX_LENGTH: usize = 249;

/// The metadata log's own name, which no topic may have.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";

/// Names of the topics in which brokers keep their own state.
pub const INTERNAL: [&str; 3] = [
    "__consumer_offsets",
    "__transaction_state",
    "__share_group_state",
];

/// Whether the broker keeps its own state in the topic of this name.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Checks that a text may name a topic.
///
/// # Errors
/// Kafka's text for the first rule that is broken.
pub fn validate(name: &str) -> Result<(), String> {
    let reason = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        format!("'{name}' is not allowed")
    } else if name.len() > MAX_LENGTH {
        let shown = foreign::name(name);
        format!("the length of '{shown}' is longer than the max allowed length {MAX_LENGTH}")
    } else if !name.bytes().all(is_legal) {
        let shown = foreign::name(name);
        format!(
            "'{shown}' contains one or more characters other than ASCII alphanumerics, '.', '_' \
             and '-'"
        )
    } else {
        return Ok(());
    };
    Err(format!("Topic name is invalid: {reason}"))
}

fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// The name with '.' read as '_', as metric names do: two topics may not share it.
#[must_use]
pub fn normalized(name: &str) -> Cow<'_, str> {
    if name.contains('.') {
        Cow::Owned(name.replace('.', "_"))
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_rules_and_texts() {
        for good in [
            "a",
            "A.b_c-9",
            &"x".repeat(249),
            "...",
            "__consumer_offsets",
        ] {
            assert_eq!(validate(good), Ok(()), "{good}");
        }
        for (bad, text) in [
            ("", "Topic name is invalid: the empty string is not allowed"),
            (".", "Topic name is invalid: '.' is not allowed"),
            ("..", "Topic name is invalid: '..' is not allowed"),
            (
                "a b",
                "Topic name is invalid: 'a b' contains one or more characters other than ASCII \
                 alphanumerics, '.', '_' and '-'",
            ),
        ] {
            assert_eq!(validate(bad), Err(text.to_owned()));
        }
        assert!(
            validate(&"x".repeat(250))
                .unwrap_err()
                .ends_with("max allowed length 249")
        );
        assert!(validate("größe").is_err());
    }

    #[test]
    fn refused_names_are_shown_without_control_characters() {
        let text = validate("a\nb\u{1b}[31m").unwrap_err();
        assert!(!text.contains('\n') && !text.contains('\u{1b}'), "{text}");
        assert!(validate(&"\n".repeat(32_000)).unwrap_err().len() < 1_000);
    }

    #[test]
    fn dots_and_underscores_read_alike() {
        assert_eq!(normalized("a.b_c"), normalized("a_b.c"));
        assert_ne!(normalized("a-b"), normalized("a_b"));
    }
}
