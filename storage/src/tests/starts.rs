//! What opening a log leaves on disk.

use std::path::Path;

use crate::fs::FaultyFs;
use crate::testing::*;
use crate::types::TopicId;
use crate::{LogDir, LogSpec, NoObserver, StorageError};

fn spec() -> LogSpec {
    LogSpec {
        dir_name: LOG.into(),
        topic_id: TopicId::from_bytes([5; 16]),
    }
}

fn open_log(dir: &LogDir) -> Result<(), StorageError> {
    let opened = dir.open_log(spec(), small(), std::sync::Arc::new(NoObserver), time(0));
    opened.map(|_| ())
}

#[test]
fn a_creation_that_fails_leaves_nothing_behind() {
    let fs = FaultyFs::new();
    let dir = LogDir::open(Path::new(DIR), fs.as_fs(), manual()).unwrap();
    let mut failed = 0;
    loop {
        fs.refuse_growth_at(fs.growths() + failed);
        let opened = open_log(&dir);
        dir.run_pending();
        if opened.is_ok() {
            break;
        }
        assert!(matches!(opened, Err(StorageError::DiskFull { .. })));
        failed += 1;
        assert!(!fs.as_fs().exists(&Path::new(DIR).join(LOG)).unwrap());
    }
    assert!(
        failed > 3,
        "directory, topic id, its bytes and the first segment"
    );
}
