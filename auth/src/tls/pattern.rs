//! Java's regular expressions in the words of the `regex` crate.
//!
//! Only what means the same in both is let through. What the crate lacks (look-around,
//! back-references, possessive quantifiers) or reads otherwise (flags, octal escapes, set
//! operators) is refused by name: a rule that silently means something else would hand out
//! the wrong principal.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

use thiserror::Error;

/// A construct that cannot be translated.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unsupported {
    /// `(?=`, `(?!`, `(?<=`, `(?<!`.
    #[error("look-around is not supported")]
    LookAround,
    /// `(?>`.
    #[error("atomic groups are not supported")]
    AtomicGroup,
    /// `(?i)` and its kin.
    #[error("inline flags are not supported; write both cases, as in [Cc][Nn]")]
    Flags,
    /// `\1`, `\k<name>`.
    #[error("back-references are not supported")]
    BackReference,
    /// `*+`, `++`, `?+`, `}+`.
    #[error("possessive quantifiers are not supported")]
    Possessive,
    /// An escape that is unknown or means something else here.
    #[error("the escape \\{0} is not supported")]
    Escape(char),
    /// A `\p{...}` that is not translated.
    #[error("the property {0} is not supported")]
    Property(String),
    /// `&&`, `--` or `[:` inside brackets.
    #[error("the operator {0} inside brackets is not supported")]
    SetOperator(&'static str),
    /// A brace that is no quantifier.
    #[error("a brace that is no quantifier must be escaped")]
    Brace,
    /// The pattern ends in the middle of something.
    #[error("the pattern is incomplete")]
    Incomplete,
}

/// Translates a pattern, or names what stands in the way.
pub(super) fn translate(pattern: &str) -> Result<String, Unsupported> {
    let mut translator = Translator {
        chars: pattern.chars().peekable(),
        out: String::with_capacity(pattern.len() + 16),
        depth: 0,
        quantified: false,
    };
    translator.run()?;
    Ok(translator.out)
}

struct Translator<'a> {
    chars: Peekable<Chars<'a>>,
    out: String,
    /// How many brackets are open.
    depth: usize,
    /// The last thing written was a quantifier.
    quantified: bool,
}

