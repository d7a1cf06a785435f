//! The coordinator of groups: found, and waited for until it serves.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use palisade_protocol::messages::find_coordinator::FindCoordinatorRequest;
use palisade_protocol::{ErrorCode, Str};

use crate::client::Client;

/// Longest load, and the pause between two questions.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(1);

const FIND_COORDINATOR_VERSION: i16 = 3;

/// Asks for the coordinator of a group until there is one. The first question makes the offsets' topic.
///
/// # Errors
/// It is refused, or there is none after a minute.
pub fn find(client: &mut Client, group: &Str) -> Result<()> {
    let request = FindCoordinatorRequest {
        key: group.clone(),
        ..FindCoordinatorRequest::default()
    };
    patiently(|| {
        let answer = client.call(FIND_COORDINATOR_VERSION, &request)?;
        Ok((answer.error_code, ()))
    })
}

/// Asks until the coordinator is there and has loaded its groups.
///
/// # Errors
/// Any other code than those that say so, or these for a minute.
pub fn patiently<T>(mut ask: impl FnMut() -> Result<(ErrorCode, T)>) -> Result<T> {
    let began = Instant::now();
    loop {
        match ask()? {
            (ErrorCode::NONE, answer) => return Ok(answer),
            (
                ErrorCode::COORDINATOR_NOT_AVAILABLE
                | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
                | ErrorCode::NOT_COORDINATOR,
                _,
            ) if began.elapsed() < PATIENCE => thread::sleep(PAUSE),
            (code, _) => bail!("the coordinator answers {}", code.name()),
        }
    }
}
