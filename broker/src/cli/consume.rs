//! `palisade consume`: the records of topics to standard output, alone or as a member of a group.

pub(super) mod assignor;
mod format;
mod member;
mod reader;
mod records;
pub(super) mod start;

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    pin::pin,
    time::Duration,
};

use clap::Args;
use palisade_protocol::{
    ErrorCode, Str,
    messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic},
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use self::{
    format::{Format, Template},
    member::{Call, Member},
    reader::{Printing, Reader},
    records::Position,
};
use super::{
    client::{ClientError, Cluster, Right, TopicPartition, printable},
    interrupt::Interrupt,
    output::Output,
    place::{Place, WORDS},
    progress::{self, Progress},
    remote::Remote,
};

/// The last version of OffsetFetch that is about one group.
const ONE_GROUP: i16 = 7;
/// Between two commits.
const COMMIT: Duration = Duration::from_secs(5);
/// How long a commit may take before that is said: a coordinator that is busy needs a while.
const SILENCE: Duration = Duration::from_secs(2);
/// Between two looks for new partitions.
const LOOK: Duration = Duration::from_secs(60);

/// How long a farewell to a cluster that does not answer may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long the last word may take to somebody who does not want to wait for it.
const PARTING: Duration = Duration::from_millis(100);

/// Arguments of `palisade consume`.
#[derive(Debug, Args)]
#[command(mut_arg("timeout", |arg| arg.help(
    "Longest wait for one answer; a partition that cannot be read is tried for as long"
)))]
#[command(mut_arg("json", |arg| arg.help("Print one JSON object per record")))]
pub(crate) struct ConsumeArgs {
    /// Topics to read
    #[arg(required = true)]
    topics: Vec<String>,
    /// Partition to read, repeatable; all if not given
    #[arg(long = "partition", value_parser = clap::value_parser!(i32).range(0..))]
    partitions: Vec<i32>,
    /// Read as a member of this group: go on where it is, and commit
    #[arg(long, conflicts_with = "partitions")]
    group: Option<String>,
    #[arg(long, help = from_help(), default_value = "earliest", value_name = "PLACE",
          value_parser = Place::parse, allow_negative_numbers = true)]
    from: Place,
    /// End after so many records
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End where the topics end now
    #[arg(long)]
    until_end: bool,
    /// What to print of a record: %t topic, %p partition, %o offset, %T time in ms, %k key, %v or
    /// %s value, %h headers, %K and %S lengths of key and value, %%, \n, \t, \xHH; '%v\n' if not
    /// given
    #[arg(long, value_name = "TEMPLATE", value_parser = Template::parse, conflicts_with = "json")]
    format: Option<Template>,
    /// What stands for a key or value that is none
    #[arg(long, value_name = "TEXT", default_value = "")]
    null_marker: String,
    /// read_committed hides what transactions have not committed
    #[arg(long, default_value = "read_uncommitted", value_name = "LEVEL", value_parser = isolation)]
    isolation: i8,
    #[command(flatten)]
    remote: Remote,
}

fn from_help() -> String {
    format!("Where to begin: {WORDS}; in a group, where nothing is committed")
}

fn isolation(text: &str) -> Result<i8, String> {
    match text {
        "read_uncommitted" => Ok(0),
        "read_committed" => Ok(1),
        _ => Err("expected read_uncommitted or read_committed".to_owned()),
    }
}

impl ConsumeArgs {
    /// Errors go to standard error always: standard output belongs to the records.
    pub(crate) fn output(&self) -> Output {
        Output { json: false }
    }

    pub(crate) async fn run(&self) -> Result<(), ClientError> {
        let outcome = self.read().await;
        outcome.map_err(|error| error.needing(Right::on("READ", "READ")))
    }

