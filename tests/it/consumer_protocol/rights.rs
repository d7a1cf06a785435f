//! Members of different rights that share an expression: it stands for what the one could see whose
//! heartbeat had it looked up.

use std::collections::BTreeMap;

use palisade_protocol::error_code::ErrorCode;
use palisade_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, RequestTopicPartitions,
};
use palisade_protocol::uuid::Uuid;
use palisade_tests::access::Access;
use palisade_tests::check::eventually;
use palisade_tests::requests;
use palisade_tests::target::Target;
use palisade_tests::wire::Connection;

use super::{PATIENCE, coordinator};

const MECHANISM: &str = "SCRAM-SHA-512";
const GROUP: &str = "of-two-rights";

struct Member {
    connection: Connection,
    name: &'static str,
    epoch: i32,
    owned: BTreeMap<Uuid, Vec<i32>>,
}

impl Member {
    /// A user who may read the group and see one topic.
    fn new(
        admin: &mut Connection,
        access: &Access,
        name: &'static str,
        topic: &'static str,
    ) -> Member {
        requests::set_user(admin, name, MECHANISM, "secret-of-members").expect("a user");
        let rules = vec![
            requests::allow(name, 3, GROUP, 3),
            requests::allow(name, 2, topic, 8),
        ];
        requests::add_acls(admin, rules).expect("rules can be added");
        let connection = eventually("the user's first login", PATIENCE, || {
            Connection::open(&access.as_user(MECHANISM, name, "secret-of-members"))
                .map_err(|error| error.to_string())
        });
        Member {
            connection,
            name,
            epoch: 0,
            owned: BTreeMap::new(),
        }
    }

    /// Joins, or says what it owns and takes what it is given.
    fn beat(&mut self) {
        let joins = self.epoch == 0;
        let owned = self.owned.iter();
        let request = ConsumerGroupHeartbeatRequest {
            group_id: GROUP.into(),
            member_id: self.name.into(),
            member_epoch: self.epoch,
            rebalance_timeout_ms: if joins { 60_000 } else { -1 },
            subscribed_topic_regex: joins.then(|| "seen-.*".into()),
            topic_partitions: Some(
                owned
                    .map(|(topic_id, partitions)| RequestTopicPartitions {
                        topic_id: *topic_id,
                        partitions: partitions.clone(),
                    })
                    .collect(),
            ),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let answer = self.connection.call(1, &request).expect("an answer");
        assert_eq!(answer.error_code, ErrorCode::NONE, "{answer:?}");
        self.epoch = answer.member_epoch;
        if let Some(assignment) = answer.assignment {
            let topics = assignment.topic_partitions.into_iter();
            self.owned = topics
                .map(|topic| (topic.topic_id, topic.partitions))
                .collect();
        }
    }
}

#[test]
fn who_shares_an_expression_shares_its_topics() {
    let target = Target::start();
    let access = target.scram(MECHANISM);
    let mut admin = coordinator(&access, GROUP);
    let [first, second] = ["seen-a", "seen-b"]
        .map(|topic| requests::create_topic(&mut admin, topic, 2, &[]).expect("a topic"));
    let mut one = Member::new(&mut admin, &access, "one", "seen-a");
    let mut two = Member::new(&mut admin, &access, "two", "seen-b");

    eventually("what the first may see", PATIENCE, || {
        one.beat();
        match one.owned == BTreeMap::from([(first, vec![0, 1])]) {
            true => Ok(()),
            false => Err(format!("{:?}", one.owned)),
        }
    });
    // The expression is known: nobody asks what the second may see, until it is looked up again.
    eventually("half of it each", PATIENCE, || {
        one.beat();
        two.beat();
        let halves = [&one, &two].map(|member| member.owned.get(&first).map_or(0, Vec::len));
        assert!(!one.owned.contains_key(&second) && !two.owned.contains_key(&second));
        match halves {
            [1, 1] => Ok(()),
            _ => Err(format!("{:?} {:?}", one.owned, two.owned)),
        }
    });
}
