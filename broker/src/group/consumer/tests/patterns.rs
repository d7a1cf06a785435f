//! Subscriptions by expression (coordination.md §4; KIP-848).

use super::super::subscription::WALKED;
use super::super::sum::LOOKED_AT;
use super::super::*;
use super::rig::{MAX_BATCH_BYTES, Request, Rig, beat, client, join, names, set};
use crate::group::error::GroupError;
use crate::group::topic_pattern::TopicPattern;

pub(super) fn like(member: &str, pattern: &str) -> Request {
    let mut request = join(member, &[]);
    request.subscribed_topic_names = None;
    request.subscribed_topic_regex = Some(Str::copy(pattern));
    request
}

/// Looks up as the coordinator does, with all rights.
pub(super) fn look_up(rig: &mut Rig, patterns: &[Str]) {
    let mut found = patterns
        .iter()
        .map(|pattern| {
            let parsed = TopicPattern::parse(pattern).unwrap();
            let topics = rig.image.topics.iter();
            let topics = topics.filter(|topic| parsed.matches(&topic.name));
            (
                pattern.clone(),
                topics.map(|topic| Str::copy(&topic.name)).collect(),
            )
        })
        .collect();
    let version = rig.image.offset;
    rig.decide(|group, at| group.patterns_found(&mut found, version, false, at))
        .unwrap();
    let now = rig.now;
    assert_eq!(rig.group.patterns_stored(&found, now), 0);
}

#[test]
fn topics_come_with_a_later_heartbeat() {
    let mut rig = Rig::new(&[("ta", 1), ("tb", 1), ("u", 1)]);
    let answer = rig.send(&like("a", "t.*")).unwrap();
    assert_eq!(
        (answer.member_epoch, answer.assignment),
        (1, Some(set(&[])))
    );
    assert_eq!(answer.look_up, ["t.*"]);
    assert!(
        rig.send(&beat("a", 1)).unwrap().look_up.is_empty(),
        "one at a time"
    );
    look_up(&mut rig, &answer.look_up);
    assert_eq!(rig.group.epoch(), 2);
    let both = set(&[("ta", &[0]), ("tb", &[0])]);
    assert_eq!(rig.ok(&beat("a", 1)), (2, Some(both)));
    let topics: Vec<String> = rig.group.subscribed_topics().into_iter().collect();
    assert_eq!(topics, ["ta", "tb"]);
    rig.assert_reloads();
}

#[test]
fn names_and_expressions_add_up() {
    let mut rig = Rig::new(&[("t", 1), ("u", 1)]);
    let mut request = like("a", "t");
    request.subscribed_topic_names = names(&["u"]);
    let answer = rig.send(&request).unwrap();
    assert_eq!(answer.assignment, Some(set(&[("u", &[0])])));
    look_up(&mut rig, &answer.look_up);
    let both = set(&[("t", &[0]), ("u", &[0])]);
    assert_eq!(rig.ok(&beat("a", 2)), (3, Some(both)));
    let mut clear = beat("a", 3);
    clear.subscribed_topic_regex = Some(Str::EMPTY);
    clear.topic_partitions = super::rig::owns(&set(&[("u", &[0])]));
    assert_eq!(rig.ok(&clear), (4, Some(set(&[("u", &[0])]))));
    assert!(rig.group.resolved.is_empty(), "nobody uses the expression");
    rig.assert_reloads();
}

#[test]
fn what_is_no_expression_is_refused() {
    let mut rig = Rig::new(&[("t", 1)]);
    for pattern in ["(", "(?=t)", r"\1"] {
        let error = rig.err(&like("a", pattern));
        assert!(
            matches!(error, GroupError::InvalidRegularExpression(_)),
            "{pattern}"
        );
    }
}

#[test]
fn an_expression_that_others_use_is_known() {
    let mut rig = Rig::new(&[("t", 2)]);
    let answer = rig.send(&like("a", "t")).unwrap();
    look_up(&mut rig, &answer.look_up);
    rig.ok(&beat("a", 1));
    let answer = rig.send(&like("b", "t")).unwrap();
    assert!(answer.look_up.is_empty());
    assert_eq!(rig.group.epoch(), 3);
    rig.ok(&beat("a", -1));
    assert_eq!(rig.group.resolved.len(), 1);
    rig.ok(&beat("b", -1));
    assert!(rig.group.resolved.is_empty());
    rig.assert_reloads();
}

