//! A client of the cluster: finds a node that works, keeps deadlines, and repeats what is safe to repeat.
//!
//! Any node answers, and passes on what it does not lead in one hop. Answers tell where the detour can be saved (`routing`).

mod call;
mod cluster;
mod commands;
mod kinds;
mod routing;
mod services;
mod subscription;
mod twins;
mod watch;
mod waves;

use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use tokio::time::Instant;

pub use subscription::Subscription;
pub use twins::{TwinPages, TwinSelection};
pub use watch::CommandWatch;
pub use waves::CommandWaves;

use crate::backoff::Backoff;
use crate::config::{ClientConfig, TlsIdentity};
use crate::endpoints::{ConnectError, Endpoints};
use crate::entropy::Entropy;
use crate::routes::Routes;

/// A client of the cluster. Clones share their connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClientConfig,
    endpoints: Endpoints,
    routes: Mutex<Routes>,
    /// Connections to nodes that were named, tried out; at most one for each.
    probes: Mutex<JoinSet<()>>,
    entropy: Entropy,
}

impl Client {
    /// Makes a client, and returns when one node at least can be reached. Tries all endpoints, several times within
    /// `config.deadline`. Call it on a tokio runtime.
    pub async fn connect(config: ClientConfig) -> Result<Self, ConnectError> {
        let give_up = Instant::now() + config.deadline;
        let client = Self::new(config)?;
        let mut backoff = Backoff::default();
        loop {
            let id = client.endpoints().pick();
            match client.endpoints().dial(id).await {
                Ok(_) => return Ok(client),
                Err(source) => {
                    client.endpoints().failed(id);
                    let pause = backoff.fail(client.entropy(), None);
                    if Instant::now() + pause >= give_up {
                        let endpoint = client.endpoints().address(id).to_owned();
                        return Err(ConnectError::Unreachable { endpoint, source });
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// The same client, calling the node at `address` (`host:port`) alone. Makes no connection yet.
    pub fn only(&self, address: &str) -> Result<Self, ConnectError> {
        let (endpoints, tls) = (vec![address.to_owned()], self.endpoints().tls().clone());
        Self::new(ClientConfig { endpoints, tls, routes_to_leaders: false, ..self.config().clone() })
    }

    /// Makes further connections as `tls`, such as a renewed certificate, for all clones of this client. Calls and streams that are
    /// under way keep theirs until they end; a gateway stream is resumed under the new one. An identity that can not be used is
    /// refused, and the one before stays in use. Call it on a tokio runtime.
    ///
    /// The common name has to stay the same: a gateway stream belongs to it.
    pub fn renew(&self, tls: TlsIdentity) -> Result<(), ConnectError> {
        self.endpoints().renew(tls, self.config())
    }

    fn new(config: ClientConfig) -> Result<Self, ConnectError> {
        let entropy = Entropy::new(config.seed);
        let endpoints = Endpoints::new(&config, |count| entropy.below(count))?;
        Ok(Self {
            shared: Arc::new(Shared { config, endpoints, routes: Mutex::default(), probes: Mutex::default(), entropy }),
        })
    }

    /// What this client was told when it was made; its TLS identity may have been renewed since.
    pub fn config(&self) -> &ClientConfig {
        &self.shared.config
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.shared.endpoints
    }

    pub(crate) fn entropy(&self) -> &Entropy {
        &self.shared.entropy
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.config().endpoints).finish_non_exhaustive()
    }
}
