//! The two messages a SCRAM client sends (spec/security.md §3.3, RFC 5802 §7).
//!
//! ```text
//! client-first = gs2 bare
//! gs2          = ("n" | "y") "," ["a=" saslname] ","
//! bare         = "n=" saslname ",r=" nonce *("," name "=" value)
//! client-final = without-proof ",p=" base64
//! without-proof= "c=" base64 ",r=" nonce *("," name "=" value)
//! ```

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The largest message taken, in bytes.
pub(super) const MESSAGE_MAX: usize = 4096;

/// The bounds of a client nonce, in bytes.
const NONCE_MIN: usize = 8;
const NONCE_MAX: usize = 256;

/// Why a message is not what the grammar says; for the audit log, never for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// A client-first message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFirst<'a> {
    /// The header as received, both commas included: what `c=` must repeat.
    pub(super) gs2: &'a str,
    /// The authorization id, unescaped; `None` when absent or empty.
    pub(super) authzid: Option<String>,
    /// The message after the header, as received.
    pub(super) bare: &'a str,
    /// The user name, unescaped.
    pub(super) user: String,
    /// The client's nonce.
    pub(super) nonce: &'a str,
    /// `tokenauth=true` was among the extensions (KIP-48).
    pub(super) token: bool,
}

/// A client-final message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFinal<'a> {
    /// The message before `,p=`, as received.
    pub(super) without_proof: &'a str,
    /// The decoded channel binding.
    pub(super) channel_binding: Vec<u8>,
    /// The nonce.
    pub(super) nonce: &'a str,
    /// The decoded proof, of any length.
    pub(super) proof: Vec<u8>,
}

fn text(message: &[u8]) -> Result<&str, Malformed> {
    if message.len() > MESSAGE_MAX {
        return Err(Malformed("message too long"));
    }
    let text = std::str::from_utf8(message).map_err(|_| Malformed("not UTF-8"))?;
    if text.contains('\0') {
        return Err(Malformed("NUL"));
    }
    Ok(text)
}

impl<'a> ClientFirst<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let message = text(message)?;
        let after_flag = match message.split_at_checked(2) {
            Some(("n," | "y,", rest)) => rest,
            Some(("p=", _)) => return Err(Malformed("channel binding is not offered")),
            _ => return Err(Malformed("gs2 header")),
        };
        let (authzid, bare) = after_flag.split_once(',').ok_or(Malformed("gs2 header"))?;
        let gs2 = message
            .get(..message.len() - bare.len())
            .ok_or(Malformed("gs2 header"))?;
        let authzid = match authzid {
            "" | "a=" => None,
            given => {
                let name = given.strip_prefix("a=").ok_or(Malformed("gs2 header"))?;
                Some(saslname(name)?)
            }
        };
        let mut attributes = bare.split(',');
        // A mandatory extension (`m=`) would stand here; not understanding it means refusing.
        let user = attribute(attributes.next(), "n=").ok_or(Malformed("user name"))?;
        let nonce = attribute(attributes.next(), "r=").ok_or(Malformed("nonce"))?;
        let user = saslname(user)?;
        if !(NONCE_MIN..=NONCE_MAX).contains(&nonce.len()) || !is_nonce(nonce) {
            return Err(Malformed("nonce"));
        }
        let mut token = false;
        for extension in attributes {
            let (name, value) = check_extension(extension)?;
            token |= name == "tokenauth" && value == "true";
        }
        Ok(Self {
            gs2,
            authzid,
            bare,
            user,
            nonce,
            token,
        })
    }
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let message = text(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(Malformed("proof"))?;
        let proof = STANDARD.decode(proof).map_err(|_| Malformed("proof"))?;
        let mut attributes = without_proof.split(',');
        let binding = attribute(attributes.next(), "c=").ok_or(Malformed("channel binding"))?;
        let channel_binding = STANDARD
            .decode(binding)
            .map_err(|_| Malformed("channel binding"))?;
        let nonce = attribute(attributes.next(), "r=").ok_or(Malformed("nonce"))?;
        if !is_nonce(nonce) {
            return Err(Malformed("nonce"));
        }
        for extension in attributes {
            check_extension(extension)?;
        }
        Ok(Self {
            without_proof,
            channel_binding,
            nonce,
            proof,
        })
    }
}

fn attribute<'a>(part: Option<&'a str>, name: &str) -> Option<&'a str> {
    part?.strip_prefix(name)
}

/// Unescapes a name: `=2C` and `=3D` are the only uses of `=`.
fn saslname(escaped: &str) -> Result<String, Malformed> {
    if escaped.is_empty() {
        return Err(Malformed("empty name"));
    }
    let mut name = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((plain, escape)) = rest.split_once('=') {
        name.push_str(plain);
        name.push(match escape.get(..2) {
            Some("2C") => ',',
            Some("3D") => '=',
            _ => return Err(Malformed("escape in name")),
        });
        rest = escape.get(2..).unwrap_or_default();
    }
    name.push_str(rest);
    if name.chars().any(char::is_control) {
        return Err(Malformed("control character in name"));
    }
    Ok(name)
}

fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty()
        && nonce
            .bytes()
            .all(|b| matches!(b, 0x21..=0x2b | 0x2d..=0x7e))
}

