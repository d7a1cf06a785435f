//! Where reading begins.

use std::collections::BTreeMap;

use palisade_protocol::ErrorCode;

use super::super::{
    client::{ClientError, Cluster, Listed, TopicPartition, printable},
    moment,
};

/// The timestamp that asks for a partition's first offset.
pub(in super::super) const EARLIEST: i64 = -2;
/// The timestamp that asks for a partition's end.
pub(in super::super) const LATEST: i64 = -1;

/// A place in a partition, as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Beginning,
    End,
    Offset(i64),
    /// So many records before the end.
    Before(i64),
    /// The first record of this time, in ms since 1970, or later.
    Time(i64),
}

impl Start {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0);
        match text {
            "beginning" | "earliest" => Ok(Self::Beginning),
            "end" | "latest" => Ok(Self::End),
            _ => match (text.strip_prefix('@'), text.strip_prefix('-')) {
                (Some(time), _) => moment::parse(time).map(Self::Time),
                (None, Some(count)) => number(count).map(Self::Before).ok_or(EXPECTED.into()),
                (None, None) => number(text).map(Self::Offset).ok_or(EXPECTED.into()),
            },
        }
    }
}

const EXPECTED: &str = "expected beginning, end, an offset, -COUNT or @TIME";

/// Finds the offsets.
///
/// # Errors
/// A partition cannot be asked.
pub(super) async fn offsets(
    cluster: &mut Cluster,
    partitions: &[TopicPartition],
    start: Start,
    isolation: i8,
) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
    match start {
        Start::Beginning => edge(cluster, partitions, EARLIEST, isolation).await,
        Start::End => edge(cluster, partitions, LATEST, isolation).await,
        Start::Offset(offset) => {
            let all = partitions.iter();
            Ok(all.map(|at| (at.clone(), offset)).collect())
        }
        Start::Before(count) => {
            let first = edge(cluster, partitions, EARLIEST, isolation).await?;
            let mut found = edge(cluster, partitions, LATEST, isolation).await?;
            for (at, offset) in &mut found {
                let first = first.get(at).copied().unwrap_or_default();
                *offset = offset.saturating_sub(count).max(first);
            }
            Ok(found)
        }
        Start::Time(time) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        for (text, place) in [
            ("beginning", Start::Beginning),
            ("end", Start::End),
            ("7", Start::Offset(7)),
            ("-7", Start::Before(7)),
            ("@7", Start::Time(7)),
            ("@1970-01-01T00:00:01Z", Start::Time(1000)),
        ] {
            assert_eq!(Start::parse(text), Ok(place), "{text}");
        }
        for wrong in ["", "-", "--1", "@", "@now", "begin", "1.5"] {
            assert!(Start::parse(wrong).is_err(), "{wrong}");
        }
    }
}
