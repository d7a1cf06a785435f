//! Unicode properties, as far as names of topics can have them.

use std::collections::BTreeMap;

use regex::bytes::RegexBuilder;

use super::{MAX_PROGRAM, reason};

/// Most different properties in an expression: each is looked up in the tables of Unicode.
const MAX_PROPERTIES: usize = 16;

/// The properties that an expression names, each looked up once.
#[derive(Debug, Default)]
pub(super) struct Properties<'a> {
    /// The characters of ASCII that have it, in order.
    known: BTreeMap<&'a str, Vec<u8>>,
}

impl<'a> Properties<'a> {
    /// The characters of ASCII that have the property of that name.
    ///
    /// # Errors
    /// There is no such property, or the expression has named too many.
    pub(super) fn characters(&mut self, name: &'a str) -> Result<&[u8], String> {
        if !self.known.contains_key(name) && self.known.len() >= MAX_PROPERTIES {
            return Err(format!(
                "it names more than {MAX_PROPERTIES} Unicode properties"
            ));
        }
        let characters = match self.known.remove(name) {
            Some(characters) => characters,
            None => ascii(name)?,
        };
        Ok(self.known.entry(name).or_insert(characters))
    }

    /// How many were looked up.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

/// Asks the crate which characters have a property.
fn ascii(name: &str) -> Result<Vec<u8>, String> {
    // The rest of the class is left out before anything is made of it.
    let class = format!(r"\A[\p{{{name}}}&&[\x00-\x7F]]\z");
    let class = RegexBuilder::new(&class).size_limit(MAX_PROGRAM).build();
    let class = class.map_err(|error| reason(&error))?;
    let characters = (0..=0x7F).filter(|character| class.is_match(&[*character]));
    Ok(characters.collect())
}
