//! `sasl.jaas.config`, read as data: no class is ever loaded (spec/security.md §1.2, §7.2).
//!
//! `<module> required|requisite|sufficient|optional key="value" ... ;`

use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The longest text, in bytes.
const TEXT_MAX: usize = 1 << 20;

/// The login modules that mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginModule {
    /// `PlainLoginModule`.
    Plain,
    /// `ScramLoginModule`.
    Scram,
    /// `OAuthBearerLoginModule`; recognised so that the error can say it is not built.
    OauthBearer,
}

impl LoginModule {
    fn from_class(class: &str) -> Option<Self> {
        const PACKAGE: &str = "org.apache.kafka.common.security.";
        match class.strip_prefix(PACKAGE)? {
            "plain.PlainLoginModule" => Some(Self::Plain),
            "scram.ScramLoginModule" => Some(Self::Scram),
            "oauthbearer.OAuthBearerLoginModule" => Some(Self::OauthBearer),
            _ => None,
        }
    }
}

/// Why a text is not a JAAS entry. No variant repeats an option's value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JaasError {
    /// The login module is none of the known ones.
    #[error("login module `{0}` is not known; there are PlainLoginModule and ScramLoginModule")]
    UnknownModule(String),
    /// The word after the module is not a control flag.
    #[error("`required`, `requisite`, `sufficient` or `optional` must follow the login module")]
    ControlFlag,
    /// A key without `=`, or `=` without a value.
    #[error("option {0} is not of the form key=\"value\"")]
    Option(usize),
    /// A quote that is never closed.
    #[error("a quote is not closed")]
    OpenQuote,
    /// No `;` at the end.
    #[error("the entry must end with `;`")]
    MissingSemicolon,
    /// Text after the `;`.
    #[error("there is text after the first entry; one entry is expected")]
    SecondEntry,
    /// The same option twice.
    #[error("option `{0}` is given twice")]
    Duplicate(String),
    /// More than 1 MiB.
    #[error("the text is too long")]
    TooLong,
}

/// One parsed entry. Values are secrets, whatever their key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JaasEntry {
    /// The login module.
    pub module: LoginModule,
    options: Vec<(String, Secret)>,
}

impl JaasEntry {
    /// Reads exactly one entry.
    ///
    /// # Errors
    /// The first thing that is not JAAS, or a module that is not known.
    pub fn parse(text: &str) -> Result<Self, JaasError> {
        if text.len() > TEXT_MAX {
            return Err(JaasError::TooLong);
        }
        let mut scanner = Scanner { rest: text };
        let module = match scanner.next()? {
            Some(Token::Word(class)) => LoginModule::from_class(&class)
                .ok_or_else(|| JaasError::UnknownModule(class.escape_debug().to_string()))?,
            _ => return Err(JaasError::UnknownModule(String::new())),
        };
        match scanner.next()? {
            Some(Token::Word(flag)) if is_flag(&flag) => {}
            _ => return Err(JaasError::ControlFlag),
        }
        let mut options: Vec<(String, Secret)> = Vec::new();
        loop {
            let nth = options.len() + 1;
            let key = match scanner.next()? {
                Some(Token::Semicolon) => break,
                Some(Token::Word(key)) => key,
                None => return Err(JaasError::MissingSemicolon),
                Some(_) => return Err(JaasError::Option(nth)),
            };
            let Some(Token::Equals) = scanner.next()? else {
                return Err(JaasError::Option(nth));
            };
            let value = match scanner.next()? {
                Some(Token::Word(value) | Token::Quoted(value)) => Secret::from(value.as_str()),
                _ => return Err(JaasError::Option(nth)),
            };
            if options.iter().any(|(known, _)| *known == *key) {
                return Err(JaasError::Duplicate(key.escape_debug().to_string()));
            }
            options.push((key.to_string(), value));
        }
        if scanner.next()?.is_some() {
            return Err(JaasError::SecondEntry);
        }
        Ok(Self { module, options })
    }

