//! A line to one broker: a connection that is opened when it is needed, and again after it broke.

use std::{sync::Arc, time::Duration};

use palisade_protocol::Request;

use tokio::time::timeout;

use super::{ClientError, ClientSettings, Connection, connection};

/// A connection to one broker, or the address to open it at.
pub(crate) struct Line {
    settings: Arc<ClientSettings>,
    address: (String, u16),
    patience: Duration,
    connection: Option<Connection>,
}

impl Line {
    pub(super) fn new(
        settings: &Arc<ClientSettings>,
        address: (String, u16),
        patience: Duration,
    ) -> Self {
        Self {
            settings: Arc::clone(settings),
            address,
            patience,
            connection: None,
        }
    }

    pub(super) fn address(&self) -> &(String, u16) {
        &self.address
    }

    /// Asks in a version of at most `max`.
    ///
    /// # Errors
    /// Those of [`Connection::open`] and of sending; the connection is not used again after one.
    pub(crate) async fn send<R: Request>(
        &mut self,
        request: &R,
        max: i16,
    ) -> Result<R::Response, ClientError> {
        self.send_within(request, max, self.patience).await
    }

    /// Asks what the broker may take longer to answer.
    ///
    /// # Errors
    /// As [`Line::send`].
    pub(crate) async fn send_within<R: Request>(
        &mut self,
        request: &R,
        max: i16,
        patience: Duration,
    ) -> Result<R::Response, ClientError> {
        // One time for the way there and the answer.
        let asked = timeout(patience, async {
            let mut connection = self.take().await?;
            let response = connection.send_at_most(request, max, patience).await?;
            self.connection = Some(connection);
            Ok(response)
        });
        match asked.await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.late()),
        }
    }

    /// Sends what is not answered.
    ///
    /// # Errors
    /// As [`Line::send`].
    pub(crate) async fn post<R: Request>(
        &mut self,
        request: &R,
        max: i16,
    ) -> Result<(), ClientError> {
        let mut connection = self.take().await?;
        connection.post(request, max).await?;
        self.connection = Some(connection);
        Ok(())
    }

    /// The broker of this line does not answer in time.
    pub(crate) fn late(&self) -> ClientError {
        ClientError::Timeout(self.shown_address())
    }

    pub(super) fn shown_address(&self) -> String {
        let (host, port) = &self.address;
        connection::shown(host, *port)
    }

    /// The connection, taken out: a request that is given up in the middle must not leave one
    /// behind.
    async fn take(&mut self) -> Result<Connection, ClientError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => {
                let (host, port) = &self.address;
                Connection::open(&self.settings, host, *port, self.patience).await
            }
        }
    }
}
