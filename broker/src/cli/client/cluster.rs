//! All brokers of a cluster: what concerns a partition goes to its leader, what concerns a group to
//! its coordinator, and both are looked for again when they move.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use palisade_protocol::{
    ErrorCode, Request, Str,
    messages::{
        find_coordinator::FindCoordinatorRequest,
        list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
        metadata::MetadataResponse,
    },
};
use tokio::time::{Instant, timeout_at};

use super::{Backoff, ClientError, ClientSettings, Line, hint, printable, requests};

/// The last version of FindCoordinator that is about one key.
const FIND_ONE: i16 = 3;

/// A topic's name and a partition's index.
pub(crate) type TopicPartition = (String, i32);

/// What a broker says to a look-up of an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The offset; `None` when no record is as late as the time asked for.
    pub(crate) offset: Option<i64>,
    /// Leader epoch of that offset, -1 unknown.
    pub(crate) leader_epoch: i32,
}

/// A topic as the last metadata showed it.
#[derive(Clone, Debug, Default)]
struct Topic {
    error: ErrorCode,
    /// Leader by partition; `None` while there is none.
    leaders: BTreeMap<i32, Option<i32>>,
}

/// A client of a whole cluster.
pub(crate) struct Cluster {
    settings: Arc<ClientSettings>,
    patience: Duration,
    brokers: BTreeMap<i32, (String, u16)>,
    topics: BTreeMap<String, Topic>,
    coordinators: HashMap<String, i32>,
    /// Address of the broker that was asked last.
    asked: String,
    /// What went wrong with it, where a coordinator is looked for or asked again for that.
    trouble: Option<ClientError>,
    /// A line to whichever broker answered, for what any of them knows.
    any: Line,
    idle: HashMap<i32, Vec<Line>>,
}

impl Cluster {
    /// Connects to the first bootstrap address that answers and learns the brokers.
    ///
    /// # Errors
    /// Those of opening a connection, of the last address tried; a refused login ends the search.
    pub(crate) async fn connect(
        settings: ClientSettings,
        patience: Duration,
    ) -> Result<Self, ClientError> {
        let settings = Arc::new(settings);
        let first = settings.bootstrap.first().cloned().unwrap_or_default();
        let mut cluster = Self {
            any: Line::new(&settings, first, patience),
            settings,
            patience,
            brokers: BTreeMap::new(),
            topics: BTreeMap::new(),
            coordinators: HashMap::new(),
            asked: String::new(),
            trouble: None,
            idle: HashMap::new(),
        };
        let asked = cluster.metadata(Some(&[])).await;
        let address = cluster.any.shown_address();
        asked.map_err(|error| hint::second_request(error, &address, &cluster.settings))?;
        Ok(cluster)
    }

    /// How long one answer is awaited.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// All brokers' ids.
    pub(crate) fn broker_ids(&self) -> Vec<i32> {
        self.brokers.keys().copied().collect()
    }

    /// Metadata of these topics, of all for `None`, from any broker; nothing is created.
    ///
    /// # Errors
    /// No broker answers, or the first that does refuses.
    pub(crate) async fn metadata(
        &mut self,
        topics: Option<&[String]>,
    ) -> Result<MetadataResponse, ClientError> {
        let request = requests::metadata(topics);
        let response = self.ask_any(&request, i16::MAX).await?;
        self.learn(&response);
        Ok(response)
    }

    /// Asks whichever broker answers.
    async fn ask_any<R: Request>(
        &mut self,
        request: &R,
        max: i16,
    ) -> Result<R::Response, ClientError> {
        self.asked = self.any.shown_address();
        let mut last = match self.any.send(request, max).await {
            Err(error) if is_unreachable(&error) => error,
            outcome => return outcome,
        };
        let mut tried = BTreeSet::new();
        // A line that was open may have broken long ago; one that did not open would not now.
        if matches!(last, ClientError::Connect { .. } | ClientError::Timeout(_)) {
            tried.insert(self.any.address().clone());
        }
        let known = self.brokers.values().chain(&self.settings.bootstrap);
        for address in known.cloned().collect::<Vec<_>>() {
            if !tried.insert(address.clone()) {
                continue;
            }
            self.any = Line::new(&self.settings, address, self.patience);
            self.asked = self.any.shown_address();
            match self.any.send(request, max).await {
                Err(error) if is_unreachable(&error) => last = error,
                outcome => return outcome,
            }
        }
        Err(last)
    }

