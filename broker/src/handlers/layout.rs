//! The cluster as a client sees it through the listener it came in on.

use palisade_protocol::types::BrokerId;
use palisade_protocol::{ErrorCode, Str};

use crate::context::RequestContext;
use crate::metadata::ClusterImage;
use crate::metadata::record::BrokerRegistration;

/// A broker as one listener shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VisibleBroker {
    pub(crate) id: BrokerId,
    /// Host as advertised on the listener.
    pub(crate) host: Str,
    /// Port as advertised on the listener.
    pub(crate) port: i32,
    pub(crate) rack: Option<Str>,
    pub(crate) fenced: bool,
}

impl VisibleBroker {
    /// The broker on a listener; none where it lacks that.
    fn on(broker: &BrokerRegistration, listener: &str) -> Option<VisibleBroker> {
        let endpoint = broker.endpoint(listener)?;
        Some(VisibleBroker {
            id: broker.id,
            host: Str::copy(&endpoint.host),
            port: i32::from(endpoint.port),
            rack: broker.rack.as_deref().map(Str::copy),
            fenced: broker.fenced,
        })
    }
}

/// The address that `node` advertises on `listener` (KIP-951); none for a node that is gone or has
/// no such listener.
pub(crate) fn of_node(
    image: &ClusterImage,
    node: BrokerId,
    listener: &str,
) -> Option<VisibleBroker> {
    VisibleBroker::on(image.brokers.get(node)?, listener)
}

impl RequestContext {
    fn listener(&self) -> &str {
        &self.session.listener.config.name
    }

    /// Registered brokers that have the request's listener, by id.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = VisibleBroker> {
        let listener = self.listener();
        let brokers = self.image.brokers.iter();
        brokers.filter_map(move |broker| VisibleBroker::on(broker, listener))
    }

    /// The same without fenced ones.
    pub(crate) fn live_endpoints(&self) -> impl Iterator<Item = VisibleBroker> {
        let listener = self.listener();
        let brokers = self.image.brokers.live();
        brokers.filter_map(move |broker| VisibleBroker::on(broker, listener))
    }

    /// A node that takes admin calls: every one does, so this one where it is visible; -1 if none.
    pub(crate) fn any_live_broker(&self) -> i32 {
        let own = self.broker.node_id;
        let listener = self.listener();
        let live = self.image.brokers.live();
        live.filter(|broker| broker.endpoint(listener).is_some())
            .map(|broker| broker.id)
            .reduce(|first, next| if next == own { next } else { first })
            .map_or(-1, |id| id.value())
    }

    /// The error of a partition with this leader; `unlisted` where the leader lacks the listener.
    pub(crate) fn leader_error(&self, leader: Option<BrokerId>, unlisted: ErrorCode) -> ErrorCode {
        let Some(leader) = leader.filter(|leader| self.image.brokers.is_live(*leader)) else {
            return ErrorCode::LEADER_NOT_AVAILABLE;
        };
        let broker = self.image.brokers.get(leader);
        match broker.and_then(|broker| broker.endpoint(self.listener())) {
            Some(_) => ErrorCode::NONE,
            None => unlisted,
        }
    }
}
