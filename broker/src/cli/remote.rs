//! What all administration commands have in common: where the broker is, and how to print.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tokio::time::timeout;

use super::{
    client::{Admin, ClientError, ClientSettings, Cluster},
    output::Output,
};

/// Place of these options in help texts: behind the command's own, among which clap would mix them.
const BEHIND: usize = 100;

/// Options of every administration command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Remote {
    /// Broker to begin with; several separated by commas
    #[arg(
        long,
        alias = "bootstrap-server",
        value_name = "HOST:PORT",
        global = true,
        display_order = BEHIND
    )]
    bootstrap: Option<String>,
    /// Client settings: Java properties, or librdkafka's
    #[arg(long, value_name = "FILE", global = true, display_order = BEHIND)]
    command_config: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long, global = true, display_order = BEHIND)]
    json: bool,
    /// Longest wait for one answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, global = true, display_order = BEHIND,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

impl Remote {
    /// How to print.
    pub(crate) fn output(&self) -> Output {
        Output { json: self.json }
    }

    /// Milliseconds that the broker is given in requests with a time limit of their own.
    pub(crate) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout.saturating_mul(1000)).unwrap_or(i32::MAX)
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// Settings that make no sense, or no connection.
    pub(crate) async fn connect(&self) -> Result<Admin, ClientError> {
        Admin::connect(self.settings()?, self.patience()).await
    }

    /// Connects to a cluster of which every broker may be asked.
    ///
    /// # Errors
    /// Settings that make no sense, or no connection.
    pub(crate) async fn cluster(&self) -> Result<Cluster, ClientError> {
        Cluster::connect(self.settings()?, self.patience()).await
    }

    /// Takes the first steps of a command, all of them in the time of one answer.
    ///
    /// # Errors
    /// Those of the steps, and `Timeout`.
    pub(crate) async fn begin<T>(
        &self,
        steps: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        // A little more than one answer may take: its own limit knows whose it was.
        let limit = self.patience() + Duration::from_secs(1);
        let begun = timeout(limit, steps).await;
        begun.unwrap_or_else(|_| Err(ClientError::Timeout("the cluster".to_owned())))
    }

    /// The time that the broker was promised, and a little for the way.
    pub(crate) fn patience(&self) -> Duration {
        self.promised() + Duration::from_secs(2)
    }

    /// `--timeout`, which is what a person is told.
    pub(crate) fn promised(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    fn settings(&self) -> Result<ClientSettings, ClientError> {
        ClientSettings::load(self.command_config.as_deref(), self.bootstrap.as_deref())
    }
}
