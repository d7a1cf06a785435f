//! APIs that the controller decides: what it answers is the answer.
//!
//! Rights, checks and records of each are in `metadata/controller/<api>.rs`, where they hold for
//! requests of other nodes too. A change is answered once this node has applied it.

use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::metadata::ControllerRequest;

/// Has the controller answer a request on behalf of its client.
pub(crate) async fn handle<R: ControllerRequest>(
    ctx: &RequestContext,
    req: R,
) -> Handled<R::Response> {
    Handled::Now(
        ctx.broker
            .controller
            .answer(req, ctx.api_version, ctx.actor())
            .await,
    )
}
