//! What is known of one group: state, members, committed offsets and the ends they run after.

use std::collections::{BTreeMap, BTreeSet};

use palisade_protocol::{
    ErrorCode, Str,
    messages::{
        consumer_group_describe::{self, ConsumerGroupDescribeRequest},
        describe_groups::{self, DescribeGroupsRequest},
        offset_fetch::OffsetFetchRequest,
    },
};
use serde_json::{Value, json};

use super::{
    super::{
        client::{ClientError, Cluster, TopicPartition, printable},
        consume::{assignor, start::LATEST},
        outcome::{first_code, line, no_answer},
        table::table,
    },
    accept_group,
};

/// The last version of OffsetFetch that is about one group.
const ONE_GROUP: i16 = 7;

/// A member as the coordinator shows it.
#[derive(Clone, Debug)]
struct Member {
    id: String,
    instance: Option<String>,
    client_id: String,
    host: String,
    /// `None` when its bytes cannot be read.
    partitions: Option<BTreeSet<TopicPartition>>,
}

/// A committed offset.
#[derive(Clone, Debug)]
pub(super) struct Committed {
    pub(super) offset: i64,
    /// -1 unknown.
    pub(super) leader_epoch: i32,
    pub(super) metadata: String,
}

/// A partition that the group reads or has read.
#[derive(Clone, Debug)]
struct Row {
    committed: Option<Committed>,
    /// `None` when it cannot be asked for; the topic may be gone.
    end: Option<i64>,
}

impl Row {
    fn lag(&self) -> Option<i64> {
        let committed = self.committed.as_ref()?.offset;
        Some(self.end?.saturating_sub(committed).max(0))
    }
}

/// One group.
#[derive(Clone, Debug)]
pub(super) struct Described {
    group: String,
    kind: &'static str,
    pub(super) state: String,
    /// The assignor.
    protocol: String,
    coordinator: i32,
    members: Vec<Member>,
    rows: BTreeMap<TopicPartition, Row>,
}

/// Describes a group with its offsets.
///
/// # Errors
/// There is no such group, or it may not be seen.
pub(super) async fn describe(cluster: &mut Cluster, group: &str) -> Result<Described, ClientError> {
    let mut described = members(cluster, group).await?;
    let committed = committed(cluster, group).await?;
    let assigned = described.members.iter();
    let assigned = assigned.flat_map(|member| member.partitions.iter().flatten().cloned());
    let all: BTreeSet<TopicPartition> = committed.keys().cloned().chain(assigned).collect();
    let asked: Vec<_> = all.iter().map(|at| (at.clone(), LATEST)).collect();
    let ends = cluster.list_offsets(&asked, 0).await?;
    for at in all {
        let end = ends.get(&at).and_then(|end| end.as_ref().ok()?.offset);
        let committed = committed.get(&at).cloned();
        described.rows.insert(at, Row { committed, end });
    }
    Ok(described)
}

/// State and members, by whichever request knows the group.
pub(super) async fn members(cluster: &mut Cluster, group: &str) -> Result<Described, ClientError> {
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec![Str::copy(group)],
        ..ConsumerGroupDescribeRequest::default()
    };
    let answer = cluster
        .ask_coordinator(group, &request, i16::MAX, |response| {
            first_code(response.groups.iter().map(|one| one.error_code))
        })
        .await;
    let described = match answer {
        // A broker that knows no such groups has none.
        Err(ClientError::Unserved(_)) => None,
        Err(error) => return Err(error),
        Ok(response) => response.groups.into_iter().next(),
    };
    match described {
        Some(one) if one.error_code == ErrorCode::NONE => {
            let coordinator = cluster.coordinator(group).await?;
            Ok(of_consumer(group, coordinator, &one))
        }
        // Said of classic groups too.
        Some(one) if one.error_code != ErrorCode::GROUP_ID_NOT_FOUND => {
            let message = one.error_message.as_deref();
            accept_group(group, one.error_code, message)?;
            Err(no_answer("ConsumerGroupDescribe"))
        }
        _ => classic(cluster, group).await,
    }
}

async fn classic(cluster: &mut Cluster, group: &str) -> Result<Described, ClientError> {
    let request = DescribeGroupsRequest {
        groups: vec![Str::copy(group)],
        ..DescribeGroupsRequest::default()
    };
    let response = cluster
        .ask_coordinator(group, &request, i16::MAX, |response| {
            first_code(response.groups.iter().map(|one| one.error_code))
        })
        .await?;
    let one = response
        .groups
        .into_iter()
        .next()
        .ok_or_else(|| no_answer("DescribeGroups"))?;
    accept_group(group, one.error_code, one.error_message.as_deref())?;
    // Before version 6 a group that does not exist is a dead one.
    if &*one.group_state == "Dead" {
        accept_group(group, ErrorCode::GROUP_ID_NOT_FOUND, None)?;
    }
    let coordinator = cluster.coordinator(group).await?;
    Ok(of_classic(group, coordinator, &one))
}