    /// Time is up: what went wrong last, or that whoever was asked has not answered.
    fn late(&mut self) -> ClientError {
        let trouble = self.trouble.take();
        trouble.unwrap_or_else(|| ClientError::Timeout(self.asked.clone()))
    }

    /// Waits before something is tried again.
    ///
    /// # Errors
    /// `error`, if it will not pass or there is no time left.
    async fn pause(
        &mut self,
        error: ClientError,
        backoff: &mut Backoff,
    ) -> Result<(), ClientError> {
        if !error.is_transient() {
            return Err(error);
        }
        // Whoever bounds all of this must know it, too.
        self.trouble = Some(error);
        match backoff.pause().await {
            true => Ok(()),
            false => Err(self.late()),
        }
    }

    fn learn(&mut self, response: &MetadataResponse) {
        let brokers: BTreeMap<i32, (String, u16)> = response
            .brokers
            .iter()
            .filter_map(|broker| {
                let port = u16::try_from(broker.port).ok()?;
                Some((broker.node_id, (broker.host.to_string(), port)))
            })
            .collect();
        if !brokers.is_empty() {
            self.idle.retain(|id, _| brokers.contains_key(id));
            self.brokers = brokers;
        }
        for topic in &response.topics {
            let Some(name) = topic.name.as_deref() else {
                continue;
            };
            let leader = |id: i32| (id >= 0).then_some(id);
            let leaders = topic.partitions.iter();
            let known = Topic {
                error: topic.error_code,
                leaders: leaders
                    .map(|one| (one.partition_index, leader(one.leader_id)))
                    .collect(),
            };
            self.topics.insert(name.to_owned(), known);
        }
    }

    /// Looks anew where the partitions of these topics are.
    ///
    /// # Errors
    /// Those of [`Cluster::metadata`].
    pub(crate) async fn refresh(&mut self, topics: &[String]) -> Result<(), ClientError> {
        self.metadata(Some(topics)).await.map(drop)
    }

    /// The partitions of a topic, ascending, each with its leader.
    ///
    /// # Errors
    /// `Refused`: the topic does not exist or may not be seen.
    pub(crate) fn partitions(
        &self,
        topic: &str,
    ) -> Result<&BTreeMap<i32, Option<i32>>, ClientError> {
        let what = || format!("topic {}", printable(topic));
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        match self.topics.get(topic) {
            None => Err(ClientError::refused(what(), unknown, None)),
            // While it is new, or without leaders, its partitions may be there all the same.
            Some(topic) if topic.error == ErrorCode::NONE || !topic.leaders.is_empty() => {
                Ok(&topic.leaders)
            }
            Some(topic) => Err(ClientError::refused(what(), topic.error, None)),
        }
    }

