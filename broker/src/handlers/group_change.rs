//! A change of a group that was announced in the audit log: made, and its result told.

use palisade_protocol::Str;

use crate::context::RequestContext;
use crate::group::error::GroupError;
use crate::group::shard::Shard;
use crate::group::step::{Asker, Moment, Step};
use crate::metadata::intents::Intents;

/// What an announced change came to, as the audit log says it.
pub(super) type Told = Result<(), &'static str>;

/// Has a group changed; `told` says, from the answer, what became of the change at a position of
/// `intents`. The result is told even if nobody waits for the answer any more.
///
/// # Errors
/// Nothing was changed, which is told too.
pub(super) async fn make<T, E, F>(
    ctx: &RequestContext,
    group: Str,
    intents: Vec<Option<Intents>>,
    event: E,
    told: F,
) -> Result<impl Future<Output = Result<T, GroupError>> + Send + use<T, E, F>, GroupError>
where
    T: Send + 'static,
    E: FnOnce(&mut Shard, &Moment<'_>, Asker<Result<T, GroupError>>) -> Step + Send + 'static,
    F: Fn(&T, usize) -> Told + Send + 'static,
{
    match ctx.broker.groups.ask_of(group, intents.len(), event).await {
        Ok(awaited) => {
            let intents: Vec<_> = intents
                .into_iter()
                .map(|one| one.map(Intents::begun))
                .collect();
            let changed = awaited.noted(move |answer: &Result<T, GroupError>| {
                tell(intents, |at| match answer {
                    Ok(done) => told(done, at),
                    Err(error) => Err(error.code().name()),
                });
            });
            Ok(async move { changed.await.and_then(|answer| answer) })
        }
        Err(error) => {
            tell(intents, |_| Err(error.code().name()));
            Err(error)
        }
    }
}

fn tell(intents: Vec<Option<Intents>>, told: impl Fn(usize) -> Told) {
    for (at, intents) in intents.into_iter().enumerate() {
        if let Some(intents) = intents {
            intents.each(|_| told(at));
        }
    }
}
