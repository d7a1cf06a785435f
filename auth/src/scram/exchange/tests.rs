//! The vectors of spec/security.md Appendix C and RFC 7677, message by message.

use super::*;
use crate::sasl::Mechanisms;

struct One(ScramCredential, &'static str);

impl CredentialLookup for One {
    fn scram(&self, user: &str, mechanism: ScramMechanism) -> Option<ScramCredential> {
        (user == self.1 && mechanism == self.0.mechanism).then(|| self.0.clone())
    }

    fn plain(&self, _: &str) -> Option<ScramCredential> {
        None
    }
}

struct Vector {
    mechanism: ScramMechanism,
    user: &'static str,
    password: &'static str,
    salt: &'static str,
    iterations: u32,
    client_first: &'static str,
    server_nonce: &'static str,
    server_first: &'static str,
    without_proof: &'static str,
    proof: &'static str,
    verifier: &'static str,
    stored_key: &'static str,
    server_key: &'static str,
}

const SALT: &str = "EBESExQVFhcYGRobHB0eHw==";
const V1: Vector = Vector {
    mechanism: ScramMechanism::Sha256,
    user: "alice",
    password: "open-sesame",
    salt: SALT,
    iterations: 4096,
    client_first: "n,,n=alice,r=cnonce0123456789",
    server_nonce: "SNONCEabcdefghij",
    server_first: "r=cnonce0123456789SNONCEabcdefghij,s=EBESExQVFhcYGRobHB0eHw==,i=4096",
    without_proof: "c=biws,r=cnonce0123456789SNONCEabcdefghij",
    proof: "9YfX6ztese/3Lb8Ev4mxrgvl26SS5Vi33BhEf4WMQvk=",
    verifier: "I3WTIouLQY2MsoLc68nnhIx3b5ORXoTzoKzOD+lQCc8=",
    stored_key: "Od8Lcgu/e7c3unwjog0aTRdKdvif49KNVr9KVwrhmxY=",
    server_key: "ssjVVR4pzfdS6j/7NcQbMIwWa7zD6yuxhggPxGGy5aI=",
};
const V2: Vector = Vector {
    mechanism: ScramMechanism::Sha512,
    proof: "f7+Ko9lF/NbtmAjRqKFSqhf7sa7Fpo1cPSwbLn1N9gg686WU81Y80dyDmPCB9SVqXXeo5uR1EU/3c3ztUSZ2yA==",
    verifier: "Vegg+iMYcb5qyml5eJ0p07IAiBMsMBk3dNTSD74my7jCz11i9gLzPi6vdfDGWoa+D8vv5k/hL3TcNw/I8q4/tw==",
    stored_key: "X/osLYiiAwZ0zqz/qD/ScyfjazvigwMJK8QfOubC/FJNwswS6ai/dgq1G5RxaKh6DfhtsOuUsJ2G4fz4i2jWLg==",
    server_key: "hx0lhNmSxGj8YIyUqpMd2Tvd2/lQL6H5/w3K61VXE582QB4itojADgKcQcNVZzKXac/ZXuIel5a+s64u3XmHVw==",
    ..V1
};
const V3: Vector = Vector {
    user: "a,b=c",
    password: "p\u{e4}ss,w=rd",
    iterations: 8192,
    client_first: "n,,n=a=2Cb=3Dc,r=cnonce0123456789",
    server_first: "r=cnonce0123456789SNONCEabcdefghij,s=EBESExQVFhcYGRobHB0eHw==,i=8192",
    proof: "eqrMEwMuHQjvTS+wgSj7jlK9hHhb2es6V3gvBPAC2Mc=",
    verifier: "BgR6yHXo1hVShnpJiwd5bX+00nxhZW87xhS2U281ybc=",
    stored_key: "LMh9wpLWyeAvEC2PPqceR+5bjDzWCoO0988DHo1GY1g=",
    server_key: "lpTwsQWeo2lOnzZWVztA/+KrRu5eLzIs+4+scUS1SO4=",
    ..V1
};
const RFC7677: Vector = Vector {
    mechanism: ScramMechanism::Sha256,
    user: "user",
    password: "pencil",
    salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
    iterations: 4096,
    client_first: "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    server_nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    server_first: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    without_proof: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    proof: "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    verifier: "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    stored_key: "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=",
    server_key: "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
};

fn credential(vector: &Vector) -> ScramCredential {
    let salt = STANDARD.decode(vector.salt).unwrap();
    ScramCredential::from_password(
        vector.mechanism,
        vector.password.as_bytes(),
        &salt,
        vector.iterations,
    )
    .unwrap()
}

fn server(vector: &Vector) -> ScramServer {
    let deps = SaslDeps {
        enabled: Mechanisms::default(),
        credentials: Arc::new(One(credential(vector), vector.user)),
        cluster_secret: Secret::from("secret"),
        strict_nonce: false,
    };
    ScramServer::new(vector.mechanism, &deps).with_server_nonce(vector.server_nonce)
}

#[test]
fn the_vectors_log_in() {
    for vector in [V1, V2, V3, RFC7677] {
        let credential = credential(&vector);
        let shown = |key: &Secret| STANDARD.encode(key.expose());
        assert_eq!(shown(&credential.stored_key), vector.stored_key);
        assert_eq!(shown(&credential.server_key), vector.server_key);

        let mut server = server(&vector);
        let first = server.respond(vector.client_first.as_bytes()).unwrap();
        assert_eq!(first, Response::Proceed(vector.server_first.into()));
        let message = format!("{},p={}", vector.without_proof, vector.proof);
        let last = server.respond(message.as_bytes()).unwrap();
        let verifier = format!("v={}", vector.verifier).into_bytes();
        assert_eq!(
            last,
            Response::Success(Identity::Username(vector.user.into()), verifier)
        );
        let details = server.take_details();
        assert!(!details.legacy_nonce && details.cause.is_none());
        // S16: nothing more is taken.
        assert!(server.respond(message.as_bytes()).is_err());
    }
}

#[test]
fn the_salted_passwords_give_the_same_credentials() {
    let cases = [
        (V1, "In4uNRpe/7+msP2DQY3tlOOnyRKbVy4hluFgeOBe2rE="),
        (
            V2,
            "AKfb84xe/4o7fA5DzxLyYFKmy4nuMtZ5d8WrYkpXN2PBRGZ4a5/yexxew1dHphMMmsZV0DGx30vnXJadrdqqqg==",
        ),
    ];
    for (vector, salted) in cases {
        let salted = STANDARD.decode(salted).unwrap();
        let salt = STANDARD.decode(vector.salt).unwrap();
        let made =
            ScramCredential::from_salted_password(vector.mechanism, &salted, &salt, 4096).unwrap();
        assert_eq!(made, credential(&vector));
    }
}

#[test]
fn the_token_vector_verifies_but_tokens_are_not_served() {
    // V4: keys as in the appendix; the login fails like that of an unknown user.
    let salt = STANDARD.decode(SALT).unwrap();
    let token =
        ScramCredential::from_password(ScramMechanism::Sha256, b"aG1hYw==", &salt, 4096).unwrap();
    assert_eq!(
        STANDARD.encode(token.stored_key.expose()),
        "3ZxHotEpSYdoEmTxaDOb8mpbKlSO1uZ33DcWI506vRw="
    );
    let mut server = server(&V1);
    server
        .respond(b"n,,n=alice,r=cnonce0123456789,tokenauth=true")
        .unwrap();
    let message = format!("{},p={}", V1.without_proof, V1.proof);
    assert!(server.respond(message.as_bytes()).is_err());
    assert_eq!(server.take_details().cause, Some(FailureCause::Token));
}

#[test]
fn every_changed_byte_of_the_final_message_fails() {
    let message = format!("{},p={}", V1.without_proof, V1.proof).into_bytes();
    for at in 0..message.len() {
        let mut changed = message.clone();
        changed[at] ^= 1;
        let mut server = server(&V1);
        server.respond(V1.client_first.as_bytes()).unwrap();
        assert!(server.respond(&changed).is_err(), "byte {at}");
    }
}
