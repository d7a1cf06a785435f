//! OffsetFetch (9), versions 1-10: where groups are (coordination.md §3).
//!
//! v2 all topics; v5 leader epochs (KIP-320); v6 flexible; v7 stable offsets (KIP-447: there are no
//! transactions, so every offset is); v8 several groups (KIP-709); v9 consumer groups (KIP-848);
//! v10 topics by id (KIP-848). What is named twice has one row: the text beside an offset may be a
//! thousand times as long as the number of its partition.

mod response;

use std::collections::HashSet;
use std::sync::Arc;

use palisade_auth::Access;
use palisade_auth::grant::Describe;
use palisade_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
};
use palisade_protocol::{ErrorCode, Str, Uuid};

use self::response::{Answered, Row, Topic};
use super::denied;
use crate::context::RequestContext;
use crate::dispatch::Handled;
use crate::group::coordinator::{Awaited, GroupCoordinator};
use crate::group::error::GroupError;
use crate::group::shard::{FetchAsk, FetchedTopic, Fetcher, Shard};
use crate::group::step::{Moment, Step};
use crate::metadata::ClusterImage;

/// Several groups in one request.
const BATCHED: i16 = 8;
/// Topics by id only.
const BY_ID: i16 = 10;

/// Says where each group is.
pub(crate) async fn handle(
    ctx: &RequestContext,
    request: OffsetFetchRequest,
) -> Handled<OffsetFetchResponse> {
    let access = ctx.access();
    let version = ctx.api_version;
    let groups = match version {
        BATCHED.. => request.groups,
        _ => vec![alone(request)],
    };
    let mut questions = Vec::with_capacity(groups.len());
    let mut seen = HashSet::new();
    for group in &groups {
        if !seen.insert(&group.group_id) {
            continue;
        }
        questions.push(Question::of(ctx, &access, group));
    }
    drop(access);
    drop(seen);
    drop(groups);
    let broker = Arc::clone(&ctx.broker);
    Handled::Patient(Box::pin(async move {
        let mut asked = Vec::with_capacity(questions.len());
        for question in questions {
            asked.push(question.ask(&broker.groups).await);
        }
        let mut answered = Vec::with_capacity(asked.len());
        for one in asked {
            answered.push(one.answer(version >= BY_ID).await);
        }
        response::response(answered, version)
    }))
}

/// The one group of an older request.
fn alone(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            topic_id: Uuid::NIL,
            partition_indexes: topic.partition_indexes,
        });
        topics.collect()
    });
    OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics,
        ..OffsetFetchRequestGroup::default()
    }
}

/// What a group is to be asked.
struct Question {
    group: Str,
    /// What every named partition says if the group fails.
    topics: Vec<Topic>,
    what: Result<(Fetcher, FetchAsk), ErrorCode>,
    /// All topics are asked for: those that may be seen, with their ids.
    visible: Option<Visible>,
}

/// A group that has been asked.
struct Asked {
    group: Str,
    topics: Vec<Topic>,
    fetched: Result<Awaited<Result<Vec<FetchedTopic>, GroupError>>, ErrorCode>,
    visible: Option<Visible>,
}

/// Which topics a caller sees, of those that exist or existed.
type Visible = Box<dyn Fn(&str) -> Option<Uuid> + Send>;

impl Question {
    /// What the caller may ask, which is decided when the request comes.
    fn of(ctx: &RequestContext, access: &Access, group: &OffsetFetchRequestGroup) -> Self {
        let granted = access.group::<Describe>(&group.group_id);
        let refused = granted
            .err()
            .map(|refused| denied::code(&refused, ErrorCode::GROUP_AUTHORIZATION_FAILED));
        let (topics, visible, ask) = match &group.topics {
            None => (Vec::new(), Some(visible(ctx)), FetchAsk::All),
            Some(topics) => {
                let by_id = ctx.api_version >= BY_ID;
                let (rows, wanted) = judge(&ctx.image, access, topics, by_id, refused.is_none());
                (rows, None, FetchAsk::Topics(wanted))
            }
        };
        let fetcher = Fetcher {
            member_id: group.member_id.as_ref().map(Str::detached),
            epoch: group.member_epoch,
        };
        Self {
            group: group.group_id.detached(),
            topics,
            what: refused.map_or(Ok((fetcher, ask)), Err),
            visible,
        }
    }

    async fn ask(self, groups: &GroupCoordinator) -> Asked {
        let fetched = match self.what {
            Ok((fetcher, what)) => {
                let id = self.group.clone();
                let rows = what.rows();
                let event = move |shard: &mut Shard, _: &Moment<'_>, asker| {
                    Step::decided(shard.fetch(&id, &fetcher, what), asker)
                };
                let asked = groups.ask_of(self.group.clone(), rows, event).await;
                asked.map_err(|error| code(&error))
            }
            Err(code) => Err(code),
        };
        Asked {
            group: self.group,
            topics: self.topics,
            fetched,
            visible: self.visible,
        }
    }
}

