//! Named points between two steps, most of them on disk, where a test can stop, fail or hold the
//! process.
//!
//! Compiled in only with the feature `failpoints`; without it [`hit`] is nothing. The environment
//! variable `PALISADE_FAILPOINT` holds `name:action` pairs separated by `;`. Actions: `abort`
//! (the process dies at once), `error` (the step answers an I/O error), `hold=<path>` (the thread
//! waits while that file exists). Names: see the callers; `<area>.before_<step>` and
//! `<area>.after_<step>`.

/// Passes a named point.
///
/// # Errors
/// None in this build.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
#[allow(clippy::unnecessary_wraps, reason = "the other build can fail")]
pub fn hit(_name: &str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(feature = "failpoints")]
pub use active::hit;

#[cfg(feature = "failpoints")]
mod active {
    use std::collections::HashMap;
    use std::io;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::time::Duration;

    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Action {
        Abort,
        Error,
        Hold(PathBuf),
    }

    fn table() -> &'static HashMap<String, Action> {
        static TABLE: OnceLock<HashMap<String, Action>> = OnceLock::new();
        TABLE.get_or_init(|| parse(&std::env::var("PALISADE_FAILPOINT").unwrap_or_default()))
    }

    fn parse(text: &str) -> HashMap<String, Action> {
        text.split(';')
            .filter_map(|pair| pair.trim().split_once(':'))
            .map(|(name, action)| {
                let action = match action.split_once('=') {
                    Some(("hold", path)) => Action::Hold(path.into()),
                    _ if action == "abort" => Action::Abort,
                    _ if action == "error" => Action::Error,
                    _ => panic!("unknown failpoint action {action:?}"),
                };
                (name.to_owned(), action)
            })
            .collect()
    }

    /// Passes a named point, or does there what the environment asks for.
    ///
    /// # Errors
    /// Only where it asks for one.
    pub fn hit(name: &str) -> io::Result<()> {
        match table().get(name) {
            None => Ok(()),
            Some(Action::Abort) => std::process::abort(),
            Some(Action::Error) => Err(io::Error::other("failpoint")),
            Some(Action::Hold(path)) => {
                while path.exists() {
                    std::thread::park_timeout(Duration::from_millis(2));
                }
                Ok(())
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_variable_is_parsed() {
            let table = parse("flusher.before_sync:hold=/tmp/x; roll.before_create:abort;a:error");
            assert_eq!(table["flusher.before_sync"], Action::Hold("/tmp/x".into()));
            assert_eq!(table["roll.before_create"], Action::Abort);
            assert_eq!(table["a"], Action::Error);
            assert!(parse("").is_empty());
        }
    }
}
