//! The API keys, and which versions of which APIs are served.
//!
//! ApiVersions, dispatch and the table in README.md all come from [`SERVED`].

use std::fmt;

/// What is served of one API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ApiSpec {
    /// The API.
    pub key: ApiKey,
    /// The lowest version advertised.
    pub min: i16,
    /// The highest version advertised and served.
    pub max: i16,
    /// The lowest version served. Only Produce advertises lower ones, which old librdkafka looks
    /// for before it compresses (KAFKA-18659); a request in them is refused.
    pub served_min: i16,
    /// The first version with compact lengths and tagged fields (KIP-482).
    pub first_flexible: Option<i16>,
    /// The KIP that brought the API; empty for those older than the process.
    pub kip: &'static str,
}

impl ApiSpec {
    const fn new(key: ApiKey, min: i16, max: i16, kip: &'static str) -> Self {
        Self {
            key,
            min,
            max,
            served_min: min,
            first_flexible: key.first_flexible(),
            kip,
        }
    }

    /// Says whether a request of this version is answered.
    pub const fn serves(&self, version: i16) -> bool {
        self.served_min <= version && version <= self.max
    }
}

/// The APIs that are built, by key. What is missing here is not advertised and closes the
/// connection.
pub const SERVED: &[ApiSpec] = &[
    ApiSpec {
        served_min: 3,
        ..ApiSpec::new(ApiKey::Produce, 0, 13, "")
    },
    ApiSpec::new(ApiKey::Fetch, 4, 18, ""),
    ApiSpec::new(ApiKey::ListOffsets, 1, 11, "KIP-79"),
    ApiSpec::new(ApiKey::Metadata, 0, 13, ""),
    ApiSpec::new(ApiKey::OffsetCommit, 2, 10, ""),
    ApiSpec::new(ApiKey::OffsetFetch, 1, 10, ""),
    ApiSpec::new(ApiKey::FindCoordinator, 0, 6, ""),
    ApiSpec::new(ApiKey::JoinGroup, 0, 9, ""),
    ApiSpec::new(ApiKey::Heartbeat, 0, 4, ""),
    ApiSpec::new(ApiKey::LeaveGroup, 0, 5, ""),
    ApiSpec::new(ApiKey::SyncGroup, 0, 5, ""),
    ApiSpec::new(ApiKey::DescribeGroups, 0, 6, ""),
    ApiSpec::new(ApiKey::ListGroups, 0, 5, ""),
    ApiSpec::new(ApiKey::SaslHandshake, 0, 1, "KIP-43"),
    ApiSpec::new(ApiKey::ApiVersions, 0, 5, "KIP-35"),
    ApiSpec::new(ApiKey::CreateTopics, 2, 7, "KIP-4"),
    ApiSpec::new(ApiKey::DeleteTopics, 1, 6, "KIP-4"),
    ApiSpec::new(ApiKey::DeleteRecords, 0, 2, "KIP-107"),
    ApiSpec::new(ApiKey::InitProducerId, 0, 5, "KIP-98"),
    ApiSpec::new(ApiKey::OffsetForLeaderEpoch, 2, 4, "KIP-101"),
    ApiSpec::new(ApiKey::DescribeAcls, 1, 3, "KIP-140"),
    ApiSpec::new(ApiKey::CreateAcls, 1, 3, "KIP-140"),
    ApiSpec::new(ApiKey::DeleteAcls, 1, 3, "KIP-140"),
    ApiSpec::new(ApiKey::DescribeConfigs, 1, 4, "KIP-133"),
    ApiSpec::new(ApiKey::AlterConfigs, 0, 2, "KIP-133"),
    ApiSpec::new(ApiKey::SaslAuthenticate, 0, 2, "KIP-152"),
    ApiSpec::new(ApiKey::CreatePartitions, 0, 3, "KIP-195"),
    ApiSpec::new(ApiKey::DeleteGroups, 0, 3, "KIP-229"),
    ApiSpec::new(ApiKey::IncrementalAlterConfigs, 0, 1, "KIP-339"),
    ApiSpec::new(ApiKey::OffsetDelete, 0, 0, "KIP-496"),
    ApiSpec::new(ApiKey::DescribeUserScramCredentials, 0, 0, "KIP-554"),
    ApiSpec::new(ApiKey::AlterUserScramCredentials, 0, 0, "KIP-554"),
    ApiSpec::new(ApiKey::DescribeCluster, 0, 2, "KIP-700"),
    ApiSpec::new(ApiKey::ConsumerGroupHeartbeat, 0, 1, "KIP-848"),
    ApiSpec::new(ApiKey::ConsumerGroupDescribe, 0, 1, "KIP-848"),
    ApiSpec::new(ApiKey::DescribeTopicPartitions, 0, 0, "KIP-966"),
];

