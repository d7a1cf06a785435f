//! Texts to values, and values to the one text that operators compare (configs.md §1).

use std::collections::HashSet;

use super::table::{ConfigKind, Valid};

/// The canonical text of a value, or Kafka's words for why it is none.
pub(super) fn canonical(kind: ConfigKind, valid: &Valid, text: &str) -> Result<String, String> {
    let trimmed = java_trim(text);
    match kind {
        ConfigKind::Boolean => boolean(trimmed).map(|value| value.to_string()),
        ConfigKind::Int => {
            let number = integer(trimmed).filter(|value| i32::try_from(*value).is_ok());
            let number = number.ok_or_else(|| "Not a number of type INT".to_owned())?;
            check_number(valid, number)?;
            Ok(number.to_string())
        }
        ConfigKind::Long => {
            let number = integer(trimmed).ok_or_else(|| "Not a number of type LONG".to_owned())?;
            check_number(valid, number)?;
            Ok(number.to_string())
        }
        ConfigKind::Double => {
            let number = double(trimmed).ok_or_else(|| "Not a number of type DOUBLE".to_owned())?;
            check_double(valid, number)?;
            Ok(double_text(number))
        }
        ConfigKind::String => {
            check_choice(valid, trimmed)?;
            Ok(trimmed.to_owned())
        }
        ConfigKind::List => list(valid, trimmed),
    }
}

/// A number as Java's `parseLong` reads it: sign and leading zeros, nothing else.
pub(super) fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

fn boolean(text: &str) -> Result<bool, String> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err("Expected value to be either true or false".to_owned())
    }
}

/// A number as Java's `parseDouble` reads it, without its hexadecimal form.
pub(super) fn double(text: &str) -> Option<f64> {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    match body {
        "NaN" => return Some(f64::NAN),
        "Infinity" => {
            let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
            return Some(sign * f64::INFINITY);
        }
        _ => {}
    }
    let body = body.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(body);
    // What Rust takes beyond digits ("inf", "nan") Java does not.
    let signed = body.starts_with(['+', '-']);
    let plain = body
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    if signed || !plain {
        return None;
    }
    let value: f64 = body.parse().ok()?;
    Some(if text.starts_with('-') { -value } else { value })
}

/// A number as Java prints it: always with a fraction, and an exponent where it is small or large.
fn double_text(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN".to_owned()
        } else if value > 0.0 {
            "Infinity".to_owned()
        } else {
            "-Infinity".to_owned()
        };
    }
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        let text = value.to_string();
        return if text.contains('.') {
            text
        } else {
            format!("{text}.0")
        };
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if digits.contains('.') => format!("{digits}E{exponent}"),
        Some((digits, exponent)) => format!("{digits}.0E{exponent}"),
        None => text,
    }
}

fn check_number(valid: &Valid, number: i64) -> Result<(), String> {
    let (low, high) = match valid {
        Valid::AtLeast(low) => (*low, i64::MAX),
        Valid::Between(low, high) => (*low, *high),
        Valid::DefaultOr(default, low, high) => {
            if number == *default {
                return Ok(());
            }
            (*low, *high)
        }
        _ => return Ok(()),
    };
    if number < low {
        Err(format!("Value must be at least {low}"))
    } else if number > high {
        Err(format!("Value must be no more than {high}"))
    } else {
        Ok(())
    }
}

fn check_double(valid: &Valid, number: f64) -> Result<(), String> {
    match valid {
        Valid::Fraction if number < 0.0 => Err("Value must be at least 0".to_owned()),
        Valid::Fraction if number > 1.0 => Err("Value must be no more than 1".to_owned()),
        _ => Ok(()),
    }
}

fn check_choice(valid: &Valid, text: &str) -> Result<(), String> {
    match valid {
        Valid::OneOf(choices) if !choices.contains(&text) => {
            Err(format!("String must be one of: {}", choices.join(", ")))
        }
        _ => Ok(()),
    }
}