    /// The value of an option.
    pub fn option(&self, key: &str) -> Option<&Secret> {
        let found = self.options.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value)
    }

    /// The `user_<name>` options: names and passwords.
    pub fn users(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.options.iter().filter_map(|(key, value)| {
            let name = key.strip_prefix("user_")?;
            Some((name, value))
        })
    }
}

fn is_flag(word: &str) -> bool {
    ["required", "requisite", "sufficient", "optional"]
        .iter()
        .any(|flag| word.eq_ignore_ascii_case(flag))
}

enum Token {
    Word(Zeroizing<String>),
    Quoted(Zeroizing<String>),
    Equals,
    Semicolon,
}

struct Scanner<'a> {
    rest: &'a str,
}

impl Scanner<'_> {
    fn next(&mut self) -> Result<Option<Token>, JaasError> {
        self.rest = self.rest.trim_start();
        let mut chars = self.rest.chars();
        let Some(first) = chars.next() else {
            return Ok(None);
        };
        match first {
            '=' | ';' => {
                self.rest = chars.as_str();
                Ok(Some(if first == '=' {
                    Token::Equals
                } else {
                    Token::Semicolon
                }))
            }
            '"' | '\'' => {
                let mut value = Zeroizing::new(String::new());
                loop {
                    match chars.next().ok_or(JaasError::OpenQuote)? {
                        '\\' => {
                            let escaped = chars.next().ok_or(JaasError::OpenQuote)?;
                            value.push(unescape(escaped));
                        }
                        c if c == first => break,
                        c => value.push(c),
                    }
                }
                self.rest = chars.as_str();
                Ok(Some(Token::Quoted(value)))
            }
            _ => {
                let end = self
                    .rest
                    .find(|c: char| c.is_whitespace() || matches!(c, '=' | ';' | '"' | '\''))
                    .unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                self.rest = rest;
                Ok(Some(Token::Word(Zeroizing::new(word.to_owned()))))
            }
        }
    }
}

fn unescape(c: char) -> char {
    match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";

    #[test]
    fn reads_an_entry() {
        let text = format!(
            "{PLAIN} required\n  username=\"admin\"\n  password='a b;c'\n  user_admin=\"a\\\"b\\\\c\"\n user_bob=plain;"
        );
        let entry = JaasEntry::parse(&text).unwrap();
        assert_eq!(entry.module, LoginModule::Plain);
        assert_eq!(entry.option("username"), Some(&Secret::from("admin")));
        assert_eq!(entry.option("password"), Some(&Secret::from("a b;c")));
        let users: Vec<_> = entry.users().map(|(name, _)| name).collect();
        assert_eq!(users, ["admin", "bob"]);
        assert_eq!(entry.option("user_admin"), Some(&Secret::from("a\"b\\c")));
        assert!(!format!("{entry:?}").contains("plain\""));
    }

    #[test]
    fn refuses_what_is_not_an_entry() {
        use JaasError::*;
        let cases = [
            (String::new(), UnknownModule(String::new())),
            (
                "com.sun.security.auth.module.JndiLoginModule required;".into(),
                UnknownModule("com.sun.security.auth.module.JndiLoginModule".into()),
            ),
            (format!("{PLAIN} always;"), ControlFlag),
            (format!("{PLAIN} required"), MissingSemicolon),
            (format!("{PLAIN} required a;"), Option(1)),
            (format!("{PLAIN} required a=;"), Option(1)),
            (format!("{PLAIN} required a=\"x;"), OpenQuote),
            (format!("{PLAIN} required a=\"x\\"), OpenQuote),
            (format!("{PLAIN} required a=x b;"), Option(2)),
            (format!("{PLAIN} required a=x a=y;"), Duplicate("a".into())),
            (format!("{PLAIN} required; {PLAIN} required;"), SecondEntry),
        ];
        for (text, error) in cases {
            assert_eq!(JaasEntry::parse(&text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,80}") {
            let _ = JaasEntry::parse(&text);
            let _ = JaasEntry::parse(&format!("{PLAIN} required {text}"));
        }
    }
}
