//! The client's half of SCRAM (RFC 5802), written from the RFC and apart from the broker's own.

use openssl::base64::{decode_block, encode_block};
use openssl::hash::{MessageDigest, hash};
use openssl::memcmp;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::PKey;
use openssl::sign::Signer;

/// One client's exchange: `first`, then `last` with the server's answer, then `verify`.
pub struct ScramClient {
    digest: MessageDigest,
    password: String,
    nonce: String,
    first_bare: String,
    server_signature: Vec<u8>,
}

impl ScramClient {
    /// Prepares an exchange. `mechanism` is `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub fn new(mechanism: &str, user: &str, password: &str) -> ScramClient {
        let digest = match mechanism {
            "SCRAM-SHA-256" => MessageDigest::sha256(),
            "SCRAM-SHA-512" => MessageDigest::sha512(),
            other => panic!("{other} is no mechanism of this client"),
        };
        let mut nonce = [0; 18];
        openssl::rand::rand_bytes(&mut nonce).expect("random bytes");
        let nonce = encode_block(&nonce);
        let user = user.replace('=', "=3D").replace(',', "=2C");
        ScramClient {
            digest,
            password: password.to_owned(),
            first_bare: format!("n={user},r={nonce}"),
            nonce,
            server_signature: Vec::new(),
        }
    }

    /// The client's first message.
    pub fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// The client's last message, from the server's first.
    ///
    /// # Errors
    /// When the server's message is not a challenge to this client.
    pub fn last(&mut self, server_first: &str) -> Result<String, String> {
        let field = |name: &str| {
            server_first
                .split(',')
                .find_map(|part| part.strip_prefix(name))
                .ok_or_else(|| format!("no {name} in {server_first}"))
        };
        let nonce = field("r=")?;
        if !nonce.starts_with(&self.nonce) || nonce == self.nonce {
            return Err(format!("the server did not extend the nonce: {nonce}"));
        }
        let salt = decode_block(field("s=")?).map_err(|error| error.to_string())?;
        let iterations: usize = field("i=")?
            .parse()
            .map_err(|error| format!("iterations: {error}"))?;

        let mut salted = vec![0; self.digest.size()];
        pbkdf2_hmac(
            self.password.as_bytes(),
            &salt,
            iterations,
            self.digest,
            &mut salted,
        )
        .expect("a derivation with valid arguments");
        let client_key = self.hmac(&salted, b"Client Key");
        let stored_key = hash(self.digest, &client_key).expect("a hash");
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{server_first},{without_proof}", self.first_bare);
        let signature = self.hmac(&stored_key, message.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(&signature)
            .map(|(key, mask)| key ^ mask)
            .collect();
        let server_key = self.hmac(&salted, b"Server Key");
        self.server_signature = self.hmac(&server_key, message.as_bytes());
        Ok(format!("{without_proof},p={}", encode_block(&proof)))
    }

    /// Checks that the server knows the password too, from its last message.
    ///
    /// # Errors
    /// When it reports an error, or its signature is not the one expected.
    pub fn verify(&self, server_last: &str) -> Result<(), String> {
        let signature = server_last
            .strip_prefix("v=")
            .ok_or_else(|| format!("refused: {server_last}"))?;
        let signature = signature.split(',').next().unwrap_or_default();
        let signature = decode_block(signature).map_err(|error| error.to_string())?;
        if signature.len() == self.server_signature.len()
            && memcmp::eq(&signature, &self.server_signature)
        {
            Ok(())
        } else {
            Err("the server does not know the password".to_owned())
        }
    }

    fn hmac(&self, key: &[u8], data: &[u8]) -> Vec<u8> {
        let key = PKey::hmac(key).expect("a key");
        let mut signer = Signer::new(self.digest, &key).expect("a signer");
        signer.sign_oneshot_to_vec(data).expect("a signature")
    }
}

#[cfg(test)]
mod tests {
    use super::ScramClient;

    /// The example exchange of RFC 7677 §3.
    #[test]
    fn the_rfc_example() {
        let mut client = ScramClient::new("SCRAM-SHA-256", "user", "pencil");
        client.nonce = "rOprNGfwEbeRWgbNEkqO".to_owned();
        client.first_bare = format!("n=user,r={}", client.nonce);
        assert_eq!(client.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let last = client
            .last("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
            .expect("a last message");
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        client
            .verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
            .expect("the server's signature");
        assert!(client.verify("e=other-error").is_err());
        assert!(client.verify("v=AAAA").is_err());
    }
}
