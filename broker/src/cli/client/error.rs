//! Why an administration command did not do what it was asked.

use std::{io, path::PathBuf, process::ExitCode};

use palisade_auth::tls::TlsError;
use palisade_protocol::{ApiKey, DecodeError, EncodeError, ErrorCode};
use thiserror::Error;

use super::{
    scram::ScramError,
    words::{self, Right},
};
use crate::foreign;

/// Every way in which a command can fail, and with it its exit status.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The command or its configuration file makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A file named by the command cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's word for it.
        source: io::Error,
    },
    /// Key, chain or trust cannot be used.
    #[error(transparent)]
    TlsSettings(#[from] TlsError),
    /// No broker answered at any address; the last reason.
    #[error("{address}: {}", unreachable(source))]
    Connect {
        /// The address as written.
        address: String,
        /// The system's word for it.
        source: io::Error,
    },
    /// The TLS handshake failed: a certificate, a name, or no TLS on that port.
    #[error("{address}: {reason}")]
    Tls {
        /// The address as written.
        address: String,
        /// What the handshake says.
        reason: String,
    },
    /// The connection ended where no broker ends one that was meant for it.
    #[error("{address}: {what}: {hint}")]
    Mismatch {
        /// The address as written.
        address: String,
        /// What was seen.
        what: String,
        /// What is likely behind it, and what to do.
        hint: &'static str,
    },
    /// The broker refused the login.
    #[error("login refused: {0}")]
    Login(String),
    /// The connection ended in the middle of a login: a refusal, or the death of the broker.
    #[error("login refused: connection closed ({0})")]
    LoginLost(#[source] io::Error),
    /// The broker failed to prove itself.
    #[error("login broken off: {0}")]
    Scram(#[from] ScramError),
    /// The connection ended or broke.
    #[error("connection lost: {0}")]
    Lost(#[source] io::Error),
    /// Nothing came within the time given.
    #[error("no answer from {0} in time")]
    Timeout(String),
    /// An answer that is none.
    #[error("the broker's answer to {api} cannot be read: {source}", api = api.name())]
    Answer {
        /// The request.
        api: ApiKey,
        /// What is wrong with the bytes.
        source: DecodeError,
    },
    /// An answer that would take more memory than it can be worth.
    #[error(
        "the broker's answer to {api} has {size} bytes, and no more than {max} are taken",
        api = api.name()
    )]
    TooLarge {
        /// The request.
        api: ApiKey,
        /// Bytes that were announced.
        size: usize,
        /// Bytes that are read at most.
        max: usize,
    },
    /// A request that cannot be said in the version that the broker speaks.
    #[error("{api} cannot be asked of this broker: {source}", api = api.name())]
    Request {
        /// The request.
        api: ApiKey,
        /// What the version cannot say.
        source: EncodeError,
    },
    /// The broker does not serve the request at all, or only in other versions.
    #[error("this broker does not serve {api} in a version spoken here", api = .0.name())]
    Unserved(ApiKey),
    /// The broker understood and refused.
    #[error("{what}: {}", reason(*.code, .message.as_deref()))]
    Refused {
        /// What was asked for.
        what: String,
        /// The error code of the answer.
        code: ErrorCode,
        /// The broker's own words, if it gave any; what acts on a terminal is escaped.
        message: Option<String>,
    },
    /// The command ended before it was done, for a reason of its own side.
    #[error("{0}")]
    Unfinished(String),
    /// Standard output took no more.
    #[error("standard output: {0}")]
    Output(#[source] io::Error),
    /// Why the command ended, shown already with the rest of its output.
    #[error("{0}")]
    Reported(Box<ClientError>),
    /// Several things were asked for and at least one was refused; each was reported already.
    #[error("{0} refused")]
    SomeRefused(usize),
}

fn unreachable(source: &io::Error) -> String {
    let hint = match source.kind() {
        io::ErrorKind::ConnectionRefused => "no broker listens there; is it up, and on this port?",
        io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => "that machine cannot be reached from here",
        _ => return source.to_string(),
    };
    format!("{hint} ({source})")
}

fn reason(code: ErrorCode, message: Option<&str>) -> String {
    let words = message.or_else(|| words::of(code));
    format!("{} ({code})", words.unwrap_or("an error without words"))
}

impl ClientError {
    /// A refusal, with the broker's words made safe to print.
    pub(crate) fn refused(what: impl Into<String>, code: ErrorCode, message: Option<&str>) -> Self {
        Self::Refused {
            what: what.into(),
            code,
            message: message
                .filter(|text| !words::only_names(text, code))
                .map(printable),
        }
    }

    /// The same denial, naming the right that the command needs. Words that a broker has found
    /// itself stay.
    pub(crate) fn needing(self, right: Right<'_>) -> Self {
        match self {
            Self::Refused {
                what,
                code,
                message: None,
            } => Self::Refused {
                message: words::of_missing(code, right),
                what,
                code,
            },
            other => other,
        }
    }

    /// Whether the same may succeed a little later, perhaps at another broker.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            // A broker that dies in the middle of a handshake looks like the wrong protocol.
            Self::Connect { .. }
            | Self::LoginLost(_)
            | Self::Lost(_)
            | Self::Timeout(_)
            | Self::Mismatch { .. } => true,
            Self::Refused { code, .. } => code.is_retriable(),
            _ => false,
        }
    }

    /// The same error once more; only those that pass are ever repeated.
    pub(crate) fn once_more(&self) -> Self {
        match self {
            Self::Refused {
                what,
                code,
                message,
            } => Self::Refused {
                what: what.clone(),
                code: *code,
                message: message.clone(),
            },
            Self::Lost(source) => Self::Lost(again(source)),
            Self::LoginLost(source) => Self::LoginLost(again(source)),
            Self::Timeout(address) => Self::Timeout(address.clone()),
            Self::Connect { address, source } => Self::Connect {
                address: address.clone(),
                source: again(source),
            },
            Self::Mismatch {
                address,
                what,
                hint,
            } => Self::Mismatch {
                address: address.clone(),
                what: what.clone(),
                hint,
            },
            other => Self::Lost(io::Error::other(other.to_string())),
        }
    }

    /// 1: the broker refused. 2: the command makes no sense. 3: no connection, or no login.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Unserved(_)
            | Self::Request { .. }
            | Self::Refused { .. }
            | Self::Unfinished(_)
            | Self::Output(_)
            | Self::SomeRefused(_) => 1,
            Self::Reported(error) => return error.exit_code(),
            Self::Usage(_) | Self::File { .. } | Self::TlsSettings(_) => 2,
            Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Mismatch { .. }
            | Self::Login(_)
            | Self::LoginLost(_)
            | Self::Scram(_)
            | Self::Lost(_)
            | Self::Timeout(_)
            | Self::Answer { .. }
            | Self::TooLarge { .. } => 3,
        })
    }
}

