//! Where a client finds another node: its address on the client's own listener (KIP-951).

use palisade_protocol::Str;
use palisade_protocol::types::BrokerId;

use crate::metadata::ClusterImage;

/// The address of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Advertised host.
    pub(crate) host: Str,
    /// Advertised port.
    pub(crate) port: i32,
    /// Rack, if the node has one.
    pub(crate) rack: Option<Str>,
}

/// The address that `node` advertises on `listener`; none for a node that is gone or has no such
/// listener.
pub(crate) fn of_node(image: &ClusterImage, node: BrokerId, listener: &str) -> Option<Endpoint> {
    let broker = image.brokers.get(node)?;
    let endpoint = broker
        .endpoints
        .iter()
        .find(|endpoint| endpoint.listener == listener)?;
    Some(Endpoint {
        host: Str::copy(&endpoint.host),
        port: i32::from(endpoint.port),
        rack: broker.rack.as_deref().map(Str::copy),
    })
}