/// What is served of `key`, if it is built.
pub fn spec(key: ApiKey) -> Option<&'static ApiSpec> {
    SERVED.iter().find(|spec| spec.key == key)
}

/// The version of the request header: 2 (with tagged fields) before a flexible body, else 1.
pub(crate) const fn request_header_version(key: ApiKey, version: i16) -> i16 {
    if is_flexible(key, version) { 2 } else { 1 }
}

/// The version of the response header: 1 (with tagged fields) before a flexible body, else 0.
///
/// ApiVersions keeps 0 always: a client that guessed its version too high must be able to read the
/// answer.
pub(crate) const fn response_header_version(key: ApiKey, version: i16) -> i16 {
    if matches!(key, ApiKey::ApiVersions) || !is_flexible(key, version) {
        0
    } else {
        1
    }
}

const fn is_flexible(key: ApiKey, version: i16) -> bool {
    match key.first_flexible() {
        Some(first) => version >= first,
        None => false,
    }
}

/// The served APIs as a Markdown table, for README.md.
pub fn versions_table() -> String {
    let mut table = String::from("| API | versions | since |\n|---|---|---|\n");
    for spec in SERVED {
        let versions = if spec.served_min == spec.max {
            spec.max.to_string()
        } else {
            format!("{}-{}", spec.served_min, spec.max)
        };
        table.push_str(&format!(
            "| {} ({}) | {versions} | {} |\n",
            spec.key.name(),
            spec.key.value(),
            spec.kip
        ));
    }
    table
}

