//! Rows whose outcome is that time or places run out.

use std::io::Read;
use std::time::Duration;

use palisade_protocol::messages::api_versions::ApiVersionsRequest;
use palisade_tests::wire::{self, Connection, Transport};

use super::Row;
use super::world::{World, closed, from_elsewhere, handshake, send};

pub(super) const ROWS: &[Row] = &[
    ("T05", silence_inside_a_token),
    ("T06", too_many_strangers),
    ("T08", a_byte_at_a_time),
    ("P15", silence_after_the_greeting),
];

fn silence_inside_a_token(world: &World) {
    let mut connection = world.sasl();
    assert_eq!(handshake(&mut connection, 1, "SCRAM-SHA-256"), 0);
    connection
        .send_raw(&524_288_i32.to_be_bytes())
        .expect("a length");
    connection.send_raw(&[0; 10]).expect("ten bytes");
    closed(connection, "a frame that does not come");
}

fn too_many_strangers(_: &World) {
    // No timer goes off while this looks: it is the cap that ends them.
    let world = World::patient();
    let mut live = world.admin();
    // An answer shows that this one is not counted among the strangers any more.
    live.call(0, &ApiVersionsRequest::default())
        .expect("who is in is served");
    let mut strangers: Vec<_> = (0..80)
        .map(|_| wire::tcp(&world.token).expect("TCP"))
        .map(|stream| Connection::new(Transport::Plain(stream)))
        .collect();
    for surplus in strangers.split_off(64) {
        closed(surplus, "beyond the cap");
    }
    for stranger in &mut strangers {
        stranger
            .call(0, &ApiVersionsRequest::default())
            .expect("who came before the cap stays");
    }
    live.call(0, &ApiVersionsRequest::default())
        .expect("who is in stays in");
    let other = from_elsewhere(&world.token).expect("another address");
    let mut other = Connection::new(Transport::Plain(other));
    assert_eq!(
        handshake(&mut other, 1, "SCRAM-SHA-256"),
        0,
        "another address is let in"
    );
    drop(strangers);
    palisade_tests::check::eventually("places", Duration::from_secs(10), || {
        let mut next = world.sasl();
        let greeted = next.call(0, &ApiVersionsRequest::default());
        greeted.map(drop).map_err(|error| error.to_string())
    });
}

fn a_byte_at_a_time(world: &World) {
    let mut connection = world.sasl();
    let Transport::Plain(stream) = connection.transport() else {
        unreachable!("SASL_PLAINTEXT has no TLS");
    };
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a timeout");
    let mut frame = vec![0, 0, 0, 200];
    frame.extend([0; 200]);
    let mut sent = 0;
    for byte in frame {
        if connection.send_raw(&[byte]).is_err() {
            break;
        }
        sent += 1;
        let Transport::Plain(stream) = connection.transport() else {
            unreachable!("SASL_PLAINTEXT has no TLS");
        };
        if matches!(stream.read(&mut [0]), Ok(0)) {
            break;
        }
    }
    assert!(
        sent < 150,
        "closed long before the frame is whole, after {sent} bytes"
    );
}

fn silence_after_the_greeting(world: &World) {
    let mut connection = world.tls();
    send(&mut connection, 18, 0, &[]);
    connection.receive().expect("a greeting");
    closed(connection, "nothing after the greeting");
}
