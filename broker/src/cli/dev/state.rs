//! What a development broker remembers in its data directory: ports, and its administrator.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    net::{TcpListener, ToSocketAddrs},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process,
};

use palisade_auth::Secret;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::material::Write;
use crate::cli::{private_file, random};

/// File that holds the administrator's password.
pub(crate) const PASSWORD_FILE: &str = "admin.password";

/// File that holds the name of a topic.
const TOPIC_FILE: &str = "topic";

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
    /// Reads the ports that clients know; damaged ones are told of and forgotten, for they are only
    /// a wish.
    pub(crate) fn remembered(dir: &Path) -> Option<Self> {
        let path = dir.join("ports.json");
        let read = serde_json::from_slice::<Self>(&fs::read(&path).ok()?);
        if let Err(error) = &read {
            tracing::warn!(
                "{} does not read ({error}): clients may need new addresses",
                path.display()
            );
        }
        read.ok().map(Self::once_each)
    }

    /// A port that stands twice, as it was written once, is the first one's: the other listener
    /// never had it.
    fn once_each(mut self) -> Self {
        if self.ssl == self.sasl_ssl {
            self.ssl = 0;
        }
        if [self.sasl_ssl, self.ssl].contains(&self.plaintext) {
            self.plaintext = 0;
        }
        self
    }

    /// Remembers the ports for the next start.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn remember(self, dir: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(&self).map_err(io::Error::other)?;
        private_file::refresh(&dir.join("ports.json"), &bytes)
    }

    /// The ports that were to be taken, and that others were chosen for because they are busy.
    pub(crate) fn taken(
        asked: Option<u16>,
        remembered: Option<Self>,
        chosen: Self,
        plaintext: bool,
    ) -> Vec<u16> {
        let wish = Self::wish(asked, remembered);
        let pairs = [
            (wish.sasl_ssl, chosen.sasl_ssl),
            (wish.ssl, chosen.ssl),
            (wish.plaintext, chosen.plaintext),
        ];
        let listeners = if plaintext { 3 } else { 2 };
        let taken = pairs
            .into_iter()
            .take(listeners)
            .filter(|(wish, chosen)| *wish != 0 && wish != chosen);
        taken.map(|(wish, _)| wish).collect()
    }

    /// Whether clients were given this port: elsewhere they find nobody, or somebody else.
    pub(crate) fn have(self, port: u16) -> bool {
        [self.sasl_ssl, self.ssl, self.plaintext].contains(&port)
    }

    /// The ports that the next start is to take: those that clients were told of first, unless
    /// others were asked for since. One that was busy is replaced for one run.
    ///
    /// `bound` are those of this run, 0 for a listener that it does not have.
    pub(crate) fn kept(asked: Option<u16>, remembered: Option<Self>, bound: Self) -> Self {
        let Some(known) = remembered else {
            return bound;
        };
        let wish = Self::wish(asked, remembered);
        let keep = |known: u16, wish: u16, bound: u16| match bound {
            _ if known != 0 && known == wish => known,
            // What clients knew may be another listener's by now.
            0 => wish,
            bound => bound,
        };
        Self {
            sasl_ssl: keep(known.sasl_ssl, wish.sasl_ssl, bound.sasl_ssl),
            ssl: keep(known.ssl, wish.ssl, bound.ssl),
            plaintext: keep(known.plaintext, wish.plaintext, bound.plaintext),
        }
    }

    fn wish(asked: Option<u16>, remembered: Option<Self>) -> Self {
        match (asked, remembered) {
            (Some(port), _) if port != 0 => Self {
                sasl_ssl: port,
                ssl: port.checked_add(1).unwrap_or(0),
                plaintext: port.checked_add(2).unwrap_or(0),
            },
            (_, Some(remembered)) => remembered,
            (Some(_), None) => Self::default(),
            (None, None) => USUAL,
        }
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
        let wish = Self::wish(asked, remembered);
        let or_any = |port: u16, others: &[u16]| match port {
            port if is_free(port) && !others.contains(&port) => port,
            _ => 0,
        };
        let sasl_ssl = match asked {
            Some(port) if port != 0 => port,
            _ => or_any(wish.sasl_ssl, &[]),
        };
        let ssl = or_any(wish.ssl, &[sasl_ssl]);
        Self {
            sasl_ssl,
            ssl,
            plaintext: or_any(wish.plaintext, &[sasl_ssl, ssl]),
        }
    }
}

