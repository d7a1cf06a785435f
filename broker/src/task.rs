//! Spawning in one place: every task has a name, a tracing span, and a place in the shutdown gate.
//!
//! A broker waits for its own tasks when it stops. Several brokers may live in one process (tests
//! do that), so the gate is not global: it travels with the tasks, and a task spawned by a task
//! enters the gate of its parent.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::shutdown::Gate;

/// Longest time a task works before it gives way to the others of its worker.
const MAX_WORK: Duration = Duration::from_micros(500);
/// Most bytes a task moves, checks or copies before it gives way.
const MAX_WORK_BYTES: usize = 256 * 1024;
/// What looking up and describing one topic or partition counts as, in bytes.
pub(crate) const ROW_WORK: usize = 1024;

/// A future behind a pointer, as traits give it back that are used behind one themselves.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

tokio::task_local! {
    static GATE: Gate;
}

/// Spawns `future` as a task called `name`, inside the gate of the calling task.
///
/// Outside any gate (tools, unit tests) the task is merely named.
///
/// # Panics
/// Outside a tokio runtime, as `tokio::spawn` does.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match GATE.try_with(Gate::clone) {
        Ok(gate) => spawn_in(&gate, name, future),
        Err(_) => spawn_raw(future.instrument(tracing::info_span!("task", name))),
    }
}

/// Spawns `future` as a task called `name` that `gate` waits for.
///
/// # Panics
/// Outside a tokio runtime.
pub fn spawn_in<F>(gate: &Gate, name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let pass = gate.enter();
    let inside = GATE.scope(gate.clone(), async move {
        let _pass = pass;
        future.await
    });
    spawn_raw(inside.instrument(tracing::info_span!("task", name)))
}

#[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
fn spawn_raw<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// Runs `future` to its end or its panic, of which the text is answered.
///
/// For tasks whose state can be had again from elsewhere: what the future owned is dropped.
pub(crate) async fn caught<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    // The future is never polled again after a panic, so nobody sees its broken state.
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic_text(&*panic).to_owned())),
        },
    )
    .await
}

/// Runs `future` and, should it panic, says what is not done any more: for tasks that nobody waits
/// for and that do the same thing for as long as the node runs.
pub(crate) async fn missed<F>(what: &str, future: F)
where
    F: Future<Output = ()>,
{
    if let Err(error) = caught(future).await {
        tracing::error!(
            what,
            error,
            "a task of the node has panicked; its work is not done any more"
        );
    }
}

/// Does work that may take long, while other tasks, sockets and timers have another thread.
///
/// A worker that has polled the sockets runs the first task they woke before it wakes another
/// worker: until that task is done no socket is served, however many processors there are. Handing
/// over costs some microseconds: not for small work.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that hands a worker's tasks over"
)]
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Ends the process when the thread that holds it panics: nothing may go on without that thread.
pub(crate) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)")
}

/// How much a task may still do before it should let others run.
///
/// Tokio's own budget counts socket operations and sees neither checksums nor file writes.
#[derive(Debug)]
pub struct Budget {
    since: Instant,
    bytes: usize,
}

impl Budget {
    /// Starts a full budget.
    pub fn start() -> Self {
        Budget {
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// Notes `bytes` of work; true when it is time to give way.
    pub fn spend(&mut self, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        self.bytes >= MAX_WORK_BYTES || self.since.elapsed() >= MAX_WORK
    }

    /// Notes `bytes` of work and gives way to other tasks once the budget is spent.
    ///
    /// To be awaited between units of work, with no lock held.
    pub async fn breathe(&mut self, bytes: usize) {
        if self.spend(bytes) {
            tokio::task::yield_now().await;
            *self = Budget::start();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::shutdown::Gate;

    #[tokio::test]
    async fn a_child_keeps_its_parents_gate_closed() {
        let gate = Gate::new();
        let (release, held) = tokio::sync::oneshot::channel::<()>();
        spawn_in(&gate, "parent", async move {
            spawn("child", async move {
                held.await.ok();
            });
        })
        .await
        .unwrap();
        assert_eq!(gate.inside(), 1);
        release.send(()).unwrap();
        gate.emptied().await;
        assert_eq!(gate.inside(), 0);
    }

    #[tokio::test]
    async fn a_task_that_panics_says_what_is_missing() {
        let said = Said::default();
        let output = said.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || output.clone());
        let _guard = tracing::dispatcher::set_default(&lines.finish().into());
        missed("LISTENER", async {}).await;
        assert_eq!(said.text(), "");
        missed("LISTENER", async { panic!("on\npurpose") }).await;
        let text = said.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        for part in [" ERROR ", r#"what="LISTENER""#, r#""on\npurpose""#] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    /// Lines of the log, in memory.
    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl Said {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    impl io::Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_alone_spend_a_budget() {
        let mut budget = Budget::start();
        assert!(budget.spend(MAX_WORK_BYTES));
    }
}
