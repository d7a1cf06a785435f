//! Where reading begins.

use std::collections::BTreeMap;

use palisade_protocol::ErrorCode;

use super::super::{
    client::{ClientError, Cluster, Listed, TopicPartition, printable},
    place::Place,
};

/// The timestamp that asks for a partition's first offset.
pub(in super::super) const EARLIEST: i64 = -2;
/// The timestamp that asks for a partition's end.
pub(in super::super) const LATEST: i64 = -1;

/// Finds the offsets.
///
/// # Errors
/// A partition cannot be asked.
pub(super) async fn offsets(
    cluster: &mut Cluster,
    partitions: &[TopicPartition],
    place: Place,
    isolation: i8,
) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
    match place {
        Place::Earliest => edge(cluster, partitions, EARLIEST, isolation).await,
        Place::Latest => edge(cluster, partitions, LATEST, isolation).await,
        Place::Offset(offset) => {
            let all = partitions.iter();
            Ok(all.map(|at| (at.clone(), offset)).collect())
        }
        Place::BeforeEnd(count) => {
            let first = edge(cluster, partitions, EARLIEST, isolation).await?;
            let mut found = edge(cluster, partitions, LATEST, isolation).await?;
            for (at, offset) in &mut found {
                let first = first.get(at).copied().unwrap_or_default();
                *offset = offset.saturating_sub(count).max(first);
            }
            Ok(found)
        }
        Place::Time(time) => {
            let mut found = edge(cluster, partitions, LATEST, isolation).await?;
            found.extend(at_time(cluster, partitions, time, isolation).await?);
            Ok(found)
        }
    }
}

/// The first offset whose record is as late as `time` in ms, of the partitions that have one.
///
/// # Errors
/// A partition cannot be asked.
pub(in super::super) async fn at_time(
    cluster: &mut Cluster,
    partitions: &[TopicPartition],
    time: i64,
    isolation: i8,
) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
    let mut found = BTreeMap::new();
    // Negative times have other meanings in the protocol; nothing is older than 1970.
    let asked: Vec<_> = partitions
        .iter()
        .map(|at| (at.clone(), time.max(0)))
        .collect();
    for (at, listed) in cluster.list_offsets(&asked, isolation).await? {
        if let Some(offset) = accepted(&at, listed)?.offset {
            found.insert(at, offset);
        }
    }
    Ok(found)
}

/// First offsets or ends.
///
/// # Errors
/// A partition cannot be asked.
pub(in super::super) async fn edge(
    cluster: &mut Cluster,
    partitions: &[TopicPartition],
    which: i64,
    isolation: i8,
) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
    let asked: Vec<_> = partitions.iter().map(|at| (at.clone(), which)).collect();
    let listed = cluster.list_offsets(&asked, isolation).await?;
    let found = listed.into_iter().map(|(at, listed)| {
        let offset = accepted(&at, listed)?.offset.unwrap_or_default();
        Ok((at, offset))
    });
    found.collect()
}

fn accepted(at: &TopicPartition, listed: Result<Listed, ErrorCode>) -> Result<Listed, ClientError> {
    listed.map_err(|code| {
        let what = format!("{}-{}", printable(&at.0), at.1);
        ClientError::refused(what, code, None)
    })
}