macro_rules! keys {
    ($($(#[doc = $doc:literal])* $name:ident = $value:literal, flexible $flexible:tt;)*) => {
        /// The requests of Kafka 4.4, by the number that stands in the request header.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(i16)]
        pub enum ApiKey {
            $($(#[doc = $doc])* $name = $value,)*
        }

        impl ApiKey {
            /// Every key, ascending.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The key of a number, if Kafka 4.4 has it.
            pub const fn from_i16(value: i16) -> Option<Self> {
                match value {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The number.
            pub const fn value(self) -> i16 {
                match self {
                    $(Self::$name => $value,)*
                }
            }

            /// Kafka's name of the API.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The first version with compact lengths and tagged fields (KIP-482), if any.
            pub const fn first_flexible(self) -> Option<i16> {
                match self {
                    $(Self::$name => keys!(@flexible $flexible),)*
                }
            }
        }
    };
    (@flexible never) => { None };
    (@flexible $first:literal) => { Some($first) };
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

keys! {
    /// Appends record batches.
    Produce = 0, flexible 9;
    /// Reads record batches.
    Fetch = 1, flexible 12;
    /// Finds offsets by timestamp.
    ListOffsets = 2, flexible 6;
    /// Lists brokers, topics and leaders.
    Metadata = 3, flexible 9;
    /// Commits a group's offsets.
    OffsetCommit = 8, flexible 8;
    /// Reads a group's committed offsets.
    OffsetFetch = 9, flexible 6;
    /// Finds the coordinator of a group or transactional id.
    FindCoordinator = 10, flexible 3;
    /// Joins a classic group.
    JoinGroup = 11, flexible 6;
    /// Keeps a classic group's member alive.
    Heartbeat = 12, flexible 4;
    /// Leaves a classic group.
    LeaveGroup = 13, flexible 4;
    /// Hands out a classic group's assignment.
    SyncGroup = 14, flexible 4;
    /// Describes classic groups.
    DescribeGroups = 15, flexible 5;
    /// Lists groups.
    ListGroups = 16, flexible 3;
    /// Chooses the SASL mechanism.
    SaslHandshake = 17, flexible never;
    /// Negotiates versions.
    ApiVersions = 18, flexible 3;
    /// Creates topics.
    CreateTopics = 19, flexible 5;
    /// Deletes topics.
    DeleteTopics = 20, flexible 4;
    /// Deletes records below an offset.
    DeleteRecords = 21, flexible 2;
    /// Gives out a producer id.
    InitProducerId = 22, flexible 2;
    /// Finds where a leader epoch ended.
    OffsetForLeaderEpoch = 23, flexible 4;
    /// Adds partitions to a transaction.
    AddPartitionsToTxn = 24, flexible 3;
    /// Adds a group's offsets to a transaction.
    AddOffsetsToTxn = 25, flexible 3;
    /// Commits or aborts a transaction.
    EndTxn = 26, flexible 3;
    /// Writes the markers that end a transaction.
    WriteTxnMarkers = 27, flexible 1;
    /// Commits offsets within a transaction.
    TxnOffsetCommit = 28, flexible 3;
    /// Lists ACLs.
    DescribeAcls = 29, flexible 2;
    /// Creates ACLs.
    CreateAcls = 30, flexible 2;
    /// Deletes ACLs.
    DeleteAcls = 31, flexible 2;
    /// Describes configurations.
    DescribeConfigs = 32, flexible 4;
    /// Replaces configurations.
    AlterConfigs = 33, flexible 2;
    /// Moves replicas between log directories.
    AlterReplicaLogDirs = 34, flexible 2;
    /// Describes log directories.
    DescribeLogDirs = 35, flexible 2;
    /// Carries SASL tokens.
    SaslAuthenticate = 36, flexible 2;
    /// Adds partitions to topics.
    CreatePartitions = 37, flexible 2;
    /// Creates a delegation token.
    CreateDelegationToken = 38, flexible 2;
    /// Renews a delegation token.
    RenewDelegationToken = 39, flexible 2;
    /// Expires a delegation token.
    ExpireDelegationToken = 40, flexible 2;
    /// Describes delegation tokens.
    DescribeDelegationToken = 41, flexible 2;
    /// Deletes groups.
    DeleteGroups = 42, flexible 2;
    /// Elects leaders.
    ElectLeaders = 43, flexible 2;
    /// Changes configurations key by key.
    IncrementalAlterConfigs = 44, flexible 1;
    /// Reassigns replicas.
    AlterPartitionReassignments = 45, flexible 0;
    /// Lists reassignments.
    ListPartitionReassignments = 46, flexible 0;
    /// Deletes committed offsets.
    OffsetDelete = 47, flexible never;
    /// Describes quotas.
    DescribeClientQuotas = 48, flexible 1;
    /// Changes quotas.
    AlterClientQuotas = 49, flexible 1;
    /// Describes SCRAM credentials.
    DescribeUserScramCredentials = 50, flexible 0;
    /// Changes SCRAM credentials.
    AlterUserScramCredentials = 51, flexible 0;
    /// Raft: asks for a vote.
    Vote = 52, flexible 0;
    /// Raft: announces a leader.
    BeginQuorumEpoch = 53, flexible 1;
    /// Raft: resigns leadership.
    EndQuorumEpoch = 54, flexible 1;
    /// Describes the metadata quorum.
    DescribeQuorum = 55, flexible 0;
    /// Changes a partition's ISR.
    AlterPartition = 56, flexible 0;
    /// Changes feature levels.
    UpdateFeatures = 57, flexible 0;
    /// Forwards a request to the controller.
    Envelope = 58, flexible 0;
    /// Raft: reads a snapshot.
    FetchSnapshot = 59, flexible 0;
    /// Describes the cluster.
    DescribeCluster = 60, flexible 0;
    /// Describes active producers.
    DescribeProducers = 61, flexible 0;
    /// Registers a broker.
    BrokerRegistration = 62, flexible 0;
    /// Keeps a broker's registration alive.
    BrokerHeartbeat = 63, flexible 0;
    /// Removes a broker's registration.
    UnregisterBroker = 64, flexible 0;
    /// Describes transactions.
    DescribeTransactions = 65, flexible 0;
    /// Lists transactions.
    ListTransactions = 66, flexible 0;
    /// Reserves producer ids for a broker.
    AllocateProducerIds = 67, flexible 0;
    /// Joins, keeps alive and leaves a consumer group (KIP-848).
    ConsumerGroupHeartbeat = 68, flexible 0;
    /// Describes consumer groups (KIP-848).
    ConsumerGroupDescribe = 69, flexible 0;
    /// Registers a controller.
    ControllerRegistration = 70, flexible 0;
    /// Asks which client metrics are wanted.
    GetTelemetrySubscriptions = 71, flexible 0;
    /// Sends client metrics.
    PushTelemetry = 72, flexible 0;
    /// Assigns replicas to log directories.
    AssignReplicasToDirs = 73, flexible 0;
    /// Lists resources that have configurations.
    ListConfigResources = 74, flexible 0;
    /// Describes topics page by page.
    DescribeTopicPartitions = 75, flexible 0;
    /// Keeps a share group's member alive.
    ShareGroupHeartbeat = 76, flexible 0;
    /// Describes share groups.
    ShareGroupDescribe = 77, flexible 0;
    /// Reads records of a share group.
    ShareFetch = 78, flexible 0;
    /// Acknowledges records of a share group.
    ShareAcknowledge = 79, flexible 0;
    /// Adds a raft voter.
    AddRaftVoter = 80, flexible 0;
    /// Removes a raft voter.
    RemoveRaftVoter = 81, flexible 0;
    /// Updates a raft voter.
    UpdateRaftVoter = 82, flexible 0;
    /// Creates share-group state.
    InitializeShareGroupState = 83, flexible 0;
    /// Reads share-group state.
    ReadShareGroupState = 84, flexible 0;
    /// Writes share-group state.
    WriteShareGroupState = 85, flexible 0;
    /// Deletes share-group state.
    DeleteShareGroupState = 86, flexible 0;
    /// Summarises share-group state.
    ReadShareGroupStateSummary = 87, flexible 0;
    /// Keeps a streams group's member alive.
    StreamsGroupHeartbeat = 88, flexible 0;
    /// Describes streams groups.
    StreamsGroupDescribe = 89, flexible 0;
    /// Describes a share group's offsets.
    DescribeShareGroupOffsets = 90, flexible 0;
    /// Changes a share group's offsets.
    AlterShareGroupOffsets = 91, flexible 0;
    /// Deletes a share group's offsets.
    DeleteShareGroupOffsets = 92, flexible 0;
    /// Stores the description of a streams topology.
    StreamsGroupTopologyDescriptionUpdate = 93, flexible 0;
    /// Removes a controller's registration.
    UnregisterController = 94, flexible 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_keys_agree() {
        for &key in ApiKey::ALL {
            assert_eq!(ApiKey::from_i16(key.value()), Some(key));
        }
        assert_eq!(ApiKey::ALL.len(), 91);
        for removed in [4, 5, 6, 7, -1, 95] {
            assert_eq!(ApiKey::from_i16(removed), None);
        }
    }

    #[test]
    fn served_is_sorted_and_sound() {
        assert!(SERVED.is_sorted_by_key(|spec| spec.key));
        for spec in SERVED {
            assert!(
                0 <= spec.min && spec.min <= spec.served_min && spec.served_min <= spec.max,
                "{spec:?}"
            );
        }
        assert!(!spec(ApiKey::Produce).is_some_and(|spec| spec.serves(2)));
    }

    #[test]
    fn header_versions() {
        assert_eq!(request_header_version(ApiKey::Metadata, 8), 1);
        assert_eq!(request_header_version(ApiKey::Metadata, 9), 2);
        assert_eq!(response_header_version(ApiKey::Metadata, 9), 1);
        assert_eq!(request_header_version(ApiKey::ApiVersions, 3), 2);
        assert_eq!(response_header_version(ApiKey::ApiVersions, 5), 0);
        assert_eq!(response_header_version(ApiKey::SaslHandshake, 1), 0);
    }

    #[test]
    fn table_lists_what_is_served() {
        let table = versions_table();
        assert!(table.contains("| Produce (0) | 3-13 |  |\n"), "{table}");
        assert!(
            table.contains("| DescribeCluster (60) | 0-2 | KIP-700 |\n"),
            "{table}"
        );
        assert_eq!(table.lines().count(), SERVED.len() + 2);
    }
}
