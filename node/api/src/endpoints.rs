//! The nodes that a client may call, and which of them it calls next.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::config::{ClientConfig, TlsIdentity};

/// A node that failed is left alone for so long while others are there.
const REST: Duration = Duration::from_secs(2);

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

/// Position of a node among the configured endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndpointId(usize);

/// All configured nodes.
pub(crate) struct Endpoints {
    nodes: Vec<Node>,
    choice: Mutex<Choice>,
}

struct Node {
    address: String,
    endpoint: Endpoint,
    connect_deadline: Duration,
    channel: Channel,
}

impl Endpoints {
    /// Makes no connection yet.
    pub(crate) fn new(config: &ClientConfig, first: impl FnOnce(usize) -> usize) -> Result<Self, ConnectError> {
        let nodes = config.endpoints.iter().map(|address| node(address, config)).collect::<Result<Vec<_>, _>>()?;
        if nodes.is_empty() {
            return Err(ConnectError::NoEndpoints);
        }
        let choice = Mutex::new(Choice::new(nodes.len(), first(nodes.len())));
        Ok(Self { nodes, choice })
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
        &self.nodes[id.0].address
    }

    /// The shared connection, made on first use and again when it was lost.
    pub(crate) fn channel(&self, id: EndpointId) -> Channel {
        self.nodes[id.0].channel.clone()
    }

    /// A connection of its own, made now.
    pub(crate) async fn dial(&self, id: EndpointId) -> Result<Channel, DialError> {
        let Node { endpoint, connect_deadline, .. } = &self.nodes[id.0];
        // The transport's own limit does not cover the handshake.
        match timeout(*connect_deadline, endpoint.connect()).await {
            Ok(connected) => Ok(connected?),
            Err(_elapsed) => Err(DialError::Silent { waited: *connect_deadline }),
        }
    }

    fn choice(&self) -> std::sync::MutexGuard<'_, Choice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn node(address: &str, config: &ClientConfig) -> Result<Node, ConnectError> {
    let address = address.strip_prefix("https://").unwrap_or(address);
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .map_err(|source| ConnectError::InvalidEndpoint { endpoint: address.to_owned(), source })?
        .tls_config(tls(&config.tls))
        .map_err(|source| ConnectError::InvalidTls { source })?
        .connect_timeout(config.connect_deadline)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(config.keep_alive_interval)
        .keep_alive_timeout(config.keep_alive_deadline)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let channel = endpoint.connect_lazy();
    let connect_deadline = config.connect_deadline;
    Ok(Node { address: address.to_owned(), endpoint, connect_deadline, channel })
}

fn tls(identity: &TlsIdentity) -> ClientTlsConfig {
    ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&identity.ca_pem))
        .identity(Identity::from_pem(&identity.certificate_pem, &identity.key_pem))
        .domain_name(&identity.domain)
}

/// Which node is next: one stays preferred as long as it works; those that failed rest.
#[derive(Debug)]
struct Choice {
    preferred: usize,
    next_turn: usize,
    resting_until: Vec<Option<Instant>>,
}

impl Choice {
    fn new(nodes: usize, first: usize) -> Self {
        Self { preferred: first, next_turn: first, resting_until: vec![None; nodes] }
    }

    fn pick(&mut self, now: Instant) -> EndpointId {
        self.preferred = self.rested_from(self.preferred, now);
        EndpointId(self.preferred)
    }

    fn take_turn(&mut self, now: Instant) -> EndpointId {
        let turn = self.rested_from(self.next_turn, now);
        self.next_turn = (turn + 1) % self.resting_until.len();
        EndpointId(turn)
    }

    fn fail(&mut self, id: EndpointId, now: Instant) {
        self.resting_until[id.0] = Some(now + REST);
    }

    fn succeed(&mut self, id: EndpointId) {
        self.resting_until[id.0] = None;
    }

    /// The first node from `start` on that does not rest; when all do, the one that has rested longest.
    fn rested_from(&self, start: usize, now: Instant) -> usize {
        let count = self.resting_until.len();
        let in_turn = (0..count).map(|step| (start + step) % count);
        in_turn
            .min_by_key(|node| self.resting_until[*node].filter(|until| *until > now))
            .expect("there is at least one endpoint")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_that_failed_rests_and_the_next_one_stays() {
        let mut choice = Choice::new(3, 1);
        assert_eq!(choice.pick(Instant::now()), EndpointId(1));
        choice.fail(EndpointId(1), Instant::now());
        assert_eq!(choice.pick(Instant::now()), EndpointId(2));
        tokio::time::advance(REST * 2).await;
        assert_eq!(choice.pick(Instant::now()), EndpointId(2), "a node that works stays preferred");
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_failed_the_longest_rested_is_tried() {
        let mut choice = Choice::new(3, 0);
        for node in [2, 0, 1] {
            choice.fail(EndpointId(node), Instant::now());
            tokio::time::advance(REST / 8).await;
        }
        assert_eq!(choice.pick(Instant::now()), EndpointId(2));
    }

    #[tokio::test(start_paused = true)]
    async fn streams_are_spread_over_the_nodes_that_work() {
        let mut choice = Choice::new(3, 2);
        choice.fail(EndpointId(0), Instant::now());
        let turns: Vec<_> = (0..4).map(|_| choice.take_turn(Instant::now()).0).collect();
        assert_eq!(turns, [2, 1, 2, 1]);
    }
}
