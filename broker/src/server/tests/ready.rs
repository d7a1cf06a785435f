//! After login, and on PLAINTEXT from the first byte: security.md §1.8, order, bounds, panics.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use palisade_protocol::{ApiKey, Chunk, RecordSource};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::rig::*;
use crate::config::SecurityProtocol;
use crate::server::Room;
use crate::server::connection::Parting;
use crate::shutdown::Stage;

async fn plain() -> Rig {
    Rig::start(SecurityProtocol::Plaintext, limits()).await
}

#[tokio::test]
async fn answers_leave_in_the_order_of_their_requests() {
    let rig = plain().await;
    let mut client = rig.connect().await;
    let all = [
        ask(WAITS, 1),
        ask(ApiKey::Metadata, 2),
        ask(SILENT, 3),
        ask(ApiKey::Metadata, 4),
    ];
    client.send(&all.concat()).await;
    // The later ones are begun while the first one waits.
    while rig.service.begun.lock().len() < 4 {
        tokio::task::yield_now().await;
    }
    rig.service.open.send_replace(true);
    assert_eq!(client.answer().await.unwrap()[..], *b"\0\0\0\x01late");
    assert_eq!(client.answer().await.unwrap()[..], *b"\0\0\0\x02now");
    assert_eq!(client.answer().await.unwrap()[..], *b"\0\0\0\x04now");
}

#[tokio::test]
async fn a_closing_request_closes_after_earlier_answers_and_hides_later_ones() {
    let rig = plain().await;
    for closing in [
        ask(CLOSES, 2),
        ask(PANICS, 2),
        request(999, 0, 2, b""),
        request(3, 99, 2, b""),
    ] {
        let mut client = rig.connect().await;
        let all = [ask(ApiKey::Metadata, 1), closing, ask(ApiKey::Metadata, 3)].concat();
        client.send(&all).await;
        assert_eq!(client.answer().await.unwrap()[..], *b"\0\0\0\x01now");
        client.closed().await;
    }
    assert_eq!(
        &rig.connect().await.call(&ask(ApiKey::Metadata, 1)).await[4..],
        b"now"
    );
}

#[tokio::test]
async fn malformed_frames_close() {
    let rig = plain().await;
    let short = [0, 0, 0, 3, 0, 3, 0].to_vec();
    let client_id = request(3, 1, 1, b"")[..12].to_vec();
    let lengths = [-1, 0, i32::MAX, (4 << 20) + 1].map(|length: i32| length.to_be_bytes().to_vec());
    for bad in lengths
        .into_iter()
        .chain([short, [&[0, 0, 0, 8][..], &client_id[4..]].concat()])
    {
        let mut client = rig.connect().await;
        client.send(&bad).await;
        client.closed().await;
    }
}

#[tokio::test]
async fn foreign_protocols_close() {
    let rig = plain().await;
    for hello in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ] {
        let mut client = rig.connect().await;
        client.send(hello).await;
        client.closed().await;
    }
}

#[tokio::test]
async fn api_versions_and_sasl_are_answered_any_number_of_times() {
    let rig = plain().await;
    let mut client = rig.connect().await;
    for _ in 0..3 {
        assert_eq!(head(&client.call(&request(18, 0, 1, b"")).await), (1, 0));
        assert_eq!(
            head(&client.call(&request(18, 77, 2, b"\0")).await),
            (2, 35)
        );
        assert_eq!(head(&client.call(&handshake(1, "PLAIN")).await), (17, 34));
    }
}

#[tokio::test]
async fn a_claimed_length_holds_no_memory_and_harms_nobody() {
    let rig = plain().await;
    let mut liars = Vec::new();
    for _ in 0..20 {
        let mut liar = rig.connect().await;
        liar.send(&(4_u32 << 20).to_be_bytes()).await;
        liar.send(&[0; 100]).await;
        liars.push(liar);
    }
    // Had claims been reserved, two of them would hold the whole budget.
    let mut honest = rig.connect().await;
    let body = vec![0; 1 << 20];
    let answer = honest.call(&request(2, 1, 1, &body)).await;
    assert_eq!(&answer[4..], body.len().to_string().as_bytes());
}