/// The ports of one start, and what becomes of those that clients know.
#[derive(Debug)]
pub(super) struct PortPlan {
    asked: Option<u16>,
    remembered: Option<Ports>,
    /// To be bound.
    pub(super) chosen: Ports,
    /// Usual ports that are busy, of which no client was told.
    pub(super) taken: Vec<u16>,
}

impl PortPlan {
    /// Looks which ports are free, and warns of those that clients know and others have.
    pub(super) fn new(dir: &Path, bind: &str, asked: Option<u16>, plaintext: bool) -> Self {
        let remembered = Ports::remembered(dir);
        let chosen = Ports::choose(asked, remembered, |port| is_free(bind, port));
        let mut taken = Ports::taken(asked, remembered, chosen, plaintext);
        taken.retain(|port| {
            let is_known = remembered.is_some_and(|known| known.have(*port));
            if is_known {
                tracing::warn!(
                    "port {port} is in use by another process: a free one is taken for this run; \
                     clients need the new address until a start finds {port} free"
                );
            }
            !is_known
        });
        Self {
            asked,
            remembered,
            chosen,
            taken,
        }
    }

    /// Remembers what the next start is to take, where this one has bound these.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn remember(&self, dir: &Path, bound: Ports) -> io::Result<()> {
        Ports::kept(self.asked, self.remembered, bound).remember(dir)
    }
}

/// Whether a port can be bound at this moment; the listener itself finds out for certain.
pub(crate) fn is_free(host: &str, port: u16) -> bool {
    let Ok(mut addresses) = (host, port).to_socket_addrs() else {
        return false;
    };
    addresses.all(|address| TcpListener::bind(address).is_ok())
}

/// The topic that was declared first when last any was; whether it is still there shows later.
pub(super) fn remembered_topic(dir: &Path) -> Option<String> {
    let text = fs::read_to_string(dir.join(TOPIC_FILE)).ok()?;
    Some(text.trim_end().to_owned())
}

/// Remembers a topic for the starts that declare none.
///
/// # Errors
/// Whatever the file system says.
pub(super) fn remember_topic(dir: &Path, name: &str) -> io::Result<()> {
    private_file::refresh(&dir.join(TOPIC_FILE), format!("{name}\n").as_bytes())
}

/// Who has the directory.
pub(crate) enum Claim {
    /// This process, until the file is closed.
    Ours(File),
    /// Another one, by the number it left; none when it was reading or writing at that moment.
    Theirs(Option<u32>),
}

/// Claims the directory for this process and leaves its number there, for the next one that tries.
///
/// The log directory has a lock of its own; this one is taken before keys and ports are touched.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn claim(dir: &Path) -> io::Result<Claim> {
    let path = dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            file.set_len(0)?;
            file.write_all(format!("{}\n", process::id()).as_bytes())?;
            Ok(Claim::Ours(file))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let text = fs::read_to_string(&path)?;
            Ok(Claim::Theirs(text.trim().parse().ok()))
        }
        Err(error) => Err(error.into()),
    }
}

