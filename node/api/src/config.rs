//! What a client is told: where the nodes are, who it is, and how patient it is.

use std::fmt;
use std::time::Duration;

use crate::v1::Criticality;

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port` of some nodes' public API, at least one. Any node answers for the whole cluster; more of them let the
    /// client go on when one is down.
    pub endpoints: Vec<String>,
    /// Replaced at run time by [`Client::renew`](crate::Client::renew): certificates expire.
    pub tls: TlsIdentity,
    /// Time for a whole call with its repetitions (10 s).
    pub deadline: Duration,
    /// Time for one attempt of a call, so that a node that hangs leaves time for another (3 s).
    pub attempt_deadline: Duration,
    /// Attempts of one call (8).
    pub attempts_max: u32,
    /// Time to make one connection, with its TLS handshake (2 s).
    pub connect_deadline: Duration,
    /// Time in which a lost stream must be brought back; then it fails (60 s).
    pub resume_deadline: Duration,
    /// A gateway stream whose readings wait so long without any acknowledgement looks for another node: its own may be cut off
    /// from the rest of the cluster (10 s).
    pub silence_max: Duration,
    /// A connection on which nothing was heard for so long is probed (500 ms).
    ///
    /// A node answers a probe from the event loop of the connection, whatever its shards are doing, and one that says anything at
    /// all is not probed. So the two times may be short: they bound how long a stopped node goes unnoticed, while what shards
    /// need under load or without a leader is [`ClientConfig::silence_max`]'s.
    pub keep_alive_interval: Duration,
    /// A probe that is not answered for so long breaks the connection (1 s). A client that itself stands still for longer breaks
    /// its connections too, and makes them again.
    pub keep_alive_deadline: Duration,
    /// Seed of the pauses between attempts and of the ids of commands; `None`: the system's randomness. Two clients with one
    /// seed draw the same ids, so seeds are for simulations.
    pub seed: Option<u64>,
    /// Calls for one district go to the node that led its shard last, as answers have told, rather than to any node (yes), and
    /// gateway streams move to the node that leads most of the shards of their devices. Nodes that are not among `endpoints` are
    /// called too, if they can be reached and their certificates are right.
    pub routes_to_leaders: bool,
    /// How much this client's work matters when the cluster can not do all of it: may lower its calls, and decides for the
    /// readings of its gateway streams (`Unspecified`: as each is by itself).
    pub criticality: Criticality,
}

impl ClientConfig {
    /// With the defaults named at each field.
    pub fn new(endpoints: Vec<String>, tls: TlsIdentity) -> Self {
        Self {
            endpoints,
            tls,
            deadline: Duration::from_secs(10),
            attempt_deadline: Duration::from_secs(3),
            attempts_max: 8,
            connect_deadline: Duration::from_secs(2),
            resume_deadline: Duration::from_secs(60),
            silence_max: Duration::from_secs(10),
            keep_alive_interval: Duration::from_millis(500),
            keep_alive_deadline: Duration::from_secs(1),
            seed: None,
            routes_to_leaders: true,
            criticality: Criticality::Unspecified,
        }
    }
}

/// Who the client is, and whom it trusts. Connections always use mutual TLS.
#[derive(Clone)]
pub struct TlsIdentity {
    /// Certificate of the authority that signed the nodes' certificates, PEM.
    pub ca_pem: Vec<u8>,
    /// The client's certificate, PEM; its subject is `CN=client:{name}`.
    pub certificate_pem: Vec<u8>,
    /// The private key of the certificate, PEM.
    pub key_pem: Vec<u8>,
    /// The name that the nodes' certificates must carry, whatever their addresses.
    pub domain: String,
}

impl fmt::Debug for TlsIdentity {
    /// Leaves the key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").field("domain", &self.domain).finish_non_exhaustive()
    }
}
