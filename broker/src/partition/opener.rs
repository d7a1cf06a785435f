//! Where batches are opened: on helper threads, in turns, within one budget for the whole node.
//!
//! Decompressing costs up to a second of one core per batch, at the sender's choice, and
//! compressing anew more. Work is cut into slices of [`SLICE`] plain bytes; the users with batches
//! in work take turns, slice by slice, on a few threads. Memory is reserved, first come first
//! served, before anything is decompressed. Of each user few batches are in work or in line for
//! memory, in half of it at most, so whoever comes next waits for few of each. Large batches wait
//! for one another, and nobody else for them: one at a time is in work, with memory of its own.
//! Look-ups by timestamp, which open stored batches, are a few at a time too, and among users in
//! turns.

use std::sync::Arc;

use palisade_auth::principal::Principal;
use palisade_protocol::ErrorCode;
use palisade_storage::failpoint;
#[cfg(test)]
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tracing::error;

use super::error::PartitionError;
use super::validate::refusal::Refusal;
use super::validate::{GRAIN, Held, Opening, Progress, ValidBatch};
use crate::turns::{Lines, Part, Turns, take};

/// Memory for all batches in work but large ones, in bytes. One large batch at a time has as much
/// again, so that all together take twice this; or more, where a topic's settings let it need more.
const MEMORY: usize = 64 * 1024 * 1024;
/// A batch that needs more than this is a large one; all others of one user have it together.
const LARGE: usize = MEMORY / 2;
/// Plain bytes per turn: milliseconds, or a second where a codec's highest level packs them anew;
/// beside that a hop to a thread is little.
const SLICE: usize = 2 * 1024 * 1024;
/// Look-ups by timestamp at a time: they read the disk, and open stored batches.
const LOOK_UPS: usize = 2;
/// Plain bytes of a small batch that may be opened without a hop.
const IN_PLACE: usize = 64 * 1024;

/// Opens the batches of one node.
#[derive(Debug)]
pub(crate) struct Opener {
    /// Places of each user's batches in work or in line for memory, but for large ones.
    places: Lines,
    /// Grains of memory that each user's batches may have.
    shares: Lines,
    memory: Arc<Semaphore>,
    /// The memory of large batches.
    large: Turns,
    /// For slices of all batches.
    turns: Turns,
    look_ups: Turns,
}

impl Opener {
    /// An opener for half of the processors: the other half is for those who need none of this.
    pub(crate) fn new() -> Opener {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Opener::with_turns(processors.div_ceil(2))
    }

    fn with_turns(turns: usize) -> Opener {
        Opener {
            // Alone, a user has a batch for each turn.
            places: Lines::new(u32::try_from(turns).unwrap_or(u32::MAX)),
            shares: Lines::new(grains(LARGE)),
            memory: Arc::new(Semaphore::new(MEMORY / GRAIN)),
            large: Turns::new(1),
            turns: Turns::new(turns),
            look_ups: Turns::new(LOOK_UPS),
        }
    }

    /// Runs a look-up of `user` that may read the disk and open batches, when it has its turn.
    ///
    /// Not on the disk thread, which others wait for to roll and to allocate. Once begun it goes on
    /// to its end, and so does its turn, though the call is dropped.
    ///
    /// # Errors
    /// `Offline` when it panicked.
    pub(crate) async fn look_up<T: Send + 'static>(
        &self,
        user: &Principal,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PartitionError> {
        let done = self.look_ups.run(user, job).await;
        done.map_err(|_| PartitionError::Offline)
    }

    /// Opens one batch of `user`.
    ///
    /// A dropped call stops at the end of the slice in work.
    ///
    /// # Errors
    /// [`Refusal`], with Kafka's code and texts.
    pub(crate) async fn open(
        &self,
        user: &Principal,
        mut opening: Box<Opening>,
    ) -> Result<ValidBatch, Refusal> {
        if opening.is_small()
            && let Progress::Done(batch) = opening.step(IN_PLACE)?
        {
            return Ok(batch);
        }
        let _parts = self.reserve(user, &mut opening).await;
        loop {
            let turn = self.turns.turn(user).await;
            let slice = move || {
                // A test holds the work here.
                let held = failpoint::hit("produce.before_open");
                let progress = match held {
                    Ok(()) => opening.step(SLICE),
                    Err(_) => Err(Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR)),
                };
                (opening, progress)
            };
            match turn.run(slice).await {
                Ok((_, Ok(Progress::Done(batch)))) => return Ok(batch),
                Ok((back, Ok(Progress::More))) => opening = back,
                Ok((_, Err(refusal))) => return Err(refusal),
                Err(panic) => {
                    error!(error = %panic, "a batch could not be opened");
                    return Err(Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR));
                }
            }
        }
    }

    /// Waits for a batch's place among those of its user, then for its part of the user's share of
    /// the memory, then for the memory: everybody in this order.
    async fn reserve(&self, user: &Principal, opening: &mut Opening) -> Option<[Part; 2]> {
        let bytes = opening.memory();
        if bytes > LARGE {
            opening.hold(Held::All(self.large.turn(user).await));
            return None;
        }
        let place = self.places.enter(user, 1).await;
        let grains = grains(bytes);
        let share = self.shares.enter(user, grains).await;
        opening.hold(Held::Grains(take(&self.memory, grains).await));
        Some([place, share])
    }
}

