use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

const NOTHING: Duration = Duration::ZERO;

fn event(action: Action) -> AuditEvent {
    AuditEvent::new(action, Outcome::Ok, AuditContext::default())
}

/// A queue for `n` events whose clock ticks at every look.
fn queue(n: usize) -> AuditQueue {
    let clock = AtomicI64::new(0);
    let weight = event(Action::Denied).weight();
    AuditQueue::new(n * weight, move || {
        UnixMicros::new(clock.fetch_add(1, Ordering::Relaxed))
    })
}

/// Whether something was counted that is not in the queue as a gap yet.
fn is_gapped(queue: &AuditQueue) -> bool {
    !queue.state.lock().lost.is_empty()
}

#[test]
fn events_come_out_in_order_and_become_durable() {
    let queue = queue(8);
    let first = queue.offer(event(Action::LoginOk)).unwrap();
    let second = queue.offer(event(Action::Logout)).unwrap();
    let taken = queue.take(NOTHING);
    let tickets: Vec<_> = taken.iter().map(|t| t.ticket).collect();
    assert_eq!(tickets, [first, second]);
    assert!(taken[0].at < taken[1].at);
    assert!(!queue.is_durable(first));
    queue.confirm(&taken[..1]);
    assert!(queue.is_durable(first) && !queue.is_durable(second));
    queue.confirm(&taken[1..]);
    assert!(queue.is_durable(second));
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn taken_events_still_count_against_the_bound() {
    let queue = queue(2);
    queue.offer(event(Action::LoginOk)).unwrap();
    queue.offer(event(Action::LoginOk)).unwrap();
    let stalled = queue.take(NOTHING);
    assert!(queue.offer(event(Action::LoginOk)).is_err());
    queue.confirm(&stalled);
    assert!(queue.offer(event(Action::LoginOk)).is_ok());
}

#[test]
fn a_flood_of_denials_leaves_room_for_logins() {
    let queue = queue(16);
    while queue.offer(event(Action::Denied)).is_ok() {}
    assert!(queue.offer(event(Action::LoginOk)).is_ok());
    assert!(queue.offer(event(Action::TopicCreate)).is_ok());
    assert!(queue.offer(event(Action::LoginOk)).is_err());
}

#[test]
fn what_was_counted_is_told_before_anything_later() {
    let queue = queue(8);
    while queue.offer(event(Action::Denied)).is_ok() {}
    for _ in 0..3 {
        queue.record(event(Action::Denied));
    }
    queue.record(event(Action::Malformed));
    assert!(is_gapped(&queue));
    assert_eq!(queue.lost_total(Class::AuthzDenied), 3);
    // A login finds room and brings the gaps with it, ahead of itself.
    queue.offer(event(Action::LoginOk)).unwrap();
    assert!(!is_gapped(&queue));
    let actions: Vec<_> = queue.take(NOTHING).iter().map(|t| t.event.action).collect();
    let tail = &actions[actions.len() - 3..];
    assert_eq!(tail, [Action::AuditGap, Action::AuditGap, Action::LoginOk]);
}

#[test]
fn gaps_leave_with_the_next_batch_even_when_nothing_follows() {
    let queue = queue(0);
    queue.record(event(Action::Logout));
    queue.record(event(Action::Logout));
    let taken = queue.take(NOTHING);
    assert_eq!(taken.len(), 1);
    let gap = taken[0].event.gap.unwrap();
    assert_eq!((gap.class, gap.count), (Class::Authn, 2));
    assert!(gap.first < gap.last);
    assert!(queue.take(NOTHING).is_empty());
}

#[test]
fn the_last_event_comes_behind_all_that_was_counted() {
    let queue = queue(1);
    queue.offer(event(Action::Denied)).unwrap();
    // Without room for such events: the first is counted as lost, the others as repeated.
    for _ in 0..3 {
        queue.record(event(Action::ConnRejected));
    }
    queue.finish(event(Action::Stop));
    let actions: Vec<_> = queue
        .take(NOTHING)
        .iter()
        .map(|taken| taken.event.action)
        .collect();
    assert_eq!(
        actions,
        [
            Action::Denied,
            Action::AuditGap,
            Action::ConnRejected,
            Action::Stop
        ]
    );
    // What is only counted now is not told behind the last.
    queue.record(event(Action::LoginOk));
    assert_eq!(queue.lost_total(Class::Authn), 1);
    assert!(queue.take(NOTHING).is_empty());
}

#[test]
fn an_event_larger_than_the_bound_goes_alone_and_tells_its_moment() {
    let weight = event(Action::Denied).weight();
    let queue = AuditQueue::new(weight / 2, || UnixMicros::new(0));
    queue.offer(event(Action::Denied)).unwrap();
    let held = queue.offer(event(Action::Denied)).unwrap_err();
    queue.confirm(&queue.take(NOTHING));
    queue.offer_again(held).unwrap();
    let taken = queue.take(NOTHING);
    assert_eq!((taken.len(), taken[0].event.detail.as_deref()), (1, None));
}

#[test]
fn an_event_that_waited_says_when_it_happened() {
    let clock = Arc::new(AtomicI64::new(0));
    let now = Arc::clone(&clock);
    let weight = event(Action::Denied).weight();
    let queue = AuditQueue::new(weight, move || UnixMicros::new(now.load(Ordering::Relaxed)));
    queue.offer(event(Action::Denied)).unwrap();
    let held = queue
        .offer(event(Action::Denied).with_detail("words"))
        .unwrap_err();
    queue.confirm(&queue.take(NOTHING));
    clock.store(3_600_000_000, Ordering::Relaxed);
    queue.offer_again(held).unwrap();
    let taken = queue.take(NOTHING);
    let detail = taken[0].event.detail.as_deref().unwrap();
    assert_eq!(detail, format!("words; happened at {}", UnixMicros::new(0)));
}

#[test]
fn a_closed_queue_takes_nothing_and_gives_what_it_has() {
    let queue = queue(8);
    queue.offer(event(Action::LoginOk)).unwrap();
    queue.finish(event(Action::Stop));
    assert!(queue.offer(event(Action::LoginOk)).is_err());
    assert_eq!(queue.take(NOTHING).len(), 2);
    assert!(queue.take(NOTHING).is_empty() && queue.is_closed());
}

#[test]
fn the_writing_thread_is_woken() {
    let queue = Arc::new(queue(8));
    let (written, confirmed) = std::sync::mpsc::channel();
    let writer = {
        let queue = Arc::clone(&queue);
        std::thread::spawn(move || {
            let mut seen = 0;
            while seen < 100 {
                let taken = queue.take(Duration::from_secs(60));
                seen += taken.len();
                queue.confirm(&taken);
                written.send(()).unwrap();
            }
        })
    };
    for _ in 0..100 {
        let ticket = queue.offer(event(Action::LoginOk)).unwrap();
        while !queue.is_durable(ticket) {
            confirmed.recv().unwrap();
        }
    }
    writer.join().unwrap();
}

#[test]
fn repetitions_are_told_at_the_end() {
    let queue = queue(16);
    for _ in 0..5 {
        queue.offer(event(Action::ConnRejected)).unwrap();
    }
    assert_eq!(queue.take(NOTHING).len(), 1);
    queue.finish(event(Action::Stop));
    let told = queue.take(NOTHING);
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].event.agg.unwrap().count, 4);
}

