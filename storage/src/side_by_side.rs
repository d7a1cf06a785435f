//! Working through many logs at once.

use parking_lot::Mutex;

/// Threads that open, create or close logs: they mostly wait for the disk, and the file system
/// syncs many files at once.
pub const DISK_WAITERS: usize = 8;

/// Does `work` for each job on `threads` threads, of which the caller is one; the answers come in
/// no order.
///
/// # Panics
/// When `work` does.
pub fn side_by_side<J: Send, A: Send>(
    jobs: Vec<J>,
    threads: usize,
    work: impl Fn(J) -> A + Sync,
) -> Vec<A> {
    let threads = threads.min(jobs.len());
    let jobs = Mutex::new(jobs.into_iter());
    let take = || jobs.lock().next();
    let share = || {
        let mut answers = Vec::new();
        while let Some(job) = take() {
            answers.push(work(job));
        }
        answers
    };
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(share)).collect();
        let mut answers = share();
        for helper in helpers {
            answers.extend(helper.join().expect("a job panicked"));
        }
        answers
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn as_many_run_at_once_as_there_are_threads() {
        let all = Barrier::new(3);
        let mut answers = side_by_side((0..9).collect(), 3, |n: usize| {
            // Nobody passes alone.
            all.wait();
            n * n
        });
        answers.sort_unstable();
        assert_eq!(answers, [0, 1, 4, 9, 16, 25, 36, 49, 64]);
        assert_eq!(side_by_side(Vec::<()>::new(), 0, |()| ()), []);
    }
}