fn grains(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX)
}

#[cfg(test)]
impl Opener {
    /// Users who have batches that wait or are opened, in no order.
    pub(crate) fn users_of_batches(&self) -> Vec<Principal> {
        let mut users = self.places.users();
        users.extend(self.large.users());
        users
    }

    /// Waits until no slice is in work, and holds what comes until the permits are dropped.
    pub(crate) async fn hold(&self) -> OwnedSemaphorePermit {
        self.turns.all().await
    }

    /// Users who have look-ups that wait or run, in no order.
    pub(crate) fn users_of_look_ups(&self) -> Vec<Principal> {
        self.look_ups.users()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use palisade_auth::grant::Write;
    use palisade_protocol::batch::{BatchBuilder, Codec};
    use palisade_protocol::types::PartitionIndex;
    use parking_lot::Mutex;

    use super::*;
    use crate::partition::testing::{NOW, ROOT, TestNode, batch_with};
    use crate::partition::validate::{Judged, Place, validate};

    type Call = Pin<Box<dyn Future<Output = ValidBatch> + Send>>;

    /// Asks for a batch to be stored anew in that topic: when this returns, it stands in line.
    fn ask(opener: &Arc<Opener>, node: &TestNode, user: &str, topic: &str) -> Call {
        let grant = node.access(ROOT).topic::<Write>(topic).unwrap();
        let partition = node.replicas.partition(&grant, PartitionIndex::new(0));
        let settings = partition.unwrap().settings();
        let batch = batch_with(BatchBuilder::new(Codec::Zstd), 5000).freeze();
        let judged = validate(batch, &settings.records, NOW, Place { topic, index: 0 });
        let Judged::Unopened(opening) = judged.unwrap() else {
            panic!("it was not opened");
        };
        assert_eq!(opening.memory() > LARGE, topic == "large");
        let (opener, user) = (Arc::clone(opener), Principal::user(user));
        let mut call: Call = Box::pin(async move { opener.open(&user, opening).await.unwrap() });
        assert!(!is_ready(&mut call));
        call
    }

    fn is_ready(call: &mut Call) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        call.as_mut().poll(&mut cx).is_ready()
    }

    fn sorted(mut users: Vec<Principal>) -> Vec<Principal> {
        users.sort();
        users
    }

    /// With one helper thread, so that it can be kept busy.
    fn with_one_helper(test: impl Future<Output = ()>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(1).build();
        runtime.unwrap().block_on(test);
    }

    #[tokio::test]
    async fn who_sends_next_waits_for_few_batches_of_another_user() {
        let node = TestNode::new().topic("t", 1, &[("compression.type", "gzip")]);
        let opener = Arc::new(Opener::with_turns(1));
        let hold = opener.hold().await;
        let users: Vec<_> = std::iter::repeat_n("mallory", 20)
            .chain(["alice"])
            .collect();
        let calls: Vec<_> = users
            .iter()
            .map(|user| ask(&opener, &node, user, "t"))
            .collect();
        // A call that is dropped stands in no line.
        drop([(); 3].map(|()| ask(&opener, &node, "bob", "t")));
        let [alice, mallory] = ["alice", "mallory"].map(Principal::user);
        assert_eq!(sorted(opener.users_of_batches()), [alice, mallory]);

        let done: Arc<Mutex<Vec<_>>> = Arc::default();
        let calls: Vec<_> = calls
            .into_iter()
            .zip(users)
            .map(|(call, user)| {
                let done = Arc::clone(&done);
                crate::task::spawn("open", async move {
                    drop(call.await);
                    done.lock().push(user);
                })
            })
            .collect();
        // In line behind what stands there now: one batch of each. When this has its turn they were
        // opened, and what comes behind them waits.
        let mut next = pin!(opener.hold());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(next.as_mut().poll(&mut cx).is_pending());
        drop(hold);
        let hold = next.await;
        let mut calls = calls;
        calls.pop().unwrap().await.unwrap();
        let before = done
            .lock()
            .iter()
            .filter(|user| **user == "mallory")
            .count();
        assert!(before <= 1, "{before} of mallory's");
        drop(hold);
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(opener.users_of_batches(), []);
        assert_eq!(opener.turns.users(), []);
    }