/// Consumers before 3.9 do not expect to hear that there is no coordinator here.
fn code(error: &GroupError) -> ErrorCode {
    match error {
        GroupError::NotAvailable => ErrorCode::NOT_COORDINATOR,
        error => error.code(),
    }
}

/// A topic that a group is asked for, with the id that its offsets must have.
type Wanted = (Str, Option<Uuid>, Vec<i32>);

/// Answers what the group need not see, and collects the rest; without the right to the group,
/// `ask_topics`, nobody asks for rights to topics.
fn judge(
    image: &ClusterImage,
    access: &Access,
    topics: &[OffsetFetchRequestTopics],
    by_id: bool,
    ask_topics: bool,
) -> (Vec<Topic>, Vec<Wanted>) {
    let mut rows = Vec::with_capacity(topics.len());
    let mut wanted = Vec::new();
    let mut seen = HashSet::new();
    for topic in topics {
        let mut indexes = topic.partition_indexes.clone();
        indexes.retain(|index| seen.insert((&topic.name, topic.topic_id, *index)));
        let found = by_id.then(|| image.topics.by_id(topic.topic_id));
        let refused = match found {
            Some(None) => Some(ErrorCode::UNKNOWN_TOPIC_ID),
            _ if !ask_topics => None,
            found => {
                let name = match &found {
                    Some(Some(image)) => &*image.name,
                    _ => &*topic.name,
                };
                let granted = access.topic::<Describe>(name);
                let code = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
                granted.err().map(|refused| denied::code(&refused, code))
            }
        };
        let row = |partition: &i32| match refused {
            Some(code) => Row::failed(*partition, code),
            None => Row::Wanted(*partition),
        };
        rows.push(Topic {
            name: topic.name.detached(),
            topic_id: topic.topic_id,
            is_wanted: refused.is_none(),
            rows: indexes.iter().map(row).collect(),
        });
        if refused.is_none() {
            // What was committed to a deleted namesake says nothing about the topic of today.
            let today = found.flatten().or_else(|| image.topics.get(&topic.name));
            wanted.push(match today {
                Some(today) => (Str::copy(&today.name), Some(today.id), indexes),
                None => (topic.name.detached(), None, indexes),
            });
        }
    }
    (rows, wanted)
}

/// A test for each topic of a group, asked once the group has said which it has.
fn visible(ctx: &RequestContext) -> Visible {
    let (access, image) = (ctx.access(), Arc::clone(&ctx.image));
    Box::new(move |name| {
        access.probe_topic::<Describe>(name)?;
        let image = image.topics.get(name);
        Some(image.map_or(Uuid::NIL, |image| image.id))
    })
}

impl Asked {
    async fn answer(self, by_id: bool) -> Answered {
        let Self {
            group,
            mut topics,
            fetched,
            visible,
        } = self;
        let fetched = match fetched {
            Ok(awaited) => {
                let answer = awaited.answer().await.and_then(|answer| answer);
                answer.map_err(|error| code(&error))
            }
            Err(code) => Err(code),
        };
        let error = fetched.as_ref().err().copied();
        match (fetched, visible) {
            (Err(code), _) => {
                for topic in &mut topics {
                    topic.fail(code);
                }
            }
            (Ok(fetched), None) => {
                let waiting = topics.iter_mut().filter(|topic| topic.is_wanted);
                for (topic, found) in waiting.zip(fetched) {
                    topic.fill(found);
                }
            }
            (Ok(fetched), Some(visible)) => {
                for found in fetched {
                    let Some(id) = visible(&found.name) else {
                        continue;
                    };
                    topics.extend(Topic::of_all(found, id, by_id));
                }
            }
        }
        Answered {
            group,
            topics,
            error: error.unwrap_or(ErrorCode::NONE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::testing::{ROOT, TestNode, topic_id};

    fn judged(name: &str, id: Uuid, by_id: bool) -> (Vec<Topic>, Vec<Wanted>) {
        let node = TestNode::new().topic("t", 1, &[]);
        let topics = [OffsetFetchRequestTopics {
            name: Str::copy(name),
            topic_id: id,
            partition_indexes: vec![0, 1, 0],
        }];
        judge(&node.image, &node.access(ROOT), &topics, by_id, true)
    }

    #[test]
    fn offsets_must_be_of_the_topic_of_today() {
        let today = topic_id("t");
        let wanted = vec![(Str::from("t"), Some(today), vec![0, 1])];
        assert_eq!(judged("t", Uuid::NIL, false).1, wanted);
        assert_eq!(judged("", today, true).1, wanted);
    }

    #[test]
    fn of_a_topic_that_is_gone_all_offsets_are_wanted() {
        let wanted = vec![(Str::from("gone"), None, vec![0, 1])];
        assert_eq!(judged("gone", Uuid::NIL, false).1, wanted);
    }

    #[test]
    fn an_unknown_id_is_answered_without_the_group() {
        let (topics, wanted) = judged("", Uuid::from_bytes([9; 16]), true);
        assert_eq!(wanted, []);
        assert!(!topics[0].is_wanted);
    }
}