#[tokio::test]
async fn large_frames_pass_one_after_another_within_the_budget() {
    let rig = plain().await;
    let body = vec![7; (4 << 20) - 100];
    let frame = Arc::new(request(2, 1, 1, &body));
    let mut clients = Vec::new();
    for _ in 0..6 {
        let (mut client, frame) = (rig.connect().await, Arc::clone(&frame));
        clients.push(crate::task::spawn("client", async move {
            for _ in 0..3 {
                assert_eq!(&client.call(&frame).await[4..], b"4194204");
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn a_cut_frame_is_never_executed() {
    let rig = plain().await;
    let mut client = rig.connect().await;
    let frame = ask(ApiKey::Metadata, 1);
    client.send(&frame[..frame.len() - 1]).await;
    drop(client);
    rig.connect().await.call(&ask(MEASURES, 1)).await;
    let begun = rig.service.begun.lock().clone();
    assert_eq!(begun, [(MEASURES, "User:ANONYMOUS".to_owned())]);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_not_read_for_ever() {
    let rig = plain().await;
    let mut client = rig.connect().await;
    let asks: Vec<u8> = (0..1000).flat_map(|at| ask(WAITS, at)).collect();
    client.send(&asks).await;
    while rig.service.begun.lock().len() < 64 {
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        rig.service.begun.lock().len(),
        64,
        "the bound on owed answers"
    );
    rig.service.open.send_replace(true);
    for at in 0..1000 {
        assert_eq!(head(&client.answer().await.unwrap()).0, at);
    }
}

#[tokio::test]
async fn idle_connections_are_closed_and_waiting_ones_are_not() {
    let mut bounds = limits();
    bounds.idle = Some(Duration::from_millis(50));
    let rig = Rig::start(SecurityProtocol::Plaintext, bounds).await;
    let mut idle = rig.connect().await;
    let mut waiting = rig.connect().await;
    waiting.send(&ask(WAITS, 1)).await;
    idle.call(&ask(ApiKey::Metadata, 1)).await;
    idle.closed().await;
    let mut second = rig.connect().await;
    second.closed().await;
    rig.service.open.send_replace(true);
    assert_eq!(waiting.answer().await.unwrap()[..], *b"\0\0\0\x01late");
}

#[tokio::test]
async fn a_connection_that_is_read_no_more_is_idle_in_the_end() {
    let mut bounds = limits();
    bounds.idle = Some(Duration::from_millis(50));
    let rig = Rig::start(SecurityProtocol::Plaintext, bounds).await;
    let mut client = rig.connect().await;
    // So much that the end of the client's stream would never be read.
    let all: Vec<_> = (0..100).map(|at| ask(WAITS, at)).collect();
    client.send(&all.concat()).await;
    client.closed().await;
    assert!(rig.service.begun.lock().len() < all.len());
}

#[tokio::test]
async fn a_connection_that_is_held_is_idle_in_the_end() {
    let mut bounds = limits();
    bounds.idle = Some(Duration::from_millis(50));
    let rig = Rig::with_room(bounds, Room::full(Duration::ZERO)).await;
    rig.service.open.send_replace(true);
    let mut client = rig.connect().await;
    client.send(&ask(AUDITED, 1)).await;
    // While it is held nobody reads that its peer is gone.
    client.0.shutdown().await.unwrap();
    client.closed().await;
    assert_eq!(rig.service.begun.lock().len(), 1);
}

#[tokio::test]
async fn a_frame_is_not_slow_because_its_connection_was_held() {
    let mut bounds = limits();
    bounds.frame = Duration::from_secs(2);
    let room = Room::full(Duration::from_secs(3600));
    let rig = Rig::with_room(bounds, room.clone()).await;
    let frame = ask(ApiKey::Metadata, 2);
    let (half, rest) = frame.split_at(frame.len() - 1);
    let mut held = rig.connect().await;
    held.send(&[&ask(AUDITED, 1), half].concat()).await;
    while rig.service.begun.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    rig.service.open.send_replace(true);
    // Whoever only begins a frame is slow, and when that is seen the time of both is over.
    let mut slow = rig.connect().await;
    slow.send(half).await;
    slow.closed().await;
    assert_eq!(rig.service.begun.lock().len(), 1);
    room.empty();
    assert_eq!(held.answer().await.unwrap()[..], *b"\0\0\0\x01late");
    held.send(rest).await;
    assert_eq!(held.answer().await.unwrap()[..], *b"\0\0\0\x02now");
}

#[tokio::test]
async fn a_connection_that_closes_behind_a_waiting_request_is_idle_in_the_end() {
    let mut bounds = limits();
    bounds.idle = Some(Duration::from_millis(50));
    let rig = Rig::start(SecurityProtocol::Plaintext, bounds).await;
    for last in [request(999, 0, 2, b""), (-1_i32).to_be_bytes().to_vec()] {
        let mut client = rig.connect().await;
        // Nobody reads whether this client is still there.
        client.send(&[ask(WAITS, 1), last].concat()).await;
        client.closed().await;
    }
}

#[tokio::test]
async fn draining_gives_a_revoked_session_no_more_time() {
    let rig = plain().await;
    let mut client = rig.connect().await;
    client.send(&ask(WAITS, 1)).await;
    while rig.service.begun.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    rig.server
        .revoke(|session| session.principal.is_anonymous());
    rig.shutdown.advance(Stage::Draining);
    client.closed().await;
}

#[tokio::test]
async fn draining_answers_what_was_begun_and_takes_nothing_new() {
    let rig = plain().await;
    let mut client = rig.connect().await;
    client.send(&ask(WAITS, 1)).await;
    while rig.service.begun.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    rig.shutdown.advance(Stage::Draining);
    client.send(&ask(ApiKey::Metadata, 2)).await;
    rig.service.open.send_replace(true);
    assert_eq!(client.answer().await.unwrap()[..], *b"\0\0\0\x01late");
    client.closed().await;
    rig.stop().await;
}

#[tokio::test]
async fn draining_does_not_wait_for_a_peer_that_has_been_silent() {
    let parting = Parting {
        wait: LONG,
        quiet: Duration::ZERO,
    };
    let rig = Rig::with_parting(SecurityProtocol::Plaintext, parting).await;
    let mut silent = rig.connect().await;
    silent.call(&ask(ApiKey::Metadata, 1)).await;
    let stopped = timeout(PATIENCE, rig.stop()).await;
    assert!(stopped.is_ok(), "it is waited for");
    silent.closed().await;
}

#[tokio::test]
async fn draining_waits_for_a_peer_that_was_told_something_just_now() {
    let parting = Parting {
        wait: LONG,
        quiet: LONG,
    };
    let rig = Rig::with_parting(SecurityProtocol::Plaintext, parting).await;
    let mut client = rig.connect().await;
    client.call(&ask(ApiKey::Metadata, 1)).await;
    let places = rig.server.places.available_permits();
    rig.shutdown.advance(Stage::Draining);
    client.closed().await;
    assert_eq!(rig.server.places.available_permits(), places);
    drop(client);
    rig.stop().await;
}

#[tokio::test]
async fn revoked_sessions_end() {
    let rig = plain().await;
    let mut client = rig.connect().await;
    client.call(&ask(ApiKey::Metadata, 1)).await;
    rig.server
        .revoke(|session| session.principal.is_anonymous());
    client.closed().await;
}

#[tokio::test]
async fn the_per_address_bound_closes_at_once() {
    let mut bounds = limits();
    bounds.max_connections_per_ip = 1;
    let rig = Rig::start(SecurityProtocol::Plaintext, bounds).await;
    let mut first = rig.connect().await;
    first.call(&ask(ApiKey::Metadata, 1)).await;
    rig.connect().await.closed().await;
    first.call(&ask(ApiKey::Metadata, 2)).await;
}

/// Records that must be read in before they may be touched.
#[derive(Debug)]
struct Cold {
    bytes: Vec<u8>,
    warm: AtomicBool,
    reads: AtomicUsize,
    broken: bool,
}

impl RecordSource for Cold {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn slice(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    fn is_resident(&self, _range: Range<usize>) -> bool {
        self.warm.load(Ordering::Relaxed)
    }

    fn make_resident(&self, range: Range<usize>) -> io::Result<()> {
        assert!(range.len() <= 256 * 1024 && !range.is_empty());
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.broken {
            return Err(io::Error::other("the disk is gone"));
        }
        Ok(())
    }
}

pub(super) fn cold(len: usize, broken: bool) -> (Arc<dyn RecordSource>, Vec<Chunk>) {
    let source: Arc<dyn RecordSource> = Arc::new(Cold {
        bytes: (0..len).map(|at| (at % 251) as u8).collect(),
        warm: AtomicBool::new(false),
        reads: AtomicUsize::new(0),
        broken,
    });
    let head = [&(len as u32 + 4 + 3).to_be_bytes()[..], &[0, 0, 0, 1]].concat();
    let chunks = vec![
        Chunk::Bytes(head.into()),
        Chunk::Records(Arc::clone(&source)),
        Chunk::Bytes(b"end"[..].into()),
    ];
    (source, chunks)
}

#[tokio::test]
async fn cold_records_are_read_in_and_sent_whole() {
    let rig = plain().await;
    let mut client = rig.connect().await;
    for len in [1, 1000, 256 * 1024, 1_000_003] {
        let (source, chunks) = cold(len, false);
        *rig.service.given.lock() = chunks;
        let answer = client.call(&ask(GIVEN, 1)).await;
        assert_eq!(answer.len(), 4 + len + 3);
        assert!(answer[4..4 + len] == *source.slice(0..len), "bytes differ");
        assert_eq!(&answer[4 + len..], b"end");
    }
}

#[tokio::test]
async fn records_that_cannot_be_read_end_the_connection_not_the_answer() {
    let rig = plain().await;
    let (_source, chunks) = cold(1000, true);
    *rig.service.given.lock() = chunks;
    let mut client = rig.connect().await;
    client.send(&ask(GIVEN, 1)).await;
    assert_eq!(
        client.answer().await,
        None,
        "an answer that is not whole is no answer"
    );
}