    #[tokio::test]
    async fn memory_is_left_for_another_user() {
        let anew = ("compression.type", "gzip");
        let node = TestNode::new().topic("t", 1, &[anew]);
        let node = node.topic("half", 1, &[anew, ("max.message.bytes", "30000000")]);
        let opener = Arc::new(Opener::with_turns(4));
        let hold = opener.hold().await;
        let his = [(); 4].map(|()| ask(&opener, &node, "mallory", "half"));
        let hers = ask(&opener, &node, "alice", "t");
        // Who stands in this line has memory: two of his would leave her in line for hers.
        let [alice, mallory] = ["alice", "mallory"].map(Principal::user);
        assert_eq!(sorted(opener.turns.users()), [alice, mallory]);
        drop(hold);
        hers.await;
        futures(his.into()).await;
        assert_eq!(
            (opener.users_of_batches(), opener.shares.users()),
            (vec![], vec![])
        );
    }

    #[tokio::test]
    async fn large_batches_wait_for_one_another_and_nobody_else_for_them() {
        let anew = ("compression.type", "gzip");
        let node = TestNode::new().topic("t", 1, &[anew]);
        let node = node.topic("large", 1, &[anew, ("max.message.bytes", "40000000")]);
        let opener = Arc::new(Opener::with_turns(1));
        let hold = opener.hold().await;
        let first = ask(&opener, &node, "mallory", "large");
        let mut second = ask(&opener, &node, "bob", "large");
        let hers = ask(&opener, &node, "alice", "t");
        let [alice, mallory] = ["alice", "mallory"].map(Principal::user);
        assert_eq!(sorted(opener.turns.users()), [alice, mallory]);
        drop(hold);

        // Until it is written it keeps the memory.
        let first = crate::task::spawn("open", first).await.unwrap();
        hers.await;
        assert!(!is_ready(&mut second));
        drop(first);
        second.await;
        assert_eq!(opener.users_of_batches(), []);
    }

    #[test]
    fn memory_is_held_until_the_batch_is_written() {
        with_one_helper(memory_is_held());
    }

    async fn memory_is_held() {
        let node = TestNode::new().topic("t", 1, &[("compression.type", "gzip")]);
        let grant = node.access(ROOT).topic::<Write>("t").unwrap();
        let partition = node.replicas.partition(&grant, PartitionIndex::new(0));
        let partition = partition.unwrap();
        let opener = node.replicas.directories()[0].opener();
        let free = || opener.memory.available_permits() * GRAIN;
        let sent = || batch_with(BatchBuilder::new(Codec::Zstd), 5000).freeze();

        let user = Principal::user(ROOT);
        let valid = partition.check(sent(), NOW, &user).await.unwrap();
        let held = MEMORY - free();
        assert!(held >= valid.len() - 61 && held < valid.len() + GRAIN);
        let epoch = partition.leader_epoch();
        partition.append(valid, epoch, NOW).await.unwrap();
        assert_eq!(free(), MEMORY);

        // One that nobody waits for any more ends with the slice in work.
        let (release, held) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || held.recv());
        let mut check = Box::pin(partition.check(sent(), NOW, &user));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(check.as_mut().poll(&mut cx), Poll::Pending));
        assert!(free() < MEMORY);
        drop(check);
        assert!(free() < MEMORY);
        drop(release);
        assert!(busy.await.unwrap().is_err());
        let all = u32::try_from(MEMORY / GRAIN).unwrap();
        drop(take(&opener.memory, all).await);
        assert_eq!(free(), MEMORY);
    }

    #[tokio::test]
    async fn more_at_once_than_there_is_memory_for_all_end_well() {
        let node = TestNode::new().topic("t", 1, &[("compression.type", "snappy")]);
        let grant = node.access(ROOT).topic::<Write>("t").unwrap();
        let partition = node.replicas.partition(&grant, PartitionIndex::new(0));
        let partition = partition.unwrap();
        // Each claims more than eight MiB for its LZ4 blocks.
        let batch = || batch_with(BatchBuilder::new(Codec::Lz4), 3000).freeze();
        let users = ["alice", "bob", "carol"].map(Principal::user);
        let mut checks = Vec::new();
        for at in 0..40 {
            checks.push(partition.check(batch(), NOW, &users[at % users.len()]));
        }
        let mut records = 0;
        for check in futures(checks).await {
            records += check.unwrap().records();
        }
        assert_eq!(records, 40 * 3000);
    }

    /// Runs all to their ends, side by side.
    async fn futures<F: Future>(all: Vec<F>) -> Vec<F::Output> {
        let mut running: Vec<_> = all.into_iter().map(Box::pin).collect();
        let mut done = Vec::new();
        std::future::poll_fn(|cx| {
            running.retain_mut(|future| match future.as_mut().poll(cx) {
                Poll::Ready(output) => {
                    done.push(output);
                    false
                }
                Poll::Pending => true,
            });
            match running.is_empty() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        done
    }
}