/// Each looks at the topics of its own expression, not at those of all who stay.
#[test]
fn members_that_come_and_fall_silent_together_cost_one_after_the_other() {
    const MEMBERS: usize = 20;
    const TOPICS: usize = 30;
    let names: Vec<String> = (0..TOPICS).map(|n| format!("t{n}")).collect();
    let topics: Vec<(&str, i32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut rig = Rig::new(&topics);
    let walked = WALKED.get();
    for n in 0..MEMBERS {
        let answer = rig
            .send(&like(&format!("m{n}"), &format!("t.*|z{n}")))
            .unwrap();
        assert_eq!(answer.look_up.len(), 1);
        look_up(&mut rig, &answer.look_up);
    }
    assert_eq!(rig.group.subscribed_topics().len(), TOPICS);
    let walked_by_joins = WALKED.get() - walked;
    let walked = WALKED.get();
    rig.pass(45_000);
    assert!(rig.group.is_empty() && rig.group.resolved.is_empty());
    let walked_by_removals = WALKED.get() - walked;
    let most = 3 * MEMBERS * TOPICS;
    assert!(walked_by_removals <= most, "{walked_by_removals} > {most}");
    assert!(walked_by_joins <= most, "{walked_by_joins} > {most}");
    rig.assert_reloads();
}

#[test]
fn new_topics_are_looked_for_after_a_while() {
    let mut rig = Rig::new(&[("ta", 1)]);
    let answer = rig.send(&like("a", "t.*")).unwrap();
    look_up(&mut rig, &answer.look_up);
    rig.ok(&beat("a", 1));
    rig.create("tb", 1);
    assert!(rig.send(&beat("a", 2)).unwrap().look_up.is_empty());
    rig.pass(10_001);
    let answer = rig.send(&beat("a", 2)).unwrap();
    assert_eq!(answer.look_up, ["t.*"]);
    look_up(&mut rig, &answer.look_up);
    assert_eq!(rig.ok(&beat("a", 2)).0, 3);
    // Without new metadata only after the long interval.
    for _ in 0..20 {
        rig.pass(30_000);
        assert!(rig.send(&beat("a", 3)).unwrap().look_up.is_empty());
    }
    rig.pass(1);
    assert_eq!(rig.send(&beat("a", 3)).unwrap().look_up, ["t.*"]);
    rig.group.patterns_not_found();
    assert_eq!(
        rig.send(&beat("a", 3)).unwrap().look_up,
        ["t.*"],
        "it is asked for again"
    );
    let log = rig.log.len();
    look_up(
        &mut rig,
        &[Str::from("t.*"), Str::from("dropped meanwhile")],
    );
    assert_eq!(rig.log.len(), log, "nothing new is nothing written");
}

#[test]
fn no_topics_is_an_outcome() {
    let mut rig = Rig::new(&[("t", 1)]);
    let answer = rig.send(&like("a", "x")).unwrap();
    look_up(&mut rig, &answer.look_up);
    assert_eq!(rig.group.epoch(), 1);
    assert!(rig.send(&beat("a", 1)).unwrap().look_up.is_empty());
    rig.assert_reloads();
}

/// A look-up is made with the rights of the member whose heartbeat asks for it, and its outcome
/// counts for everyone, as in the original.
#[test]
fn what_one_member_may_see_counts_for_all() {
    let mut rig = Rig::new(&[("ta", 1), ("ub", 1)]);
    let answer = rig.send(&like("a", "t.*")).unwrap();
    look_up(&mut rig, &answer.look_up);
    assert_eq!(rig.ok(&beat("a", 1)), (2, Some(set(&[("ta", &[0])]))));
    let answer = rig.send(&like("b", "u.*")).unwrap();
    assert_eq!(answer.look_up, ["u.*"], "what is known is not asked again");
    look_up(&mut rig, &answer.look_up);
    let epoch = rig.group.epoch();

    rig.create("tb", 1);
    rig.pass(10_001);
    let answer = rig.send(&beat("b", answer.member_epoch)).unwrap();
    assert_eq!(answer.look_up, ["t.*", "u.*"]);
    // The second member may see what is new, and nothing else.
    let found = [("t.*", &["tb"][..]), ("u.*", &[])].map(|(pattern, topics)| {
        let topics = topics.iter().map(|topic| Str::from(*topic)).collect();
        (Str::from(pattern), topics)
    });
    let version = rig.image.offset;
    rig.decide(|group, at| group.patterns_found(&mut found.into(), version, false, at))
        .unwrap();
    assert_eq!(rig.group.epoch(), epoch + 1);
    let topics: Vec<String> = rig.group.subscribed_topics().into_iter().collect();
    assert_eq!(topics, ["tb"]);
    rig.assert_reloads();
}

/// Names of topics, as many as fit a batch of the test or not.
fn many(count: usize) -> BTreeSet<Str> {
    let names = (0..count).map(|number| Str::from(format!("{number:0>100}")));
    names.collect()
}

#[test]
fn what_no_batch_holds_is_looked_up_later_and_keeps_no_others_out() {
    let mut rig = Rig::new(&[("t", 1)]);
    let large = rig.send(&like("a", "l.*")).unwrap().look_up;
    assert_eq!(large, ["l.*"]);
    rig.group.patterns_not_found();
    rig.send(&like("b", "s.*")).unwrap();
    let version = rig.image.offset;
    let bring = |rig: &mut Rig, count| {
        let found = [("l.*", many(count)), ("s.*", many(20))];
        let mut found = Found::from(found.map(|(pattern, topics)| (Str::from(pattern), topics)));
        let brought = rig.decide(|group, at| group.patterns_found(&mut found, version, false, at));
        let now = rig.now;
        assert_eq!(rig.group.patterns_stored(&found, now), 0);
        brought.unwrap()
    };
    assert_eq!(bring(&mut rig, 50), 1);
    let known: Vec<&Str> = rig.group.resolved.keys().collect();
    assert_eq!(known, ["s.*"]);
    let epoch = rig.group.epoch();
    let hash = rig.group.metadata_hash;
    rig.pass(10_000);
    assert!(rig.send(&beat("a", 1)).unwrap().look_up.is_empty());
    assert_eq!((rig.group.epoch(), rig.group.metadata_hash), (epoch, hash));
    rig.pass(1);
    assert_eq!(rig.send(&beat("b", 1)).unwrap().look_up, ["l.*"]);
    assert_eq!(bring(&mut rig, 20), 0);
    assert_eq!(rig.group.resolved.len(), 2);
    assert!(rig.group.remembered.not_stored.is_empty());
    rig.assert_reloads();
}

/// The epoch rises once for all rounds of a look-up, whoever is heard between them.
#[test]
fn rounds_of_a_look_up_raise_the_epoch_once() {
    let mut rig = Rig::new(&[("ta", 1), ("tb", 1)]);
    rig.send(&like("a", "ta.*")).unwrap();
    rig.group.patterns_not_found();
    rig.send(&like("b", "tb.*")).unwrap();
    let version = rig.image.offset;
    let joined = rig.group.epoch();
    let mut bring = |pattern: &str, topic: &str, more| {
        let topics = [Str::copy(topic)].into();
        let mut found = Found::from([(Str::copy(pattern), topics)]);
        rig.decide(|group, at| group.patterns_found(&mut found, version, more, at))
            .unwrap();
        let now = rig.now;
        assert_eq!(rig.group.patterns_stored(&found, now), 0);
        rig.send(&beat("a", joined)).unwrap();
        rig.group.epoch() - joined
    };
    assert_eq!(bring("ta.*", "ta", true), 0);
    // One that brings nothing new.
    assert_eq!(bring("ta.*", "ta", true), 0);
    assert_eq!(bring("tb.*", "tb", false), 1);
    let topics: Vec<String> = rig.group.subscribed_topics().into_iter().collect();
    assert_eq!(topics, ["ta", "tb"]);
    let member = &rig.group.members["a"];
    assert_eq!(
        (member.epoch, member.assigned.iter().count()),
        (joined + 1, 1)
    );
    rig.assert_reloads();
}

/// What of an outcome the log took stays, the rest is looked up again after a while.
#[test]
fn what_the_log_refused_is_looked_up_later() {
    let mut rig = Rig::new(&[("t", 1)]);
    rig.send(&like("a", "x.*")).unwrap();
    rig.group.patterns_not_found();
    rig.send(&like("b", "y.*")).unwrap();
    let mut found: Found = ["x.*", "y.*"]
        .map(|pattern| (Str::from(pattern), many(1)))
        .into();
    let at = Moment {
        now: rig.now,
        config: &rig.config,
        image: &rig.image,
        max_batch_bytes: MAX_BATCH_BYTES,
    };
    let decision = rig
        .group
        .patterns_found(&mut found, rig.image.offset, true, &at);
    assert_eq!(
        decision.records.len(),
        2,
        "the epoch rises with the last round"
    );
    let stored = &decision.records[0];
    rig.group.replay(stored);
    rig.log.push(stored.clone());
    assert_eq!(rig.group.patterns_stored(&found, rig.now), 1);
    rig.pass(10_001);
    assert!(
        rig.send(&beat("b", 1)).unwrap().look_up.is_empty(),
        "more is to come"
    );
    rig.group.patterns_not_found();
    assert_eq!(rig.send(&beat("b", 1)).unwrap().look_up, ["y.*"]);
    rig.send(&beat("a", -1)).unwrap();
    rig.send(&beat("b", -1)).unwrap();
    rig.assert_reloads();
}

/// Who sends them has them compiled elsewhere; the group asks for the outcome where it needs it.
#[test]
fn expressions_are_not_compiled_by_the_group() {
    let mut rig = Rig::new(&[("ta", 1)]);
    rig.send(&like("a", "t.*")).unwrap();
    let judged = Err(GroupError::InvalidRegularExpression("as told".to_owned()));
    let mut send = |request: &Request, judged| {
        let id = request.member_id.clone();
        let heard = rig.decide(|group, at| group.heartbeat(request, &id, &client(), judged, at));
        heard.map(|heartbeat| heartbeat.member_epoch)
    };
    assert_eq!(
        send(&like("b", "u.*"), &judged).unwrap_err(),
        judged.clone().unwrap_err()
    );
    // Those in use have been checked, and who is refused for something else hears that first.
    assert!(send(&like("b", "t.*"), &judged).is_ok());
    let mut unknown = like("c", "u.*");
    unknown.member_epoch = 3;
    assert_eq!(send(&unknown, &judged), Err(GroupError::UnknownMember));
    assert!(send(&like("c", "("), &Ok(())).is_ok());
}

#[test]
fn a_heartbeat_looks_at_no_expression_of_others() {
    let mut rig = Rig::new(&[("ta", 1), ("tb", 1)]);
    for member in 0..20 {
        let member = member.to_string();
        let answer = rig.send(&like(&member, &format!("t.*|{member}"))).unwrap();
        look_up(&mut rig, &answer.look_up);
    }
    let looked_at = |rig: &mut Rig, member: &str| {
        let epoch = rig.ok(&like(member, "t.*|0")).0;
        rig.group.patterns_not_found();
        let before = LOOKED_AT.get();
        let answer = rig.send(&beat(member, epoch)).unwrap();
        (LOOKED_AT.get() - before, answer.look_up)
    };
    assert_eq!(looked_at(&mut rig, "0"), (0, Vec::new()));
    // One that nobody used before, and whose look-ups were lost.
    rig.ok(&like("1", "t.*|0"));
    rig.ok(&like("2", "t.*|new"));
    let (looked, wanted) = looked_at(&mut rig, "0");
    assert!(looked > 0 && wanted == ["t.*|new"], "{looked} {wanted:?}");
}
