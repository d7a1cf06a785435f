//! Keys and certificates from PEM text and files (spec/security.md §2.2, KIP-651).

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::pkey::{Id, PKey, Private};
use openssl::x509::{X509, X509Ref};
use rustix::process::{getegid, getgroups};
use zeroize::Zeroizing;

use super::settings::{KeyStore, TrustStore};
use super::{PemProblem, TlsError};
use crate::secret::Secret;

const KEYSTORE: &str = "ssl.keystore.location";
const TRUSTSTORE: &str = "ssl.truststore.location";

/// A private key with its certificate and the chain above it, nearest first.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) key: PKey<Private>,
    pub(super) leaf: X509,
    pub(super) chain: Vec<X509>,
}

/// Loads key and chain, and refuses those that protect nothing.
pub(super) fn load_identity(
    keystore: &KeyStore,
    password: Option<&Secret>,
) -> Result<Identity, TlsError> {
    match keystore {
        KeyStore::PemFile(path) => {
            let (text, meta) = read_file(KEYSTORE, path)?;
            check_mode(path, &meta)?;
            identity(&text, &text, password).map_err(|problem| at_file(KEYSTORE, path, problem))
        }
        KeyStore::Inline { key, chain } => identity(key.expose(), chain.expose(), password)
            .map_err(|problem| TlsError::Pem {
                origin: "ssl.keystore.key and ssl.keystore.certificate.chain".to_owned(),
                problem,
            }),
    }
}

/// Loads trusted certificates.
pub(super) fn load_trusted(truststore: &TrustStore) -> Result<Vec<X509>, TlsError> {
    match truststore {
        TrustStore::PemFile(path) => {
            let (text, _) = read_file(TRUSTSTORE, path)?;
            trusted(&text).map_err(|problem| at_file(TRUSTSTORE, path, problem))
        }
        TrustStore::Inline(text) => trusted(text.expose()).map_err(|problem| TlsError::Pem {
            origin: "ssl.truststore.certificates".to_owned(),
            problem,
        }),
    }
}

fn at_file(key: &str, path: &Path, problem: PemProblem) -> TlsError {
    TlsError::Pem {
        origin: format!("{key}: {}", path.display()),
        problem,
    }
}

fn read_file(key: &'static str, path: &Path) -> Result<(Zeroizing<Vec<u8>>, Metadata), TlsError> {
    let read = || {
        let mut file = File::open(path)?;
        // Of the open file, so that nobody swaps it between the look and the reading.
        let meta = file.metadata()?;
        let mut bytes = Zeroizing::new(Vec::new());
        file.read_to_end(&mut bytes)?;
        Ok((bytes, meta))
    };
    let (bytes, meta) = read().map_err(|source| TlsError::File {
        key,
        path: path.to_owned(),
        source,
    })?;
    // The operator may have pointed to a Java store without saying so.
    let found = match bytes.get(..4) {
        Some([0xfe, 0xed, 0xfe, 0xed]) => Some("JKS"),
        Some([0xce, 0xce, 0xce, 0xce]) => Some("JCEKS"),
        // A DER sequence with a long length: the outer layer of PKCS#12.
        Some([0x30, 0x82 | 0x83 | 0x80, _, _]) => Some("PKCS12"),
        _ => None,
    };
    match found {
        Some(found) => Err(TlsError::StoreType {
            key: format!("{key}: {}", path.display()),
            found,
        }),
        None => Ok((bytes, meta)),
    }
}

/// Refuses a key file that others can read; root's file for one of our groups is how mounted
/// secrets come.
fn check_mode(path: &Path, meta: &Metadata) -> Result<(), TlsError> {
    let mode = meta.mode() & 0o7777;
    let our_group = || {
        getegid().as_raw() == meta.gid()
            || getgroups().is_ok_and(|groups| groups.iter().any(|g| g.as_raw() == meta.gid()))
    };
    let mounted = mode & 0o037 == 0 && meta.uid() == 0 && our_group();
    if mode & 0o077 == 0 || mounted {
        return Ok(());
    }
    Err(TlsError::KeyFileMode {
        key: KEYSTORE,
        path: path.to_owned(),
        mode,
    })
}

/// One block: its label and the block again, in the form OpenSSL reads.
struct Block {
    label: String,
    pem: Zeroizing<String>,
}

impl Block {
    fn is_key(&self) -> bool {
        self.label.ends_with("PRIVATE KEY")
    }
}

/// Cuts text into blocks. Text between them is ignored; line ends may be missing, CRLF, blanks
/// or a literal `\n`, as configuration files and environments leave them.
fn blocks(bytes: &[u8]) -> Result<Vec<Block>, PemProblem> {
    let text = std::str::from_utf8(bytes).map_err(|_| PemProblem::Damaged)?;
    let text = Zeroizing::new(text.replace("\\n", "\n"));
    let mut blocks = Vec::new();
    let mut rest = text.as_str();
    while let Some((_, begun)) = rest.split_once("-----BEGIN ") {
        let (label, begun) = begun.split_once("-----").ok_or(PemProblem::Damaged)?;
        let end = format!("-----END {label}-----");
        let (body, after) = begun.split_once(&end).ok_or(PemProblem::Damaged)?;
        blocks.push(Block {
            label: label.to_owned(),
            pem: normal_form(label, body)?,
        });
        rest = after;
    }
    if blocks.is_empty() {
        return Err(PemProblem::Empty);
    }
    Ok(blocks)
}

