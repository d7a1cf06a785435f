//! The 16-byte ids of topics, directories and incarnations.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// 16 bytes; the text form is URL-safe base64 without padding, 22 characters (KIP-516).
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Uuid([u8; 16]);

/// A text that is not a [`Uuid`].
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("expected 22 characters of URL-safe base64")]
pub struct ParseUuidError;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const TEXT_LEN: usize = 22;

impl Uuid {
    /// All zero: no id.
    pub const NIL: Self = Self([0; 16]);

    /// Takes the bytes in wire order.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes in wire order.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Says whether this is [`Uuid::NIL`].
    pub fn is_nil(&self) -> bool {
        *self == Self::NIL
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut text = String::with_capacity(TEXT_LEN);
        // 21 groups of six bits from the top; the last two bits stand high in the last character.
        for group in 0..21_u32 {
            let shift = 122_u32.saturating_sub(group.saturating_mul(6));
            text.push(letter((bits >> shift) & 0x3f));
        }
        text.push(letter((bits & 0x03) << 4));
        f.pad(&text)
    }
}

fn letter(six_bits: u128) -> char {
    let index = usize::try_from(six_bits).unwrap_or(0);
    ALPHABET.get(index).copied().map_or('A', char::from)
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Self, ParseUuidError> {
        if text.len() != TEXT_LEN {
            return Err(ParseUuidError);
        }
        let mut bits: u128 = 0;
        for (index, byte) in text.bytes().enumerate() {
            let position = ALPHABET
                .iter()
                .position(|&letter| letter == byte)
                .ok_or(ParseUuidError)?;
            let value = u128::try_from(position).map_err(|_| ParseUuidError)?;
            if index < 21 {
                bits = (bits << 6) | value;
            } else if value & 0x0f == 0 {
                bits = (bits << 2) | (value >> 4);
            } else {
                // Bits beyond the 128th: two texts must not name one id.
                return Err(ParseUuidError);
            }
        }
        Ok(Self(bits.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_url_safe_base64() {
        assert_eq!(Uuid::NIL.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(
            Uuid::from_bytes([0xff; 16]).to_string(),
            "_____________________w"
        );
        let counting = Uuid::from_bytes(std::array::from_fn(|i| i as u8));
        assert_eq!(counting.to_string(), "AAECAwQFBgcICQoLDA0ODw");
        assert_eq!("AAECAwQFBgcICQoLDA0ODw".parse(), Ok(counting));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "AAECAwQFBgcICQoLDA0OD",
            "AAECAwQFBgcICQoLDA0ODw=",
            "AAECAwQFBgcICQoLDA0ODx",
            "+AECAwQFBgcICQoLDA0ODw",
        ] {
            assert_eq!(text.parse::<Uuid>(), Err(ParseUuidError), "{text}");
        }
    }
}