fn of_consumer(
    group: &str,
    coordinator: i32,
    one: &consumer_group_describe::DescribedGroup,
) -> Described {
    let members = one.members.iter().map(|member| Member {
        id: member.member_id.to_string(),
        instance: member.instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        partitions: Some(
            member
                .assignment
                .topic_partitions
                .iter()
                .flat_map(|topic| {
                    let all = topic.partitions.iter();
                    all.map(|index| (topic.topic_name.to_string(), *index))
                })
                .collect(),
        ),
    });
    Described {
        group: group.to_owned(),
        kind: "consumer",
        state: one.group_state.to_string(),
        protocol: one.assignor_name.to_string(),
        coordinator,
        members: members.collect(),
        rows: BTreeMap::new(),
    }
}

fn of_classic(group: &str, coordinator: i32, one: &describe_groups::DescribedGroup) -> Described {
    // The bytes of other kinds of members (Connect's workers) are their own.
    let is_consumer = matches!(&*one.protocol_type, "consumer" | "");
    let members = one.members.iter().map(|member| Member {
        id: member.member_id.to_string(),
        instance: member.group_instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        partitions: is_consumer
            .then(|| assignor::assigned_partitions(&member.member_assignment))
            .flatten()
            .map(|all| all.into_iter().collect()),
    });
    Described {
        group: group.to_owned(),
        kind: "classic",
        state: one.group_state.to_string(),
        protocol: one.protocol_data.to_string(),
        coordinator,
        members: members.collect(),
        rows: BTreeMap::new(),
    }
}

/// All that the group has committed.
///
/// # Errors
/// The group may not be read.
pub(super) async fn committed(
    cluster: &mut Cluster,
    group: &str,
) -> Result<BTreeMap<TopicPartition, Committed>, ClientError> {
    let request = OffsetFetchRequest {
        group_id: Str::copy(group),
        topics: None,
        ..OffsetFetchRequest::default()
    };
    let response = cluster
        .ask_coordinator(group, &request, ONE_GROUP, |response| response.error_code)
        .await?;
    accept_group(group, response.error_code, None)?;
    let mut found = BTreeMap::new();
    for topic in &response.topics {
        for one in &topic.partitions {
            if one.committed_offset < 0 || one.error_code.is_error() {
                continue;
            }
            let committed = Committed {
                offset: one.committed_offset,
                leader_epoch: one.committed_leader_epoch,
                metadata: one.metadata.as_deref().unwrap_or_default().to_owned(),
            };
            found.insert((topic.name.to_string(), one.partition_index), committed);
        }
    }
    Ok(found)
}

/// How far the group is behind as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lag {
    /// Sum over the partitions whose lag is known; `None` when there is no such partition.
    sum: Option<i64>,
    /// Some partition's lag is not known: nothing is committed there, or its end cannot be had.
    is_partial: bool,
}

impl Lag {
    fn of<'a>(rows: impl Iterator<Item = &'a Row>) -> Self {
        let start = Self {
            sum: None,
            is_partial: false,
        };
        rows.map(Row::lag).fold(start, |all, lag| match lag {
            None => Self {
                is_partial: true,
                ..all
            },
            Some(lag) => Self {
                sum: Some(all.sum.unwrap_or_default().saturating_add(lag)),
                ..all
            },
        })
    }

    /// The sum, with a `+` when it is only known that it is no less.
    fn text(self) -> String {
        match (self.sum, self.is_partial) {
            (None, _) => "-".to_owned(),
            (Some(sum), false) => sum.to_string(),
            (Some(sum), true) => format!("{sum}+"),
        }
    }

    /// The sum for programs. A number cannot carry a mark, and a script that waits for 0 must not
    /// take a part for the whole.
    fn exact(self) -> Option<i64> {
        self.sum.filter(|_| !self.is_partial)
    }
}

impl Described {
    fn lag(&self) -> Lag {
        Lag::of(self.rows.values())
    }

    fn owner(&self, at: &TopicPartition) -> Option<&Member> {
        let mut members = self.members.iter();
        members.find(|member| {
            member
                .partitions
                .as_ref()
                .is_some_and(|all| all.contains(at))
        })
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        line(
            &mut text,
            format_args!(
                "{}\ttype {}\tstate {}\tassignor {}\tcoordinator {}\tmembers {}\tlag {}",
                printable(&self.group),
                self.kind,
                words(&self.state),
                words(&self.protocol),
                self.coordinator,
                self.members.len(),
                self.lag().text(),
            ),
        );
        text.push_str(&self.partitions_table());
        text.push_str(&self.members_table());
        text
    }

