//! Every message, as a list to walk over.

use bytes::{Bytes, BytesMut};
use palisade_protocol::api::ApiKey;
use palisade_protocol::schema::MessageSchema;
use palisade_protocol::{DecodeError, EncodeError, Message, Reader, Request, Writer};

/// One request or response.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) key: ApiKey,
    pub(crate) schema: &'static MessageSchema,
    pub(crate) decode: fn(Bytes, i16) -> Result<usize, DecodeError>,
    pub(crate) reencode: fn(Bytes, i16) -> Result<Vec<u8>, EncodeError>,
    pub(crate) encode_default: fn(i16) -> Result<Vec<u8>, EncodeError>,
}

impl Case {
    fn of<M: Message>(name: &'static str, key: ApiKey) -> Self {
        Self {
            name,
            key,
            schema: M::SCHEMA,
            decode: decode::<M>,
            reencode: |bytes, version| {
                let message = M::decode(&mut Reader::new(bytes), version).expect("decoded before");
                encode(&message, version)
            },
            encode_default: |version| encode(&M::default(), version),
        }
    }

    pub(crate) fn versions(&self) -> std::ops::RangeInclusive<i16> {
        self.schema.versions.first..=self.schema.versions.last
    }
}

/// Decodes and gives the number of bytes left.
fn decode<M: Message>(bytes: Bytes, version: i16) -> Result<usize, DecodeError> {
    let mut reader = Reader::new(bytes);
    M::decode(&mut reader, version)?;
    Ok(reader.remaining())
}

fn encode<M: Message>(message: &M, version: i16) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::new(BytesMut::new());
    message.encode(&mut writer, version)?;
    Ok(writer
        .finish()
        .iter()
        .flat_map(|chunk| chunk.as_bytes())
        .copied()
        .collect())
}

fn request_and_response<R: Request>(request: &'static str, response: &'static str) -> [Case; 2] {
    [
        Case::of::<R>(request, R::KEY),
        Case::of::<R::Response>(response, R::KEY),
    ]
}

/// Calls a macro with the module and the name of every API.
macro_rules! with_apis {
    ($call:ident) => {
        $call! {
            alter_configs AlterConfigsRequest AlterConfigsResponse;
            alter_user_scram_credentials AlterUserScramCredentialsRequest AlterUserScramCredentialsResponse;
            api_versions ApiVersionsRequest ApiVersionsResponse;
            consumer_group_describe ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse;
            consumer_group_heartbeat ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse;
            create_acls CreateAclsRequest CreateAclsResponse;
            create_partitions CreatePartitionsRequest CreatePartitionsResponse;
            create_topics CreateTopicsRequest CreateTopicsResponse;
            delete_acls DeleteAclsRequest DeleteAclsResponse;
            delete_groups DeleteGroupsRequest DeleteGroupsResponse;
            delete_records DeleteRecordsRequest DeleteRecordsResponse;
            delete_topics DeleteTopicsRequest DeleteTopicsResponse;
            describe_acls DescribeAclsRequest DescribeAclsResponse;
            describe_cluster DescribeClusterRequest DescribeClusterResponse;
            describe_configs DescribeConfigsRequest DescribeConfigsResponse;
            describe_groups DescribeGroupsRequest DescribeGroupsResponse;
            describe_topic_partitions DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse;
            describe_user_scram_credentials DescribeUserScramCredentialsRequest DescribeUserScramCredentialsResponse;
            fetch FetchRequest FetchResponse;
            find_coordinator FindCoordinatorRequest FindCoordinatorResponse;
            heartbeat HeartbeatRequest HeartbeatResponse;
            incremental_alter_configs IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse;
            init_producer_id InitProducerIdRequest InitProducerIdResponse;
            join_group JoinGroupRequest JoinGroupResponse;
            leave_group LeaveGroupRequest LeaveGroupResponse;
            list_groups ListGroupsRequest ListGroupsResponse;
            list_offsets ListOffsetsRequest ListOffsetsResponse;
            metadata MetadataRequest MetadataResponse;
            offset_commit OffsetCommitRequest OffsetCommitResponse;
            offset_delete OffsetDeleteRequest OffsetDeleteResponse;
            offset_fetch OffsetFetchRequest OffsetFetchResponse;
            offset_for_leader_epoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse;
            produce ProduceRequest ProduceResponse;
            sasl_authenticate SaslAuthenticateRequest SaslAuthenticateResponse;
            sasl_handshake SaslHandshakeRequest SaslHandshakeResponse;
            sync_group SyncGroupRequest SyncGroupResponse;
        }
    };
}
pub(crate) use with_apis;

macro_rules! list {
    ($($module:ident $request:ident $response:ident;)*) => {
        /// Every request and response.
        pub(crate) fn all() -> Vec<Case> {
            let mut cases = Vec::new();
            $(cases.extend(request_and_response::<palisade_protocol::messages::$module::$request>(
                stringify!($request),
                stringify!($response),
            ));)*
            cases
        }
    };
}
with_apis!(list);

#[test]
fn every_served_api_is_in_the_list_and_within_its_messages_versions() {
    for spec in palisade_protocol::api::SERVED {
        let cases: Vec<_> = all()
            .into_iter()
            .filter(|case| case.key == spec.key)
            .collect();
        assert_eq!(cases.len(), 2, "{}", spec.key);
        for case in cases {
            assert!(case.versions().contains(&spec.served_min), "{}", case.name);
            assert!(case.versions().contains(&spec.max), "{}", case.name);
        }
    }
}

#[test]
fn flexible_versions_agree_with_the_keys() {
    for case in all() {
        assert_eq!(
            case.schema.first_flexible,
            case.key.first_flexible(),
            "{}",
            case.name
        );
    }
}
