//! How often a classic group with members became one of the other protocol, by the records that this left.

use std::fs;

use palisade_protocol::batch::{BATCH_HEADER_LEN, BatchIter, RecordIter};

use crate::node::Node;

const TOPIC: &str = "__consumer_offsets-";
/// Kinds of records, which are the first two bytes of their keys.
const CLASSIC_GROUP: [u8; 2] = [0, 2];
const MEMBER: [u8; 2] = [0, 5];

/// Counts the conversions of all groups of a node.
///
/// One batch deletes the classic group and stores its members with the one that comes. Where that one is alone
/// the group was empty, and nobody waited in it.
///
/// # Panics
/// When the node has no log directory, or a batch of its groups holds anything but records.
pub fn count(node: &Node) -> usize {
    let mut found = 0;
    for log in fs::read_dir(node.dir().join("data")).expect("the log directory") {
        let log = log.expect("a directory");
        let name = log.file_name().into_string().expect("a name");
        if !name.starts_with(TOPIC) {
            continue;
        }
        for file in fs::read_dir(log.path()).expect("a log") {
            let path = file.expect("a file").path();
            if path.extension().is_some_and(|kind| kind == "log") {
                found += conversions(&fs::read(&path).expect("a segment"));
            }
        }
    }
    found
}

fn conversions(segment: &[u8]) -> usize {
    // Behind the last batch a segment that is written to may have room.
    let batches = BatchIter::new(segment).map_while(Result::ok);
    let is_conversion = |records: RecordIter<'_>| {
        let (mut deletes, mut members) = (false, 0);
        for record in records {
            let record = record.expect("a record");
            let key = record.key.unwrap_or_default();
            deletes |= key.starts_with(&CLASSIC_GROUP) && record.value.is_none();
            members += usize::from(key.starts_with(&MEMBER) && record.value.is_some());
        }
        deletes && members > 1
    };
    batches
        .filter(|(header, bytes)| {
            let section = bytes.get(BATCH_HEADER_LEN..).unwrap_or_default();
            is_conversion(RecordIter::new(section, header.records_count))
        })
        .count()
}