fn of(overflow: &Arc<Overflow>, action: Action) -> AuditEvent {
    let context = AuditContext {
        overflow: Some(Arc::clone(overflow)),
        ..AuditContext::default()
    };
    AuditEvent::new(action, Outcome::Ok, context)
}

fn actions(taken: &[Stamped]) -> Vec<Action> {
    taken.iter().map(|taken| taken.event.action).collect()
}

#[test]
fn what_finds_no_room_waits_with_its_connection() {
    let queue = queue(8);
    let overflow = Arc::new(Overflow::default());
    while queue.offer(event(Action::Denied)).is_ok() {}
    for _ in 0..2 {
        queue.record(of(&overflow, Action::Denied));
    }
    assert!(overflow.is_waiting() && !is_gapped(&queue));
    assert!(!queue.retry(&overflow));
    let written = queue.take(NOTHING);
    assert!(!queue.retry(&overflow), "taken is not written");
    queue.confirm(&written);
    assert!(queue.retry(&overflow) && !overflow.is_waiting());
    assert_eq!(actions(&queue.take(NOTHING)), [Action::Denied; 2]);
    assert_eq!(queue.lost_total(Class::AuthzDenied), 0);
    // Nothing of it keeps the connection's memory alive.
    assert_eq!(Arc::strong_count(&overflow), 1);
}

