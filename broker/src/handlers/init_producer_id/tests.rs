use std::ops::Range;

use palisade_auth::acl::{AclBinding, Operation, PatternType};
use palisade_protocol::Str;

use super::*;
use crate::partition::testing::{ROOT, TestNode, topic_rule};

/// One block, or none.
struct Block(Option<Range<i64>>);

impl BlockSource for Block {
    async fn allocate(&self) -> Option<Range<i64>> {
        self.0.clone()
    }
}

async fn ask(
    node: &TestNode,
    user: &str,
    request: &InitProducerIdRequest,
) -> InitProducerIdResponse {
    let access = node.access(user);
    let ids = ProducerIds::new();
    init(&access, &ids, &Block(Some(40..50)), request, 5).await
}

fn idempotent() -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: None,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdRequest::default()
    }
}

fn transactional(id: &str) -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: Some(Str::copy(id)),
        transaction_timeout_ms: 60_000,
        ..idempotent()
    }
}

#[tokio::test]
async fn idempotent_producers_get_fresh_ids() {
    let node = TestNode::new();
    let given = ask(&node, ROOT, &idempotent()).await;
    assert_eq!(given.error_code, ErrorCode::NONE);
    assert_eq!((given.producer_id, given.producer_epoch), (40, 0));
    let consistent = InitProducerIdRequest {
        producer_id: 7,
        producer_epoch: 3,
        ..idempotent()
    };
    assert_eq!(ask(&node, ROOT, &consistent).await.producer_id, 40);
    let torn = InitProducerIdRequest {
        producer_id: 7,
        ..idempotent()
    };
    assert_eq!(
        ask(&node, ROOT, &torn).await.error_code,
        ErrorCode::INVALID_REQUEST
    );
}

#[tokio::test]
async fn either_right_is_enough() {
    let mut node = TestNode::new();
    let denied = ask(&node, "alice", &idempotent()).await;
    assert_eq!(denied.error_code, ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    assert_eq!((denied.producer_id, denied.producer_epoch), (-1, -1));
    node.allow(AclBinding {
        pattern_type: PatternType::Prefixed,
        ..topic_rule("alice", Operation::Write, "logs-")
    });
    assert_eq!(
        ask(&node, "alice", &idempotent()).await.error_code,
        ErrorCode::NONE
    );
}

#[tokio::test]
async fn without_a_block_the_client_comes_again() {
    let node = TestNode::new();
    let access = node.access(ROOT);
    let ids = ProducerIds::new();
    let refused = init(&access, &ids, &Block(None), &idempotent(), 5).await;
    assert_eq!(refused.error_code, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    assert!(refused.error_code.is_retriable());
}

#[tokio::test]
async fn transactional_producers_are_authorized_then_refused() {
    let node = TestNode::new();
    let denied = ask(&node, "alice", &transactional("x")).await;
    assert_eq!(
        denied.error_code,
        ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    );
    let refused = ask(&node, ROOT, &transactional("x")).await;
    assert_eq!(refused.error_code, ErrorCode::INVALID_TRANSACTION_TIMEOUT);
    assert!(!refused.error_code.is_retriable());
    assert_eq!(refused.producer_id, -1);
}