    /// The leader of a partition as far as known.
    pub(crate) fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let leaders = &self.topics.get(topic)?.leaders;
        leaders.get(&partition).copied().flatten()
    }

    /// An idle line to a broker, or a new one; to be given back.
    ///
    /// # Errors
    /// `Refused`: the broker is not known.
    pub(crate) fn take(&mut self, node: i32) -> Result<Line, ClientError> {
        let Some(address) = self.brokers.get(&node) else {
            let what = format!("broker {node}");
            return Err(ClientError::refused(
                what,
                ErrorCode::NETWORK_EXCEPTION,
                None,
            ));
        };
        while let Some(line) = self.idle.get_mut(&node).and_then(Vec::pop) {
            if line.address() == address {
                return Ok(line);
            }
        }
        Ok(Line::new(&self.settings, address.clone(), self.patience))
    }

    /// Keeps a line for the next request to the broker.
    pub(crate) fn give_back(&mut self, node: i32, line: Line) {
        self.idle.entry(node).or_default().push(line);
    }

    /// Asks one broker.
    ///
    /// # Errors
    /// Those of [`Line::send`].
    pub(crate) async fn ask<R: Request>(
        &mut self,
        node: i32,
        request: &R,
        max: i16,
    ) -> Result<R::Response, ClientError> {
        let mut line = self.take(node)?;
        self.asked = line.shown_address();
        let response = line.send(request, max).await?;
        self.give_back(node, line);
        Ok(response)
    }

    /// The broker that coordinates a group; waits for one while there is none.
    ///
    /// # Errors
    /// The group may not be seen, or nobody coordinates it in time.
    pub(crate) async fn coordinator(&mut self, group: &str) -> Result<i32, ClientError> {
        let end = Instant::now() + self.patience;
        let found = timeout_at(end, self.find_coordinator(group)).await;
        found.unwrap_or_else(|_| Err(self.late()))
    }

    async fn find_coordinator(&mut self, group: &str) -> Result<i32, ClientError> {
        if let Some(node) = self.coordinators.get(group) {
            return Ok(*node);
        }
        let request = FindCoordinatorRequest {
            key: Str::copy(group),
            ..FindCoordinatorRequest::default()
        };
        let mut backoff = Backoff::new(self.patience);
        loop {
            let error = match self.ask_any(&request, FIND_ONE).await {
                Ok(found) if found.error_code == ErrorCode::NONE => {
                    if let Ok(port) = u16::try_from(found.port) {
                        let address = (found.host.to_string(), port);
                        self.brokers.insert(found.node_id, address);
                    }
                    self.coordinators.insert(group.to_owned(), found.node_id);
                    self.trouble = None;
                    return Ok(found.node_id);
                }
                Ok(refused) => refused_of(group, refused.error_code),
                Err(error) => error,
            };
            self.pause(error, &mut backoff).await?;
        }
    }

    /// Forgets who coordinates the group: it has moved, or does not answer.
    pub(crate) fn forget_coordinator(&mut self, group: &str) {
        self.coordinators.remove(group);
    }

    /// Asks a group's coordinator, and again while `code` names a passing trouble.
    ///
    /// # Errors
    /// Those of [`Cluster::coordinator`] and [`Line::send`]; a passing trouble that did not pass.
    pub(crate) async fn ask_coordinator<R: Request>(
        &mut self,
        group: &str,
        request: &R,
        max: i16,
        code: impl Fn(&R::Response) -> ErrorCode,
    ) -> Result<R::Response, ClientError> {
        self.trouble = None;
        let end = Instant::now() + self.patience;
        let asked = timeout_at(end, self.keep_asking(group, request, max, code)).await;
        asked.unwrap_or_else(|_| Err(self.late()))
    }

    async fn keep_asking<R: Request>(
        &mut self,
        group: &str,
        request: &R,
        max: i16,
        code: impl Fn(&R::Response) -> ErrorCode,
    ) -> Result<R::Response, ClientError> {
        let mut backoff = Backoff::new(self.patience);
        loop {
            let node = self.coordinator(group).await?;
            let error = match self.ask(node, request, max).await {
                Ok(response) if !code(&response).is_retriable() => return Ok(response),
                Ok(response) => refused_of(group, code(&response)),
                Err(error) => error,
            };
            self.forget_coordinator(group);
            self.pause(error, &mut backoff).await?;
        }
    }

    /// Looks up offsets: by time in ms, or -1 for the end, -2 for the beginning. `isolation` is 1
    /// for the end that read_committed sees, else 0. A partition that cannot be asked has its code.
    ///
    /// # Errors
    /// No broker answers.
    pub(crate) async fn list_offsets(
        &mut self,
        asked: &[(TopicPartition, i64)],
        isolation: i8,
    ) -> Result<BTreeMap<TopicPartition, Result<Listed, ErrorCode>>, ClientError> {
        let mut found = BTreeMap::new();
        let mut left: BTreeMap<&TopicPartition, i64> =
            asked.iter().map(|(at, time)| (at, *time)).collect();
        let mut topics: Vec<String> = left.keys().map(|(topic, _)| topic.clone()).collect();
        topics.dedup();
        let mut backoff = Backoff::new(self.patience);
        let end = Instant::now() + self.patience;
        while !left.is_empty() {
            match timeout_at(end, self.refresh(&topics)).await {
                // The leaders known so far are asked, and it ends in time if nobody answers.
                Err(_) => {}
                Ok(Err(error)) if error.is_transient() => {}
                Ok(outcome) => outcome?,
            }
            for (node, request) in self.offset_requests(&left, isolation, &mut found) {
                let response = match timeout_at(end, self.ask(node, &request, i16::MAX)).await {
                    Err(_) => continue,
                    Ok(Err(error)) if error.is_transient() => continue,
                    Ok(outcome) => outcome?,
                };
                for topic in &response.topics {
                    for one in &topic.partitions {
                        let at = (topic.name.to_string(), one.partition_index);
                        let result = match one.error_code {
                            ErrorCode::NONE => Ok(Listed {
                                offset: (one.offset >= 0).then_some(one.offset),
                                leader_epoch: one.leader_epoch,
                            }),
                            code => Err(code),
                        };
                        found.insert(at, result);
                    }
                }
            }
            left.retain(|at, _| match found.get(*at) {
                None => true,
                Some(Ok(_)) => false,
                Some(Err(code)) => {
                    code.is_retriable() && *code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                }
            });
            if !left.is_empty() && !backoff.pause().await {
                break;
            }
        }
        for at in left.keys() {
            let late = Err(ErrorCode::REQUEST_TIMED_OUT);
            found.entry((*at).clone()).or_insert(late);
        }
        Ok(found)
    }

    /// One request per leader; of what has none, the reason goes to `found`.
    fn offset_requests(
        &self,
        asked: &BTreeMap<&TopicPartition, i64>,
        isolation: i8,
        found: &mut BTreeMap<TopicPartition, Result<Listed, ErrorCode>>,
    ) -> BTreeMap<i32, ListOffsetsRequest> {
        let mut requests: BTreeMap<i32, ListOffsetsRequest> = BTreeMap::new();
        for (at, timestamp) in asked {
            let (name, partition) = (&at.0, at.1);
            let Some(node) = self.leader(name, partition) else {
                let code = match self.partitions(name) {
                    Ok(leaders) if leaders.contains_key(&partition) => {
                        ErrorCode::LEADER_NOT_AVAILABLE
                    }
                    Err(ClientError::Refused { code, .. }) => code,
                    _ => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                };
                found.insert((*at).clone(), Err(code));
                continue;
            };
            let request = requests.entry(node).or_insert_with(|| ListOffsetsRequest {
                replica_id: -1,
                isolation_level: isolation,
                timeout_ms: i32::try_from(self.patience.as_millis()).unwrap_or(i32::MAX),
                ..ListOffsetsRequest::default()
            });
            let row = ListOffsetsPartition {
                partition_index: partition,
                timestamp: *timestamp,
                ..ListOffsetsPartition::default()
            };
            match request.topics.last_mut() {
                Some(topic) if &*topic.name == name.as_str() => topic.partitions.push(row),
                _ => request.topics.push(ListOffsetsTopic {
                    name: Str::copy(name),
                    partitions: vec![row],
                }),
            }
        }
        requests
    }
}

fn is_unreachable(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Connect { .. }
            | ClientError::Lost(_)
            | ClientError::Timeout(_)
            | ClientError::Mismatch { .. }
    )
}

fn refused_of(group: &str, code: ErrorCode) -> ClientError {
    ClientError::refused(format!("group {}", printable(group)), code, None)
}