/// The administrator's password, and whether it was made just now.
///
/// # Errors
/// Whatever the file system says; `InvalidData` for a file that holds no password.
pub(crate) fn admin_password(dir: &Path, write: Write) -> io::Result<(Secret, bool)> {
    let path = dir.join(PASSWORD_FILE);
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
            write(&path, password.expose())?;
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
        let chosen = Ports::choose(None, remembered, but_101);
        assert_eq!(Ports::taken(None, remembered, chosen, true), [101]);
        assert!(Ports::taken(Some(7), remembered, ports(7, 8, 9), true).is_empty());
        assert_eq!(Ports::taken(Some(7), None, ports(7, 0, 0), true), [8, 9]);
        assert_eq!(Ports::taken(None, None, ports(0, 9093, 0), false), [9092]);
        assert!(Ports::taken(Some(0), None, ports(0, 0, 0), true).is_empty());
        assert!(ports(100, 101, 0).have(101) && !ports(100, 101, 102).have(103));
        // Two listeners never take one port, whatever is remembered.
        let twice = Some(ports(100, 100, 100));
        assert_eq!(Ports::choose(None, twice, all), ports(100, 0, 0));
        assert_eq!(
            Ports::choose(None, Some(ports(1, 2, 2)), all),
            ports(1, 2, 0)
        );
        assert_eq!(
            Ports::choose(Some(0), remembered, but_101),
            ports(100, 0, 102)
        );
        assert_eq!(Ports::choose(Some(65535), None, all), ports(65535, 0, 0));
    }

    #[test]
    fn a_port_is_kept_as_it_was_announced_first() {
        let known = Some(ports(100, 101, 102));
        for (asked, remembered, bound, kept) in [
            // Whatever the first start found is what clients know.
            (None, None, ports(9092, 40_000, 0), ports(9092, 40_000, 0)),
            (Some(7), None, ports(7, 40_000, 9), ports(7, 40_000, 9)),
            // Replaced for one run, however often, and not forgotten where there is no listener.
            (None, known, ports(40_000, 101, 0), ports(100, 101, 102)),
            (
                Some(0),
                known,
                ports(100, 40_000, 41_000),
                ports(100, 101, 102),
            ),
            (
                None,
                Some(ports(100, 101, 0)),
                ports(100, 101, 40_000),
                ports(100, 101, 40_000),
            ),
            // Asked for since.
            (Some(7), known, ports(7, 40_000, 0), ports(7, 40_000, 9)),
            (Some(101), known, ports(101, 102, 0), ports(101, 102, 103)),
            (
                Some(100),
                known,
                ports(100, 40_000, 102),
                ports(100, 101, 102),
            ),
        ] {
            assert_eq!(
                Ports::kept(asked, remembered, bound),
                kept,
                "{asked:?} {bound:?}"
            );
        }
    }

    #[test]
    fn what_is_remembered_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Ports::remembered(dir.path()), None);
        ports(1, 2, 3).remember(dir.path()).unwrap();
        assert_eq!(Ports::remembered(dir.path()), Some(ports(1, 2, 3)));
        for (written, read) in [
            (ports(1, 1, 1), ports(1, 0, 0)),
            (ports(1, 2, 2), ports(1, 2, 0)),
            (ports(1, 2, 1), ports(1, 2, 0)),
            (ports(0, 0, 0), ports(0, 0, 0)),
        ] {
            written.remember(dir.path()).unwrap();
            assert_eq!(Ports::remembered(dir.path()), Some(read));
        }
        fs::write(dir.path().join("ports.json"), "{").unwrap();
        assert_eq!(Ports::remembered(dir.path()), None);

        let (made, fresh) = admin_password(dir.path(), private_file::write).unwrap();
        assert!(fresh);
        assert_eq!(
            admin_password(dir.path(), private_file::write).unwrap(),
            (made, false)
        );
        fs::write(dir.path().join("admin.password"), "\n").unwrap();
        assert!(admin_password(dir.path(), private_file::write).is_err());
    }

    #[test]
    fn a_directory_has_one_owner_who_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let Claim::Ours(first) = claim(dir.path()).unwrap() else {
            panic!("nobody else has it");
        };
        let Claim::Theirs(owner) = claim(dir.path()).unwrap() else {
            panic!("two owners");
        };
        assert_eq!(owner, Some(process::id()));
        drop(first);
        assert!(matches!(claim(dir.path()).unwrap(), Claim::Ours(_)));
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
