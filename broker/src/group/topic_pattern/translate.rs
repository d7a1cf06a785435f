//! What RE2 means by an expression, in the words of the `regex` crate for bytes.
//!
//! `\d` means other characters in the crate, `\<` a word's edge, `[a[b]` a nested class. Names of
//! topics have no character beyond ASCII: one byte that they do not have either stands for all of
//! those.

use std::collections::HashSet;

use super::property::Properties;

/// Most that one repetition may ask for, as in RE2.
const MAX_REPETITION: u32 = 1000;
/// The last character of ASCII.
const ASCII: u32 = 0x7F;
/// The last of all characters.
const LAST: u32 = 0x10_FFFF;
/// The letters beyond ASCII that are one of ASCII's where case is ignored: the long s, and the sign
/// of Kelvin.
const TWINS: [(u32, char); 2] = [(0x17F, 's'), (0x212A, 'k')];

/// The same expression in the words of the crate, where it compiles for bytes.
///
/// # Errors
/// Why RE2 would not take it; the rest is for the crate to find.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    let mut translator = Translator::new(pattern);
    while let Some(character) = translator.next() {
        translator.outside(character)?;
    }
    match translator.open.is_empty() {
        true => Ok(translator.out),
        false => Err("unclosed group".to_owned()),
    }
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
    /// Whether case is ignored here.
    folds: bool,
    /// The same before each of the groups that are open.
    open: Vec<bool>,
    names: HashSet<&'a str>,
    properties: Properties<'a>,
}