/// Checks `name=value`. The names of SCRAM itself have fixed places, so here they are doubles,
/// and `m` would be an extension that must not be ignored.
fn check_extension(extension: &str) -> Result<(&str, &str), Malformed> {
    let (name, value) = extension.split_once('=').ok_or(Malformed("extension"))?;
    let letters = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic());
    if !letters || value.is_empty() {
        return Err(Malformed("extension"));
    }
    match name {
        "m" => Err(Malformed("mandatory extension")),
        "a" | "n" | "r" | "c" | "p" | "s" | "i" | "v" | "e" => Err(Malformed("attribute order")),
        _ => Ok((name, value)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first(message: &str) -> Result<ClientFirst<'_>, Malformed> {
        ClientFirst::parse(message.as_bytes())
    }

    fn last(message: &str) -> Result<ClientFinal<'_>, Malformed> {
        ClientFinal::parse(message.as_bytes())
    }

    #[test]
    fn reads_what_clients_send() {
        let message = first("n,,n=alice,r=cnonce0123456789").unwrap();
        assert_eq!(message.gs2, "n,,");
        assert_eq!(message.bare, "n=alice,r=cnonce0123456789");
        assert_eq!((message.user.as_str(), message.authzid), ("alice", None));
        assert!(!message.token);

        let message = first("n,a=u,n=u,r=12345678,tokenauth=true,x=1=2").unwrap();
        assert_eq!(message.gs2, "n,a=u,");
        assert_eq!(message.authzid.as_deref(), Some("u"));
        assert!(message.token);

        assert_eq!(first("y,,n=a=2Cb=3Dc,r=12345678").unwrap().user, "a,b=c");
        assert_eq!(first("n,a=,n=u,r=12345678").unwrap().authzid, None);
        assert_eq!(first("n,,n=Zo\u{eb},r=12345678").unwrap().user, "Zo\u{eb}");

        let message = last("c=biws,r=abcdefghSN,x=1,p=AAAA").unwrap();
        assert_eq!(message.without_proof, "c=biws,r=abcdefghSN,x=1");
        assert_eq!(message.channel_binding, b"n,,");
        assert_eq!(message.proof, [0, 0, 0]);
    }

    #[test]
    fn refuses_malformed_first_messages() {
        let long = format!("n,,n=u,r={}", "x".repeat(257));
        let huge = format!("n,,n={},r=12345678", "x".repeat(5000));
        for message in [
            "",
            "n",
            "n,",
            "n,,",
            "p=tls-unique,,n=u,r=12345678",
            "n,b=u,n=u,r=12345678",
            "n,a=u=,n=u,r=12345678",
            "n,,m=ext,n=u,r=12345678",
            "n,,n=u,r=12345678,m=ext",
            "n,,n=,r=12345678",
            "n,,n=bo=b,r=12345678",
            "n,,n=bo=2cb,r=12345678",
            "n,,n=bo=2,r=12345678",
            "n,,n=bo\tb,r=12345678",
            "n,,n=b\0b,r=12345678",
            "n,,n=u,r=",
            "n,,n=u,r=1234567",
            "n,,n=u,r=1234 5678",
            "n,,n=u,r=1234\u{e9}5678",
            "n,,n=u,r=1234,5678",
            "n,,n=u,r=12345678,",
            "n,,n=u,r=12345678,r=12345678",
            "n,,r=12345678,n=u",
            "n,,n=u,r=12345678,x",
            "n,,n=u,r=12345678,1=x",
            "n,,n=u,r=12345678,x=",
            "c=biws,r=12345678,p=AAAA",
            long.as_str(),
            huge.as_str(),
        ] {
            assert!(first(message).is_err(), "{message}");
        }
        assert!(ClientFirst::parse(b"n,,n=\xff,r=12345678").is_err());
    }

    #[test]
    fn refuses_malformed_final_messages() {
        for message in [
            "",
            "c=biws,r=12345678",
            "c=biws,p=AAAA",
            "r=12345678,c=biws,p=AAAA",
            "c=biws,r=12345678,p=AAA",
            "c=biws,r=12345678,p=AA AA",
            "c=biws,r=12345678,p=AAAA\nAAAA",
            "c=biw,r=12345678,p=AAAA",
            "c=biws,r=12345678,r=12345678,p=AAAA",
            "c=biws,r=12345678,m=1,p=AAAA",
            "c=biws,r=12345678,p=AAAA,p=AAAA",
            "c=biws,r=,p=AAAA",
            "n,,n=alice,r=cnonce0123456789",
        ] {
            assert!(last(message).is_err(), "{message}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ClientFirst::parse(&bytes);
            let _ = ClientFinal::parse(&bytes);
        }

        #[test]
        fn near_messages_do_not_panic(text in "[nyp],(a=)?[a-c=2CD3,]{0,6},(m=x,)?n=[a-c=2CD3]{0,8},r=.{0,12}(,[a-z]=.?){0,3}") {
            if let Ok(message) = ClientFirst::parse(text.as_bytes()) {
                prop_assert_eq!(format!("{}{}", message.gs2, message.bare), text);
            }
        }
    }
}
