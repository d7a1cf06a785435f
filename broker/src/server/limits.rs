//! How many connections there may be: in all, per address, and of those that proved nothing yet.
//!
//! Every count is taken by a guard and given back on drop, whatever way the connection ends.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::Limits;

/// The configured bounds of one node.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionBounds {
    /// `max.connections.per.ip`.
    pub(crate) per_ip: usize,
    /// `max.connections.per.ip.overrides`.
    pub(crate) per_ip_overrides: BTreeMap<IpAddr, usize>,
    /// Connections in all whose handshake or login is not over.
    pub(crate) unauthenticated: usize,
    /// The same for one address.
    pub(crate) unauthenticated_per_ip: usize,
}

impl From<&Limits> for ConnectionBounds {
    fn from(limits: &Limits) -> Self {
        ConnectionBounds {
            per_ip: limits.max_connections_per_ip,
            per_ip_overrides: limits.max_connections_per_ip_overrides.clone(),
            unauthenticated: limits.max_unauthenticated,
            unauthenticated_per_ip: limits.max_unauthenticated_per_ip,
        }
    }
}

/// Counts the connections of one node.
#[derive(Debug)]
pub(crate) struct ConnectionCounts {
    bounds: ConnectionBounds,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    unauthenticated: usize,
    by_ip: HashMap<IpAddr, PerIp>,
}

#[derive(Debug, Default)]
struct PerIp {
    connections: usize,
    unauthenticated: usize,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// `max.connections.per.ip` or its override.
    #[error("too many connections from one address")]
    PerIp,
    /// Too many connections of one address that have not logged in.
    #[error("too many unauthenticated connections from one address")]
    UnauthenticatedPerIp,
    /// Too many connections that have not logged in.
    #[error("too many unauthenticated connections")]
    Unauthenticated,
}

impl Refused {
    /// The stable code in the audit log.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Refused::PerIp => "per_ip",
            Refused::UnauthenticatedPerIp => "unauthenticated_per_ip",
            Refused::Unauthenticated => "unauthenticated",
        }
    }
}

/// Whether a connection serves requests only behind a handshake or a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    Needed,
    NotNeeded,
}

/// One connection's place in the counts.
#[derive(Debug)]
pub(crate) struct Place {
    counts: Arc<ConnectionCounts>,
    ip: IpAddr,
    judged: bool,
}

impl ConnectionCounts {
    /// Counts nothing yet.
    pub(crate) fn new(bounds: ConnectionBounds) -> Self {
        ConnectionCounts {
            bounds,
            counts: Mutex::default(),
        }
    }

    /// Counts a connection from `ip`, among the unauthenticated ones where proof is needed. Others
    /// neither count there nor are refused for how many those are.
    ///
    /// # Errors
    /// The bound that is reached; nothing was counted.
    pub(crate) fn admit(self: &Arc<Self>, ip: IpAddr, proof: Proof) -> Result<Place, Refused> {
        let is_unauthenticated = proof == Proof::Needed;
        // One address must count once, however the listener is bound.
        let ip = ip.to_canonical();
        let mut counts = self.counts.lock();
        let all_unauthenticated = counts.unauthenticated;
        let (connections, unauthenticated) = counts
            .by_ip
            .get(&ip)
            .map_or((0, 0), |one| (one.connections, one.unauthenticated));
        let bound = self.bounds.per_ip_overrides.get(&ip);
        if connections >= *bound.unwrap_or(&self.bounds.per_ip) {
            return Err(Refused::PerIp);
        }
        if is_unauthenticated && unauthenticated >= self.bounds.unauthenticated_per_ip {
            return Err(Refused::UnauthenticatedPerIp);
        }
        if is_unauthenticated && all_unauthenticated >= self.bounds.unauthenticated {
            return Err(Refused::Unauthenticated);
        }
        let counted = usize::from(is_unauthenticated);
        counts.unauthenticated += counted;
        let one = counts.by_ip.entry(ip).or_default();
        one.connections += 1;
        one.unauthenticated += counted;
        Ok(Place {
            counts: Arc::clone(self),
            ip,
            judged: !is_unauthenticated,
        })
    }
}

impl Place {
    /// The connection may serve requests now, or was refused and told so: it no longer counts as
    /// unproven, but as a connection of its address.
    pub(crate) fn judged(&mut self) {
        if !self.judged {
            self.judged = true;
            let mut counts = self.counts.counts.lock();
            counts.unauthenticated -= 1;
            if let Some(one) = counts.by_ip.get_mut(&self.ip) {
                one.unauthenticated -= 1;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.judged();
        let mut counts = self.counts.counts.lock();
        if let Some(one) = counts.by_ip.get_mut(&self.ip) {
            one.connections -= 1;
            if one.connections == 0 {
                counts.by_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(per_ip: usize) -> Arc<ConnectionCounts> {
        Arc::new(ConnectionCounts::new(ConnectionBounds {
            per_ip,
            per_ip_overrides: BTreeMap::from([(ip(9), 1)]),
            unauthenticated: 8,
            unauthenticated_per_ip: 4,
        }))
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn an_address_has_its_share_and_gets_it_back() {
        let counts = counts(2);
        let mut a = counts.admit(ip(1), Proof::Needed).unwrap();
        a.judged();
        let b = counts.admit(ip(1), Proof::Needed).unwrap();
        assert_eq!(
            counts.admit(ip(1), Proof::Needed).unwrap_err(),
            Refused::PerIp
        );
        assert!(
            counts.admit(ip(2), Proof::Needed).is_ok(),
            "others are not harmed"
        );
        drop(b);
        assert!(counts.admit(ip(1), Proof::Needed).is_ok());
        drop(a);
        assert!(
            counts.counts.lock().by_ip.is_empty(),
            "no entry outlives its connections"
        );
    }

    #[test]
    fn an_override_replaces_the_common_bound() {
        let counts = counts(100);
        let _one = counts.admit(ip(9), Proof::Needed).unwrap();
        assert_eq!(
            counts.admit(ip(9), Proof::Needed).unwrap_err(),
            Refused::PerIp
        );
    }

    #[test]
    fn mapped_addresses_count_as_the_same_address() {
        let counts = counts(1);
        let _one = counts.admit(ip(1), Proof::Needed).unwrap();
        let mapped = IpAddr::V6(std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
        assert_eq!(
            counts.admit(mapped, Proof::Needed).unwrap_err(),
            Refused::PerIp
        );
    }

    #[test]
    fn those_who_prove_nothing_are_few() {
        let counts = counts(1000);
        let mut held: Vec<Place> = (0..4)
            .map(|_| counts.admit(ip(1), Proof::Needed).unwrap())
            .collect();
        assert_eq!(
            counts.admit(ip(1), Proof::Needed).unwrap_err(),
            Refused::UnauthenticatedPerIp
        );
        let proven = counts.admit(ip(1), Proof::NotNeeded).unwrap();
        held[0].judged();
        held.push(counts.admit(ip(1), Proof::Needed).unwrap());
        held.extend((0..4).map(|_| counts.admit(ip(2), Proof::Needed).unwrap()));
        assert_eq!(
            counts.admit(ip(3), Proof::Needed).unwrap_err(),
            Refused::Unauthenticated
        );
        drop(proven);
        assert!(counts.admit(ip(3), Proof::NotNeeded).is_ok());
        assert_eq!(
            counts.admit(ip(3), Proof::Needed).unwrap_err(),
            Refused::Unauthenticated,
            "who has nothing to prove never had a place among those"
        );
        held[1].judged();
        assert!(
            counts.admit(ip(3), Proof::Needed).is_ok(),
            "a login frees a place"
        );
    }
}