#[test]
fn what_waited_too_long_is_counted_but_for_what_stays() {
    let queue = queue(8);
    let overflow = Arc::new(Overflow::default());
    while queue.offer(event(Action::Denied)).is_ok() {}
    queue.record(of(&overflow, Action::Denied));
    queue.record(of(&overflow, Action::Allowed));
    assert!(queue.give_up(&overflow, |class| class == Class::AuthzAllowed));
    assert!(overflow.is_waiting());
    assert_eq!(queue.lost_total(Class::AuthzDenied), 1);
    assert_eq!(queue.lost_total(Class::AuthzAllowed), 0);
    assert!(!queue.give_up(&overflow, |_| false) && !overflow.is_waiting());
    assert_eq!(queue.lost_total(Class::AuthzAllowed), 1);
}

#[test]
fn a_connection_that_ends_leaves_counts() {
    let queue = queue(8);
    let overflow = Arc::new(Overflow::default());
    while queue.offer(event(Action::Denied)).is_ok() {}
    queue.record(of(&overflow, Action::Denied));
    queue.close(&overflow);
    queue.record(of(&overflow, Action::Denied));
    assert!(!overflow.is_waiting());
    assert_eq!(queue.lost_total(Class::AuthzDenied), 2);
}

#[test]
fn what_waits_with_connections_is_bounded() {
    let queue = queue(8);
    let overflow = Arc::new(Overflow::default());
    while queue.offer(event(Action::Denied)).is_ok() {}
    for _ in 0..20 {
        queue.record(of(&overflow, Action::Denied));
    }
    assert_eq!(queue.lost_total(Class::AuthzDenied), 12);
    // One whose event was only counted waits all the same.
    let other = Arc::new(Overflow::default());
    queue.record(of(&other, Action::Denied));
    assert!(other.is_waiting() && !queue.retry(&other));
    queue.confirm(&queue.take(NOTHING));
    assert!(queue.retry(&other) && !other.is_waiting());
}

#[test]
fn a_gap_names_its_cause() {
    let queue = queue(0);
    queue.record(event(Action::Denied));
    queue.stalled(Cause::DiskFull);
    queue.record(event(Action::Denied));
    queue.record(event(Action::Denied));
    let gaps: Vec<_> = queue.take(NOTHING).iter().map(|t| t.event.gap).collect();
    let gaps: Vec<_> = gaps.into_iter().flatten().collect();
    let told: Vec<_> = gaps.iter().map(|gap| (gap.count, gap.cause)).collect();
    assert_eq!(told, [(1, Cause::QueueFull), (2, Cause::DiskFull)]);
}

#[test]
fn what_fails_closed_overtakes_when_asked_to() {
    let queue = queue(64);
    let denied = queue.offer(event(Action::Denied)).unwrap();
    let login = queue.offer(event(Action::LoginOk)).unwrap();
    queue.record(event(Action::ConnRejected));
    queue.record(event(Action::ConnRejected));
    let taken = queue.take_fail_closed(NOTHING);
    assert_eq!(actions(&taken), [Action::LoginOk]);
    queue.confirm(&taken);
    assert!(queue.is_durable(login) && !queue.is_durable(denied));
    let taken = queue.take(NOTHING);
    assert_eq!(actions(&taken), [Action::Denied, Action::ConnRejected]);
    queue.put_back(taken);
    let taken = queue.take(NOTHING);
    assert_eq!(actions(&taken), [Action::Denied, Action::ConnRejected]);
    queue.confirm(&taken);
    assert!(queue.is_durable(denied));
    assert_eq!(queue.bytes(), 0);
}