fn list(valid: &Valid, text: &str) -> Result<String, String> {
    let items = list_items(text);
    match valid {
        Valid::ItemsOf(choices) => {
            for item in &items {
                if !choices.contains(&item.as_str()) {
                    return Err(format!("String must be one of: {}", choices.join(", ")));
                }
            }
        }
        Valid::ThrottledReplicas => {
            // The tool that reassigns partitions writes these, a trailing comma included; what it
            // reads back must be what it wrote.
            check_throttled(&items)?;
            return Ok(raw_items(text).join(","));
        }
        _ => {}
    }
    Ok(join_list(&items))
}

fn check_throttled(items: &[String]) -> Result<(), String> {
    let named = |item: &String| {
        let replica = item.split_once(':');
        replica.is_some_and(|(partition, broker)| {
            [partition, broker]
                .iter()
                .all(|number| integer(number).is_some_and(|n| n >= 0))
        })
    };
    let items: Vec<&String> = items.iter().filter(|item| !item.is_empty()).collect();
    if matches!(items.as_slice(), [only] if *only == "*") || items.iter().all(|item| named(item)) {
        Ok(())
    } else {
        Err(
            "must be the literal '*' or a list of replicas in the following format: \
             [partitionId]:[brokerId],[partitionId]:[brokerId],..."
                .to_owned(),
        )
    }
}

fn raw_items(text: &str) -> Vec<&str> {
    text.split(',').map(java_trim).collect()
}

/// The items of a list, each once, in order; an empty text is an empty list.
#[must_use]
pub fn list_items(text: &str) -> Vec<String> {
    if java_trim(text).is_empty() {
        return Vec::new();
    }
    let mut seen = HashSet::new();
    raw_items(text)
        .into_iter()
        .filter(|item| seen.insert(*item))
        .map(str::to_owned)
        .collect()
}

/// The text of a list.
#[must_use]
pub fn join_list(items: &[String]) -> String {
    items.join(",")
}

/// Trims as Java does: everything up to the blank, control characters included.
pub(super) fn java_trim(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_java_reads_them() {
        for (text, value) in [("5", 5), ("+5", 5), ("-1", -1), ("007", 7)] {
            assert_eq!(integer(text), Some(value), "{text}");
        }
        for text in [
            "",
            "+",
            "0x10",
            "1_000",
            "1e3",
            "5.0",
            "９",
            "9223372036854775808",
        ] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    #[test]
    fn doubles_print_as_java_prints_them() {
        for (text, shown) in [
            (".5", "0.5"),
            ("1", "1.0"),
            ("1e-1", "0.1"),
            ("0.0001", "1.0E-4"),
            ("1.25e-5", "1.25E-5"),
            ("0", "0.0"),
            ("0.5d", "0.5"),
            ("NaN", "NaN"),
        ] {
            assert_eq!(double_text(double(text).unwrap()), shown, "{text}");
        }
        for text in ["", "nan", "inf", "x", "1e", "--1"] {
            assert_eq!(double(text), None, "{text}");
        }
    }

    #[test]
    fn lists_lose_blanks_and_repeats() {
        assert_eq!(
            list_items(" compact , delete,compact"),
            ["compact", "delete"]
        );
        assert!(list_items("  ").is_empty());
        assert_eq!(list_items("delete,"), ["delete", ""]);
    }

    /// A request may hold thousands of long lists: each item is looked for once.
    #[test]
    fn a_long_list_is_read_in_one_pass() {
        let items = (0..300_000).map(|number| format!("{number}:1"));
        let text = items
            .chain(["7:1".to_owned()])
            .collect::<Vec<_>>()
            .join(",");
        let items = list_items(&text);
        assert_eq!(items.len(), 300_000);
        assert_eq!(items.last().map(String::as_str), Some("299999:1"));
    }

    #[test]
    fn throttled_replicas_keep_their_trailing_comma() {
        let check = |text| canonical(ConfigKind::List, &Valid::ThrottledReplicas, text);
        assert_eq!(check("0:1,"), Ok("0:1,".to_owned()));
        assert_eq!(check("*"), Ok("*".to_owned()));
        assert_eq!(check(""), Ok(String::new()));
        for bad in ["x", "0:1,*", "0-1", "0:", ":1"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
