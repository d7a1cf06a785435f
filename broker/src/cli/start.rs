//! `palisade start`: a node from its configuration.

use std::path::PathBuf;

use clap::Args;

use super::{
    declare::{FIRST_ADMIN, first_admin},
    dev::leftovers,
    node::{self, NodeError, SharedBroker},
};
use crate::{
    config::{Config, Sources},
    shutdown::{CallOff, Signals},
    startup::{Running, start_prepared, unusable},
};

/// Arguments of `palisade start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Properties file with Kafka's keys and ours; the environment and --override beat it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key, repeatable; secrets are refused here
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

impl StartArgs {
    pub(crate) async fn run(self) -> Result<(), NodeError> {
        let mut signals = Signals::listen().map_err(NodeError::system("signals"))?;
        let mut sources = Sources::new()
            .process_environment()
            .overrides(self.overrides)
            .host_name(node::host_name());
        let has_file = self.config.is_some();
        if let Some(path) = self.config {
            sources = sources.file(path);
        }
        let loaded = Config::load_and(&sources, unusable);
        let (config, warnings) = loaded.map_err(|errors| match has_file {
            true => NodeError::Config(errors),
            false => NodeError::Usage(format!(
                "{errors}\n  without --config FILE only the environment and --override are read"
            )),
        })?;
        node::warn(&warnings);
        leftovers::keep_around(&config.data_dir).map_err(NodeError::system("log directory"))?;
        let settings = config.clone();
        let call_off = CallOff::default();
        let starting = start_prepared(
            config,
            Vec::new(),
            &call_off,
            async |broker: &SharedBroker| {
                let made = first_admin(broker, &settings)
                    .await
                    .map_err(node::prepare_error)?;
                if let Some(path) = made {
                    tracing::info!(
                        user = %FIRST_ADMIN,
                        password_file = %path.display(),
                        "first start: made an administrator; give it a password of your own and remove \
                         the file"
                    );
                }
                Ok(())
            },
        );
        let starting = async { Ok(starting.await?) };
        let called_off = || tracing::info!("stopping");
        let at_once = || tracing::warn!("interrupted again: not closed, the next start recovers");
        let started = node::started(starting, &mut signals, &call_off, called_off, at_once).await?;
        let Some(running) = started else {
            tracing::info!("stopped before it served");
            return Ok(());
        };
        if !call_off.is_called_off() {
            tell(&running, &settings);
            signals.requested().await;
        }
        Ok(node::unless_interrupted(running.shutdown(), &mut signals, at_once).await?)
    }
}

fn tell(running: &Running, settings: &Config) {
    tracing::info!(
        cluster_id = %running.broker().cluster_id(),
        node_id = settings.node_id,
        path = %settings.data_dir.display(),
        "serving"
    );
}
