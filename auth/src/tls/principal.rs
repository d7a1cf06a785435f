//! The principal of a client certificate (spec/security.md §2.6, KIP-371).
//!
//! The name is Java's RFC 2253 text of the subject, then the first mapping rule that fits.
//! OpenSSL's own printing differs in keywords, escapes and multi-valued RDNs, and is not used.

use openssl::hash::MessageDigest;
use openssl::ssl::{NameType, SslRef};
use openssl::x509::{X509NameRef, X509Ref, X509VerifyResult};
use thiserror::Error;

pub use super::mapping::{MappingError, MappingRules};
use crate::audit::{CertificateInfo, TlsInfo};
use crate::principal::Principal;

/// Why a verified certificate gives no principal; the connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PrincipalFailure {
    /// No rule matches the subject.
    #[error("no rule of ssl.principal.mapping.rules matches the subject")]
    NoRule,
    /// The subject is empty, or a rule maps it to nothing.
    #[error("the certificate gives an empty name")]
    Empty,
    /// The subject holds control characters, or bytes that are no text.
    #[error("the certificate's subject holds control characters or undecodable text")]
    Unprintable,
}

/// Maps the subject of a verified certificate to a principal.
///
/// # Errors
/// A subject that no rule matches, or whose name would be empty or hold control characters.
pub fn certificate_principal(
    certificate: &X509Ref,
    rules: &MappingRules,
) -> Result<Principal, PrincipalFailure> {
    let dn = java_dn(certificate);
    if dn.is_empty() {
        return Err(PrincipalFailure::Empty);
    }
    let raw = raw_text(certificate.subject_name());
    if raw.chars().any(is_forbidden) || dn.chars().any(is_forbidden) {
        return Err(PrincipalFailure::Unprintable);
    }
    let name = rules.apply(&dn).ok_or(PrincipalFailure::NoRule)?;
    if name.is_empty() {
        return Err(PrincipalFailure::Empty);
    }
    Ok(Principal::user(name))
}

/// Control characters, line separators, and the mark of bytes that did not decode.
fn is_forbidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | char::REPLACEMENT_CHARACTER)
}

/// What the audit log says about a certificate.
pub(crate) fn certificate_info(certificate: &X509Ref) -> CertificateInfo {
    let serial = certificate.serial_number().to_bn();
    let serial = serial.and_then(|n| n.to_hex_str().map(|hex| hex.to_lowercase()));
    let digest = certificate.digest(MessageDigest::sha256());
    CertificateInfo {
        subject: java_dn(certificate),
        issuer: name_text(certificate.issuer_name()),
        serial: serial.unwrap_or_default(),
        sha256: digest.map(|d| hex(&d)).unwrap_or_default(),
        not_after: certificate.not_after().to_string(),
    }
}

/// What the audit log says about the TLS session of a connection.
pub fn session_info(ssl: &SslRef) -> TlsInfo {
    let certificate = ssl.peer_certificate();
    let cipher = ssl.current_cipher();
    let cipher = cipher.map(|cipher| cipher.standard_name().unwrap_or(cipher.name()));
    TlsInfo {
        version: ssl.version_str().to_owned(),
        cipher: cipher.unwrap_or_default().to_owned(),
        sni: ssl.servername(NameType::HOST_NAME).map(str::to_owned),
        // Without certificate OpenSSL reports the verification as passed.
        verified: certificate.is_some() && ssl.verify_result() == X509VerifyResult::OK,
        certificate: certificate.map(|certificate| certificate_info(&certificate)),
    }
}

/// The subject as Java's `X500Principal.getName()` prints it; empty for an empty subject.
pub(crate) fn java_dn(certificate: &X509Ref) -> String {
    name_text(certificate.subject_name())
}

fn name_text(name: &X509NameRef) -> String {
    let Ok(der) = name.to_der() else {
        return String::new();
    };
    render(&der).unwrap_or_default()
}

/// The attribute values alone, before escaping.
fn raw_text(name: &X509NameRef) -> String {
    let entries = name.to_der().ok();
    let values = entries.as_deref().and_then(|der| {
        let mut text = String::new();
        for rdn in parse(der)? {
            for attribute in rdn {
                text.push_str(&attribute.text().unwrap_or_default());
            }
        }
        Some(text)
    });
    // What OpenSSL parsed and this parser does not is not let through.
    values.unwrap_or_else(|| char::REPLACEMENT_CHARACTER.to_string())
}

/// One `type=value`.
struct Attribute<'a> {
    oid: &'a [u8],
    tag: u8,
    content: &'a [u8],
    /// Tag, length and content.
    der: &'a [u8],
}