/// A queue whose clock shows what it is told.
fn clocked() -> (AuditQueue, Arc<AtomicI64>) {
    let clock = Arc::new(AtomicI64::new(0));
    let shown = Arc::clone(&clock);
    let now = move || UnixMicros::new(shown.load(Ordering::Relaxed));
    (AuditQueue::new(1 << 20, now), clock)
}

#[test]
fn who_was_overtaken_comes_later_and_says_when_it_was() {
    let (queue, clock) = clocked();
    queue.offer(event(Action::Denied)).unwrap();
    clock.store(5_000_000, Ordering::Relaxed);
    queue.offer(event(Action::LoginOk)).unwrap();
    assert_eq!(queue.take_fail_closed(NOTHING).len(), 1);
    let taken = queue.take(NOTHING);
    assert_eq!(taken[0].at, UnixMicros::new(5_000_000));
    let detail = taken[0].event.detail.clone().unwrap();
    assert_eq!(detail, "happened at 1970-01-01T00:00:00.000000Z");
}

#[test]
fn a_step_of_the_clock_is_left_to_be_told() {
    let (queue, clock) = clocked();
    clock.store(50_000_000, Ordering::Relaxed);
    queue.offer(event(Action::LoginOk)).unwrap();
    clock.store(10_000_000, Ordering::Relaxed);
    queue.offer(event(Action::Logout)).unwrap();
    let taken = queue.take(NOTHING);
    assert_eq!(taken[1].at, UnixMicros::new(10_000_000));
    assert_eq!(taken[1].event.detail, None);
}

#[test]
fn a_step_of_the_clock_outlasts_a_batch_that_was_not_written() {
    let (queue, clock) = clocked();
    clock.store(50_000_000, Ordering::Relaxed);
    queue.offer(event(Action::LoginOk)).unwrap();
    clock.store(10_000_000, Ordering::Relaxed);
    queue.offer(event(Action::Logout)).unwrap();
    clock.store(11_000_000, Ordering::Relaxed);
    queue.offer(event(Action::Denied)).unwrap();
    queue.put_back(queue.take(NOTHING));
    let taken = queue.take(NOTHING);
    let seconds: Vec<_> = taken.iter().map(|one| one.at.value() / 1_000_000).collect();
    assert_eq!(seconds, [50, 10, 11]);
    assert!(taken.iter().all(|one| one.event.detail.is_none()));
}

#[test]
fn a_full_disk_is_not_told_of_every_count() {
    let queue = queue(8);
    while queue.offer(event(Action::Denied)).is_ok() {}
    queue.record(event(Action::Denied));
    assert!(queue.take_fail_closed(NOTHING).is_empty() && is_gapped(&queue));
    queue.offer(event(Action::LoginOk)).unwrap();
    let taken = queue.take_fail_closed(NOTHING);
    assert_eq!(actions(&taken), [Action::AuditGap, Action::LoginOk]);
}

#[test]
fn permitted_questions_fail_closed_where_that_is_wanted() {
    for closed in [false, true] {
        let queue = queue(8).with_allowed_failing_closed(closed);
        while queue.offer(event(Action::Denied)).is_ok() {}
        assert_eq!(queue.offer(event(Action::Allowed)).is_ok(), closed);
    }
}

#[test]
fn what_the_log_says_of_itself_comes_first() {
    let queue = queue(8);
    let login = queue.offer(event(Action::LoginOk)).unwrap();
    queue.note(event(Action::AuditReserve));
    let taken = queue.take(NOTHING);
    assert_eq!(actions(&taken), [Action::AuditReserve, Action::LoginOk]);
    assert!(taken[0].at <= taken[1].at);
    queue.confirm(&taken);
    assert!(queue.is_durable(login));
}