fn normal_form(label: &str, body: &str) -> Result<Zeroizing<String>, PemProblem> {
    let mut pem = Zeroizing::new(format!("-----BEGIN {label}-----\n"));
    if body.contains(':') {
        // Old encrypted keys carry headers, whose line ends mean something.
        pem.push_str(body.trim_start());
    } else {
        let plain: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
        let der = STANDARD.decode(plain.as_bytes());
        let der = Zeroizing::new(der.map_err(|_| PemProblem::Damaged)?);
        let encoded = Zeroizing::new(STANDARD.encode(&*der));
        for line in encoded.as_bytes().chunks(64) {
            pem.push_str(std::str::from_utf8(line).map_err(|_| PemProblem::Damaged)?);
            pem.push('\n');
        }
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    Ok(pem)
}

fn certificates(blocks: &[Block]) -> Result<Vec<X509>, PemProblem> {
    let found = blocks.iter().filter(|block| {
        matches!(
            block.label.as_str(),
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE"
        )
    });
    let certificates: Vec<X509> = found
        .enumerate()
        .map(|(i, block)| {
            X509::from_pem(block.pem.as_bytes()).map_err(|_| PemProblem::Certificate(i + 1))
        })
        .collect::<Result<_, _>>()?;
    if certificates.is_empty() {
        return Err(PemProblem::NoCertificate);
    }
    Ok(certificates)
}

fn trusted(text: &[u8]) -> Result<Vec<X509>, PemProblem> {
    let blocks = blocks(text)?;
    if blocks.iter().any(Block::is_key) {
        return Err(PemProblem::KeyInTruststore);
    }
    certificates(&blocks)
}

fn identity(
    key_text: &[u8],
    chain_text: &[u8],
    password: Option<&Secret>,
) -> Result<Identity, PemProblem> {
    let key_blocks = blocks(key_text)?;
    let mut keys = key_blocks.iter().filter(|block| block.is_key());
    let key = keys.next().ok_or(PemProblem::NoKey)?;
    if keys.next().is_some() {
        return Err(PemProblem::SeveralKeys);
    }
    let key = private_key(key, password)?;
    check_strength(&key)?;
    let mut others = certificates(&blocks(chain_text)?)?;
    let position = others
        .iter()
        .position(|cert| cert.public_key().is_ok_and(|public| public.public_eq(&key)))
        .ok_or(PemProblem::Mismatch)?;
    let leaf = others.remove(position);
    let chain = order_chain(&leaf, others);
    Ok(Identity { key, leaf, chain })
}

/// Follows the issuers up from the leaf; certificates beside that path are left out.
fn order_chain(leaf: &X509Ref, mut others: Vec<X509>) -> Vec<X509> {
    let mut chain: Vec<X509> = Vec::new();
    loop {
        let top: &X509Ref = chain.last().map_or(leaf, |cert| cert);
        let issues = |cert: &X509| {
            let names = top.issuer_name().try_cmp(cert.subject_name());
            names.is_ok_and(|order| order.is_eq())
                && cert
                    .public_key()
                    .is_ok_and(|key| top.verify(&key).unwrap_or(false))
        };
        match others.iter().position(issues) {
            Some(position) => chain.push(others.remove(position)),
            None => return chain,
        }
    }
}

fn private_key(block: &Block, password: Option<&Secret>) -> Result<PKey<Private>, PemProblem> {
    let encrypted =
        block.label == "ENCRYPTED PRIVATE KEY" || block.pem.contains("Proc-Type: 4,ENCRYPTED");
    if encrypted && password.is_none() {
        return Err(PemProblem::NeedsPassword);
    }
    // Always with a callback: without one OpenSSL would ask at the terminal.
    let parsed = PKey::private_key_from_pem_callback(block.pem.as_bytes(), |buffer| {
        let password = password.map_or(&[][..], Secret::expose);
        let room = buffer.get_mut(..password.len());
        if let Some(room) = room {
            room.copy_from_slice(password);
            Ok(password.len())
        } else {
            Ok(0)
        }
    });
    parsed.map_err(|_| {
        if encrypted {
            PemProblem::WrongPassword
        } else {
            PemProblem::Key
        }
    })
}

fn check_strength(key: &PKey<Private>) -> Result<(), PemProblem> {
    let bits = key.bits();
    match key.id() {
        Id::RSA | Id::RSA_PSS if bits >= 2048 => Ok(()),
        Id::RSA | Id::RSA_PSS => Err(PemProblem::WeakKey(format!("RSA with {bits} bits"))),
        Id::EC if bits >= 256 => Ok(()),
        Id::EC => Err(PemProblem::WeakKey(format!("EC with {bits} bits"))),
        Id::ED25519 => Ok(()),
        Id::DSA => Err(PemProblem::WeakKey("DSA".to_owned())),
        _ => Err(PemProblem::WeakKey("of a kind that is not used".to_owned())),
    }
}

#[cfg(test)]
mod tests;
