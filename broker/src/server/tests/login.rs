//! Before login: the rows of security.md §1.6 and the cases P and T of §8.

use std::sync::atomic::Ordering;
use std::time::Duration;

use palisade_auth::audit::Action;
use palisade_auth::principal::Principal;
use palisade_protocol::ApiKey;

use super::rig::*;
use crate::config::SecurityProtocol;
use crate::server::LINGERING;
use crate::server::connection::Parting;
use crate::server::frame_budget::FREE_BYTES;

const PLAIN_ALICE: &[u8] = b"\0alice\0secret";

async fn sasl() -> Rig {
    Rig::start(SecurityProtocol::SaslPlaintext, limits()).await
}

#[tokio::test]
async fn a_login_opens_the_api_and_names_the_principal() {
    let rig = sasl().await;
    let mut client = rig.connect().await;
    assert_eq!(head(&client.call(&request(18, 0, 1, b"")).await), (1, 0));
    assert_eq!(head(&client.call(&handshake(1, "PLAIN")).await), (17, 0));
    assert_eq!(head(&client.call(&token(PLAIN_ALICE)).await), (36, 0));
    assert_eq!(
        &client.call(&ask(ApiKey::Metadata, 9)).await[..],
        b"\0\0\0\x09now"
    );
    let begun = rig.service.begun.lock().clone();
    assert_eq!(begun, [(ApiKey::Metadata, "User:alice".to_owned())]);
    assert_eq!(rig.service.events.reasons(Action::LoginOk), [None]);
}

#[tokio::test]
async fn a_login_names_whose_share_frames_are_of() {
    let rig = sasl().await;
    let mut client = rig.connect().await;
    client.call(&handshake(1, "PLAIN")).await;
    client.call(&token(PLAIN_ALICE)).await;
    let frame = request(2, 1, 1, &[0; 1 << 20]);
    client.send(&frame[..FREE_BYTES + 100]).await;
    let budget = &rig.server.budget;
    while budget.available() == budget.total() {
        tokio::task::yield_now().await;
    }
    assert_eq!(budget.users(), [Principal::user("alice")]);
    drop(client);
    while budget.available() < budget.total() {
        tokio::task::yield_now().await;
    }
    assert_eq!(budget.users(), []);
}

#[tokio::test]
async fn raw_tokens_follow_a_handshake_of_version_0() {
    let rig = sasl().await;
    let mut client = rig.connect().await;
    client.call(&handshake(0, "PLAIN")).await;
    let mut raw = (PLAIN_ALICE.len() as u32).to_be_bytes().to_vec();
    raw.extend_from_slice(PLAIN_ALICE);
    assert_eq!(
        client.call(&raw).await,
        b""[..],
        "success is answered with an empty token"
    );
    assert_eq!(&client.call(&ask(ApiKey::Metadata, 9)).await[4..], b"now");
}

#[tokio::test]
async fn nothing_but_the_login_is_answered_first() {
    let rig = sasl().await;
    for key in (-1..=92).chain([500, 501, 502, i16::MAX]) {
        if [17, 18].contains(&key) {
            continue;
        }
        let mut client = rig.connect().await;
        client.send(&request(key, 0, 1, b"")).await;
        client.closed().await;
    }
    assert!(
        rig.service.begun.lock().is_empty(),
        "a request was looked at before login"
    );
}

#[tokio::test]
async fn absurd_lengths_close_without_a_word() {
    let rig = sasl().await;
    let lengths: [i32; 6] = [-1, 0, i32::MAX, 0x1603_0100, 0x4745_5420, 8193];
    for length in lengths {
        let mut client = rig.connect().await;
        client.send(&length.to_be_bytes()).await;
        client.closed().await;
    }
    let reasons = rig.service.events.reasons(Action::LoginFailed);
    assert_eq!(reasons.len(), lengths.len());
}

#[tokio::test]
async fn row_d_a_second_api_versions_closes() {
    let rig = sasl().await;
    let mut client = rig.connect().await;
    client.call(&request(18, 0, 1, b"")).await;
    client.send(&request(18, 0, 2, b"")).await;
    client.closed().await;
}

#[tokio::test]
async fn row_e_a_future_api_versions_is_told_the_range_and_may_come_again() {
    let rig = sasl().await;
    let mut client = rig.connect().await;
    let answer = client.call(&request(18, 99, 5, b"\0")).await;
    assert_eq!(head(&answer), (5, 35));
    assert_eq!(answer.len(), 4 + 2 + 4 + 6, "a v0 body with one row");
    assert_eq!(head(&client.call(&request(18, -3, 6, b"")).await), (6, 35));
    assert_eq!(head(&client.call(&request(18, 0, 7, b"")).await), (7, 0));
    assert_eq!(head(&client.call(&handshake(1, "PLAIN")).await), (17, 0));
}