impl<'a> Translator<'a> {
    fn new(pattern: &'a str) -> Self {
        Self {
            rest: pattern,
            out: String::with_capacity(pattern.len() * 2),
            folds: false,
            open: Vec::new(),
            names: HashSet::new(),
            properties: Properties::default(),
        }
    }

    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next();
        self.rest = characters.as_str();
        character
    }

    /// Takes these characters if they are next.
    fn eat(&mut self, text: &str) -> bool {
        let after = self.rest.strip_prefix(text);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    /// Takes everything up to a character, and that one.
    fn until(&mut self, end: char) -> Option<&'a str> {
        let (inside, after) = self.rest.split_once(end)?;
        self.rest = after;
        Some(inside)
    }

    /// Takes a character that stands in no class.
    fn outside(&mut self, character: char) -> Result<(), String> {
        match character {
            '\\' => self.escape()?,
            '[' => self.class()?,
            '(' => self.group()?,
            ')' => {
                self.folds = self.open.pop().ok_or("unopened group")?;
                self.out.push(')');
            }
            '{' => self.brace()?,
            '.' | '*' | '+' | '?' | '|' | '^' | '$' => self.out.push(character),
            _ => self.character(u32::from(character)),
        }
        Ok(())
    }

    /// Writes a character that stands in no class.
    fn character(&mut self, code: u32) {
        let twin = TWINS.iter().find(|(twin, _)| self.folds && *twin == code);
        self.write(twin.map_or(code, |(_, character)| u32::from(*character)));
    }

    /// Writes characters of a class.
    fn span(&mut self, low: u32, high: u32) {
        if low <= ASCII {
            self.write(low);
            if high > low {
                self.out.push('-');
                self.write(high.min(ASCII));
            }
        }
        if high > ASCII {
            self.write(high);
        }
        for (twin, character) in TWINS {
            if self.folds && (low..=high).contains(&twin) {
                self.out.push(character);
            }
        }
    }

    /// Writes a character of ASCII, or the byte that stands for the others.
    fn write(&mut self, code: u32) {
        match u8::try_from(code).ok().filter(u8::is_ascii) {
            Some(byte) if byte.is_ascii_alphanumeric() => self.out.push(char::from(byte)),
            Some(byte) => self.out.push_str(&format!(r"\x{byte:02X}")),
            None => self.out.push_str(r"\xFF"),
        }
    }

    /// Takes what stands after a backslash in no class.
    fn escape(&mut self) -> Result<(), String> {
        if self.set()? {
            return Ok(());
        }
        match self.rest.chars().next() {
            Some('Q') => {
                self.next();
                let (quoted, after) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
                self.rest = after;
                for character in quoted.chars() {
                    self.character(u32::from(character));
                }
            }
            // In a group of its own: a repetition that follows is not the crate's `\b{start}`.
            Some(edge @ ('b' | 'B')) => {
                self.next();
                self.out.push_str(&format!(r"(?:\{edge})"));
            }
            Some(end @ ('A' | 'z')) => {
                self.next();
                self.out.push_str(&format!(r"\{end}"));
            }
            _ => {
                let code = self.code()?;
                self.character(code);
            }
        }
        Ok(())
    }

    /// Takes what stands after a backslash if it is one of the characters that have something in
    /// common; says whether it is.
    fn set(&mut self) -> Result<bool, String> {
        let set = match self.rest.chars().next() {
            // RE2's classes are ASCII's.
            Some('d') => "[0-9]",
            Some('D') => "[^0-9]",
            Some('w') => "[0-9A-Za-z_]",
            Some('W') => "[^0-9A-Za-z_]",
            Some('s') => r"[\t\n\x0C\r ]",
            Some('S') => r"[^\t\n\x0C\r ]",
            Some('p' | 'P') => {
                self.property()?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        self.next();
        self.out.push_str(set);
        Ok(true)
    }

    /// Takes a property, from its `p` or `P` on.
    fn property(&mut self) -> Result<(), String> {
        let mut negated = self.next() == Some('P');
        let mut name = if self.eat("{") {
            self.until('}').ok_or("missing closing brace")?
        } else {
            let whole = self.rest;
            let character = self.next().filter(char::is_ascii_alphanumeric);
            let character = character.ok_or("Unicode property not found")?;
            whole.get(..character.len_utf8()).unwrap_or_default()
        };
        if let Some(others) = name.strip_prefix('^') {
            (negated, name) = (!negated, others);
        }
        self.out.push_str(if negated { "[^" } else { "[" });
        let characters = self.properties.characters(name)?;
        // A class is not empty.
        self.out.push_str(r"\xFF");
        let spans = characters.chunk_by(|one, next| next - one == 1);
        let spans = spans.filter_map(|span| Some((*span.first()?, *span.last()?)));
        for (low, high) in spans.collect::<Vec<_>>() {
            self.span(u32::from(low), u32::from(high));
        }
        self.out.push(']');
        Ok(())
    }

    /// Takes what stands after a backslash for one character.
    fn code(&mut self) -> Result<u32, String> {
        let character = self.next().ok_or("trailing backslash")?;
        Ok(match character {
            'a' => 0x07,
            't' => 0x09,
            'n' => 0x0A,
            'v' => 0x0B,
            'f' => 0x0C,
            'r' => 0x0D,
            'x' => self.hexadecimal()?,
            _ if character.is_ascii_punctuation() => u32::from(character),
            _ => return Err(format!(r"invalid escape sequence: `\{character}`")),
        })
    }

    /// Takes two digits, or some in braces.
    fn hexadecimal(&mut self) -> Result<u32, String> {
        const INVALID: &str = "invalid hexadecimal digit";
        let digits = if self.eat("{") {
            self.until('}').ok_or("missing closing brace")?
        } else {
            let (digits, after) = self.rest.split_at_checked(2).ok_or(INVALID)?;
            self.rest = after;
            digits
        };
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(INVALID.to_owned());
        }
        let code = match digits.trim_start_matches('0') {
            "" => Some(0),
            digits => u32::from_str_radix(digits, 16).ok(),
        };
        let code = code.filter(|code| *code <= LAST);
        code.ok_or_else(|| "invalid Unicode scalar value".to_owned())
    }

    /// Takes a class, from behind its bracket on.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
        }
        let mut is_first = true;
        loop {
            let character = self.next().ok_or("unclosed character class")?;
            let low = match character {
                // As the first of a class it is one of its characters.
                ']' if !is_first => break,
                '[' if self.rest.starts_with(':') => {
                    self.ascii_class()?;
                    None
                }
                '\\' if self.set()? => None,
                _ => Some(self.class_character(character)?),
            };
            is_first = false;
            let Some(low) = low else { continue };
            let mut high = low;
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.next();
                let character = self.next().ok_or("unclosed character class")?;
                high = self.class_character(character)?;
            }
            if high < low {
                return Err("invalid character class range".to_owned());
            }
            self.span(low, high);
        }
        self.out.push(']');
        Ok(())
    }

    /// One character of a class, which may be an escaped one.
    fn class_character(&mut self, character: char) -> Result<u32, String> {
        match character {
            '\\' => self.code(),
            _ => Ok(u32::from(character)),
        }
    }

    /// Takes the name of a class of ASCII, from its colon on.
    fn ascii_class(&mut self) -> Result<(), String> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print",
            "punct", "space", "upper", "word", "xdigit",
        ];
        let rest = self.rest.strip_prefix(':').unwrap_or(self.rest);
        let (name, after) = rest.split_once(":]").ok_or("missing terminating ]")?;
        if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(format!("invalid character class: `[:{name}:]`"));
        }
        self.out.push_str(&format!("[:{name}:]"));
        self.rest = after;
        Ok(())
    }

    /// Takes a group's beginning, from behind its parenthesis on. Nobody asks what a group matched.
    fn group(&mut self) -> Result<(), String> {
        let before = self.folds;
        if !self.eat("?") {
            self.out.push_str("(?:");
        } else if self.eat("P<") || self.eat("<") {
            if self.rest.starts_with(['=', '!']) {
                return Err("look-behind is not supported".to_owned());
            }
            self.name()?;
            self.out.push_str("(?:");
        } else if !self.flags()? {
            return Ok(());
        }
        self.open.push(before);
        Ok(())
    }

    /// Takes a group's name.
    fn name(&mut self) -> Result<(), String> {
        let name = self.until('>').ok_or("unclosed group name")?;
        let is_one = |character: u8| character.is_ascii_alphanumeric() || character == b'_';
        if name.is_empty() || !name.bytes().all(is_one) {
            return Err("invalid group name".to_owned());
        }
        match self.names.insert(name) {
            true => Ok(()),
            false => Err("duplicate group name".to_owned()),
        }
    }

    /// Takes a group's flags, and refuses groups that RE2 does not have; says whether it is one
    /// that has to be closed.
    fn flags(&mut self) -> Result<bool, String> {
        let flags = "imsU-";
        let end = self.rest.find(|character| !flags.contains(character));
        let (flags, after) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let opens = match after.chars().next() {
            Some(':') => true,
            Some(')') => false,
            other => {
                let other: String = other.into_iter().collect();
                return Err(format!("invalid or unsupported group: `(?{flags}{other}`"));
            }
        };
        let (on, off) = match flags.split_once('-') {
            None => (flags, ""),
            Some((on, off)) if !off.is_empty() && !off.contains('-') => (on, off),
            Some(_) => return Err(format!("invalid or unsupported group: `(?{flags}`")),
        };
        self.folds = (self.folds || on.contains('i')) && !off.contains('i');
        // The crate takes none twice, nor on both sides, nor no flags at all.
        let is_off = |flag| off.contains(flag);
        let on: String = "imsU"
            .chars()
            .filter(|flag| on.contains(*flag) && !is_off(*flag))
            .collect();
        let off: String = "imsU".chars().filter(|flag| is_off(*flag)).collect();
        let flags = match (on.is_empty(), off.is_empty()) {
            (_, true) => on,
            (_, false) => format!("{on}-{off}"),
        };
        if opens || !flags.is_empty() {
            self.out.push_str("(?");
            self.out.push_str(&flags);
            self.out.push(if opens { ':' } else { ')' });
        }
        self.rest = after.get(1..).unwrap_or_default();
        Ok(opens)
    }

    /// Takes a repetition, from behind its brace on; RE2 takes other braces as they are.
    fn brace(&mut self) -> Result<(), String> {
        let is_of_one = |character: char| character.is_ascii_digit() || character == ',';
        let end = self.rest.find(|character| !is_of_one(character));
        let (inside, after) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let (low, high) = inside.split_once(',').unwrap_or((inside, inside));
        if low.is_empty() || high.contains(',') || !after.starts_with('}') {
            self.character(u32::from('{'));
            return Ok(());
        }
        for count in [low, high].into_iter().filter(|count| !count.is_empty()) {
            if !count
                .parse()
                .is_ok_and(|count: u32| count <= MAX_REPETITION)
            {
                return Err(format!("invalid repeat count: `{{{inside}}}`"));
            }
        }
        self.out.push_str(&format!("{{{inside}}}"));
        self.rest = after.get(1..).unwrap_or_default();
        Ok(())
    }
}
