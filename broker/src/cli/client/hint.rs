//! What is likely wrong when a connection ends at its very beginning.
//!
//! A broker that hears the wrong language can only close: the words must come from this side.

use std::io;

use openssl::ssl;

use super::{ClientError, ClientSettings, tls_words};

const WANTS_TLS: &str = "that port may speak TLS; set security.protocol to SASL_SSL or SSL";
const WANTS_NO_TLS: &str = "that port may not speak TLS; name another one, or set \
                            security.protocol to SASL_PLAINTEXT or PLAINTEXT";
const WANTS_LOGIN: &str = "that listener may ask for a login; set security.protocol to SASL_SSL \
                           (without TLS: SASL_PLAINTEXT), a mechanism, a user and a password";
const WANTS_ANOTHER: &str = "that listener may not accept this client's certificate; its log says \
                             why, if so";

/// A handshake that ended for want of TLS on the other side; `None` where the error says enough.
pub(super) fn handshake(error: &ssl::Error, address: &str) -> Option<ClientError> {
    let ended = matches!(
        error.code(),
        ssl::ErrorCode::SYSCALL | ssl::ErrorCode::ZERO_RETURN
    );
    let stack = error.ssl_error().map(ToString::to_string);
    let text = stack.unwrap_or_default();
    // Bytes that are no TLS record, or none at all. An alert is TLS and speaks for itself.
    let foreign = [
        "wrong version number",
        "unexpected eof",
        "packet length too long",
    ];
    (ended || foreign.iter().any(|part| text.contains(part))).then(|| ClientError::Mismatch {
        address: address.to_owned(),
        what: "no TLS handshake".to_owned(),
        hint: WANTS_NO_TLS,
    })
}

/// The first request is open to everybody: whoever is cut off there came by the wrong protocol.
pub(super) fn first_request(
    error: ClientError,
    address: &str,
    settings: &ClientSettings,
) -> ClientError {
    let ClientError::Lost(lost) = error else {
        return error;
    };
    if let Some(tls) = &settings.tls
        && let Some(reason) = tls_words::of_late_alert(&lost, tls)
    {
        let address = address.to_owned();
        return ClientError::Tls { address, reason };
    }
    let hint = match (&settings.tls, ended(&lost)) {
        (None, true) => WANTS_TLS,
        // The alert that says so is lost where the connection is reset behind it.
        (Some(tls), true) if tls.keystore.is_some() => WANTS_ANOTHER,
        _ => return ClientError::Lost(lost),
    };
    mismatch(address, &lost, hint)
}

/// The first request behind the login, if there was one.
pub(super) fn second_request(
    error: ClientError,
    address: &str,
    settings: &ClientSettings,
) -> ClientError {
    match error {
        ClientError::Lost(lost) if settings.credentials.is_none() && ended(&lost) => {
            mismatch(address, &lost, WANTS_LOGIN)
        }
        other => other,
    }
}

fn mismatch(address: &str, lost: &io::Error, hint: &'static str) -> ClientError {
    ClientError::Mismatch {
        address: address.to_owned(),
        what: format!("the connection was closed ({lost})"),
        hint,
    }
}

fn ended(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}