#[tokio::test]
async fn row_e_above_the_range_the_header_must_be_whole() {
    let rig = sasl().await;
    let mut client = rig.connect().await;
    client.send(&request(18, 99, 5, b"")).await;
    client.closed().await;
}

#[tokio::test]
async fn row_f_bad_software_names_may_be_corrected() {
    let rig = sasl().await;
    let mut client = rig.connect().await;
    let bad = request(18, 3, 1, b"\0\x0abad name!\x041.0\0");
    assert_eq!(head(&client.call(&bad).await), (1, 42));
    let good = request(18, 3, 2, b"\0\x05good\x041.0\0");
    assert_eq!(head(&client.call(&good).await), (2, 0));
}

#[tokio::test]
async fn row_g_an_unknown_mechanism_gets_the_list_and_is_closed() {
    let rig = sasl().await;
    for mechanism in ["FOO", "plain", "", "SCRAM-SHA-512"] {
        let mut client = rig.connect().await;
        let answer = client.call(&handshake(1, mechanism)).await;
        assert_eq!(head(&answer), (17, 33));
        assert_eq!(&answer[6..], b"\0\0\0\x02\0\x0dSCRAM-SHA-256\0\x05PLAIN");
        client.closed().await;
    }
}

#[tokio::test]
async fn row_h_bad_handshakes_close() {
    let rig = sasl().await;
    let truncated = request(17, 1, 1, b"\0\x05PLA");
    for bad in [handshake(2, "PLAIN"), handshake(-1, "PLAIN"), truncated] {
        let mut client = rig.connect().await;
        client.send(&bad).await;
        client.closed().await;
    }
}

#[tokio::test]
async fn row_i_other_requests_between_handshake_and_token_close() {
    let rig = sasl().await;
    for other in [ApiKey::Metadata, ApiKey::Produce] {
        let mut client = rig.connect().await;
        client.call(&handshake(1, "PLAIN")).await;
        client.send(&ask(other, 2)).await;
        client.closed().await;
    }
    assert!(rig.service.begun.lock().is_empty());
}

#[tokio::test]
async fn row_i_a_second_greeting_is_told_off_in_its_own_form() {
    let rig = sasl().await;
    for greeting in [
        handshake(1, "PLAIN"),
        request(18, 0, 17, b""),
        request(18, 99, 17, b"\0"),
    ] {
        let mut client = rig.connect().await;
        client.call(&handshake(1, "PLAIN")).await;
        assert_eq!(head(&client.call(&greeting).await), (17, 34));
        client.closed().await;
    }
}

#[tokio::test]
async fn row_j_malformed_tokens_close() {
    let rig = sasl().await;
    let raw = [&[0, 0, 0, 13][..], PLAIN_ALICE].concat();
    let version = request(36, 9, 1, b"\0\0\0\0\0");
    let cut = request(36, 1, 1, b"\0\0\0\x09abc");
    for bad in [raw, version, cut] {
        let mut client = rig.connect().await;
        client.call(&handshake(1, "PLAIN")).await;
        client.send(&bad).await;
        client.closed().await;
    }
}

#[tokio::test]
async fn row_k_refused_credentials_get_their_answer_after_the_delay() {
    let rig = sasl().await;
    for bad in [
        &b"\0alice\0wrong"[..],
        b"\0nobody\0secret",
        b"admin\0alice\0secret",
        b"alice",
    ] {
        let mut client = rig.connect().await;
        client.call(&handshake(1, "PLAIN")).await;
        let answer = client.call(&token(bad)).await;
        assert_eq!(head(&answer), (36, 58));
        client.closed().await;
    }
    let reasons = rig.service.events.reasons(Action::LoginFailed);
    assert_eq!(reasons.len(), 4);
    assert_eq!(
        reasons[1],
        Some("unknown_user"),
        "the audit log knows more than the client"
    );
}

#[tokio::test]
async fn row_l_a_refused_raw_token_gets_nothing() {
    let rig = sasl().await;
    let mut client = rig.connect().await;
    client.call(&handshake(0, "PLAIN")).await;
    client.send(&token(PLAIN_ALICE)).await;
    client.closed().await;
}

