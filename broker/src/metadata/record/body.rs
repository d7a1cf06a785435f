//! Kinds, versions and bodies of the records.

use palisade_auth::acl::{Operation, PatternType, Permission, ResourceType};

use super::*;

/// Highest version of any body so far.
const VERSION: u16 = 1;

/// Numbers of the kinds; a number is never used again.
mod kind {
    pub(super) const CLUSTER_ID: u16 = 1;
    pub(super) const FAKE_SALT_SECRET: u16 = 2;
    pub(super) const FEATURE_LEVEL: u16 = 3;
    pub(super) const REGISTER_BROKER: u16 = 4;
    pub(super) const FENCE_BROKER: u16 = 5;
    pub(super) const UNREGISTER_BROKER: u16 = 6;
    pub(super) const TOPIC: u16 = 7;
    pub(super) const PARTITION: u16 = 8;
    pub(super) const REMOVE_TOPIC: u16 = 9;
    pub(super) const CONFIG: u16 = 10;
    pub(super) const ACL: u16 = 11;
    pub(super) const REMOVE_ACL: u16 = 12;
    pub(super) const SCRAM: u16 = 13;
    pub(super) const REMOVE_SCRAM: u16 = 14;
    pub(super) const PRODUCER_IDS: u16 = 15;
    /// Highest kind this release knows.
    pub(super) const LAST: u16 = PRODUCER_IDS;
}

