//! The nodes that a client may call, and which of them it calls next.
//!
//! Those of the configuration stand in for each other (`choice`). Further ones are learned from answers; a call goes to them
//! only where a route leads to them, and once they were reached.

mod choice;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use self::choice::Choice;
use crate::config::{ClientConfig, TlsIdentity};

/// Nodes that a client learns of, in its whole life.
const LEARNED_MAX: usize = 64;

/// HTTP/2 flow control: bytes that a node may send ahead on one stream and on one connection. The defaults of 64 KiB would
/// make feeds wait for round trips.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Why a client can not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no endpoints are configured")]
    NoEndpoints,
    #[error("endpoint `{endpoint}` is not host:port")]
    InvalidEndpoint { endpoint: String, source: tonic::transport::Error },
    #[error("the TLS identity can not be used")]
    InvalidTls { source: tonic::transport::Error },
    #[error("no endpoint can be reached, the last one tried was `{endpoint}`")]
    Unreachable { endpoint: String, source: DialError },
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error(transparent)]
    Failed(#[from] tonic::transport::Error),
    /// Someone accepts connections there and says nothing, such as a node that was stopped.
    #[error("no TLS handshake within {waited:?}")]
    Silent { waited: Duration },
}

/// Position of a node: the configured endpoints come first, then those that were learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndpointId(usize);

#[cfg(test)]
impl EndpointId {
    pub(crate) const fn nth(place: usize) -> Self {
        Self(place)
    }
}

/// All nodes that are known.
pub(crate) struct Endpoints {
    configured: Vec<Node>,
    /// Filled from the front.
    learned: Vec<OnceLock<Node>>,
    choice: Mutex<Choice>,
    /// Who the client is now. Held while a node is added and while it is renewed, so that every node gets the latest; taken after
    /// `choice`.
    tls: Mutex<TlsIdentity>,
}

/// A node that an answer named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) id: EndpointId,
    /// Nobody knows whether it can be reached from here: [`Endpoints::dial`] it, and tell by [`Endpoints::probed`].
    pub(crate) is_to_probe: bool,
}

struct Node {
    address: String,
    connect_deadline: Duration,
    transport: Mutex<Transport>,
}

/// How a node is reached under one TLS identity.
struct Transport {
    endpoint: Endpoint,
    channel: Channel,
}

impl Endpoints {
    /// Makes no connection yet.
    pub(crate) fn new(config: &ClientConfig, first: impl FnOnce(usize) -> usize) -> Result<Self, ConnectError> {
        let configured = config.endpoints.iter().map(|address| node(address, config, &config.tls));
        let configured = configured.collect::<Result<Vec<_>, _>>()?;
        if configured.is_empty() {
            return Err(ConnectError::NoEndpoints);
        }
        let choice = Mutex::new(Choice::new(configured.len(), first(configured.len())));
        let learned = (0..LEARNED_MAX).map(|_| OnceLock::new()).collect();
        Ok(Self { configured, learned, choice, tls: Mutex::new(config.tls.clone()) })
    }

    /// Makes further connections as `tls`; none when it can not be used.
    pub(crate) fn renew(&self, tls: TlsIdentity, config: &ClientConfig) -> Result<(), ConnectError> {
        let mut current = self.tls();
        let known = || self.configured.iter().chain(self.learned.iter().filter_map(OnceLock::get));
        let transports = known().map(|node| transport(&node.address, config, &tls)).collect::<Result<Vec<_>, _>>()?;
        for (node, transport) in known().zip(transports) {
            *node.transport() = transport;
        }
        *current = tls;
        Ok(())
    }

