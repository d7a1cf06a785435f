//! What a development broker remembers in its data directory: ports, and its administrator.

use std::{
    fs, io,
    net::{TcpListener, ToSocketAddrs},
    path::Path,
};

use palisade_auth::Secret;
use serde::{Deserialize, Serialize};

use crate::cli::{private_file, random};

/// Ports of the listeners; 0 lets the system choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    /// SASL_SSL.
    pub(crate) sasl_ssl: u16,
    /// SSL with client certificates.
    pub(crate) ssl: u16,
    /// PLAINTEXT, when asked for.
    #[serde(default)]
    pub(crate) plaintext: u16,
}

/// Ports that are tried when nothing else is known.
const USUAL: Ports = Ports {
    sasl_ssl: 9092,
    ssl: 9093,
    plaintext: 9094,
};

impl Ports {
    /// Reads the ports of the last start; damaged ones are forgotten, for they are only a wish.
    pub(crate) fn remembered(dir: &Path) -> Option<Self> {
        let bytes = fs::read(dir.join("ports.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Remembers the ports for the next start.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn remember(self, dir: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(&self).map_err(io::Error::other)?;
        private_file::write(&dir.join("ports.json"), &bytes)
    }

    /// Chooses the ports to bind.
    ///
    /// A number that was asked for is taken as it is: when it is busy, the start fails. Remembered
    /// and usual ports are only taken where they are free.
    pub(crate) fn choose(
        asked: Option<u16>,
        remembered: Option<Self>,
        is_free: impl Fn(u16) -> bool,
    ) -> Self {
        let wish = match (asked, remembered) {
            (Some(port), _) if port != 0 => Self {
                sasl_ssl: port,
                ssl: port.checked_add(1).unwrap_or(0),
                plaintext: port.checked_add(2).unwrap_or(0),
            },
            (_, Some(remembered)) => remembered,
            (Some(_), None) => Self::default(),
            (None, None) => USUAL,
        };
        let or_any = |port: u16| if is_free(port) { port } else { 0 };
        Self {
            sasl_ssl: match asked {
                Some(port) if port != 0 => port,
                _ => or_any(wish.sasl_ssl),
            },
            ssl: or_any(wish.ssl),
            plaintext: or_any(wish.plaintext),
        }
    }
}

/// Whether a port can be bound at this moment; the listener itself finds out for certain.
pub(crate) fn is_free(host: &str, port: u16) -> bool {
    let Ok(mut addresses) = (host, port).to_socket_addrs() else {
        return false;
    };
    addresses.all(|address| TcpListener::bind(address).is_ok())
}

/// The administrator's password, and whether it was made just now.
///
/// # Errors
/// Whatever the file system says; `InvalidData` for a file that holds no password.
pub(crate) fn admin_password(dir: &Path) -> io::Result<(Secret, bool)> {
    let path = dir.join("admin.password");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let password = zeroize::Zeroizing::new(text);
            let password = password.trim_end_matches('\n');
            if password.is_empty() {
                let text = format!("{}: no password in it", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            Ok((Secret::from(password), false))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let password = random::password().map_err(io::Error::other)?;
            private_file::write(&path, password.expose())?;
            Ok((password, true))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(sasl_ssl: u16, ssl: u16, plaintext: u16) -> Ports {
        Ports {
            sasl_ssl,
            ssl,
            plaintext,
        }
    }

    #[test]
    fn ports_are_kept_where_they_are_free() {
        let all = |_| true;
        let none = |_| false;
        let but_101 = |port| port != 101;
        let remembered = Some(ports(100, 101, 102));
        assert_eq!(Ports::choose(None, None, all), USUAL);
        assert_eq!(Ports::choose(None, None, none), ports(0, 0, 0));
        assert_eq!(Ports::choose(Some(0), None, all), ports(0, 0, 0));
        assert_eq!(Ports::choose(Some(7), None, all), ports(7, 8, 9));
        assert_eq!(Ports::choose(Some(7), None, none), ports(7, 0, 0));
        assert_eq!(Ports::choose(Some(7), remembered, all), ports(7, 8, 9));
        assert_eq!(Ports::choose(None, remembered, all), ports(100, 101, 102));
        assert_eq!(
            Ports::choose(Some(0), remembered, but_101),
            ports(100, 0, 102)
        );
        assert_eq!(Ports::choose(Some(65535), None, all), ports(65535, 0, 0));
    }

    #[test]
    fn what_is_remembered_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Ports::remembered(dir.path()), None);
        ports(1, 2, 3).remember(dir.path()).unwrap();
        assert_eq!(Ports::remembered(dir.path()), Some(ports(1, 2, 3)));
        fs::write(dir.path().join("ports.json"), "{").unwrap();
        assert_eq!(Ports::remembered(dir.path()), None);

        let (made, fresh) = admin_password(dir.path()).unwrap();
        assert!(fresh);
        assert_eq!(admin_password(dir.path()).unwrap(), (made, false));
        fs::write(dir.path().join("admin.password"), "\n").unwrap();
        assert!(admin_password(dir.path()).is_err());
    }

    #[test]
    fn a_bound_port_is_not_free() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free("127.0.0.1", port));
        drop(listener);
        assert!(is_free("127.0.0.1", 0));
    }
}