impl MetadataRecord {
    fn kind(&self) -> u16 {
        match self {
            MetadataRecord::ClusterId(_) => kind::CLUSTER_ID,
            MetadataRecord::FakeSaltSecret(_) => kind::FAKE_SALT_SECRET,
            MetadataRecord::FeatureLevel { .. } => kind::FEATURE_LEVEL,
            MetadataRecord::RegisterBroker(_) => kind::REGISTER_BROKER,
            MetadataRecord::FenceBroker { .. } => kind::FENCE_BROKER,
            MetadataRecord::UnregisterBroker { .. } => kind::UNREGISTER_BROKER,
            MetadataRecord::Topic { .. } => kind::TOPIC,
            MetadataRecord::Partition(_) => kind::PARTITION,
            MetadataRecord::RemoveTopic { .. } => kind::REMOVE_TOPIC,
            MetadataRecord::Config { .. } => kind::CONFIG,
            MetadataRecord::Acl(_) => kind::ACL,
            MetadataRecord::RemoveAcl(_) => kind::REMOVE_ACL,
            MetadataRecord::Scram { .. } => kind::SCRAM,
            MetadataRecord::RemoveScram { .. } => kind::REMOVE_SCRAM,
            MetadataRecord::ProducerIds { .. } => kind::PRODUCER_IDS,
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u16(self.kind());
        out.u16(VERSION);
        out.sized(|out| self.encode_body(out));
    }

    fn encode_body(&self, out: &mut Encoder) {
        match self {
            MetadataRecord::ClusterId(id) => out.str(id),
            MetadataRecord::FakeSaltSecret(secret) => out.bytes(secret.expose()),
            MetadataRecord::FeatureLevel { name, level } => {
                out.str(name);
                out.i16(*level);
            }
            MetadataRecord::RegisterBroker(broker) => encode_broker(broker, out),
            MetadataRecord::FenceBroker { id, epoch, fenced } => {
                out.i32(id.value());
                out.i64(*epoch);
                out.bool(*fenced);
            }
            MetadataRecord::UnregisterBroker { id } => out.i32(id.value()),
            MetadataRecord::Topic { id, name } => {
                out.uuid(id);
                out.str(name);
            }
            MetadataRecord::Partition(partition) => encode_partition(partition, out),
            MetadataRecord::RemoveTopic { id } => out.uuid(id),
            MetadataRecord::Config {
                resource_type,
                resource_name,
                key,
                value,
            } => {
                out.u8(resource_type.code().unsigned_abs());
                out.str(resource_name);
                out.str(key);
                out.option(value.as_deref(), Encoder::str);
            }
            MetadataRecord::Acl(acl) | MetadataRecord::RemoveAcl(acl) => encode_acl(acl, out),
            MetadataRecord::Scram { user, credential } => {
                out.str(user);
                encode_credential(credential, out);
            }
            MetadataRecord::RemoveScram { user, mechanism } => {
                out.str(user);
                out.u8(mechanism.code().unsigned_abs());
            }
            MetadataRecord::ProducerIds {
                broker_id,
                broker_epoch,
                next,
            } => {
                out.i32(broker_id.value());
                out.i64(*broker_epoch);
                out.i64(next.value());
            }
        }
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Result<MetadataRecord, CodecError> {
        let kind = input.u16("record kind")?;
        let version = input.u16("record version")?;
        let body = input.bytes("record body")?;
        if kind > kind::LAST {
            return Err(CodecError::TooNew {
                what: "metadata record kind",
                found: u32::from(kind),
                supported: u32::from(kind::LAST),
            });
        }
        if version != VERSION {
            return Err(CodecError::TooNew {
                what: "metadata record",
                found: u32::from(version),
                supported: u32::from(VERSION),
            });
        }
        let mut body = Decoder::new(body);
        let record = MetadataRecord::decode_body(kind, &mut body)?;
        body.finish("record body")?;
        Ok(record)
    }

    fn decode_body(kind: u16, input: &mut Decoder<'_>) -> Result<MetadataRecord, CodecError> {
        Ok(match kind {
            kind::CLUSTER_ID => MetadataRecord::ClusterId(input.str("cluster id")?.to_owned()),
            kind::FAKE_SALT_SECRET => {
                MetadataRecord::FakeSaltSecret(Secret::new(input.bytes("secret")?.to_vec()))
            }
            kind::FEATURE_LEVEL => MetadataRecord::FeatureLevel {
                name: input.str("feature name")?.to_owned(),
                level: input.i16("feature level")?,
            },
            kind::REGISTER_BROKER => MetadataRecord::RegisterBroker(decode_broker(input)?),
            kind::FENCE_BROKER => MetadataRecord::FenceBroker {
                id: BrokerId::new(input.i32("broker id")?),
                epoch: input.i64("broker epoch")?,
                fenced: input.bool("fenced")?,
            },
            kind::UNREGISTER_BROKER => MetadataRecord::UnregisterBroker {
                id: BrokerId::new(input.i32("broker id")?),
            },
            kind::TOPIC => MetadataRecord::Topic {
                id: input.uuid("topic id")?,
                name: input.str("topic name")?.to_owned(),
            },
            kind::PARTITION => MetadataRecord::Partition(decode_partition(input)?),
            kind::REMOVE_TOPIC => MetadataRecord::RemoveTopic {
                id: input.uuid("topic id")?,
            },
            kind::CONFIG => MetadataRecord::Config {
                resource_type: decode_code("resource type", input, ConfigResourceType::from_code)?,
                resource_name: input.str("resource name")?.to_owned(),
                key: input.str("config key")?.to_owned(),
                value: input
                    .option("config value", |input| input.str("config value"))?
                    .map(str::to_owned),
            },
            kind::ACL => MetadataRecord::Acl(decode_acl(input)?),
            kind::REMOVE_ACL => MetadataRecord::RemoveAcl(decode_acl(input)?),
            kind::SCRAM => MetadataRecord::Scram {
                user: input.str("user")?.to_owned(),
                credential: decode_credential(input)?,
            },
            kind::REMOVE_SCRAM => MetadataRecord::RemoveScram {
                user: input.str("user")?.to_owned(),
                mechanism: decode_code("mechanism", input, ScramMechanism::from_code)?,
            },
            kind::PRODUCER_IDS => MetadataRecord::ProducerIds {
                broker_id: BrokerId::new(input.i32("broker id")?),
                broker_epoch: input.i64("broker epoch")?,
                next: ProducerId::new(input.i64("producer id")?),
            },
            other => {
                return Err(CodecError::Invalid {
                    what: "record kind",
                    value: i64::from(other),
                });
            }
        })
    }
}

fn decode_code<T>(
    what: &'static str,
    input: &mut Decoder<'_>,
    from_code: impl FnOnce(i8) -> Option<T>,
) -> Result<T, CodecError> {
    let code = input.u8(what)?;
    i8::try_from(code)
        .ok()
        .and_then(from_code)
        .ok_or(CodecError::Invalid {
            what,
            value: i64::from(code),
        })
}

/// Takes no code for unknown but the one that means it.
fn known<T: Copy>(
    from_code: impl FnOnce(i8) -> T,
    code: impl Fn(T) -> i8,
) -> impl FnOnce(i8) -> Option<T> {
    move |wanted| Some(from_code(wanted)).filter(|found| code(*found) == wanted)
}

fn encode_broker(broker: &BrokerRegistration, out: &mut Encoder) {
    out.i32(broker.id.value());
    out.uuid(&broker.incarnation);
    out.i64(broker.epoch);
    out.list(broker.endpoints.iter(), |out, endpoint| {
        out.str(&endpoint.listener);
        out.str(&endpoint.host);
        out.u16(endpoint.port);
        out.i16(endpoint.security_protocol);
    });
    out.option(broker.rack.as_deref(), Encoder::str);
    out.bool(broker.fenced);
}

fn decode_broker(input: &mut Decoder<'_>) -> Result<BrokerRegistration, CodecError> {
    Ok(BrokerRegistration {
        id: BrokerId::new(input.i32("broker id")?),
        incarnation: input.uuid("incarnation")?,
        epoch: input.i64("broker epoch")?,
        endpoints: input.list("endpoints", |input| {
            Ok(BrokerEndpoint {
                listener: input.str("listener")?.to_owned(),
                host: input.str("host")?.to_owned(),
                port: input.u16("port")?,
                security_protocol: input.i16("security protocol")?,
            })
        })?,
        rack: input
            .option("rack", |input| input.str("rack"))?
            .map(str::to_owned),
        fenced: input.bool("fenced")?,
    })
}

fn encode_partition(partition: &PartitionRecord, out: &mut Encoder) {
    out.uuid(&partition.topic_id);
    out.i32(partition.partition.value());
    out.list(partition.replicas.iter(), |out, id| out.i32(id.value()));
    out.list(partition.isr.iter(), |out, id| out.i32(id.value()));
    out.option(partition.leader, |out, id| out.i32(id.value()));
    out.i32(partition.leader_epoch.value());
    out.i32(partition.partition_epoch);
}

fn decode_partition(input: &mut Decoder<'_>) -> Result<PartitionRecord, CodecError> {
    Ok(PartitionRecord {
        topic_id: input.uuid("topic id")?,
        partition: PartitionIndex::new(input.i32("partition")?),
        replicas: input.list("replicas", |input| Ok(BrokerId::new(input.i32("replica")?)))?,
        isr: input.list("isr", |input| Ok(BrokerId::new(input.i32("isr member")?)))?,
        leader: input
            .option("leader", |input| input.i32("leader"))?
            .map(BrokerId::new),
        leader_epoch: LeaderEpoch::new(input.i32("leader epoch")?),
        partition_epoch: input.i32("partition epoch")?,
    })
}

fn encode_acl(acl: &AclBinding, out: &mut Encoder) {
    out.u8(acl.resource_type.code().unsigned_abs());
    out.str(&acl.resource_name);
    out.u8(acl.pattern_type.code().unsigned_abs());
    out.str(&acl.principal);
    out.str(&acl.host);
    out.u8(acl.operation.code().unsigned_abs());
    out.u8(acl.permission.code().unsigned_abs());
}

fn decode_acl(input: &mut Decoder<'_>) -> Result<AclBinding, CodecError> {
    Ok(AclBinding {
        resource_type: decode_code(
            "resource type",
            input,
            known(ResourceType::from_code, ResourceType::code),
        )?,
        resource_name: input.str("resource name")?.to_owned(),
        pattern_type: decode_code(
            "pattern type",
            input,
            known(PatternType::from_code, PatternType::code),
        )?,
        principal: input.str("principal")?.to_owned(),
        host: input.str("host")?.to_owned(),
        operation: decode_code(
            "operation",
            input,
            known(Operation::from_code, Operation::code),
        )?,
        permission: decode_code(
            "permission",
            input,
            known(Permission::from_code, Permission::code),
        )?,
    })
}

fn encode_credential(credential: &ScramCredential, out: &mut Encoder) {
    out.u8(credential.mechanism.code().unsigned_abs());
    out.bytes(&credential.salt);
    out.bytes(credential.stored_key.expose());
    out.bytes(credential.server_key.expose());
    out.u32(credential.iterations);
}

fn decode_credential(input: &mut Decoder<'_>) -> Result<ScramCredential, CodecError> {
    let mechanism = decode_code("mechanism", input, ScramMechanism::from_code)?;
    let salt = input.bytes("salt")?.to_vec();
    let stored_key = input.bytes("stored key")?.to_vec();
    let server_key = input.bytes("server key")?.to_vec();
    let iterations = input.u32("iterations")?;
    ScramCredential::from_stored(mechanism, salt, stored_key, server_key, iterations).map_err(
        |_| CodecError::Invalid {
            what: "credential",
            value: i64::from(iterations),
        },
    )
}