impl Attribute<'_> {
    /// The value as text, if it has one of the types Java prints as text.
    fn text(&self) -> Option<String> {
        let ascii = |byte: &u8| {
            if byte.is_ascii() {
                char::from(*byte)
            } else {
                char::REPLACEMENT_CHARACTER
            }
        };
        match self.tag {
            // UTF8String
            0x0c => Some(String::from_utf8_lossy(self.content).into_owned()),
            // PrintableString, IA5String, GeneralString
            0x13 | 0x16 | 0x1b => Some(self.content.iter().map(ascii).collect()),
            // T61String, which Java reads as Latin-1
            0x14 => Some(self.content.iter().map(|byte| char::from(*byte)).collect()),
            // BMPString
            0x1e => {
                let units = self.content.chunks(2).map(|pair| match pair {
                    [high, low] => u16::from_be_bytes([*high, *low]),
                    _ => 0xfffd,
                });
                let chars = char::decode_utf16(units);
                Some(
                    chars
                        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                        .collect(),
                )
            }
            _ => None,
        }
    }

    fn keyword(&self) -> Option<&'static str> {
        Some(match self.oid {
            [0x55, 0x04, 3] => "CN",
            [0x55, 0x04, 6] => "C",
            [0x55, 0x04, 7] => "L",
            [0x55, 0x04, 8] => "ST",
            [0x55, 0x04, 9] => "STREET",
            [0x55, 0x04, 10] => "O",
            [0x55, 0x04, 11] => "OU",
            [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 25] => "DC",
            [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 1] => "UID",
            _ => return None,
        })
    }

    fn render(&self) -> Option<String> {
        match (self.keyword(), self.text()) {
            (Some(keyword), Some(text)) => Some(format!("{keyword}={}", escape(&text))),
            (Some(keyword), None) => Some(format!("{keyword}=#{}", hex(self.der))),
            (None, _) => Some(format!("{}=#{}", dotted(self.oid)?, hex(self.der))),
        }
    }
}

fn render(der: &[u8]) -> Option<String> {
    let rdns: Option<Vec<String>> = parse(der)?
        .iter()
        .rev()
        .map(|rdn| {
            let attributes: Option<Vec<String>> = rdn.iter().map(Attribute::render).collect();
            Some(attributes?.join("+"))
        })
        .collect();
    Some(rdns?.join(","))
}

/// Reads `Name ::= SEQUENCE OF SET OF SEQUENCE { type OID, value ANY }`.
fn parse(der: &[u8]) -> Option<Vec<Vec<Attribute<'_>>>> {
    let (name, rest) = element(der)?;
    if name.tag != 0x30 || !rest.is_empty() {
        return None;
    }
    let mut rdns = Vec::new();
    let mut rest = name.content;
    while !rest.is_empty() {
        let (set, after) = element(rest)?;
        rest = after;
        let mut attributes = Vec::new();
        let mut members = set.content;
        while !members.is_empty() {
            let (pair, after) = element(members)?;
            members = after;
            let (oid, value) = element(pair.content)?;
            let (value, end) = element(value)?;
            if set.tag != 0x31 || pair.tag != 0x30 || oid.tag != 0x06 || !end.is_empty() {
                return None;
            }
            attributes.push(Attribute {
                oid: oid.content,
                tag: value.tag,
                content: value.content,
                der: value.whole,
            });
        }
        rdns.push(attributes);
    }
    Some(rdns)
}

struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
}

/// Takes one DER element off the front: single-byte tag, definite length.
fn element(der: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (tag, after_tag) = der.split_first()?;
    let (first, after_first) = after_tag.split_first()?;
    let (length, body) = if *first < 0x80 {
        (usize::from(*first), after_first)
    } else {
        let (bytes, body) = after_first.split_at_checked(usize::from(first & 0x7f))?;
        if bytes.is_empty() || bytes.len() > 4 {
            return None;
        }
        let length = bytes
            .iter()
            .fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
        (length, body)
    };
    let (content, rest) = body.split_at_checked(length)?;
    let whole = der.get(..der.len() - rest.len())?;
    let element = Element {
        tag: *tag,
        content,
        whole,
    };
    Some((element, rest))
}

fn dotted(oid: &[u8]) -> Option<String> {
    let mut arcs: Vec<u128> = Vec::new();
    let mut arc: u128 = 0;
    for byte in oid {
        arc = arc.checked_mul(128)? | u128::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                // The first two arcs share one number.
                let top = (arc / 40).min(2);
                arcs.push(top);
                arc -= top * 40;
            }
            arcs.push(arc);
            arc = 0;
        }
    }
    let ends = oid.last().is_some_and(|byte| byte & 0x80 == 0);
    let texts: Vec<String> = arcs.iter().map(u128::to_string).collect();
    ends.then(|| texts.join("."))
}

/// Java escapes these wherever they stand, and blanks at both ends.
fn escape(text: &str) -> String {
    let is_blank = |c: char| c == ' ' || c == '\r';
    let start = text.len() - text.trim_start_matches(is_blank).len();
    let end = text.trim_end_matches(is_blank).len();
    let mut escaped = String::with_capacity(text.len() + 4);
    for (at, c) in text.char_indices() {
        match c {
            '\0' => escaped.push_str("\\00"),
            ',' | '=' | '+' | '<' | '>' | '#' | ';' | '"' | '\\' => {
                escaped.push('\\');
                escaped.push(c);
            }
            _ if at < start || at >= end => {
                escaped.push('\\');
                escaped.push(c);
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
