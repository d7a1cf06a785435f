//! Texts into values, by the rules of Java's parsers (configs.md §1).

use super::keys::{Key, Kind, Valid};

/// The canonical text of a value, as DescribeConfigs returns it.
///
/// # Errors
/// What would have been accepted, in words; the value itself is not repeated.
pub(crate) fn canonical(key: &Key, text: &str) -> Result<String, String> {
    let canonical = match key.kind {
        // A secret is taken as it stands: blanks may be part of it.
        Kind::Password => return Ok(text.to_owned()),
        Kind::Boolean => boolean(text).map(|value| value.to_string()),
        Kind::Int => integer(text, i32::MIN.into(), i32::MAX.into()).map(|n| n.to_string()),
        Kind::Short => integer(text, i16::MIN.into(), i16::MAX.into()).map(|n| n.to_string()),
        Kind::Long => integer(text, i64::MIN, i64::MAX).map(|n| n.to_string()),
        Kind::Double => fraction(text).map(java_double),
        Kind::List => list(text).map(|items| items.join(",")),
        Kind::String | Kind::Class => Some(text.trim().to_owned()),
    };
    // No name, path or number holds one, and the system takes none.
    if text.contains('\0') {
        return Err(format!("{} without NUL characters", expected(key)));
    }
    match canonical {
        Some(canonical) if fits(key, &canonical) => Ok(canonical),
        _ => Err(expected(key)),
    }
}

/// Items of a list: trimmed, repeated ones dropped; `None` for an empty item among others.
pub(crate) fn list(text: &str) -> Option<Vec<&str>> {
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    let mut items: Vec<&str> = Vec::new();
    for item in text.split(',').map(str::trim) {
        if item.is_empty() {
            return None;
        }
        if !items.contains(&item) {
            items.push(item);
        }
    }
    Some(items)
}

/// `true` or `false`, letters of either case.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.trim() {
        yes if yes.eq_ignore_ascii_case("true") => Some(true),
        no if no.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Decimal digits behind an optional sign, nothing else.
pub(crate) fn integer(text: &str, low: i64, high: i64) -> Option<i64> {
    let number: i64 = text.trim().parse().ok()?;
    (low..=high).contains(&number).then_some(number)
}

fn fraction(text: &str) -> Option<f64> {
    let text = text.trim();
    match text {
        "NaN" | "+NaN" | "-NaN" => return Some(f64::NAN),
        "Infinity" | "+Infinity" => return Some(f64::INFINITY),
        "-Infinity" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    // Java takes a type letter; Rust takes names of infinity that Java does not.
    let digits = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-' | 'e' | 'E');
    digits.chars().all(plain).then(|| digits.parse().ok())?
}

/// Text of a double as `Double.toString` writes it.
fn java_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e7).contains(&size) {
        let text = format!("{value:E}");
        return match text.split_once('E') {
            Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
            _ => text,
        };
    }
    format!("{value:?}")
}

fn fits(key: &Key, canonical: &str) -> bool {
    let number = || canonical.parse::<i64>().ok();
    match key.valid {
        Valid::Any => true,
        Valid::Min(low) => number().is_some_and(|n| n >= low),
        Valid::Between(low, high) => number().is_some_and(|n| (low..=high).contains(&n)),
        Valid::NotZero => number().is_some_and(|n| n != 0),
        Valid::MinusOneOr(low, high) => {
            number().is_some_and(|n| n == -1 || (low..=high).contains(&n))
        }
        Valid::Fraction(low, high) => canonical
            .parse::<f64>()
            .is_ok_and(|value| (low..=high).contains(&value)),
        Valid::OneOf(words) if key.kind == Kind::List => {
            list(canonical).is_some_and(|items| items.iter().all(|item| words.contains(item)))
        }
        Valid::OneOf(words) => words.contains(&canonical),
        Valid::OneOfAnyCase(words) => words.iter().any(|w| w.eq_ignore_ascii_case(canonical)),
        Valid::NotEmpty => !canonical.is_empty(),
    }
}

