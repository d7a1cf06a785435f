//! Kafka's range assignor, and the bytes in which members speak of topics and partitions.
//!
//! Source: ConsumerProtocolSubscription and ConsumerProtocolAssignment of Kafka's schemas; both are
//! read by their oldest fields, which every version begins with.

use std::collections::{BTreeMap, BTreeSet};

use super::super::client::TopicPartition;

/// A member as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) member_id: String,
    /// Name of a static member (KIP-345).
    pub(super) instance_id: Option<String>,
    pub(super) topics: Vec<String>,
}

/// Gives each member a contiguous range of each topic's partitions.
///
/// `partitions` counts them by topic; of a topic that is not there nobody gets anything.
pub(super) fn range(
    members: &[Subscriber],
    partitions: &BTreeMap<String, i32>,
) -> BTreeMap<String, Vec<TopicPartition>> {
    let mut assigned: BTreeMap<String, Vec<TopicPartition>> = members
        .iter()
        .map(|member| (member.member_id.clone(), Vec::new()))
        .collect();
    let mut sorted: Vec<&Subscriber> = members.iter().collect();
    // Static members first, by their lasting names.
    sorted.sort_by_key(|member| {
        let is_dynamic = member.instance_id.is_none();
        (is_dynamic, member.instance_id.clone(), &member.member_id)
    });
    for (topic, count) in partitions {
        let subscribed = sorted.iter().filter(|member| member.topics.contains(topic));
        let subscribed: Vec<&&Subscriber> = subscribed.collect();
        let Ok(members) = i32::try_from(subscribed.len()) else {
            continue;
        };
        let mut next = 0;
        for (number, member) in (0..).zip(subscribed) {
            let extra = i32::from(number < count % members.max(1));
            let length = count / members.max(1) + extra;
            let part = (next..next + length).map(|index| (topic.clone(), index));
            assigned
                .entry(member.member_id.clone())
                .or_default()
                .extend(part);
            next += length;
        }
    }
    assigned
}

/// A subscription to these topics, of version 0.
pub(super) fn subscription(topics: &BTreeSet<String>) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    put_count(&mut bytes, topics.len());
    for topic in topics {
        put_text(&mut bytes, topic);
    }
    // No user data.
    bytes.extend((-1_i32).to_be_bytes());
    bytes
}

/// The topics of a subscription; `None` if it is none.
pub(super) fn subscribed_topics(bytes: &[u8]) -> Option<Vec<String>> {
    let mut rest = Rest(bytes);
    rest.i16()?;
    let count = rest.i32()?;
    (0..count).map(|_| rest.text()).collect()
}

/// An assignment of these partitions, of version 0.
pub(super) fn assignment(partitions: &[TopicPartition]) -> Vec<u8> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, index) in partitions {
        topics.entry(topic).or_default().push(*index);
    }
    let mut bytes = vec![0, 0];
    put_count(&mut bytes, topics.len());
    for (topic, indexes) in topics {
        put_text(&mut bytes, topic);
        put_count(&mut bytes, indexes.len());
        for index in indexes {
            bytes.extend(index.to_be_bytes());
        }
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes
}

/// The partitions of an assignment; none for no bytes, `None` if it is no assignment.
pub(in super::super) fn assigned_partitions(bytes: &[u8]) -> Option<Vec<TopicPartition>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let mut rest = Rest(bytes);
    rest.i16()?;
    let mut partitions = Vec::new();
    for _ in 0..rest.i32()? {
        let topic = rest.text()?;
        for _ in 0..rest.i32()? {
            partitions.push((topic.clone(), rest.i32()?));
        }
    }
    Some(partitions)
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend(i32::try_from(count).unwrap_or(i32::MAX).to_be_bytes());
}

/// Topic names have at most 249 bytes.
fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(i16::try_from(text.len()).unwrap_or(i16::MAX).to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// Bytes of another member, not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn i16(&mut self) -> Option<i16> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i16::from_be_bytes(*first))
    }

    fn i32(&mut self) -> Option<i32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i32::from_be_bytes(*first))
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.i16()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, instance: Option<&str>, topics: &[&str]) -> Subscriber {
        Subscriber {
            member_id: id.to_owned(),
            instance_id: instance.map(str::to_owned),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        }
    }

    fn of(topic: &str, indexes: &[i32]) -> Vec<TopicPartition> {
        let all = indexes.iter();
        all.map(|index| (topic.to_owned(), *index)).collect()
    }

    #[test]
    fn ranges_are_kafkas() {
        let partitions = BTreeMap::from([("a".to_owned(), 5), ("b".to_owned(), 1)]);
        let members = [
            member("m2", None, &["a", "b"]),
            member("m1", None, &["a"]),
            member("m3", Some("z"), &["a", "gone"]),
        ];
        let assigned = range(&members, &partitions);
        assert_eq!(assigned["m3"], of("a", &[0, 1]));
        assert_eq!(assigned["m1"], of("a", &[2, 3]));
        assert_eq!(assigned["m2"], [of("a", &[4]), of("b", &[0])].concat());
    }

    #[test]
    fn bytes_are_read_back() {
        let topics = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let bytes = subscription(&topics);
        assert_eq!(bytes, b"\0\0\0\0\0\x02\0\x01a\0\x01b\xff\xff\xff\xff");
        assert_eq!(subscribed_topics(&bytes).unwrap(), ["a", "b"]);
        let partitions = [of("a", &[1, 2]), of("b", &[0])].concat();
        let bytes = assignment(&partitions);
        assert_eq!(assigned_partitions(&bytes).unwrap(), partitions);
        assert_eq!(assigned_partitions(b""), Some(Vec::new()));
        for length in 1..bytes.len() - 4 {
            assert_eq!(assigned_partitions(&bytes[..length]), None, "{length}");
        }
    }

    #[test]
    fn false_counts_reserve_nothing() {
        assert_eq!(subscribed_topics(b"\0\0\x7f\xff\xff\xff"), None);
        assert_eq!(assigned_partitions(b"\0\0\x7f\xff\xff\xff\0\0"), None);
    }
}