#[tokio::test]
async fn a_scram_exchange_ends_at_its_first_bad_message() {
    let rig = sasl().await;
    let mut client = rig.connect().await;
    client.call(&handshake(1, "SCRAM-SHA-256")).await;
    let answer = client.call(&token(b"n,,n=alice,r=abcdefgh")).await;
    assert_eq!(head(&answer), (36, 0));
    let answer = client.call(&token(b"c=biws,r=wrong,p=AAAA")).await;
    assert_eq!(head(&answer), (36, 58));
    client.closed().await;
}

#[tokio::test]
async fn a_login_that_cannot_be_recorded_is_refused() {
    let rig = sasl().await;
    rig.service.keeps_logins.store(false, Ordering::Relaxed);
    let mut client = rig.connect().await;
    client.call(&handshake(1, "PLAIN")).await;
    client
        .send(&[token(PLAIN_ALICE), ask(ApiKey::Metadata, 1)].concat())
        .await;
    assert_eq!(head(&client.answer().await.unwrap()), (36, 58));
    client.closed().await;
    assert!(rig.service.begun.lock().is_empty());
}

/// Nobody who ends sessions has seen this one yet: it must look for itself.
#[tokio::test]
async fn a_user_deleted_between_proof_and_session_is_not_served() {
    let rig = sasl().await;
    rig.service.deletes_user.store(true, Ordering::Relaxed);
    let mut client = rig.connect().await;
    client.call(&handshake(1, "PLAIN")).await;
    let login = [token(PLAIN_ALICE), ask(ApiKey::Metadata, 1)].concat();
    client.send(&login).await;
    assert_eq!(head(&client.answer().await.unwrap()), (36, 0));
    client.closed().await;
    assert!(rig.service.begun.lock().is_empty());
    let revoked = rig.service.events.reasons(Action::SessionRevoked);
    assert_eq!(revoked, [None], "told once");
}

#[tokio::test]
async fn a_request_behind_a_failed_login_is_never_parsed() {
    let rig = sasl().await;
    for (password, begun) in [("wrong", 0), ("secret", 1)] {
        let mut client = rig.connect().await;
        let login = token(format!("\0alice\0{password}").as_bytes());
        let all = [handshake(1, "PLAIN"), login, ask(ApiKey::Metadata, 5)].concat();
        client.send(&all).await;
        assert_eq!(head(&client.answer().await.unwrap()), (17, 0));
        let judged = head(&client.answer().await.unwrap()).1;
        assert_eq!(judged == 0, begun == 1);
        let next = client.answer().await;
        assert_eq!(next.is_some(), begun == 1);
        assert_eq!(rig.service.begun.lock().len(), begun);
    }
}

#[tokio::test]
async fn silence_is_ended_by_the_login_timer() {
    let mut bounds = limits();
    bounds.login = Duration::from_millis(50);
    let rig = Rig::start(SecurityProtocol::SaslPlaintext, bounds).await;
    let mut silent = rig.connect().await;
    silent.closed().await;
    let mut greeted = rig.connect().await;
    greeted.call(&request(18, 0, 1, b"")).await;
    greeted.closed().await;
    let reasons = rig.service.events.reasons(Action::LoginFailed);
    assert_eq!(reasons, [Some("timeout"), Some("timeout")]);
}

#[tokio::test]
async fn a_frame_that_dribbles_is_ended_by_the_frame_timer() {
    let mut bounds = limits();
    bounds.frame = Duration::from_millis(50);
    let rig = Rig::start(SecurityProtocol::SaslPlaintext, bounds).await;
    let mut client = rig.connect().await;
    client.send(&[0, 0, 0, 10, 0]).await;
    client.closed().await;
    assert_eq!(
        rig.service.events.reasons(Action::LoginFailed),
        [Some("timeout")]
    );
}

#[tokio::test]
async fn a_client_that_leaves_during_the_delay_frees_its_place() {
    let mut bounds = limits();
    bounds.failed_authentication_delay = Duration::from_secs(50);
    let rig = Rig::start(SecurityProtocol::SaslPlaintext, bounds).await;
    let mut client = rig.connect().await;
    client.call(&handshake(1, "PLAIN")).await;
    client.send(&token(b"\0alice\0wrong")).await;
    drop(client);
    // Stopping waits for every connection: it would take as long as the delay.
    rig.stop().await;
}

