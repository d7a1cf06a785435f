//! `ssl.principal.mapping.rules` (KIP-371, spec/security.md §2.6).
//!
//! ```text
//! rules := rule *("," rule)
//! rule  := "DEFAULT" | "RULE:" pattern "/" replacement "/" ["L" | "U"]
//! ```

use regex::{Captures, Regex, RegexBuilder};
use thiserror::Error;

use super::pattern::{Unsupported, translate};

/// The longest text of rules, in bytes.
const TEXT_MAX: usize = 64 * 1024;

/// The largest compiled pattern, in bytes.
const COMPILED_MAX: usize = 1 << 20;

/// Why rules cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MappingError {
    /// A rule that is not of the grammar.
    #[error("`{0}` is no rule; a rule is DEFAULT or RULE:pattern/replacement/ with L or U")]
    Syntax(String),
    /// There is no rule.
    #[error("there is no rule")]
    Empty,
    /// A pattern with something that the engine here does not have.
    #[error("pattern `{pattern}`: {problem}")]
    Unsupported {
        /// The pattern.
        pattern: String,
        /// What it uses.
        problem: Unsupported,
    },
    /// A pattern that is no regular expression, or is too large.
    #[error("pattern `{pattern}`: {problem}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The engine's words.
        problem: String,
    },
    /// A replacement that names a group which does not exist, or has a lone dollar.
    #[error("replacement `{0}` refers to a group that the pattern does not have")]
    Replacement(String),
    /// More than 64 KiB.
    #[error("the rules are too long")]
    TooLong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Keep,
    Lower,
    Upper,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Group(usize),
}

#[derive(Debug, Clone)]
enum Rule {
    Default,
    Rule {
        source: String,
        /// Anchored at both ends: decides whether the rule applies.
        whole: Regex,
        /// Not anchored: finds what is replaced.
        part: Regex,
        replacement: Vec<Piece>,
        case: Case,
    },
}

/// Rules tried in order; the first whose pattern matches the whole subject decides.
#[derive(Debug, Clone)]
pub struct MappingRules(Vec<Rule>);

impl Default for MappingRules {
    /// `DEFAULT`: the subject itself.
    fn default() -> Self {
        Self(vec![Rule::Default])
    }
}

impl MappingRules {
    /// Reads the rules and compiles their patterns.
    ///
    /// # Errors
    /// The first rule that is not of the grammar, or cannot work.
    pub fn parse(text: &str) -> Result<Self, MappingError> {
        if text.len() > TEXT_MAX {
            return Err(MappingError::TooLong);
        }
        let mut rules = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            rest = match rest.strip_prefix(',') {
                Some(after) => after.trim_start(),
                None => {
                    let (rule, after) = take_rule(rest)?;
                    rules.push(rule);
                    after
                }
            };
        }
        if rules.is_empty() {
            return Err(MappingError::Empty);
        }
        Ok(Self(rules))
    }

    /// Maps a subject; `None` when no rule matches.
    pub fn apply(&self, dn: &str) -> Option<String> {
        self.0.iter().find_map(|rule| rule.apply(dn))
    }

    /// What an operator should know: rules that a crafted subject can bend.
    pub fn warnings(&self) -> Vec<String> {
        let loose = self.0.iter().filter_map(|rule| match rule {
            Rule::Rule { source, .. } if source.trim_start_matches('^').starts_with(".*") => {
                Some(source)
            }
            _ => None,
        });
        loose
            .map(|source| {
                format!(
                    "ssl.principal.mapping.rules: pattern `{source}` begins with `.*`, so a subject \
                     can place a second name inside another attribute"
                )
            })
            .collect()
    }
}

/// Takes the first rule off the text; what follows is empty or begins with a comma.
fn take_rule(text: &str) -> Result<(Rule, &str), MappingError> {
    let syntax = || {
        let shown: String = text.chars().take(80).collect();
        MappingError::Syntax(shown.escape_debug().to_string())
    };
    let (rule, rest) = if let Some(rest) = text.strip_prefix("DEFAULT") {
        (Rule::Default, rest)
    } else {
        let body = text.strip_prefix("RULE:").ok_or_else(syntax)?;
        let (pattern, body) = until_slash(body).ok_or_else(syntax)?;
        let (replacement, body) = until_slash(body).ok_or_else(syntax)?;
        let (case, rest) = match body.as_bytes().first() {
            Some(b'L') => (Case::Lower, body.get(1..)),
            Some(b'U') => (Case::Upper, body.get(1..)),
            _ => (Case::Keep, Some(body)),
        };
        let rule = Rule::new(pattern, replacement, case)?;
        (rule, rest.ok_or_else(syntax)?)
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with(',') {
        Ok((rule, rest))
    } else {
        Err(syntax())
    }
}

/// Splits at the first slash that no backslash escapes.
fn until_slash(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '/' => return Some((text.get(..at)?, text.get(at + 1..)?)),
            _ => {}
        }
    }
    None
}

