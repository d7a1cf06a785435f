//! A member of a group by the classic protocol: it joins, shares out, stays alive, commits, leaves.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use palisade_protocol::{
    ErrorCode, Str,
    messages::{
        heartbeat::HeartbeatRequest,
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse},
        leave_group::{LeaveGroupRequest, MemberIdentity},
        offset_commit::OffsetCommitRequest,
        sync_group::{SyncGroupRequest, SyncGroupRequestAssignment},
    },
};
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};

use super::{
    super::{
        client::{
            Backoff, COMMIT_BY_NAME, ClientError, Cluster, Line, TopicPartition, offset_commit,
            printable,
        },
        outcome::first_code,
    },
    assignor::{self, Subscriber},
    records::Position,
};
use crate::task;

/// How long the coordinator waits for a heartbeat.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long members have to join again, as Java's max.poll.interval.ms is not: nobody polls here.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(60);
const HEARTBEAT: Duration = Duration::from_secs(3);
/// Between two heartbeats where the first did not get through.
const AGAIN: Duration = Duration::from_millis(500);

/// Why the heartbeats ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// The group shares out anew; this member is still one of it.
    Rebalance,
    /// The group goes on without this member.
    Lost,
    /// Somebody else coordinates the group.
    Moved,
    /// The group may no longer be read, or the like.
    Refused(ErrorCode),
}

/// One member.
pub(super) struct Member {
    group: String,
    topics: BTreeSet<String>,
    id: String,
    generation: i32,
    heartbeats: Option<JoinHandle<()>>,
    calls: (mpsc::Sender<Call>, mpsc::Receiver<Call>),
    /// Partitions by topic when this member, as the leader, last shared them out; 0 of a topic that
    /// was not there.
    shared_out: Option<BTreeMap<String, i32>>,
    /// Where the group knows reading to be, or where it began.
    told: BTreeMap<TopicPartition, Position>,
}

impl Member {
    pub(super) fn new(group: &str, topics: &[String]) -> Self {
        Self {
            group: group.to_owned(),
            topics: topics.iter().cloned().collect(),
            id: String::new(),
            generation: -1,
            heartbeats: None,
            calls: mpsc::channel(1),
            shared_out: None,
            told: BTreeMap::new(),
        }
    }

    /// The group's name.
    pub(super) fn group(&self) -> &str {
        &self.group
    }

    /// Waits for the coordinator to call. Cancel safe.
    pub(super) async fn called(&mut self) -> Call {
        match self.calls.1.recv().await {
            Some(call) => call,
            // This end holds a sender too.
            None => std::future::pending().await,
        }
    }

    /// Reading begins at these positions, all of which the group can find again.
    pub(super) fn begin_at(&mut self, positions: BTreeMap<TopicPartition, Position>) {
        self.told = positions;
    }

    /// Whether the group knows that reading has come to these positions.
    pub(super) fn has_told(&self, positions: &BTreeMap<TopicPartition, Position>) -> bool {
        let mut all = positions.iter();
        all.all(|(at, position)| {
            let told = self.told.get(at);
            told.is_some_and(|told| told.offset == position.offset)
        })
    }

    /// Whether this member shared the partitions out and there are more now.
    pub(super) fn has_outgrown(&self, cluster: &Cluster) -> bool {
        let Some(before) = &self.shared_out else {
            return false;
        };
        before.iter().any(|(topic, count)| {
            let now = cluster.partitions(topic).map(BTreeMap::len);
            now.is_ok_and(|now| i32::try_from(now) != Ok(*count))
        })
    }

    /// Forgets the membership: the next join is a new member's.
    pub(super) fn forget(&mut self) {
        self.id.clear();
        self.generation = -1;
    }

