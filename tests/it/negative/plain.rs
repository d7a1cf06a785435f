//! L: PLAIN.

use std::io;

use super::Row;
use super::world::{World, handshake};

pub(super) const ROWS: &[Row] = &[
    ("L01", wrong_password_or_user),
    ("L02", empty_parts),
    ("L03", odd_tokens),
    ("L04", foreign_authorization_id),
    ("L05", own_authorization_id),
    ("L06", unusable_bytes),
    ("L07", not_enabled),
    ("L08", empty_stored_password),
];

/// What the node says to a token.
fn offer(world: &World, token: &[u8]) -> Result<(), String> {
    let mut connection = world.tls();
    connection.handshake("PLAIN").expect("PLAIN is enabled");
    match connection.authenticate(token) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error.to_string()),
        Err(error) => panic!("{error}"),
    }
}

fn refused(world: &World, token: &[u8]) -> String {
    let words = offer(world, token).expect_err("a refusal");
    assert!(words.starts_with("58: "), "{words}");
    words
}

fn wrong_password_or_user(world: &World) {
    let wrong = refused(world, b"\0bob\0wrong");
    let unknown = refused(world, b"\0nobody\0wrong");
    assert_eq!(wrong, unknown);
    assert!(wrong.contains("Invalid username or password"), "{wrong}");
}

fn empty_parts(world: &World) {
    assert!(refused(world, b"\0bob\0").contains("password not specified"));
    assert!(refused(world, b"\0\0secret").contains("username not specified"));
}

fn odd_tokens(world: &World) {
    for token in [
        &b"bob\0bob-secret"[..],
        b"\0bob\0bob-secret\0",
        b"bob",
        b"",
        &[0; 100_000],
    ] {
        refused(world, token);
    }
    let mut connection = world.tls();
    connection.handshake("PLAIN").expect("PLAIN is enabled");
    let error = connection
        .authenticate(&vec![0; 1 << 20])
        .expect_err("too large");
    assert_ne!(
        error.kind(),
        io::ErrorKind::PermissionDenied,
        "closed by size"
    );
}

fn foreign_authorization_id(world: &World) {
    let words = refused(world, b"admin\0bob\0bob-secret");
    assert!(words.contains("authorization id"), "{words}");
}

fn own_authorization_id(world: &World) {
    offer(world, b"bob\0bob\0bob-secret").expect("the own id");
    offer(world, b"\0carol\0carol-secret").expect("a user of the configuration");
}

fn unusable_bytes(world: &World) {
    refused(world, b"\0b\xffb\0bob-secret");
    refused(world, b"\0bob\0\xc0\xaf");
    refused(world, format!("\0{}\0x", "u".repeat(256)).as_bytes());
    refused(world, format!("\0bob\0{}", "p".repeat(256)).as_bytes());
}

fn not_enabled(world: &World) {
    assert_eq!(handshake(&mut world.sasl(), 1, "PLAIN"), 33);
}

fn empty_stored_password(world: &World) {
    assert!(refused(world, b"\0empty\0").contains("password not specified"));
    refused(world, b"\0empty\0x");
}