    async fn read(&self) -> Result<(), ClientError> {
        let mut cluster = self.remote.begin(self.find()).await?;
        // Until here nothing needs an end of its own, and a signal ends the command at once.
        let mut interrupt = Interrupt::listen()?;
        let json = self.remote.output().json;
        let printing = Printing {
            format: match &self.format {
                _ if json => Format::Json,
                Some(template) => Format::Template(template.clone()),
                None => Format::Template(Template::value()),
            },
            null: self.null_marker.clone().into_bytes(),
            is_for_people: io::stdout().is_terminal(),
            left: self.count,
        };
        // Where the records themselves appear on the terminal, nothing else does.
        let progress = Progress::start(!io::stdout().is_terminal());
        let mut reader = Reader::new(printing, self.isolation, progress);
        let outcome = match &self.group {
            // Whatever is waited for, nobody waits for it after a signal.
            None => tokio::select! {
                outcome = self.alone(&mut cluster, &mut reader) => outcome,
                () = interrupt.heard() => Ok(()),
            },
            Some(group) => {
                let mut member = Member::new(group, &self.topics);
                self.together(&mut cluster, &mut reader, &mut interrupt, &mut member)
                    .await
            }
        };
        reader.progress.clear();
        if reader.progress.is_shown() {
            // Nobody is left to be told when this fails.
            let _ = writeln!(io::stderr(), "{}", reader.progress.words());
        }
        outcome.and_then(|()| reader.finish())
    }

    /// Connects, and finds the topics.
    async fn find(&self) -> Result<Cluster, ClientError> {
        let mut cluster = self.remote.cluster().await?;
        cluster.refresh(&self.topics).await?;
        for topic in &self.topics {
            cluster.partitions(topic)?;
        }
        Ok(cluster)
    }

    async fn alone(&self, cluster: &mut Cluster, reader: &mut Reader) -> Result<(), ClientError> {
        let mut partitions = Vec::new();
        for topic in &self.topics {
            let there = cluster.partitions(topic)?;
            for index in &self.partitions {
                if !there.contains_key(index) {
                    let text = format!("topic {} has no partition {index}", printable(topic));
                    return Err(ClientError::Unfinished(text));
                }
            }
            let wanted = there
                .keys()
                .filter(|index| self.partitions.is_empty() || self.partitions.contains(index));
            partitions.extend(wanted.map(|index| (topic.clone(), *index)));
        }
        let starts = start::offsets(cluster, &partitions, self.from, self.isolation).await?;
        let ends = self.ends(cluster, &partitions).await?;
        reader.assign(&positions(starts), ends.as_ref());
        reader.return_from_beyond(cluster).await?;
        let mut ticks = interval(progress::EVERY);
        while !reader.is_done() {
            let wake = self.ask(cluster, reader).await?;
            tokio::select! {
                answer = reader.replied() => reader.take(answer, cluster).await?,
                () = woken(wake) => {}
                _ = ticks.tick() => reader.progress.paint(),
            }
        }
        Ok(())
    }

    async fn together(
        &self,
        cluster: &mut Cluster,
        reader: &mut Reader,
        interrupt: &mut Interrupt,
        member: &mut Member,
    ) -> Result<(), ClientError> {
        let outcome = tokio::select! {
            outcome = self.take_part(cluster, reader, member) => outcome,
            () = interrupt.heard() => Ok(()),
        };
        // Whoever goes says goodbye, also after an error, which counts more than one of the
        // farewell.
        let positions = reader.positions();
        let farewell = async {
            let committed = self.commit(cluster, member, &positions).await;
            (committed, member.leave(cluster).await)
        };
        // Where nobody answers any more, a farewell is hardly heard.
        let is_lost = outcome.as_ref().is_err_and(ClientError::is_transient);
        let end = is_lost.then(|| Instant::now() + FAREWELL);
        let said = tokio::select! {
            said = farewell => Some(said),
            () = woken(end) => return outcome,
            () = interrupt.heard() => None,
        };
        let Some((committed, left)) = said else {
            // Somebody asks a second time. A coordinator that answers lets go of the member yet;
            // elsewhere the group hears of it when the session times out.
            let _ = timeout(PARTING, member.leave(cluster)).await;
            if member.has_told(&positions) {
                return outcome;
            }
            let text = "interrupted before the group knew where reading had come to";
            return Err(ClientError::Unfinished(text.to_owned()));
        };
        outcome?;
        match committed? {
            ErrorCode::NONE => {}
            code => return Err(member.refused(code)),
        }
        left
    }

