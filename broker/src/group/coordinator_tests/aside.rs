//! An event that takes long, and sockets of the same runtime.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::group::coordinator::partition_of;
use crate::group::shard::MANY;
use crate::task;

/// Who waits for longer waits for nothing.
const PATIENCE: Duration = Duration::from_secs(20);
const ECHOES: usize = 100;

/// Asks for an event of so many rows, which may be told to look again.
async fn ask<T: Send + 'static>(
    rig: &Rig,
    group: &Str,
    rows: usize,
    event: impl FnOnce() -> T + Clone + Send + 'static,
) -> Awaited<Result<T, GroupError>> {
    loop {
        let event = event.clone();
        let decide = move |_: &mut Shard, _: &Moment<'_>, asker| {
            Step::decided(Decision::answer(event()), asker)
        };
        match rig.groups.ask_of(group.clone(), rows, decide).await {
            Ok(awaited) => return awaited,
            Err(GroupError::Loading) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Sends back what comes.
async fn echo(listener: TcpListener) {
    let Ok((mut stream, _)) = listener.accept().await else {
        return;
    };
    let mut byte = [0];
    while stream.read_exact(&mut byte).await.is_ok() {
        stream.write_all(&byte).await.unwrap();
    }
}

/// A client without part in the runtime; it begins once all events have begun, and then tells them.
fn client(address: SocketAddr, begun: &Receiver<()>, waiting: Vec<Sender<()>>) {
    for _ in &waiting {
        begun.recv().unwrap();
    }
    let mut stream = TcpStream::connect(address).unwrap();
    for number in 0..ECHOES {
        let sent = [u8::try_from(number).unwrap()];
        let mut got = [0];
        stream.write_all(&sent).unwrap();
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, sent);
    }
    for one in waiting {
        // Who has waited too long is gone.
        let _ = one.send(());
    }
}

/// Has each worker held by an event, and says of each whether sockets were served meanwhile.
fn served(workers: usize, rows: usize) -> Vec<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let partitions = i32::try_from(workers).unwrap();
        let rig = Rig::over(TestNode::new().topic(TOPIC, partitions, &[]));
        let groups = (0..partitions).map(|index| {
            let mut names = (0..).map(|number| Str::from(format!("g{number}")));
            let is_there = |name: &Str| partition_of(name, workers).value() == index;
            names.find(is_there).unwrap()
        });
        let groups: Vec<Str> = groups.collect();
        for group in &groups {
            let asked = ask(&rig, group, 0, || ()).await;
            asked.answer().await.unwrap().unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        task::spawn("echo", echo(listener));
        let (begin, begun) = channel();
        let (tell, told): (Vec<_>, Vec<_>) = groups.iter().map(|_| channel()).unzip();
        let client = std::thread::spawn(move || client(address, &begun, tell));
        let mut asked = Vec::new();
        for (group, told) in groups.iter().zip(told) {
            let (begin, told) = (begin.clone(), Arc::new(parking_lot::Mutex::new(told)));
            let event = move || {
                begin.send(()).unwrap();
                told.lock().recv_timeout(PATIENCE).is_ok()
            };
            asked.push(ask(&rig, group, rows, event).await);
        }
        let mut served = Vec::new();
        for one in asked {
            served.push(one.answer().await.unwrap().unwrap());
        }
        client.join().unwrap();
        served
    })
}

#[test]
fn sockets_are_served_while_events_take_long() {
    for workers in [1, 2] {
        assert_eq!(served(workers, MANY), vec![true; workers]);
    }
}
