//! The cluster as a client sees it through the listener it came in on.

use palisade_protocol::ErrorCode;
use palisade_protocol::types::BrokerId;

use crate::context::RequestContext;

/// A broker as one listener shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VisibleBroker {
    pub(crate) id: BrokerId,
    /// Host as advertised on the listener.
    pub(crate) host: String,
    /// Port as advertised on the listener.
    pub(crate) port: u16,
    pub(crate) rack: Option<String>,
    pub(crate) fenced: bool,
}

impl RequestContext {
    /// Registered brokers that have the request's listener, by id.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = VisibleBroker> {
        let listener = self.session.listener.config.name.as_str();
        self.image.brokers.iter().filter_map(move |broker| {
            let endpoint = broker.endpoint(listener)?;
            Some(VisibleBroker {
                id: broker.id,
                host: endpoint.host.clone(),
                port: endpoint.port,
                rack: broker.rack.clone(),
                fenced: broker.fenced,
            })
        })
    }

    /// The same without fenced ones.
    pub(crate) fn live_endpoints(&self) -> impl Iterator<Item = VisibleBroker> {
        self.endpoints().filter(|broker| !broker.fenced)
    }

    /// A node that takes admin calls: every one does, so this one where it is visible; -1 if none.
    pub(crate) fn any_live_broker(&self) -> i32 {
        let own = self.broker.node_id;
        let visible = self.live_endpoints().map(|broker| broker.id);
        visible
            .reduce(|first, next| if next == own { next } else { first })
            .map_or(-1, |id| id.value())
    }

    /// The error of a partition with this leader; `unlisted` where the leader lacks the listener.
    pub(crate) fn leader_error(&self, leader: Option<BrokerId>, unlisted: ErrorCode) -> ErrorCode {
        let Some(leader) = leader.filter(|leader| self.image.brokers.is_live(*leader)) else {
            return ErrorCode::LEADER_NOT_AVAILABLE;
        };
        let listener = self.session.listener.config.name.as_str();
        match self
            .image
            .brokers
            .get(leader)
            .and_then(|broker| broker.endpoint(listener))
        {
            Some(_) => ErrorCode::NONE,
            None => unlisted,
        }
    }
}