    async fn take_part(
        &self,
        cluster: &mut Cluster,
        reader: &mut Reader,
        member: &mut Member,
    ) -> Result<(), ClientError> {
        let mut ticks = interval(progress::EVERY);
        let mut commits = interval(COMMIT);
        let mut looks = interval(LOOK);
        for timer in [&mut ticks, &mut commits, &mut looks] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut joins = true;
        loop {
            if joins {
                joins = false;
                self.join(cluster, reader, member).await?;
                if self.until_end && reader.positions().is_empty() {
                    return Ok(());
                }
            }
            if reader.has_stopped() {
                return Ok(());
            }
            let wake = self.ask(cluster, reader).await?;
            tokio::select! {
                answer = reader.replied() => reader.take(answer, cluster).await?,
                call = member.called() => match call {
                    Call::Rebalance => {
                        // What is not taken now is read again by whoever gets the partition.
                        self.commit_read(cluster, reader, member).await?;
                        joins = true;
                    }
                    Call::Lost => {
                        member.forget();
                        joins = true;
                    }
                    Call::Moved => {
                        reader.tell_at_once(&unheard_of(member), self.remote.promised());
                        member.follow(cluster).await?;
                    }
                    Call::Refused(code) => return Err(member.refused(code)),
                },
                _ = commits.tick() => {
                    match self.commit_read(cluster, reader, member).await? {
                        ErrorCode::ILLEGAL_GENERATION | ErrorCode::UNKNOWN_MEMBER_ID => {
                            member.forget();
                            joins = true;
                        }
                        // The heartbeat hears of it too, and has the rest of the matter.
                        ErrorCode::NONE | ErrorCode::REBALANCE_IN_PROGRESS => {}
                        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {}
                        code => return Err(member.refused(code)),
                    }
                }
                _ = looks.tick() => {
                    look(cluster, &self.topics).await?;
                    joins = member.has_outgrown(cluster);
                }
                () = woken(wake) => {}
                _ = ticks.tick() => reader.progress.paint(),
            }
        }
    }

    /// Asks the leaders for what is due; gives the moment when something else will be.
    async fn ask(
        &self,
        cluster: &mut Cluster,
        reader: &mut Reader,
    ) -> Result<Option<Instant>, ClientError> {
        if std::mem::take(&mut reader.is_stale) {
            // No longer than what is read is tried for.
            let end = reader.trying_until(cluster.patience());
            tokio::select! {
                looked = look(cluster, &self.topics) => looked?,
                () = woken(end) => {}
            }
        }
        reader.tell(self.remote.promised());
        // One time for both: what is not due to the first must be waited for by the second.
        let now = Instant::now();
        reader.dispatch(cluster, now)?;
        Ok(reader.wake_at(now))
    }

    /// Joins and begins where the group is.
    async fn join(
        &self,
        cluster: &mut Cluster,
        reader: &mut Reader,
        member: &mut Member,
    ) -> Result<(), ClientError> {
        // Until the group has agreed, nothing belongs to this member.
        reader.assign(&BTreeMap::new(), None);
        let partitions = member.join(cluster).await?;
        let mut topics: Vec<String> = partitions.iter().map(|(topic, _)| topic.clone()).collect();
        topics.dedup();
        look(cluster, &topics).await?;
        let is_committed = self.isolation == 1;
        let mut starts = committed(cluster, member.group(), &partitions, is_committed).await?;
        let fresh: Vec<TopicPartition> = partitions
            .iter()
            .filter(|at| !starts.contains_key(at))
            .cloned()
            .collect();
        let found = start::offsets(cluster, &fresh, self.from, self.isolation).await?;
        starts.extend(positions(found));
        let ends = self.ends(cluster, &partitions).await?;
        reader.assign(&starts, ends.as_ref());
        reader.return_from_beyond(cluster).await?;
        member.begin_at(reader.positions());
        Ok(())
    }

