//! The regular expressions that consumers subscribe with (KIP-848): RE2's syntax, matched in time
//! linear in the name.
//!
//! The `regex` crate has RE2's engine, but not quite its syntax: `\d` means other letters there,
//! `\<` a word's edge, `[a[b]` a nested class. [`translate`] writes what RE2 means in the crate's
//! words. Look-around and references back exist in neither, so no expression can be catastrophic;
//! a small one that stands for a huge program is refused by the size of its program.

use regex::bytes::{Regex, RegexBuilder};

/// Most bytes of an expression.
const MAX_PATTERN: usize = 16 * 1024;
/// Most bytes of a compiled one.
const MAX_PROGRAM: usize = 1 << 20;
/// Deepest nesting of groups.
const MAX_NESTING: u32 = 100;
/// Most repetitions by one counter, as in RE2.
const MAX_REPETITION: u32 = 1000;

/// An expression that matches whole topic names.
#[derive(Clone, Debug)]
pub(crate) struct TopicPattern(Regex);

impl TopicPattern {
    /// Compiles an expression.
    ///
    /// # Errors
    /// Why not, for the client.
    pub(crate) fn parse(pattern: &str) -> Result<Self, String> {
        let refused = |reason: String| {
            let shown: String = pattern.chars().take(100).collect();
            format!("the regular expression {shown:?} is not valid: {reason}")
        };
        if pattern.len() > MAX_PATTERN {
            return Err(refused(format!("it is longer than {MAX_PATTERN} bytes")));
        }
        let translated = translate(pattern).map_err(refused)?;
        let compile = |text: &str| {
            RegexBuilder::new(text)
                .size_limit(MAX_PROGRAM)
                .dfa_size_limit(MAX_PROGRAM)
                .nest_limit(MAX_NESTING)
                .build()
                .map_err(|error| refused(reason(&error)))
        };
        // Alone first: "a)|(b" is valid only between the parentheses that are put around it.
        compile(&translated)?;
        compile(&format!(r"\A(?:{translated})\z")).map(Self)
    }

    /// Whether it stands for this name.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        self.0.is_match(topic.as_bytes())
    }
}

fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "it compiles into too large a program".to_owned(),
        // The crate draws the expression with an arrow below; its last line is the reason.
        other => other
            .to_string()
            .lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned(),
    }
}

/// The same expression in the words of the `regex` crate.
fn translate(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() * 2);
    let mut rest = pattern;
    let mut class = Class::Outside;
    while let Some(letter) = rest.chars().next() {
        let after = rest.get(letter.len_utf8()..).unwrap_or_default();
        (rest, class) = match (letter, class) {
            ('\\', Class::Outside) => (escape(after, class, &mut out)?, Class::Outside),
            ('\\', _) => (escape(after, class, &mut out)?, Class::Inside),
            (_, Class::Outside) => outside(letter, after, &mut out)?,
            _ => inside(letter, after, class, &mut out)?,
        };
    }
    Ok(out)
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Class {
    Outside,
    First,
    Inside,
}

/// Takes a letter that stands in no class; returns what follows, and where that stands.
fn outside<'a>(letter: char, after: &'a str, out: &mut String) -> Result<(&'a str, Class), String> {
    match letter {
        '[' => {
            out.push('[');
            let negated = after.strip_prefix('^');
            if negated.is_some() {
                out.push('^');
            }
            return Ok((negated.unwrap_or(after), Class::First));
        }
        '{' if !counter(after)? => literal('{', out),
        '(' if after.starts_with('?') => {
            flags(after)?;
            out.push('(');
        }
        _ => out.push(letter),
    }
    Ok((after, Class::Outside))
}

