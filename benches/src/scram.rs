//! The client's half of SCRAM-SHA-512 (RFC 5802), with the costly derivation apart from the rest.

use anyhow::{Context, Result, ensure};
use openssl::base64::{decode_block, encode_block};
use openssl::hash::{MessageDigest, hash};
use openssl::memcmp;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::PKey;
use openssl::rand::rand_bytes;
use openssl::sign::Signer;

/// Name of the mechanism.
pub const MECHANISM: &str = "SCRAM-SHA-512";

const DIGEST_LEN: usize = 64;

/// One login: `first`, then `last` with the server's answer.
#[derive(Debug)]
pub struct ScramClient {
    nonce: String,
    first_bare: String,
}

/// The client's last message, and what the server must answer to it.
#[derive(Debug)]
pub struct LastMessage {
    /// The message.
    pub text: String,
    server_signature: Vec<u8>,
}

impl ScramClient {
    /// Begins a login.
    ///
    /// # Errors
    /// OpenSSL has no random numbers.
    pub fn new(user: &str) -> Result<Self> {
        let mut nonce = [0; 18];
        rand_bytes(&mut nonce)?;
        let nonce = encode_block(&nonce);
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Ok(Self {
            first_bare: format!("n={user},r={nonce}"),
            nonce,
        })
    }

    /// The first message.
    pub fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// Answers the server's first message; `salted` makes the salted password out of salt and
    /// iterations, see [`salted_password`].
    ///
    /// # Errors
    /// The server's message is no challenge to this login.
    pub fn last(
        &self,
        server_first: &str,
        salted: impl FnOnce(&[u8], usize) -> Result<Vec<u8>>,
    ) -> Result<LastMessage> {
        let mut fields = server_first.split(',');
        let mut field = |name: &str| {
            let field = fields.next().and_then(|field| field.strip_prefix(name));
            field.with_context(|| format!("no {name} in the server's {server_first:?}"))
        };
        let nonce = field("r=")?;
        ensure!(
            nonce.starts_with(&self.nonce) && nonce.len() > self.nonce.len(),
            "the server did not continue our nonce"
        );
        let salt = decode_block(field("s=")?)?;
        let salted = salted(&salt, field("i=")?.parse()?)?;

        let client_key = hmac(&salted, b"Client Key")?;
        let stored_key = hash(MessageDigest::sha512(), &client_key)?;
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{server_first},{without_proof}", self.first_bare);
        let signature = hmac(&stored_key, message.as_bytes())?;
        let proof: Vec<u8> = client_key
            .iter()
            .zip(&signature)
            .map(|(key, mask)| key ^ mask)
            .collect();
        let server_key = hmac(&salted, b"Server Key")?;
        Ok(LastMessage {
            text: format!("{without_proof},p={}", encode_block(&proof)),
            server_signature: hmac(&server_key, message.as_bytes())?,
        })
    }
}

impl LastMessage {
    /// Checks the server's last message.
    ///
    /// # Errors
    /// The server refused, or does not know the password either.
    pub fn verify(&self, server_last: &str) -> Result<()> {
        let signature = server_last
            .strip_prefix("v=")
            .with_context(|| format!("login refused: {server_last:?}"))?;
        let signature = decode_block(signature)?;
        ensure!(
            signature.len() == DIGEST_LEN && memcmp::eq(&signature, &self.server_signature),
            "the server does not know the password"
        );
        Ok(())
    }
}

/// Derives what the other keys come from (PBKDF2): nearly all of a login's cost for the client.
///
/// # Errors
/// OpenSSL refuses the iterations.
pub fn salted_password(password: &[u8], salt: &[u8], iterations: usize) -> Result<Vec<u8>> {
    let mut salted = vec![0; DIGEST_LEN];
    let digest = MessageDigest::sha512();
    pbkdf2_hmac(password, salt, iterations, digest, &mut salted)?;
    Ok(salted)
}

fn hmac(key: &[u8], data: &[u8]) -> Result<Vec<u8>> {
    let key = PKey::hmac(key)?;
    let mut signer = Signer::new(MessageDigest::sha512(), &key)?;
    Ok(signer.sign_oneshot_to_vec(data)?)
}