    async fn ends(
        &self,
        cluster: &mut Cluster,
        partitions: &[TopicPartition],
    ) -> Result<Option<BTreeMap<TopicPartition, i64>>, ClientError> {
        if !self.until_end {
            return Ok(None);
        }
        let ends = start::edge(cluster, partitions, start::LATEST, self.isolation).await?;
        Ok(Some(ends))
    }

    /// Commits what was read, and says so where that is tried for a while.
    async fn commit_read(
        &self,
        cluster: &mut Cluster,
        reader: &mut Reader,
        member: &mut Member,
    ) -> Result<ErrorCode, ClientError> {
        let positions = reader.positions();
        let unheard_of = unheard_of(member);
        let mut commit = pin!(self.commit(cluster, member, &positions));
        tokio::select! {
            outcome = &mut commit => return outcome,
            () = sleep(SILENCE) => {}
        }
        reader.tell_at_once(&unheard_of, self.remote.promised());
        commit.await
    }

    async fn commit(
        &self,
        cluster: &mut Cluster,
        member: &mut Member,
        positions: &BTreeMap<TopicPartition, Position>,
    ) -> Result<ErrorCode, ClientError> {
        if positions.is_empty() {
            return Ok(ErrorCode::NONE);
        }
        member.commit(cluster, positions).await
    }
}

/// What is said of a coordinator that does not answer.
fn unheard_of(member: &Member) -> String {
    format!(
        "no answer of group {}'s coordinator",
        printable(member.group())
    )
}

/// Waits for a moment, if there is one. Cancel safe.
async fn woken(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Looks for leaders; a cluster that does not answer now may later, and reading tells if not.
async fn look(cluster: &mut Cluster, topics: &[String]) -> Result<(), ClientError> {
    match cluster.refresh(topics).await {
        Err(error) if error.is_transient() => Ok(()),
        outcome => outcome,
    }
}

fn positions(offsets: BTreeMap<TopicPartition, i64>) -> BTreeMap<TopicPartition, Position> {
    let at = |offset| Position {
        offset,
        leader_epoch: -1,
    };
    let all = offsets.into_iter();
    all.map(|(partition, offset)| (partition, at(offset)))
        .collect()
}

/// What the group has committed of these partitions; waits for open transactions if `stable`.
async fn committed(
    cluster: &mut Cluster,
    group: &str,
    partitions: &[TopicPartition],
    stable: bool,
) -> Result<BTreeMap<TopicPartition, Position>, ClientError> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, index) in partitions {
        topics.entry(topic).or_default().push(*index);
    }
    let rows = topics.into_iter().map(|(name, partition_indexes)| {
        let name = Str::copy(name);
        OffsetFetchRequestTopic {
            name,
            partition_indexes,
        }
    });
    let request = OffsetFetchRequest {
        group_id: Str::copy(group),
        topics: Some(rows.collect()),
        require_stable: stable,
        ..OffsetFetchRequest::default()
    };
    let response = cluster
        .ask_coordinator(group, &request, ONE_GROUP, |response| {
            let rows = response.topics.iter().flat_map(|topic| &topic.partitions);
            let mut codes = rows.map(|one| one.error_code);
            let unstable = codes.find(|code| *code == ErrorCode::UNSTABLE_OFFSET_COMMIT);
            unstable.unwrap_or(response.error_code)
        })
        .await?;
    if response.error_code.is_error() {
        let what = format!("group {group}");
        return Err(ClientError::refused(what, response.error_code, None));
    }
    let mut found = BTreeMap::new();
    for topic in &response.topics {
        for one in &topic.partitions {
            let at = (topic.name.to_string(), one.partition_index);
            if one.error_code.is_error() {
                let what = format!("{}-{} of group {group}", at.0, at.1);
                return Err(ClientError::refused(what, one.error_code, None));
            }
            if one.committed_offset >= 0 {
                let position = Position {
                    offset: one.committed_offset,
                    leader_epoch: one.committed_leader_epoch,
                };
                found.insert(at, position);
            }
        }
    }
    Ok(found)
}
