//! Decoding requests within bounded memory.
//!
//! The elements of a request's arrays take more memory than bytes on the wire, up to some forty
//! times: a topic name of one byte is a string of its own. What a request may become is therefore
//! a matter of its own budget. A small request is simply decoded. One that proves to be larger is
//! decoded again after room for it was reserved, first come first served, and keeps that room until
//! its ordered stage is over, which may take long. One user has half of the budget, which is enough
//! for any one request. Nobody waits for more while holding some.

use palisade_auth::principal::Principal;
use palisade_protocol::{DecodeError, Message, Reader};

use crate::server::{FrameBudget, Reservation};

/// Memory that the elements of a request may take without asking, in bytes.
const FREE: usize = 256 * 1024;
/// What is asked for then, one after the other until it is enough; the last is the most that a
/// request may take at all. It is room for 100,000 partitions or more.
const STEPS: [usize; 3] = [1 << 20, 4 << 20, 16 << 20];
/// What a handler makes of each byte: the request itself, the rows of its answer, the answer's
/// bytes, and what it looks up on the way.
const FACTOR: usize = 4;
/// The budget of the node, in bytes: two requests of the largest kind at a time.
const TOTAL: usize = 2 * (16 << 20) * FACTOR;

/// The memory of one node for decoded requests.
#[derive(Clone, Debug)]
pub(crate) struct Decoding {
    budget: FrameBudget,
}

impl Decoding {
    /// A budget that is all free.
    pub(crate) fn new() -> Decoding {
        const { assert!(STEPS[STEPS.len() - 1] * FACTOR <= TOTAL / 2) };
        Decoding {
            budget: FrameBudget::new(TOTAL, TOTAL).expect("the largest request fits"),
        }
    }

    /// Decodes the body of a request of `user`; what it returns beside that is to be held as long
    /// as it.
    ///
    /// Bytes left over after a body that parsed are ignored, as Kafka does.
    ///
    /// # Errors
    /// Those of the body, and `TooMuchMemory` when no step is enough.
    pub(crate) async fn decode<M: Message>(
        &self,
        user: &Principal,
        body: Reader,
        version: i16,
    ) -> Result<(M, Option<Reservation>), DecodeError> {
        let mut refused = match M::decode(&mut body.clone().allowing(FREE), version) {
            Err(error @ DecodeError::TooMuchMemory { .. }) => error,
            decoded => return decoded.map(|message| (message, None)),
        };
        for step in STEPS {
            let budget = self.budget.clone();
            let held = budget.reserve(Some(user.clone()), step * FACTOR).await;
            match M::decode(&mut body.clone().allowing(step), version) {
                Err(error @ DecodeError::TooMuchMemory { .. }) => refused = error,
                decoded => return decoded.map(|message| (message, Some(held))),
            }
        }
        Err(refused)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use bytes::Bytes;
    use palisade_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
    use palisade_protocol::{Str, frame};

    use super::*;

    /// The body of a request that names as many topics, in version 0.
    fn body(topics: usize) -> Reader {
        let request = MetadataRequest {
            topics: Some(vec![
                MetadataRequestTopic {
                    name: Some(Str::from_static("")),
                    ..MetadataRequestTopic::default()
                };
                topics
            ]),
            ..MetadataRequest::default()
        };
        let frame = frame::encode_request(0, 1, None, &request).unwrap();
        // Length, API, version, correlation id and no client id.
        Reader::new(Bytes::from(frame).slice(4 + 10..))
    }

    async fn decode(
        decoding: &Decoding,
        user: &str,
        topics: usize,
    ) -> Result<(MetadataRequest, Option<Reservation>), DecodeError> {
        let user = Principal::user(user);
        let decoded = decoding.decode::<MetadataRequest>(&user, body(topics), 0);
        decoded.await
    }

    #[tokio::test]
    async fn room_is_reserved_for_what_a_request_becomes() {
        let decoding = Decoding::new();
        let element = size_of::<MetadataRequestTopic>();
        let (request, held) = decode(&decoding, "alice", 100).await.unwrap();
        assert_eq!(request.topics.unwrap().len(), 100);
        assert!(held.is_none(), "small requests need no room");

        let many = (2 << 20) / element;
        let (_, first) = decode(&decoding, "alice", many).await.unwrap();
        assert_eq!(TOTAL - decoding.budget.available(), (4 << 20) * FACTOR);
        let (_, second) = decode(&decoding, "alice", FREE / element + 1)
            .await
            .unwrap();
        let used = TOTAL - decoding.budget.available();
        assert_eq!(used, (4 << 20) * FACTOR + (1 << 20) * FACTOR);
        drop((first, second));
        assert_eq!(decoding.budget.available(), TOTAL);

        let refused = decode(&decoding, "alice", (16 << 20) / element + 1).await;
        assert!(matches!(refused, Err(DecodeError::TooMuchMemory { .. })));
        assert_eq!(decoding.budget.available(), TOTAL);
    }

    #[tokio::test]
    async fn one_user_leaves_room_for_another() {
        let decoding = Decoding::new();
        let element = size_of::<MetadataRequestTopic>();
        let largest = decode(&decoding, "mallory", (4 << 20) / element + 1).await;
        let (_, held) = largest.unwrap();
        let small = FREE / element + 1;
        let mut second = pin!(decode(&decoding, "mallory", small));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        let hers = pin!(decode(&decoding, "alice", small));
        assert!(hers.poll(&mut cx).is_ready(), "alice waits for mallory");
        drop(held);
        assert!(second.poll(&mut cx).is_ready());
    }
}
