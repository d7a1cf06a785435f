use openssl::rsa::Rsa;
use openssl::symm::Cipher;
use proptest::prelude::*;

use super::super::testing::{Files, Made, Recipe, authority, ec_key};
use super::*;

fn leaf_and_chain() -> (Made, Made, Made) {
    let root = authority("root");
    let mut recipe = Recipe::new("middle");
    recipe.ca = true;
    let middle = recipe.sign(Some(&root));
    let leaf = Recipe::new("node").sign(Some(&middle));
    (leaf, middle, root)
}

fn inline(key: &str, chain: &str, password: Option<&str>) -> Result<Identity, PemProblem> {
    let keystore = KeyStore::Inline {
        key: key.into(),
        chain: chain.into(),
    };
    let password = password.map(Secret::from);
    load_identity(&keystore, password.as_ref()).map_err(|error| match error {
        TlsError::Pem { problem, .. } => problem,
        other => panic!("{other}"),
    })
}

#[test]
fn blocks_come_in_any_order_and_dress() {
    let (leaf, middle, root) = leaf_and_chain();
    let (key, a, b, c) = (
        leaf.key_pem(),
        leaf.cert_pem(),
        middle.cert_pem(),
        root.cert_pem(),
    );
    let unix = format!("Bag Attributes\n  friendlyName: x\n{c}{a}some words{b}");
    let dos = format!("{a}{b}{c}").replace('\n', "\r\n");
    let one_line = format!("{a}{b}{c}").replace('\n', " ");
    let escaped = format!("{a}{b}{c}").replace('\n', "\\n");
    let unended = format!("{a}{b}{c}").trim_end().to_owned();
    for chain in [unix, dos, one_line, escaped, unended] {
        let identity = inline(&key, &chain, None).unwrap();
        assert!(identity.leaf.public_key().unwrap().public_eq(&leaf.key));
        let names: Vec<_> = identity
            .chain
            .iter()
            .map(|cert| super::super::principal::java_dn(cert))
            .collect();
        assert_eq!(names, ["CN=middle,O=Acme", "CN=root,O=Acme"]);
    }
    assert!(inline(&key.replace('\n', " "), &a, None).is_ok());
    // A certificate beside the path is left out.
    let stranger = authority("stranger").cert_pem();
    assert!(
        inline(&key, &(stranger + &a), None)
            .unwrap()
            .chain
            .is_empty()
    );
}

#[test]
fn every_accepted_form_of_key() {
    let with_key = |key: PKey<Private>| {
        let mut recipe = Recipe::new("node");
        recipe.key = key;
        recipe.sign(None)
    };
    let rsa = with_key(PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap());
    let pkcs1 = rsa.key.rsa().unwrap().private_key_to_pem().unwrap();
    let pkcs1 = String::from_utf8(pkcs1).unwrap();
    assert!(pkcs1.contains("BEGIN RSA PRIVATE KEY"));
    assert!(inline(&pkcs1, &rsa.cert_pem(), None).is_ok());
    assert!(inline(&rsa.key_pem(), &rsa.cert_pem(), None).is_ok());

    let ec = with_key(ec_key());
    let sec1 = ec.key.ec_key().unwrap().private_key_to_pem().unwrap();
    let sec1 = String::from_utf8(sec1).unwrap();
    assert!(sec1.contains("BEGIN EC PRIVATE KEY"));
    assert!(inline(&sec1, &ec.cert_pem(), None).is_ok());

    let ed = with_key(PKey::generate_ed25519().unwrap());
    assert!(inline(&ed.key_pem(), &ed.cert_pem(), None).is_ok());

    // Encrypted, in both forms there are.
    let cipher = Cipher::aes_256_cbc();
    let pkcs8 = rsa.key.private_key_to_pem_pkcs8_passphrase(cipher, b"pw");
    let old = rsa.key.rsa().unwrap();
    let old = old.private_key_to_pem_passphrase(cipher, b"pw").unwrap();
    for text in [pkcs8.unwrap(), old] {
        let text = String::from_utf8(text).unwrap();
        let chain = rsa.cert_pem();
        assert!(inline(&text, &chain, Some("pw")).is_ok());
        let wrong = inline(&text, &chain, Some("no")).unwrap_err();
        assert_eq!(wrong, PemProblem::WrongPassword);
        let none = inline(&text, &chain, None).unwrap_err();
        assert_eq!(none, PemProblem::NeedsPassword);
    }
}

