//! DescribeCluster (key 60), versions 0 to 2: cluster id, brokers and a node for admin calls.
//!
//! v1 endpoint type (KIP-919; only brokers are listed here), v2 fenced brokers (KIP-1073).

use palisade_protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use palisade_protocol::{ErrorCode, Str};

use crate::context::RequestContext;
use crate::dispatch::Handled;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers a DescribeCluster request; no right is needed but for the authorized operations.
pub(crate) async fn handle(
    ctx: &RequestContext,
    req: DescribeClusterRequest,
) -> Handled<DescribeClusterResponse> {
    if req.endpoint_type != BROKERS {
        return Handled::Now(wrong_endpoint_type(req.endpoint_type));
    }
    let mut response = DescribeClusterResponse {
        cluster_id: Str::copy(&ctx.image.cluster_id),
        controller_id: ctx.any_live_broker(),
        ..DescribeClusterResponse::default()
    };
    response.brokers = ctx
        .endpoints()
        .filter(|broker| req.include_fenced_brokers || !broker.fenced)
        .map(|broker| DescribeClusterBroker {
            broker_id: broker.id.value(),
            host: broker.host,
            port: broker.port,
            rack: broker.rack,
            is_fenced: broker.fenced,
        })
        .collect();
    if req.include_cluster_authorized_operations {
        response.cluster_authorized_operations = ctx.access().cluster_operations();
    }
    Handled::Now(response)
}

fn wrong_endpoint_type(asked: i8) -> DescribeClusterResponse {
    let (error_code, message) = match asked {
        CONTROLLERS => (
            ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of \
             type CONTROLLER",
        ),
        _ => (
            ErrorCode::UNSUPPORTED_ENDPOINT_TYPE,
            "Unsupported endpoint type",
        ),
    };
    DescribeClusterResponse {
        error_code,
        error_message: Some(Str::from(message)),
        ..DescribeClusterResponse::default()
    }
}