/// Takes a letter that stands in a class; returns what follows, and where that stands.
fn inside<'a>(
    letter: char,
    after: &'a str,
    class: Class,
    out: &mut String,
) -> Result<(&'a str, Class), String> {
    match letter {
        // As the first of a class it is one of its letters.
        ']' if class == Class::First => out.push_str(r"\]"),
        ']' => {
            out.push(']');
            return Ok((after, Class::Outside));
        }
        '[' if after.starts_with(':') => {
            let end = after.find(":]").ok_or("missing terminating ]")? + 2;
            let (name, after) = after.split_at(end);
            if !is_ascii_class(name) {
                return Err(format!("invalid character class: `[{name}]`"));
            }
            out.push('[');
            out.push_str(name);
            return Ok((after, Class::Inside));
        }
        // Nested classes, intersections and differences are the crate's own.
        '[' | '&' | '~' => literal(letter, out),
        '-' if class == Class::Inside && after.starts_with('-') => {
            out.push_str(r"-\-");
            return Ok((after.get(1..).unwrap_or_default(), Class::Inside));
        }
        _ => out.push(letter),
    }
    Ok((after, Class::Inside))
}

/// What stands after a backslash; returns what follows.
fn escape<'a>(rest: &'a str, class: Class, out: &mut String) -> Result<&'a str, String> {
    let letter = rest.chars().next().ok_or("trailing backslash")?;
    let after = rest.get(letter.len_utf8()..).unwrap_or_default();
    match letter {
        'Q' => {
            let (quoted, after) = after.split_once("\\E").unwrap_or((after, ""));
            for letter in quoted.chars() {
                literal(letter, out);
            }
            return Ok(after);
        }
        // RE2's classes are ASCII's.
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str(r"[\t\n\x0C\r ]"),
        'S' => out.push_str(r"[^\t\n\x0C\r ]"),
        'b' if class == Class::Outside => out.push_str(r"(?-u:\b)"),
        'B' if class == Class::Outside => out.push_str(r"(?-u:\B)"),
        'A' | 'z' if class == Class::Outside => {
            out.push('\\');
            out.push(letter);
        }
        'a' | 'f' | 't' | 'n' | 'r' | 'v' | 'x' | 'p' | 'P' => {
            out.push('\\');
            out.push(letter);
            if matches!(letter, 'x' | 'p' | 'P') && after.starts_with('{') {
                let end = after.find('}').ok_or("missing closing brace")? + 1;
                let (inside, after) = after.split_at(end);
                out.push_str(inside);
                return Ok(after);
            }
        }
        _ if letter.is_ascii_punctuation() => literal(letter, out),
        _ => return Err(format!(r"invalid escape sequence: `\{letter}`")),
    }
    Ok(after)
}

/// Whether this is a class's name between its colons, with the bracket that ends it missing.
fn is_ascii_class(name: &str) -> bool {
    const NAMES: [&str; 14] = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
        "space", "upper", "word", "xdigit",
    ];
    let name = name.trim_start_matches(':').trim_end_matches(":]");
    NAMES.contains(&name.trim_start_matches('^'))
}

fn literal(letter: char, out: &mut String) {
    if letter.is_ascii_alphanumeric() || !letter.is_ascii() {
        out.push(letter);
    } else {
        out.push_str(&format!(r"\x{:02X}", u32::from(letter)));
    }
}

/// Whether a brace begins a counter; RE2 takes other braces as they are.
fn counter(rest: &str) -> Result<bool, String> {
    let Some((inside, _)) = rest.split_once('}') else {
        return Ok(false);
    };
    let (low, high) = inside.split_once(',').unwrap_or((inside, inside));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(low) || !(high.is_empty() || digits(high)) {
        return Ok(false);
    }
    for count in [low, high].into_iter().filter(|count| !count.is_empty()) {
        if !count
            .parse()
            .is_ok_and(|count: u32| count <= MAX_REPETITION)
        {
            return Err(format!("invalid repeat count: `{{{inside}}}`"));
        }
    }
    Ok(true)
}

/// Refuses groups that RE2 does not have.
fn flags(rest: &str) -> Result<(), String> {
    let rest = rest.strip_prefix('?').unwrap_or(rest);
    if rest.starts_with("P<") {
        return Ok(());
    }
    if let Some(name) = rest.strip_prefix('<') {
        return match name.starts_with(['=', '!']) {
            true => Err("look-behind is not supported".to_owned()),
            false => Ok(()),
        };
    }
    let end = rest.find([':', ')']).unwrap_or(rest.len());
    let flags = rest.get(..end).unwrap_or_default();
    match flags.chars().all(|flag| "imsU-".contains(flag)) {
        true => Ok(()),
        false => Err(format!("invalid or unsupported group: `(?{flags}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
