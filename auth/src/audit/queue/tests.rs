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

#[test]
fn events_come_out_in_order_and_become_durable() {
    let queue = queue(8);
    let first = queue.offer(event(Action::LoginOk)).unwrap();
    let second = queue.offer(event(Action::Denied)).unwrap();
    let taken = queue.take(NOTHING);
    let tickets: Vec<_> = taken.iter().map(|t| t.ticket).collect();
    assert_eq!(tickets, [first, second]);
    assert!(taken[0].at < taken[1].at);
    assert!(!queue.is_durable(first));
    queue.confirm(first);
    assert!(queue.is_durable(first) && !queue.is_durable(second));
    assert!(!queue.wait_durable(second, NOTHING));
    queue.confirm(second);
    assert!(queue.wait_durable(second, NOTHING));
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn taken_events_still_count_against_the_bound() {
    let queue = queue(2);
    queue.offer(event(Action::LoginOk)).unwrap();
    let last = queue.offer(event(Action::LoginOk)).unwrap();
    let _stalled = queue.take(NOTHING);
    assert!(queue.offer(event(Action::LoginOk)).is_err());
    queue.confirm(last);
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
    assert!(queue.is_gapped());
    assert_eq!(queue.lost_total(Class::AuthzDenied), 3);
    // A login finds room and brings the gaps with it, ahead of itself.
    queue.offer(event(Action::LoginOk)).unwrap();
    assert!(!queue.is_gapped());
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
        [Action::AuditGap, Action::ConnRejected, Action::Stop]
    );
    assert!(queue.offer(event(Action::LoginOk)).is_err());
    assert!(queue.take(NOTHING).is_empty());
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
    let writer = {
        let queue = Arc::clone(&queue);
        std::thread::spawn(move || {
            let mut seen = 0;
            while seen < 100 {
                let taken = queue.take(Duration::from_secs(60));
                seen += taken.len();
                if let Some(last) = taken.last() {
                    queue.confirm(last.ticket);
                }
            }
        })
    };
    for _ in 0..100 {
        let ticket = queue.offer(event(Action::LoginOk)).unwrap();
        assert!(queue.wait_durable(ticket, Duration::from_secs(60)));
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