    /// How far each partition is read; nothing of none.
    fn partitions_table(&self) -> String {
        let rows = self.rows.iter().map(|(at, row)| {
            let committed = row.committed.as_ref();
            let epoch = committed
                .map(|one| one.leader_epoch)
                .filter(|one| *one >= 0);
            let owner = self.owner(at);
            [
                printable(&at.0),
                at.1.to_string(),
                number(committed.map(|one| one.offset)),
                number(row.end),
                number(row.lag()),
                number(epoch.map(i64::from)),
                words(owner.map_or("", |member| &member.id)),
                words(committed.map_or("", |one| &one.metadata)),
            ]
        });
        let heads = [
            "TOPIC",
            "PARTITION",
            "COMMITTED",
            "END",
            "LAG",
            "EPOCH",
            "MEMBER",
            "METADATA",
        ];
        table_unless_empty(heads, &rows.collect::<Vec<_>>())
    }

    /// Who reads what; nothing of nobody.
    fn members_table(&self) -> String {
        let rows = self.members.iter().map(|member| {
            let partitions = member.partitions.as_ref().map(shown);
            [
                printable(&member.id),
                words(member.instance.as_deref().unwrap_or_default()),
                words(&member.client_id),
                words(&member.host),
                partitions.map_or("?".to_owned(), |all| words(&all)),
            ]
        });
        let heads = ["MEMBER", "INSTANCE", "CLIENT", "HOST", "PARTITIONS"];
        table_unless_empty(heads, &rows.collect::<Vec<_>>())
    }

    pub(super) fn json(&self) -> Value {
        let members = self.members.iter().map(|member| {
            let partitions = member.partitions.as_ref().map(|all| {
                let all = all.iter();
                all.map(|(topic, index)| json!({ "topic": topic, "partition": index }))
                    .collect::<Vec<_>>()
            });
            json!({
                "member": member.id,
                "instance": member.instance,
                "client_id": member.client_id,
                "host": member.host,
                "partitions": partitions,
            })
        });
        let rows = self.rows.iter().map(|(at, row)| {
            let committed = row.committed.as_ref();
            json!({
                "topic": at.0,
                "partition": at.1,
                "committed": committed.map(|one| one.offset),
                "end": row.end,
                "lag": row.lag(),
                "leader_epoch": committed.map(|one| one.leader_epoch),
                "metadata": committed.map(|one| &one.metadata),
                "member": self.owner(at).map(|member| &member.id),
            })
        });
        json!({
            "group": self.group,
            "type": self.kind,
            "state": self.state,
            "assignor": self.protocol,
            "coordinator": self.coordinator,
            "lag": self.lag().exact(),
            "members": members.collect::<Vec<_>>(),
            "offsets": rows.collect::<Vec<_>>(),
        })
    }
}

fn table_unless_empty<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    match rows.is_empty() {
        true => String::new(),
        false => table(heads, rows),
    }
}

fn number(number: Option<i64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// Text of a broker, and a dash for none.
fn words(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        text => printable(text),
    }
}

/// Partitions as `orders:0,1 other:3`.
fn shown(partitions: &BTreeSet<TopicPartition>) -> String {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (topic, index) in partitions {
        topics.entry(topic).or_default().push(index.to_string());
    }
    let all = topics.into_iter();
    let all: Vec<String> = all
        .map(|(topic, indexes)| format!("{topic}:{}", indexes.join(",")))
        .collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(committed: Option<i64>, end: Option<i64>) -> Row {
        Row {
            committed: committed.map(|offset| Committed {
                offset,
                leader_epoch: -1,
                metadata: String::new(),
            }),
            end,
        }
    }

    #[test]
    fn a_lag_that_is_not_known_is_not_zero() {
        let shown = |rows: &[Row]| {
            let lag = Lag::of(rows.iter());
            (lag.text(), lag.exact())
        };
        let (known, level) = (row(Some(3), Some(10)), row(Some(10), Some(10)));
        let (fresh, gone) = (row(None, Some(10)), row(Some(3), None));
        assert_eq!(shown(&[]), ("-".to_owned(), None));
        assert_eq!(shown(std::slice::from_ref(&fresh)), ("-".to_owned(), None));
        assert_eq!(shown(std::slice::from_ref(&gone)), ("-".to_owned(), None));
        assert_eq!(
            shown(std::slice::from_ref(&level)),
            ("0".to_owned(), Some(0))
        );
        assert_eq!(shown(&[known.clone(), level]), ("7".to_owned(), Some(7)));
        assert_eq!(shown(&[fresh, known, gone]), ("7+".to_owned(), None));
    }
}
