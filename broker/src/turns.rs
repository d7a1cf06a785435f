//! Turns at costly work: a few at a time, and nobody has more than those.
//!
//! Work waits for a turn among its user's before it waits for one of the node's. So no user stands
//! in the node's line more often than there are turns, on however many connections he asks, and
//! whoever comes next waits for so many of each user at most; alone, a user has all there are.
//!
//! The lines of the users also serve by themselves, where what is shared is no turn.

use std::collections::HashMap;
use std::sync::Arc;

use palisade_auth::principal::Principal;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, spawn_blocking};

/// The line of the node, and one of each user in front of it.
#[derive(Debug)]
pub(crate) struct Turns {
    node: Arc<Semaphore>,
    lines: Lines,
}

/// A line for each user with work that waits or runs, and for nobody else.
///
/// What is shared is counted in units of whoever makes the lines: turns, places, or grains of
/// bytes.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    /// Units that one user may have at a time.
    share: u32,
    open: Arc<Mutex<HashMap<Principal, Line>>>,
}

#[derive(Debug)]
struct Line {
    free: Arc<Semaphore>,
    /// Pieces of work that wait or run.
    places: usize,
}

/// One piece of work in the line of its user, which goes with the last of them.
#[derive(Debug)]
struct Place {
    lines: Lines,
    user: Principal,
    free: Arc<Semaphore>,
}

/// A part of its user's share, until it is dropped.
#[derive(Debug)]
pub(crate) struct Part {
    _own: OwnedSemaphorePermit,
    _place: Place,
}

/// Leave to do one piece of work, until it is dropped.
///
/// Fields drop in order: the place among the user's own is free before the node's turn passes on.
#[derive(Debug)]
pub(crate) struct Turn {
    _part: Part,
    _node: OwnedSemaphorePermit,
}

impl Turns {
    /// So many turns, for all and for one user.
    pub(crate) fn new(at_a_time: usize) -> Self {
        Self {
            node: Arc::new(Semaphore::new(at_a_time)),
            lines: Lines::new(u32::try_from(at_a_time).unwrap_or(u32::MAX)),
        }
    }

    /// Waits for a turn of `user`; a dropped call leaves both lines.
    pub(crate) async fn turn(&self, user: &Principal) -> Turn {
        let part = self.lines.enter(user, 1).await;
        let node = take(&self.node, 1).await;
        Turn {
            _part: part,
            _node: node,
        }
    }

    /// Does the work of `user` on a helper thread, when it has its turn.
    ///
    /// Once begun it goes on to its end, and so does its turn, though the call is dropped.
    ///
    /// # Errors
    /// It panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        user: &Principal,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        self.turn(user).await.run(work).await
    }

    /// Users who have a line, in no order.
    #[cfg(test)]
    pub(crate) fn users(&self) -> Vec<Principal> {
        self.lines.users()
    }

    /// Waits until nothing runs, and holds what comes until the permits are dropped.
    #[cfg(test)]
    pub(crate) async fn all(&self) -> OwnedSemaphorePermit {
        take(&self.node, self.lines.share).await
    }
}

impl Turn {
    /// Does work on a helper thread; the turn is over with it, whether or not anybody waits for it.
    ///
    /// # Errors
    /// It panicked.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let work = move || {
            let _turn = self;
            work()
        };
        spawn_blocking(work).await
    }
}

/// Waits for so many permits.
pub(crate) async fn take(semaphore: &Arc<Semaphore>, permits: u32) -> OwnedSemaphorePermit {
    Arc::clone(semaphore)
        .acquire_many_owned(permits)
        .await
        .expect("the semaphore is never closed")
}

impl Lines {
    /// Lines in which each user has `share` units.
    pub(crate) fn new(share: u32) -> Self {
        Self {
            share,
            open: Arc::default(),
        }
    }

    /// Waits, behind others of `user`, for `units` of the user's share, or all of it if they are
    /// more; a dropped call leaves the line.
    pub(crate) async fn enter(&self, user: &Principal, units: u32) -> Part {
        let place = Place::new(self, user);
        let own = take(&place.free, units.min(self.share)).await;
        Part {
            _own: own,
            _place: place,
        }
    }

    /// Users who have a line, in no order.
    #[cfg(test)]
    pub(crate) fn users(&self) -> Vec<Principal> {
        self.open.lock().keys().cloned().collect()
    }
}