    /// Joins, or joins again, until the group agrees; returns this member's partitions.
    ///
    /// # Errors
    /// The group refuses, or nobody coordinates it in time.
    pub(super) async fn join(
        &mut self,
        cluster: &mut Cluster,
    ) -> Result<Vec<TopicPartition>, ClientError> {
        self.silence();
        let mut backoff = Backoff::new(cluster.patience());
        loop {
            let node = cluster.coordinator(&self.group).await?;
            let mut line = cluster.take(node)?;
            let (was_nobody, generation) = (self.id.is_empty(), self.generation);
            let error = match self.round(cluster, &mut line).await {
                Ok(Ok(partitions)) => {
                    cluster.give_back(node, line);
                    let line = cluster.take(node)?;
                    self.keep_alive(line);
                    return Ok(partitions);
                }
                Ok(Err(code)) => {
                    cluster.give_back(node, line);
                    match code {
                        // The usual way to an id; to be sent for one again is not.
                        ErrorCode::MEMBER_ID_REQUIRED if was_nobody && !self.id.is_empty() => {
                            continue;
                        }
                        ErrorCode::MEMBER_ID_REQUIRED => {}
                        ErrorCode::REBALANCE_IN_PROGRESS => {
                            // Others may keep a group from agreeing for as long as they like.
                            if self.generation > generation {
                                backoff.extend(cluster.patience());
                            }
                        }
                        ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION => {
                            self.forget();
                        }
                        code if code.is_retriable() => cluster.forget_coordinator(&self.group),
                        code => return Err(self.refused(code)),
                    }
                    self.refused(code)
                }
                Err(error) if error.is_transient() => {
                    cluster.forget_coordinator(&self.group);
                    error
                }
                Err(error) => return Err(error),
            };
            if !backoff.pause().await {
                return Err(error);
            }
        }
    }

    /// One JoinGroup and one SyncGroup; a code where the group does not agree yet.
    async fn round(
        &mut self,
        cluster: &mut Cluster,
        line: &mut Line,
    ) -> Result<Result<Vec<TopicPartition>, ErrorCode>, ClientError> {
        let request = JoinGroupRequest {
            group_id: Str::copy(&self.group),
            session_timeout_ms: ms(SESSION_TIMEOUT),
            rebalance_timeout_ms: ms(REBALANCE_TIMEOUT),
            member_id: Str::copy(&self.id),
            protocol_type: Str::from("consumer"),
            protocols: vec![JoinGroupRequestProtocol {
                name: Str::from("range"),
                metadata: Bytes::from(assignor::subscription(&self.topics)),
            }],
            ..JoinGroupRequest::default()
        };
        // The coordinator answers when everybody has joined.
        let patience = cluster.patience() + REBALANCE_TIMEOUT;
        let joined = line.send_within(&request, i16::MAX, patience).await?;
        if joined.error_code == ErrorCode::MEMBER_ID_REQUIRED
            || joined.error_code == ErrorCode::NONE
        {
            self.id = joined.member_id.to_string();
        }
        if joined.error_code != ErrorCode::NONE {
            return Ok(Err(joined.error_code));
        }
        self.generation = joined.generation_id;
        self.shared_out = None;
        let assignments = if joined.leader == joined.member_id && !joined.skip_assignment {
            self.share_out(cluster, &joined).await?
        } else {
            Vec::new()
        };
        let request = SyncGroupRequest {
            group_id: Str::copy(&self.group),
            generation_id: self.generation,
            member_id: Str::copy(&self.id),
            protocol_type: Some(Str::from("consumer")),
            protocol_name: Some(Str::from("range")),
            assignments,
            ..SyncGroupRequest::default()
        };
        // It is answered when the leader has spoken, or its session has ended.
        let synced = line.send_within(&request, i16::MAX, patience).await?;
        if synced.error_code != ErrorCode::NONE {
            return Ok(Err(synced.error_code));
        }
        assignor::assigned_partitions(&synced.assignment)
            .map(Ok)
            .ok_or_else(|| {
                let text = "the group's leader sent an assignment that cannot be read";
                ClientError::Unfinished(text.to_owned())
            })
    }