#[test]
fn weak_keys_are_refused() {
    let refused = |key: PKey<Private>| {
        let pem = String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        let chain = Recipe::new("x").sign(None).cert_pem();
        matches!(inline(&pem, &chain, None), Err(PemProblem::WeakKey(_)))
    };
    assert!(refused(
        PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap()
    ));
    let group = openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::SECP224R1).unwrap();
    let small = openssl::ec::EcKey::generate(&group).unwrap();
    assert!(refused(PKey::from_ec_key(small).unwrap()));
    assert!(refused(PKey::generate_x25519().unwrap()));
}

#[test]
fn damage_is_named() {
    let (leaf, middle, _) = leaf_and_chain();
    let (key, cert) = (leaf.key_pem(), leaf.cert_pem());
    let cases = [
        ("", cert.as_str(), PemProblem::Empty),
        ("no block", &cert, PemProblem::Empty),
        (&cert, &cert, PemProblem::NoKey),
        (&format!("{key}{key}"), &cert, PemProblem::SeveralKeys),
        (&key, &key, PemProblem::NoCertificate),
        (&key, "", PemProblem::Empty),
        (&key, &middle.cert_pem(), PemProblem::Mismatch),
        (&key[..60], &cert, PemProblem::Damaged),
        (&key, &cert[..cert.len() - 40], PemProblem::Damaged),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            &cert,
            PemProblem::Key,
        ),
        (
            &key,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            PemProblem::Certificate(1),
        ),
    ];
    for (key, chain, problem) in cases {
        assert_eq!(inline(key, chain, None).unwrap_err(), problem);
    }
}

#[test]
fn key_files_are_private() {
    let made = Recipe::new("node").sign(None);
    let files = Files::new();
    let load = |mode| {
        let path = files.write(&format!("{mode:o}.pem"), made.both(), mode);
        load_identity(&KeyStore::PemFile(path), None).map(|_| ())
    };
    assert!(load(0o600).is_ok() && load(0o400).is_ok());
    for mode in [0o644, 0o604, 0o660, 0o602, 0o610] {
        let error = load(mode).unwrap_err();
        assert!(matches!(error, TlsError::KeyFileMode { .. }), "{mode:o}");
        assert!(error.to_string().contains("run: chmod 600 /"));
    }
    // Only root's file for one of our groups may be 0640.
    let ours = rustix::process::geteuid().is_root();
    assert_eq!(load(0o640).is_ok(), ours);
}

#[test]
fn java_stores_are_refused_in_words() {
    let files = Files::new();
    for (bytes, name) in [
        (&[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2][..], "JKS"),
        (&[0xce, 0xce, 0xce, 0xce, 0, 0, 0, 2], "JCEKS"),
        (&[0x30, 0x82, 0x0a, 0x01, 2, 1, 3], "PKCS12"),
    ] {
        let path = files.write(name, bytes, 0o600);
        let key = load_identity(&KeyStore::PemFile(path.clone()), None).unwrap_err();
        let trust = load_trusted(&TrustStore::PemFile(path)).unwrap_err();
        for error in [key, trust] {
            let text = error.to_string();
            assert!(
                text.contains(&format!("stores of type {name} are not read")),
                "{text}"
            );
        }
    }
    let absent = load_trusted(&TrustStore::PemFile("/nonexistent/x.pem".into()));
    assert!(matches!(absent, Err(TlsError::File { .. })));
}

#[test]
fn truststores_hold_certificates_only() {
    let (leaf, middle, root) = leaf_and_chain();
    let load = |text: String| load_trusted(&TrustStore::Inline(text.into()));
    assert_eq!(load(root.cert_pem() + &middle.cert_pem()).unwrap().len(), 2);
    let problem = |text| match load(text) {
        Err(TlsError::Pem { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    assert_eq!(problem(leaf.both()), PemProblem::KeyInTruststore);
    assert_eq!(problem(String::new()), PemProblem::Empty);
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..2000, flip in 0_usize..2000) {
        let _ = identity(&bytes, &bytes, None);
        let _ = trusted(&bytes);
        let made = MADE.with(|made| made.clone());
        let end = cut.min(made.len());
        let _ = identity(&made.as_bytes()[..end], made.as_bytes(), None);
        let mut flipped = made.clone().into_bytes();
        let at = flip % flipped.len();
        flipped[at] ^= 4;
        let _ = identity(&flipped, &flipped, None);
    }
}

thread_local! {
    static MADE: String = Recipe::new("node").sign(None).both();
}