impl Rule {
    fn new(pattern: &str, replacement: &str, case: Case) -> Result<Self, MappingError> {
        let translated = translate(pattern).map_err(|problem| MappingError::Unsupported {
            pattern: pattern.to_owned(),
            problem,
        })?;
        let compile = |text: &str| {
            RegexBuilder::new(text)
                .size_limit(COMPILED_MAX)
                .build()
                .map_err(|error| MappingError::Pattern {
                    pattern: pattern.to_owned(),
                    problem: error.to_string(),
                })
        };
        let part = compile(&translated)?;
        let whole = compile(&format!(r"\A(?:{translated})\z"))?;
        let replacement = parse_replacement(replacement, &part)
            .ok_or_else(|| MappingError::Replacement(replacement.escape_debug().to_string()))?;
        Ok(Self::Rule {
            source: pattern.to_owned(),
            whole,
            part,
            replacement,
            case,
        })
    }

    fn apply(&self, dn: &str) -> Option<String> {
        match self {
            Self::Default => Some(dn.to_owned()),
            Self::Rule {
                whole,
                part,
                replacement,
                case,
                ..
            } => {
                if !whole.is_match(dn) {
                    return None;
                }
                let name = replace_all(part, dn, replacement);
                Some(match case {
                    Case::Keep => name,
                    Case::Lower => name.to_lowercase(),
                    Case::Upper => name.to_uppercase(),
                })
            }
        }
    }
}

/// Replaces every occurrence as Java does: an empty match right after another one counts.
fn replace_all(pattern: &Regex, text: &str, replacement: &[Piece]) -> String {
    let mut result = String::new();
    let mut copied = 0;
    let mut from = 0;
    while from <= text.len() {
        let Some(captures) = pattern.captures_at(text, from) else {
            break;
        };
        let Some(whole) = captures.get(0) else { break };
        result.push_str(text.get(copied..whole.start()).unwrap_or_default());
        push_replacement(&mut result, &captures, replacement);
        copied = whole.end();
        from = whole.end();
        if whole.is_empty() {
            // One character on, or past the end.
            let next = text.get(from..).and_then(|rest| rest.chars().next());
            from += next.map_or(1, char::len_utf8);
        }
    }
    result.push_str(text.get(copied..).unwrap_or_default());
    result
}

fn push_replacement(result: &mut String, captures: &Captures<'_>, replacement: &[Piece]) {
    for piece in replacement {
        match piece {
            Piece::Text(text) => result.push_str(text),
            // A group that took no part in the match is empty.
            Piece::Group(group) => {
                result.push_str(captures.get(*group).map_or("", |found| found.as_str()));
            }
        }
    }
}

/// Reads a replacement; `None` when Java would raise an exception at its first use.
fn parse_replacement(text: &str, pattern: &Regex) -> Option<Vec<Piece>> {
    let groups = pattern.captures_len() - 1;
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\\' {
            plain.push(chars.next()?);
            continue;
        }
        if c != '$' {
            plain.push(c);
            continue;
        }
        let group = match chars.peek().copied() {
            Some('{') => {
                chars.next();
                let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                pattern
                    .capture_names()
                    .position(|found| found == Some(name.as_str()))?
            }
            Some(first) => {
                let mut group = usize::try_from(first.to_digit(10)?).ok()?;
                if group > groups {
                    if groups == 0 {
                        return None;
                    }
                    // Kafka takes a reference that cannot be meant as text.
                    plain.push('$');
                    continue;
                }
                chars.next();
                // Further digits belong to it as long as there is such a group.
                while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                    let longer = group * 10 + usize::try_from(digit).ok()?;
                    if longer > groups {
                        break;
                    }
                    group = longer;
                    chars.next();
                }
                group
            }
            None => return None,
        };
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Group(group));
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Some(pieces)
}

#[cfg(test)]
mod tests;