    async fn share_out(
        &mut self,
        cluster: &mut Cluster,
        joined: &JoinGroupResponse,
    ) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
        let members: Vec<Subscriber> = joined
            .members
            .iter()
            .map(|member| Subscriber {
                member_id: member.member_id.to_string(),
                instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
                topics: assignor::subscribed_topics(&member.metadata).unwrap_or_default(),
            })
            .collect();
        let topics: BTreeSet<String> = members
            .iter()
            .flat_map(|member| member.topics.iter().cloned())
            .collect();
        let topics: Vec<String> = topics.into_iter().collect();
        cluster.refresh(&topics).await?;
        let count = |topic: String| {
            // A topic that is not there now may be at the next look.
            let partitions = cluster.partitions(&topic).map_or(0, BTreeMap::len);
            Some((topic, i32::try_from(partitions).ok()?))
        };
        let partitions: BTreeMap<String, i32> = topics.into_iter().filter_map(count).collect();
        let assigned = assignor::range(&members, &partitions);
        self.shared_out = Some(partitions);
        Ok(assigned
            .into_iter()
            .map(|(member_id, partitions)| SyncGroupRequestAssignment {
                member_id: Str::from(member_id),
                assignment: Bytes::from(assignor::assignment(&partitions)),
            })
            .collect())
    }

    /// Begins to send heartbeats, on a line of their own.
    fn keep_alive(&mut self, mut line: Line) {
        let request = HeartbeatRequest {
            group_id: Str::copy(&self.group),
            generation_id: self.generation,
            member_id: Str::copy(&self.id),
            group_instance_id: None,
        };
        // A call of the generation before is no call any more.
        self.calls = mpsc::channel(1);
        let calls = self.calls.0.clone();
        self.heartbeats = Some(task::spawn("heartbeats", async move {
            let mut failures = 0;
            let mut wait = HEARTBEAT;
            let call = loop {
                sleep(wait).await;
                wait = HEARTBEAT;
                match line.send(&request, i16::MAX).await {
                    Ok(response) => match response.error_code {
                        ErrorCode::NONE => failures = 0,
                        ErrorCode::REBALANCE_IN_PROGRESS => break Call::Rebalance,
                        ErrorCode::UNKNOWN_MEMBER_ID
                        | ErrorCode::ILLEGAL_GENERATION
                        | ErrorCode::FENCED_INSTANCE_ID => break Call::Lost,
                        code if code.is_retriable() => break Call::Moved,
                        code => break Call::Refused(code),
                    },
                    Err(_) if failures < 3 => {
                        failures += 1;
                        wait = AGAIN;
                    }
                    Err(_) => break Call::Moved,
                }
            };
            // A member that has left has nobody to call.
            let _ = calls.send(call).await;
        }));
    }

    /// Goes on with heartbeats to whoever coordinates the group now.
    ///
    /// # Errors
    /// Nobody does.
    pub(super) async fn follow(&mut self, cluster: &mut Cluster) -> Result<(), ClientError> {
        self.silence();
        cluster.forget_coordinator(&self.group);
        let node = cluster.coordinator(&self.group).await?;
        let line = cluster.take(node)?;
        self.keep_alive(line);
        Ok(())
    }

    fn silence(&mut self) {
        if let Some(task) = self.heartbeats.take() {
            task.abort();
        }
    }

    /// Commits positions; a code where the group takes none from this member now.
    ///
    /// # Errors
    /// The coordinator cannot be reached.
    pub(super) async fn commit(
        &mut self,
        cluster: &mut Cluster,
        positions: &BTreeMap<TopicPartition, Position>,
    ) -> Result<ErrorCode, ClientError> {
        let offsets = positions
            .iter()
            .map(|(at, position)| (at, (position.offset, position.leader_epoch)));
        let request = OffsetCommitRequest {
            generation_id_or_member_epoch: self.generation,
            member_id: Str::copy(&self.id),
            ..offset_commit(&self.group, offsets)
        };
        let response = cluster
            .ask_coordinator(&self.group, &request, COMMIT_BY_NAME, |response| {
                let topics = response.topics.iter();
                let mut codes =
                    topics.flat_map(|topic| topic.partitions.iter().map(|one| one.error_code));
                let gone = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
                first_code(
                    codes
                        .find(|code| code.is_retriable() && *code != gone)
                        .into_iter(),
                )
            })
            .await?;
        let topics = response.topics.iter();
        let mut codes = topics.flat_map(|topic| topic.partitions.iter().map(|one| one.error_code));
        let code = first_code(codes.find(|code| code.is_error()).into_iter());
        if code == ErrorCode::NONE {
            self.told = positions.clone();
        }
        Ok(code)
    }

    /// Leaves, so that the others need not wait for the session to end.
    ///
    /// # Errors
    /// The coordinator cannot be reached.
    pub(super) async fn leave(&mut self, cluster: &mut Cluster) -> Result<(), ClientError> {
        self.silence();
        if self.id.is_empty() {
            return Ok(());
        }
        let member_id = Str::copy(&self.id);
        let request = LeaveGroupRequest {
            group_id: Str::copy(&self.group),
            members: vec![MemberIdentity {
                member_id,
                ..MemberIdentity::default()
            }],
            ..LeaveGroupRequest::default()
        };
        // Whatever it says in the end, this member is none any more.
        cluster
            .ask_coordinator(&self.group, &request, i16::MAX, |response| {
                response.error_code
            })
            .await
            .map(drop)
    }

    /// A refusal by the group.
    pub(super) fn refused(&self, code: ErrorCode) -> ClientError {
        ClientError::refused(format!("group {}", printable(&self.group)), code, None)
    }
}

fn ms(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