fn again(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

/// Text from a broker as it may reach a terminal: nothing in it acts, and its length is bounded.
pub(crate) fn printable(text: &str) -> String {
    const LONGEST: usize = 1000;
    foreign::cut(text, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_cut_off_may_succeed_later_and_a_refused_one_not() {
        let cut_off = ClientError::LoginLost(io::ErrorKind::UnexpectedEof.into());
        assert!(cut_off.is_transient());
        assert!(!ClientError::Login("wrong password".to_owned()).is_transient());
    }

    #[test]
    fn a_denial_names_the_right_that_is_needed() {
        let needing = |code, message| {
            let error = ClientError::refused("it", code, message);
            error.needing(Right::on("WRITE", "READ")).to_string()
        };
        assert_eq!(
            needing(ErrorCode::TOPIC_AUTHORIZATION_FAILED, None),
            "it: Topic authorization failed; WRITE on the topic is needed \
             (TOPIC_AUTHORIZATION_FAILED)"
        );
        let own = "members read topics that you may not see";
        assert_eq!(
            needing(ErrorCode::TOPIC_AUTHORIZATION_FAILED, Some(own)),
            format!("it: {own} (TOPIC_AUTHORIZATION_FAILED)")
        );
        let code = ErrorCode::GROUP_ID_NOT_FOUND;
        let plain = ClientError::refused("it", code, None).to_string();
        assert_eq!(needing(code, None), plain);
    }

    #[test]
    fn a_denial_names_the_operation_that_is_needed() {
        let needing = |code| {
            let error = ClientError::refused("it", code, None);
            error.needing(Right::on_it("ALTER")).to_string()
        };
        assert_eq!(
            needing(ErrorCode::CLUSTER_AUTHORIZATION_FAILED),
            "it: Cluster authorization failed; ALTER on the cluster is needed \
             (CLUSTER_AUTHORIZATION_FAILED)"
        );
        assert!(needing(ErrorCode::TOPIC_AUTHORIZATION_FAILED).contains("ALTER on the topic"));
    }

    #[test]
    fn a_code_never_stands_alone_where_words_are_known() {
        let refused = |code, message| ClientError::refused("topic t", code, message).to_string();
        let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        assert_eq!(
            refused(code, None),
            "topic t: there is no such topic, or no right to see it (UNKNOWN_TOPIC_OR_PARTITION)"
        );
        assert_eq!(
            refused(code, Some("gone\u{7}")),
            "topic t: gone\\u{7} (UNKNOWN_TOPIC_OR_PARTITION)"
        );
        assert_eq!(
            refused(ErrorCode::new(9999), None),
            "topic t: an error without words (UNKNOWN(9999))"
        );
        let denied = Some("Topic authorization failed.");
        assert_eq!(
            refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED, denied),
            "topic t: Topic authorization failed; this user has no right to do that to the topic \
             (TOPIC_AUTHORIZATION_FAILED)"
        );
        assert_eq!(
            refused(ErrorCode::INVALID_REQUEST, Some("")),
            "topic t: the broker finds the request malformed (INVALID_REQUEST)"
        );
    }
}
