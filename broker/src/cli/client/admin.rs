//! A connection to whichever broker decides: the controller, found through Metadata.

use std::time::Duration;

use palisade_auth::sasl::Mechanism;
use palisade_protocol::{ErrorCode, Request, messages::metadata::MetadataResponse};

use super::{Backoff, ClientError, ClientSettings, Connection, connection, hint, requests};

/// A client for administration.
pub struct Admin {
    connection: Connection,
    settings: ClientSettings,
    patience: Duration,
}

impl Admin {
    /// Connects to the first bootstrap address that answers, then to the controller it names.
    ///
    /// # Errors
    /// Those of [`Connection::open`], of the last address tried. A refused login ends the search:
    /// every further attempt would look like guessing.
    pub async fn connect(
        settings: ClientSettings,
        patience: Duration,
    ) -> Result<Self, ClientError> {
        let mut last = None;
        for (host, port) in &settings.bootstrap {
            match Connection::open(&settings, host, *port, patience).await {
                Ok(connection) => {
                    let at = (host.clone(), *port);
                    let mut admin = Self {
                        connection,
                        settings,
                        patience,
                    };
                    let moved = admin.move_to_controller(Some(&at)).await;
                    let address = connection::shown(&at.0, at.1);
                    moved
                        .map_err(|error| hint::second_request(error, &address, &admin.settings))?;
                    return Ok(admin);
                }
                Err(error @ (ClientError::Connect { .. } | ClientError::Timeout(_))) => {
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| ClientError::Usage("no bootstrap address".to_owned())))
    }

    /// Metadata of the cluster and of these topics; of all topics for `None`.
    ///
    /// # Errors
    /// Those of [`Connection::send`].
    pub async fn metadata(
        &mut self,
        topics: Option<&[String]>,
    ) -> Result<MetadataResponse, ClientError> {
        self.connection.send(&requests::metadata(topics)).await
    }

    /// Sends a request whose decision is the controller's; where that has moved, or is being
    /// chosen, it is looked for and asked again as long as the user waits.
    ///
    /// # Errors
    /// Those of [`Connection::send`], and of [`Connection::open`] but for a controller that does
    /// not answer: a dead one may be named for a while.
    pub async fn decide<R: Request>(
        &mut self,
        request: &R,
        code: impl Fn(&R::Response) -> ErrorCode,
    ) -> Result<R::Response, ClientError> {
        let mut backoff = Backoff::new(self.patience);
        loop {
            let response = self.connection.send(request).await?;
            if code(&response) != ErrorCode::NOT_CONTROLLER || !backoff.pause().await {
                return Ok(response);
            }
            let Some((host, port)) = self.controller().await? else {
                continue;
            };
            match Connection::open(&self.settings, &host, port, self.patience).await {
                Ok(connection) => self.connection = connection,
                Err(ClientError::Connect { .. } | ClientError::Timeout(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends any request.
    ///
    /// # Errors
    /// Those of [`Connection::send`].
    pub async fn send<R: Request>(&mut self, request: &R) -> Result<R::Response, ClientError> {
        self.connection.send(request).await
    }

    /// The user and the mechanism that this client logs in with, if it does.
    pub(crate) fn login(&self) -> Option<(&str, Mechanism)> {
        let credentials = self.settings.credentials.as_ref()?;
        Some((&credentials.user, credentials.mechanism))
    }

    /// The version in which a request goes out.
    ///
    /// # Errors
    /// `Unserved`.
    pub fn version(&self, key: palisade_protocol::ApiKey) -> Result<i16, ClientError> {
        self.connection.version(key)
    }

    /// Where the controller is. A cluster that is choosing one names none: the broker that is
    /// asked will say so itself.
    async fn controller(&mut self) -> Result<Option<(String, u16)>, ClientError> {
        let metadata = self.metadata(Some(&[])).await?;
        let mut brokers = metadata.brokers.iter();
        let named = brokers.find(|broker| broker.node_id == metadata.controller_id);
        Ok(named.and_then(|broker| {
            let port = u16::try_from(broker.port).ok()?;
            Some((broker.host.to_string(), port))
        }))
    }

    async fn move_to_controller(&mut self, at: Option<&(String, u16)>) -> Result<(), ClientError> {
        let Some(address) = self.controller().await? else {
            return Ok(());
        };
        if at != Some(&address) {
            self.connection =
                Connection::open(&self.settings, &address.0, address.1, self.patience).await?;
        }
        Ok(())
    }
}