    /// Who the client is now.
    pub(crate) fn tls(&self) -> MutexGuard<'_, TlsIdentity> {
        // Whatever panicked, the identity before is whole.
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node at `address`, which an answer named; `None`: it is no address, or enough were learned.
    pub(crate) fn named(&self, address: &str, config: &ClientConfig) -> Option<Named> {
        if let Some(place) = self.configured.iter().position(|node| node.address == address) {
            return Some(Named { id: EndpointId(place), is_to_probe: false });
        }
        let mut choice = self.choice();
        for (place, slot) in self.learned.iter().enumerate() {
            let id = EndpointId(self.configured.len() + place);
            match slot.get() {
                Some(known) if known.address == address => {
                    return Some(Named { id, is_to_probe: choice.begin_probe(id, Instant::now()) });
                }
                Some(_) => {}
                None => {
                    let tls = self.tls();
                    slot.set(node(address, config, &tls).ok()?).ok()?;
                    choice.add_learned();
                    return Some(Named { id, is_to_probe: true });
                }
            }
        }
        None
    }

    /// Ends a probe.
    pub(crate) fn probed(&self, id: EndpointId, is_reached: bool) {
        self.choice().end_probe(id, is_reached, Instant::now());
    }

    /// Whether `id` was reached, and does not rest now.
    pub(crate) fn is_fit(&self, id: EndpointId) -> bool {
        self.choice().is_fit(id, Instant::now())
    }

    /// The node to call now.
    pub(crate) fn pick(&self) -> EndpointId {
        self.choice().pick(Instant::now())
    }

    /// The node for a long-lived stream: the nodes take turns.
    pub(crate) fn pick_for_stream(&self) -> EndpointId {
        self.choice().take_turn(Instant::now())
    }

    pub(crate) fn failed(&self, id: EndpointId) {
        self.choice().fail(id, Instant::now());
    }

    pub(crate) fn succeeded(&self, id: EndpointId) {
        self.choice().succeed(id);
    }

    pub(crate) fn address(&self, id: EndpointId) -> &str {
        &self.node(id).address
    }

    /// The shared connection, made on first use and again when it was lost.
    pub(crate) fn channel(&self, id: EndpointId) -> Channel {
        self.node(id).transport().channel.clone()
    }

    /// A connection of its own, made now.
    pub(crate) async fn dial(&self, id: EndpointId) -> Result<Channel, DialError> {
        let node = self.node(id);
        let (endpoint, connect_deadline) = (node.transport().endpoint.clone(), node.connect_deadline);
        // The transport's own limit does not cover the handshake.
        match timeout(connect_deadline, endpoint.connect()).await {
            Ok(connected) => Ok(connected?),
            Err(_elapsed) => Err(DialError::Silent { waited: connect_deadline }),
        }
    }

    fn node(&self, id: EndpointId) -> &Node {
        match id.0.checked_sub(self.configured.len()) {
            None => &self.configured[id.0],
            Some(place) => self.learned[place].get().expect("ids are given out for what was learned"),
        }
    }

    fn choice(&self) -> MutexGuard<'_, Choice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    fn transport(&self) -> MutexGuard<'_, Transport> {
        self.transport.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn node(address: &str, config: &ClientConfig, tls: &TlsIdentity) -> Result<Node, ConnectError> {
    let address = address.strip_prefix("https://").unwrap_or(address);
    let transport = Mutex::new(transport(address, config, tls)?);
    Ok(Node { address: address.to_owned(), connect_deadline: config.connect_deadline, transport })
}

fn transport(address: &str, config: &ClientConfig, identity: &TlsIdentity) -> Result<Transport, ConnectError> {
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .map_err(|source| ConnectError::InvalidEndpoint { endpoint: address.to_owned(), source })?
        .tls_config(tls_config(identity))
        .map_err(|source| ConnectError::InvalidTls { source })?
        .connect_timeout(config.connect_deadline)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(config.keep_alive_interval)
        .keep_alive_timeout(config.keep_alive_deadline)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let channel = endpoint.connect_lazy();
    Ok(Transport { endpoint, channel })
}

fn tls_config(identity: &TlsIdentity) -> ClientTlsConfig {
    ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&identity.ca_pem))
        .identity(Identity::from_pem(&identity.certificate_pem, &identity.key_pem))
        .domain_name(&identity.domain)
}