impl Translator<'_> {
    fn run(&mut self) -> Result<(), Unsupported> {
        while let Some(c) = self.chars.next() {
            let was_quantified = std::mem::replace(&mut self.quantified, false);
            match c {
                '\\' => self.escape()?,
                '[' => self.open_class()?,
                _ if self.depth > 0 => self.in_class(c)?,
                '(' => self.group()?,
                '*' | '+' | '?' => {
                    if was_quantified && c == '+' {
                        return Err(Unsupported::Possessive);
                    }
                    self.out.push(c);
                    self.quantified = !was_quantified;
                }
                '{' => self.count()?,
                '}' => return Err(Unsupported::Brace),
                _ => self.out.push(c),
            }
        }
        if self.depth > 0 {
            return Err(Unsupported::Incomplete);
        }
        Ok(())
    }

    fn open_class(&mut self) -> Result<(), Unsupported> {
        self.depth += 1;
        self.out.push('[');
        if self.chars.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        match self.chars.peek() {
            Some(':') => Err(Unsupported::SetOperator("[:")),
            // First in brackets, both engines take it as a character.
            Some(']') => {
                self.chars.next();
                self.out.push_str(r"\]");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn in_class(&mut self, c: char) -> Result<(), Unsupported> {
        let doubled = self.chars.peek() == Some(&c);
        match c {
            ']' => {
                self.depth -= 1;
                self.out.push(']');
            }
            '&' if doubled => return Err(Unsupported::SetOperator("&&")),
            '-' if doubled => return Err(Unsupported::SetOperator("--")),
            // A set operator there, a character here.
            '~' | '&' => {
                self.out.push('\\');
                self.out.push(c);
            }
            _ => self.out.push(c),
        }
        Ok(())
    }

    fn group(&mut self) -> Result<(), Unsupported> {
        self.out.push('(');
        if self.chars.next_if_eq(&'?').is_none() {
            return Ok(());
        }
        match self.chars.next().ok_or(Unsupported::Incomplete)? {
            ':' => self.out.push_str("?:"),
            '=' | '!' => return Err(Unsupported::LookAround),
            '>' => return Err(Unsupported::AtomicGroup),
            '<' => match self.chars.peek().ok_or(Unsupported::Incomplete)? {
                '=' | '!' => return Err(Unsupported::LookAround),
                _ => self.out.push_str("?<"),
            },
            _ => return Err(Unsupported::Flags),
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Unsupported> {
        self.out.push('{');
        let mut digits = 0;
        loop {
            match self.chars.next().ok_or(Unsupported::Brace)? {
                '}' if digits > 0 => break,
                c if c.is_ascii_digit() => {
                    digits += 1;
                    self.out.push(c);
                }
                ',' if digits > 0 => self.out.push(','),
                _ => return Err(Unsupported::Brace),
            }
        }
        self.out.push('}');
        self.quantified = true;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Unsupported> {
        let c = self.chars.next().ok_or(Unsupported::Incomplete)?;
        let in_class = self.depth > 0;
        match c {
            // Java's classes are of ASCII, the crate's of Unicode.
            'd' => self.out.push_str("[0-9]"),
            'D' => self.out.push_str("[^0-9]"),
            'w' => self.out.push_str("[0-9A-Za-z_]"),
            'W' => self.out.push_str("[^0-9A-Za-z_]"),
            's' => self.out.push_str(r"[ \t\n\x0b\f\r]"),
            'S' => self.out.push_str(r"[^ \t\n\x0b\f\r]"),
            't' | 'n' | 'r' | 'f' | 'a' => {
                self.out.push('\\');
                self.out.push(c);
            }
            'e' => self.out.push_str(r"\x1b"),
            'A' | 'z' | 'b' | 'B' if !in_class => {
                // `\b{` would be a kind of boundary of its own.
                if self.chars.peek() == Some(&'{') {
                    return Err(Unsupported::Escape(c));
                }
                self.out.push('\\');
                self.out.push(c);
            }
            // Subjects with line ends are refused before, so there is no final one to spare.
            'Z' if !in_class => self.out.push_str(r"\z"),
            'Q' => self.quote(),
            'E' => {}
            'x' => self.code_point(2)?,
            'u' => self.code_point(4)?,
            'p' | 'P' => self.property(c)?,
            '1'..='9' | 'k' => return Err(Unsupported::BackReference),
            _ if c.is_ascii_alphanumeric() => return Err(Unsupported::Escape(c)),
            _ => self.literal(c),
        }
        Ok(())
    }

    fn literal(&mut self, c: char) {
        // Every other punctuation may be escaped there too, but `\<` and `\>` are boundaries.
        if c.is_ascii_punctuation() && !matches!(c, '<' | '>') {
            self.out.push('\\');
        }
        self.out.push(c);
    }

    /// `\Q...\E`: everything is literal.
    fn quote(&mut self) {
        while let Some(c) = self.chars.next() {
            if c == '\\' && self.chars.next_if_eq(&'E').is_some() {
                return;
            }
            self.literal(c);
        }
    }

    fn code_point(&mut self, digits: usize) -> Result<(), Unsupported> {
        let escape = if digits == 2 { 'x' } else { 'u' };
        let mut number = 0;
        if escape == 'x' && self.chars.next_if_eq(&'{').is_some() {
            loop {
                match self.chars.next().ok_or(Unsupported::Incomplete)? {
                    '}' => break,
                    c => {
                        let digit = c.to_digit(16).ok_or(Unsupported::Escape('x'))?;
                        number = (number << 4 | digit).min(0x11_0000);
                    }
                }
            }
        } else {
            for _ in 0..digits {
                let c = self.chars.next().ok_or(Unsupported::Incomplete)?;
                number = number << 4 | c.to_digit(16).ok_or(Unsupported::Escape(escape))?;
            }
        }
        let c = char::from_u32(number).ok_or(Unsupported::Escape(escape))?;
        // Writing to a string cannot fail.
        let _ = write!(self.out, r"\x{{{:x}}}", u32::from(c));
        Ok(())
    }

    fn property(&mut self, p: char) -> Result<(), Unsupported> {
        let name: String = if self.chars.next_if_eq(&'{').is_some() {
            let name = self.chars.by_ref().take_while(|c| *c != '}');
            name.collect()
        } else {
            self.chars.next().into_iter().collect()
        };
        let posix = match name.as_str() {
            "Lower" => "lower",
            "Upper" => "upper",
            "ASCII" => "ascii",
            "Alpha" => "alpha",
            "Digit" => "digit",
            "Alnum" => "alnum",
            "Punct" => "punct",
            "Graph" => "graph",
            "Print" => "print",
            "Blank" => "blank",
            "Cntrl" => "cntrl",
            "XDigit" => "xdigit",
            "Space" => "space",
            _ => "",
        };
        let categories = [
            "L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "N", "Nd", "Nl", "No", "P", "S", "Z",
        ];
        if !posix.is_empty() {
            let negation = if p == 'P' { "^" } else { "" };
            let _ = write!(self.out, "[[:{negation}{posix}:]]");
            Ok(())
        } else if categories.contains(&name.as_str()) {
            let _ = write!(self.out, r"\{p}{{{name}}}");
            Ok(())
        } else {
            Err(Unsupported::Property(name.escape_debug().to_string()))
        }
    }
}