fn expected(key: &Key) -> String {
    let kind = match key.kind {
        Kind::Boolean => return "true or false".to_owned(),
        Kind::Int => "a 32-bit whole number",
        Kind::Short => "a 16-bit whole number",
        Kind::Long => "a 64-bit whole number",
        Kind::Double => "a number",
        Kind::List => "items separated by commas, none empty",
        Kind::String | Kind::Class | Kind::Password => "a text",
    };
    match key.valid {
        Valid::Any => kind.to_owned(),
        Valid::Min(low) => format!("{kind}, at least {low}"),
        Valid::Between(low, high) => format!("{kind} from {low} to {high}"),
        Valid::NotZero => format!("{kind}, not 0"),
        Valid::MinusOneOr(low, high) => format!("-1, or {kind} from {low} to {high}"),
        Valid::Fraction(low, high) => format!("{kind} from {low} to {high}"),
        Valid::OneOf(words) if key.kind == Kind::List => {
            format!("a list of {}", words.join(", "))
        }
        Valid::OneOf(words) | Valid::OneOfAnyCase(words) => {
            format!("one of {}", words.join(", "))
        }
        Valid::NotEmpty if key.kind == Kind::List => {
            "one item or more, separated by commas, none empty".to_owned()
        }
        Valid::NotEmpty => format!("{kind}, not empty"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::find;

    #[test]
    fn texts_become_canonical_or_are_refused() {
        for (key, text, canonical_text) in [
            ("auto.create.topics.enable", " TRUE ", Some("true")),
            ("auto.create.topics.enable", "yes", None),
            ("num.partitions", " +007 ", Some("7")),
            ("num.partitions", "0", None),
            ("num.partitions", "0x10", None),
            ("num.partitions", "1_000", None),
            ("num.partitions", "1e3", None),
            ("num.partitions", "2147483648", None),
            ("num.partitions", "", None),
            ("log.retention.ms", "-5", Some("-5")),
            ("log.retention.ms", "0", None),
            (
                "log.retention.bytes",
                "9223372036854775807",
                Some("9223372036854775807"),
            ),
            ("log.cleaner.min.cleanable.ratio", ".5", Some("0.5")),
            ("log.cleaner.min.cleanable.ratio", "1e-1", Some("0.1")),
            ("log.cleaner.min.cleanable.ratio", "1", Some("1.0")),
            ("log.cleaner.min.cleanable.ratio", "0.0001", Some("1.0E-4")),
            ("log.cleaner.min.cleanable.ratio", "NaN", None),
            ("log.cleaner.min.cleanable.ratio", "inf", None),
            ("log.cleaner.min.cleanable.ratio", "1.5", None),
            ("log.cleaner.io.max.bytes.per.second", "NaN", Some("NaN")),
            (
                "log.cleaner.io.max.bytes.per.second",
                "12345678",
                Some("1.2345678E7"),
            ),
            (
                "log.cleanup.policy",
                " compact , delete,compact",
                Some("compact,delete"),
            ),
            ("log.cleanup.policy", "", Some("")),
            ("log.cleanup.policy", "delete,", None),
            ("log.cleanup.policy", "Compact", None),
            ("compression.gzip.level", "-1", Some("-1")),
            ("compression.gzip.level", "0", None),
            (
                "group.consumer.migration.policy",
                "UPGRADE",
                Some("UPGRADE"),
            ),
            ("ssl.client.auth", "REQUIRED", None),
            ("ssl.client.auth", " required ", Some("required")),
            ("ssl.key.password", " x ", Some(" x ")),
            ("log.dir", " ", None),
            ("default.replication.factor", "-1", Some("-1")),
        ] {
            let key = find(key).unwrap();
            assert_eq!(
                canonical(key, text).ok().as_deref(),
                canonical_text,
                "{}={text:?}",
                key.name
            );
        }
    }

    #[test]
    fn a_refusal_says_what_would_do() {
        for (key, text) in [
            ("num.partitions", "a 32-bit whole number, at least 1"),
            ("ssl.client.auth", "one of required, requested, none"),
            (
                "compression.gzip.level",
                "-1, or a 32-bit whole number from 1 to 9",
            ),
            ("log.retention.ms", "a 64-bit whole number, not 0"),
            ("log.cleanup.policy", "a list of compact, delete"),
        ] {
            assert_eq!(canonical(find(key).unwrap(), "?"), Err(text.to_owned()));
        }
    }
}