#[tokio::test]
async fn only_so_many_refused_clients_may_end_their_connections_first() {
    let parting = Parting {
        wait: LONG,
        quiet: LONG,
    };
    let rig = Rig::with_parting(SecurityProtocol::SaslPlaintext, parting).await;
    let refused = async || {
        let mut client = rig.connect().await;
        client.call(&handshake(1, "PLAIN")).await;
        let answer = client.call(&token(b"\0alice\0wrong")).await;
        assert_eq!(head(&answer), (36, 58));
        client
    };
    let left = || rig.server.lingering_logins.available_permits();
    let mut waited_for = Vec::new();
    for _ in 0..LINGERING {
        waited_for.push(refused().await);
    }
    while left() > 0 {
        tokio::task::yield_now().await;
    }
    refused().await.closed().await;
    assert_eq!(left(), 0, "the others are still waited for");
    // Who goes makes room for another one.
    waited_for.pop();
    while left() == 0 {
        tokio::task::yield_now().await;
    }
    waited_for.push(refused().await);
    while left() > 0 {
        tokio::task::yield_now().await;
    }
    // A node that stops waits for none of them.
    rig.stop().await;
}

/// The delay is a brake on guessing: it frees no place for the next guess.
#[tokio::test]
async fn a_refused_login_is_unproven_until_its_delay_is_over() {
    let mut bounds = limits();
    bounds.max_unauthenticated_per_ip = 1;
    bounds.failed_authentication_delay = LONG;
    let rig = Rig::start(SecurityProtocol::SaslPlaintext, bounds).await;
    let mut client = rig.connect().await;
    client.call(&handshake(1, "PLAIN")).await;
    client.send(&token(b"\0alice\0wrong")).await;
    while rig.service.events.reasons(Action::LoginFailed).is_empty() {
        tokio::task::yield_now().await;
    }
    rig.connect().await.closed().await;
    let refused = rig.service.events.reasons(Action::ConnRejected);
    assert_eq!(refused, [Some("unauthenticated_per_ip")]);
}

#[tokio::test]
async fn refused_logins_that_are_waited_for_leave_room_for_others() {
    let parting = Parting {
        wait: LONG,
        quiet: LONG,
    };
    let mut bounds = limits();
    bounds.max_unauthenticated_per_ip = 2;
    let protocol = SecurityProtocol::SaslPlaintext;
    let rig = Rig::with(protocol, bounds, None, None, parting).await;
    let mut waited_for = Vec::new();
    for _ in 0..2 {
        let mut client = rig.connect().await;
        client.call(&handshake(1, "PLAIN")).await;
        let answer = client.call(&token(b"\0alice\0wrong")).await;
        assert_eq!(head(&answer), (36, 58));
        waited_for.push(client);
    }
    while rig.server.lingering_logins.available_permits() > LINGERING - 2 {
        tokio::task::yield_now().await;
    }
    let mut honest = rig.connect().await;
    honest.call(&handshake(1, "PLAIN")).await;
    assert_eq!(head(&honest.call(&token(PLAIN_ALICE)).await), (36, 0));
}

/// Where nobody logs in nobody is unproven, also of those who come at once.
#[tokio::test]
async fn a_crowd_in_the_clear_is_let_in() {
    let mut bounds = limits();
    bounds.max_unauthenticated_per_ip = 1;
    let rig = Rig::start(SecurityProtocol::Plaintext, bounds).await;
    // Before the broker has its turn.
    let crowd: Vec<_> = (0..20).map(|_| rig.knock()).collect();
    for mut client in crowd {
        assert_eq!(head(&client.call(&request(18, 0, 1, b"")).await), (1, 0));
    }
}

#[tokio::test]
async fn the_unproven_are_bounded_and_others_still_log_in() {
    let mut bounds = limits();
    bounds.max_unauthenticated_per_ip = 2;
    let rig = Rig::start(SecurityProtocol::SaslPlaintext, bounds).await;
    let mut proven = rig.connect().await;
    proven.call(&handshake(1, "PLAIN")).await;
    proven.call(&token(PLAIN_ALICE)).await;
    proven.call(&ask(ApiKey::Metadata, 1)).await;
    let (mut a, mut b) = (rig.connect().await, rig.connect().await);
    a.call(&request(18, 0, 1, b"")).await;
    b.call(&request(18, 0, 1, b"")).await;
    rig.connect().await.closed().await;
    let refused = rig.service.events.reasons(Action::ConnRejected);
    assert_eq!(refused, [Some("unauthenticated_per_ip")]);
    a.call(&handshake(1, "PLAIN")).await;
    a.call(&token(PLAIN_ALICE)).await;
    a.call(&ask(ApiKey::Metadata, 1)).await;
    let mut c = rig.connect().await;
    assert_eq!(head(&c.call(&request(18, 0, 1, b"")).await), (1, 0));
}