impl Place {
    fn new(lines: &Lines, user: &Principal) -> Place {
        let mut open = lines.open.lock();
        let line = open.entry(user.clone()).or_insert_with(|| Line {
            free: Arc::new(Semaphore::new(lines.share as usize)),
            places: 0,
        });
        line.places += 1;
        Place {
            lines: lines.clone(),
            user: user.clone(),
            free: Arc::clone(&line.free),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.lines.open.lock();
        if let Some(line) = open.get_mut(&self.user) {
            line.places -= 1;
            if line.places == 0 {
                open.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::mpsc::Sender;
    use std::task::{Context, Waker};

    use tokio::sync::mpsc;

    use super::*;

    /// Work that goes on until it is let go, and says by a number that it has begun.
    struct Bench {
        turns: Arc<Turns>,
        begin: mpsc::Sender<usize>,
        begun: mpsc::Receiver<usize>,
        /// Of the work with that number; dropped to let it go.
        holds: Vec<Option<Sender<()>>>,
    }

    type Call = Pin<Box<dyn Future<Output = Result<(), JoinError>> + Send>>;

    impl Bench {
        fn new(at_a_time: usize) -> Bench {
            let (begin, begun) = mpsc::channel(100);
            Bench {
                turns: Arc::new(Turns::new(at_a_time)),
                begin,
                begun,
                holds: Vec::new(),
            }
        }

        /// Asks as `user`: when this returns, the work goes on or stands in line.
        fn ask(&mut self, user: &str) -> Call {
            let number = self.holds.len();
            let (hold, held) = std::sync::mpsc::channel();
            self.holds.push(Some(hold));
            let begin = self.begin.clone();
            let turns = Arc::clone(&self.turns);
            let user = Principal::user(user);
            let mut call: Call = Box::pin(async move {
                let work = move || {
                    begin.blocking_send(number).unwrap();
                    held.recv().unwrap_err();
                };
                turns.run(&user, work).await
            });
            let mut cx = Context::from_waker(Waker::noop());
            assert!(call.as_mut().poll(&mut cx).is_pending());
            call
        }

        fn let_go(&mut self, number: usize) {
            self.holds[number] = None;
        }

        /// The next two to begin, which may do so side by side.
        async fn two_begin(&mut self) -> [usize; 2] {
            let mut two = [0; 2].map(Some);
            for one in &mut two {
                *one = self.begun.recv().await;
            }
            two.sort();
            two.map(Option::unwrap)
        }

        fn users(&self) -> Vec<Principal> {
            let mut users = self.turns.users();
            users.sort();
            users
        }
    }

    #[tokio::test]
    async fn who_comes_next_waits_for_few_of_another_user() {
        let mut bench = Bench::new(2);
        let mut calls: Vec<_> = (0..50).map(|_| bench.ask("mallory")).collect();
        // Alone, a user has both turns.
        assert_eq!(bench.two_begin().await, [0, 1]);
        calls.push(bench.ask("alice"));
        let calls: Vec<_> = calls
            .into_iter()
            .map(|call| crate::task::spawn("work", call))
            .collect();

        bench.let_go(0);
        assert_eq!(bench.begun.recv().await, Some(50));
        bench.let_go(1);
        assert_eq!(bench.begun.recv().await, Some(2));
        bench.let_go(50);
        assert_eq!(bench.begun.recv().await, Some(3));

        bench.holds.clear();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert_eq!(bench.users(), []);
    }

    #[tokio::test]
    async fn a_line_goes_with_its_last_work_though_calls_are_dropped() {
        let mut bench = Bench::new(2);
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(Principal::user);
        let [first, second] = [bench.ask("alice"), bench.ask("bob")];
        assert_eq!(bench.two_begin().await, [0, 1]);
        let waiting: Vec<_> = (0..4).map(|_| bench.ask("carol")).collect();
        let more = [bench.ask("bob"), bench.ask("bob")];
        assert_eq!(bench.users(), [&alice, &bob, &carol].map(Clone::clone));

        // Two of Carol's stand in the line of the node, and two in her own.
        drop(waiting);
        drop(more);
        assert_eq!(bench.users(), [alice.clone(), bob.clone()]);

        // What runs goes on to its end, and counts until then.
        drop([first, second]);
        assert_eq!(bench.users(), [alice.clone(), bob]);
        let mut next = bench.ask("alice");
        bench.let_go(1);
        tokio::select! {
            ended = &mut next => panic!("ended before it was let go: {ended:?}"),
            began = bench.begun.recv() => assert_eq!(began, Some(8)),
        }
        assert_eq!(bench.users(), [alice]);
        bench.holds.clear();
        next.await.unwrap();
        // The first ends at a time of its own.
        drop(bench.turns.all().await);
        assert_eq!(bench.users(), []);
    }

    #[tokio::test]
    async fn a_single_turn_passes_from_user_to_user() {
        let mut bench = Bench::new(1);
        let mut calls: Vec<_> = (0..20).map(|_| bench.ask("mallory")).collect();
        assert_eq!(bench.begun.recv().await, Some(0));
        calls.push(bench.ask("alice"));
        let calls: Vec<_> = calls
            .into_iter()
            .map(|call| crate::task::spawn("work", call))
            .collect();
        for (done, next) in [(0, 20), (20, 1), (1, 2)] {
            bench.let_go(done);
            assert_eq!(bench.begun.recv().await, Some(next));
        }
        bench.holds.clear();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert_eq!(bench.users(), []);
    }

    #[tokio::test]
    async fn work_that_panics_leaves_its_line() {
        let turns = Turns::new(2);
        let user = Principal::user("alice");
        let failed: Result<(), _> = turns.run(&user, || panic!("as a test asks for")).await;
        assert!(failed.is_err());
        drop(turns.all().await);
        assert_eq!(turns.users(), []);
    }
}
