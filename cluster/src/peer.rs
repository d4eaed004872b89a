//! Node-to-node calls: tonic over mutual TLS over the transport port, the identity of node and disk checked on every call.
//!
//! [`Peers`] knows the way to every node, `peer/life.rs` which process is a node, `peer/refusal.rs` why one is turned away;
//! `peer/network.rs` is the Raft library's client side, `peer/server.rs` the serving side, `peer/freshness.rs` how old a follower
//! is, `peer/snapshot.rs` how a snapshot is sent and fetched. Connections are made when first used and kept; dead ones are
//! noticed by HTTP/2 pings.

pub(crate) mod connection;
pub(crate) mod freshness;
mod handshakes;
pub(crate) mod life;
pub(crate) mod network;
pub(crate) mod promise;
mod refusal;
pub(crate) mod server;
pub(crate) mod snapshot;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

use self::connection::Connector;
use self::life::{Life, Lives};
pub(crate) use self::refusal::Expulsion;
use self::refusal::{Refusal, Standing, refused};
pub use self::tls::{PortTls, TlsRefused};
use crate::meta::VERSION_MAX;
use crate::wire::peer_client::PeerClient;
use crate::{Clock, ClusterId, DiskId, NodeId, Ports, ShardId, Term, Timestamp, wire};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than the meta group may take to admit a node.
const JOIN_TIMEOUT: Duration = Duration::from_secs(7);
/// A call that was given up is known for so long, so that its late answer harms no other call: for as long as the connection, since
/// HTTP/2 measures it by the machine's clock, which no simulation has. It keeps 50 calls at most.
const GIVEN_UP_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Within this time two clocks that run at slightly different speeds do not part by as much as makes one wrong.
const CLOCK_KNOWN_FOR: Duration = Duration::from_secs(3600);
/// A slower answer tells too little about the other's clock.
const CLOCK_ROUND_TRIP_MAX: Duration = Duration::from_millis(100);
/// A node that answered within this time counts as reachable.
const REACHABLE_WITHIN: Duration = Duration::from_secs(2);
/// Largest message: an append of several entries of about 1 MiB each.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// TLS material of a node, PEM. The certificate's common name is `node:{id}`.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    pub ca_pem: Vec<u8>,
    pub certificate_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
}

impl TlsIdentity {
    fn client(&self) -> ClientTlsConfig {
        let identity = Identity::from_pem(&self.certificate_pem, &self.key_pem);
        ClientTlsConfig::new().identity(identity).ca_certificate(Certificate::from_pem(&self.ca_pem))
    }
}

/// Who this node is.
pub(crate) struct Own {
    pub(crate) node: NodeId,
    pub(crate) disk: DiskId,
    pub(crate) life: Life,
    pub(crate) zone: String,
    pub(crate) peer_address: String,
    pub(crate) api_address: String,
}

/// The way to every other node, and what is known of them.
pub(crate) struct Peers {
    pub(crate) own: Own,
    tls: RwLock<TlsIdentity>,
    clock: Arc<dyn Clock>,
    connector: Connector,
    cluster: RwLock<Option<ClusterId>>,
    known: RwLock<BTreeMap<NodeId, Known>>,
    lives: Lives,
    /// This node's disk is full or hangs, or it is drained.
    is_unfit: AtomicBool,
    /// This node is to lead nothing until it is told otherwise.
    is_drained: AtomicBool,
    /// Nodes that are no members any more, and never will be.
    removed: RwLock<BTreeSet<NodeId>>,
    pub(crate) standing: Standing,
}

/// What a node hears that was removed from the cluster.
pub(crate) fn removed_status(node: NodeId) -> Status {
    Refusal::Removed.status(format!("{node} was removed from the cluster: its id is never used again"))
}

struct Known {
    address: String,
    /// Known once the meta group has the node.
    disk: Option<DiskId>,
    channel: Channel,
    answered: Mutex<Option<Instant>>,
    /// Between the last question who it is and its answer.
    round_trip: Mutex<Option<Duration>>,
    /// Its clock as it last told, and when it read it.
    clock: Mutex<Option<(Timestamp, Instant)>>,
    /// It said that it should lead nothing.
    is_unfit: AtomicBool,
    /// It said that this is because it is drained.
    is_drained: AtomicBool,
    /// It was last told that this node should lead nothing.
    knows_unfit: AtomicBool,
    /// The groups that it led when it last told.
    led: Mutex<BTreeMap<ShardId, Term>>,
    /// The cluster version that its program knows; zero before it told.
    version: AtomicU32,
}

impl Known {
    fn is_reachable(&self) -> bool {
        self.answered.lock().is_some_and(|answered| answered.elapsed() < REACHABLE_WITHIN)
    }
}

impl Peers {
    pub(crate) fn new(own: Own, tls: TlsIdentity, cluster: Option<ClusterId>, ports: &Ports) -> Self {
        let (clock, connector) = (Arc::clone(&ports.clock), Connector(Arc::clone(&ports.transport)));
        Self {
            own,
            tls: RwLock::new(tls),
            clock,
            connector,
            cluster: RwLock::new(cluster),
            known: RwLock::default(),
            lives: Lives::default(),
            is_unfit: AtomicBool::new(false),
            is_drained: AtomicBool::new(false),
            removed: RwLock::default(),
            standing: Standing::default(),
        }
    }

    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        *self.cluster.read()
    }

    pub(crate) fn join(&self, cluster: ClusterId) {
        *self.cluster.write() = Some(cluster);
    }

    /// Makes a node known, or its new address or disk. Must be called on the runtime that serves the connections.
    pub(crate) fn learn(
        &self,
        node: NodeId,
        address: &str,
        disk: Option<DiskId>,
    ) -> Result<(), tonic::transport::Error> {
        if node == self.own.node {
            return Ok(());
        }
        let mut known = self.known.write();
        if let Some(peer) = known.get_mut(&node).filter(|peer| peer.address == address) {
            peer.disk = disk.or(peer.disk);
            return Ok(());
        }
        let channel = self.channel(address, &self.tls.read())?;
        let address = address.to_owned();
        let fresh = Known {
            address,
            disk,
            channel,
            answered: Mutex::new(None),
            round_trip: Mutex::new(None),
            clock: Mutex::new(None),
            is_unfit: AtomicBool::new(false),
            is_drained: AtomicBool::new(false),
            knows_unfit: AtomicBool::new(false),
            led: Mutex::default(),
            version: AtomicU32::new(0),
        };
        known.insert(node, fresh);
        Ok(())
    }

    /// A connection that is made when it is first used.
    fn channel(&self, address: &str, tls: &TlsIdentity) -> Result<Channel, tonic::transport::Error> {
        Ok(Endpoint::from_shared(format!("https://{address}"))?
            .tls_config(tls.client())?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .http2_reset_stream_duration(GIVEN_UP_KEPT)
            .connect_with_connector_lazy(self.connector.clone()))
    }

    /// New connections are made with `tls`; what is under way on the old ones ends there. Must be called on the runtime that
    /// serves the connections. What is refused changes nothing.
    pub(crate) fn renew(&self, tls: TlsIdentity) -> Result<(), tonic::transport::Error> {
        let mut known = self.known.write();
        let channels = known.iter().map(|(node, peer)| Ok((*node, self.channel(&peer.address, &tls)?)));
        for (node, channel) in channels.collect::<Result<Vec<_>, tonic::transport::Error>>()? {
            if let Some(peer) = known.get_mut(&node) {
                peer.channel = channel;
            }
        }
        *self.tls.write() = tls;
        Ok(())
    }

    /// Forgets nodes that are no members any more: they are neither called nor listened to, ever again.
    pub(crate) fn forget(&self, removed: impl Iterator<Item = NodeId>) {
        let removed: BTreeSet<NodeId> = removed.collect();
        if *self.removed.read() == removed {
            return;
        }
        if removed.contains(&self.own.node) {
            self.standing.expel(Expulsion::Removed);
        }
        self.known.write().retain(|node, _| !removed.contains(node));
        *self.removed.write() = removed;
    }

    /// Who of the others said last that it leads `shard`, and in which term.
    pub(crate) fn leader(&self, shard: ShardId) -> Option<(NodeId, Term)> {
        let known = self.known.read();
        let claims = known.iter().filter(|(_, peer)| peer.is_reachable());
        let claims = claims.filter_map(|(node, peer)| Some((*node, *peer.led.lock().get(&shard)?)));
        claims.max_by_key(|(_, term)| *term)
    }

    /// The highest cluster version that the program of `node` knows; `None` while it does not answer.
    pub(crate) fn version(&self, node: NodeId) -> Option<u32> {
        if node == self.own.node {
            return Some(VERSION_MAX);
        }
        let known = self.known.read();
        let version = known.get(&node).filter(|peer| peer.is_reachable())?.version.load(Ordering::Relaxed);
        (version > 0).then_some(version)
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.known.read().keys().copied().collect()
    }

    pub(crate) fn is_reachable(&self, node: NodeId) -> bool {
        node == self.own.node || self.known.read().get(&node).is_some_and(Known::is_reachable)
    }

    /// Time between the last probe of `node` and its answer; `None` while it does not answer.
    pub(crate) fn round_trip(&self, node: NodeId) -> Option<Duration> {
        let known = self.known.read();
        known.get(&node).filter(|peer| peer.is_reachable()).and_then(|peer| *peer.round_trip.lock())
    }

    /// How far the clocks of the nodes are ahead of this one's, microseconds; this node's own is zero. A clock is known for an hour
    /// after its node last answered: which of two is wrong, nobody could say when only they are left.
    pub(crate) fn clocks_ahead(&self) -> BTreeMap<NodeId, i64> {
        // Locked once: a reader that comes again waits behind a writer, who waits for its first lock.
        let known = self.known.read();
        let now = self.clock.now();
        let ahead = known.iter().filter_map(|(node, peer)| {
            let (told, read) = (*peer.clock.lock())?;
            // By this node's own even time, so that neither the wait nor a jump of its clock counts.
            let since = read.elapsed();
            let since_us = i64::try_from(since.as_micros()).ok().filter(|_| since < CLOCK_KNOWN_FOR)?;
            Some((*node, told.0.saturating_add(since_us).saturating_sub(now.0)))
        });
        ahead.chain([(self.own.node, 0)]).collect()
    }

    /// Whether `node` is to lead nothing until it is told otherwise, as the node said last.
    pub(crate) fn is_drained(&self, node: NodeId) -> bool {
        if node == self.own.node {
            return self.is_drained.load(Ordering::Relaxed);
        }
        self.known.read().get(&node).is_some_and(|peer| peer.is_drained.load(Ordering::Relaxed))
    }

    pub(crate) fn set_drained(&self, is_drained: bool) {
        self.is_drained.store(is_drained, Ordering::Relaxed);
    }

    /// Whether `node` is fit for leading, as the node said last.
    pub(crate) fn is_fit(&self, node: NodeId) -> bool {
        if node == self.own.node {
            return !self.is_unfit.load(Ordering::Relaxed);
        }
        self.known.read().get(&node).is_none_or(|peer| !peer.is_unfit.load(Ordering::Relaxed))
    }

    /// Has this node say whether it is fit for leading.
    pub(crate) fn set_fit(&self, is_fit: bool) {
        self.is_unfit.store(!is_fit, Ordering::Relaxed);
    }

    /// Whether all that answer have been told that this node should lead nothing, so that none hands it a leadership.
    pub(crate) fn know_unfit(&self) -> bool {
        let known = self.known.read();
        known.values().filter(|peer| peer.is_reachable()).all(|peer| peer.knows_unfit.load(Ordering::Relaxed))
    }

    pub(crate) fn heard_from(&self, node: NodeId) {
        if let Some(peer) = self.known.read().get(&node) {
            *peer.answered.lock() = Some(Instant::now());
        }
    }

    /// A client of `node`, if the node is known.
    pub(crate) fn client(&self, node: NodeId) -> Result<PeerClient<Channel>, Status> {
        let known = self.known.read();
        let peer = known.get(&node).ok_or_else(|| Status::unavailable(format!("{node} is not known")))?;
        Ok(PeerClient::new(peer.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// `message` with the metadata that the receiver checks: who speaks, to whom, and which disk either is known to have.
    pub(crate) fn request<M>(&self, to: NodeId, shard: Option<ShardId>, message: M) -> Request<M> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        let text = |text: String| MetadataValue::<Ascii>::try_from(text).expect("digits are ASCII");
        metadata.insert("kvarter-from", text(self.own.node.0.to_string()));
        metadata.insert("kvarter-disk", text(self.own.disk.to_string()));
        metadata.insert("kvarter-life", text(self.own.life.to_string()));
        metadata.insert("kvarter-to", text(to.0.to_string()));
        if let Some(disk) = self.known.read().get(&to).and_then(|peer| peer.disk) {
            metadata.insert("kvarter-to-disk", text(disk.to_string()));
        }
        if let Some(life) = self.lives.latest(to) {
            metadata.insert("kvarter-to-life", text(life.to_string()));
        }
        if let Some(cluster) = self.cluster() {
            metadata.insert("kvarter-cluster", text(cluster.to_string()));
        }
        if let Some(shard) = shard {
            metadata.insert("kvarter-shard", text(shard.0.to_string()));
        }
        request
    }

    /// The node that sent `request`, once certificate, disk, cluster and addressee are found to be right.
    pub(crate) fn authenticate<M>(&self, request: &Request<M>) -> Result<NodeId, Status> {
        let text = |key: &str| request.metadata().get(key).and_then(|value| value.to_str().ok());
        let number = |key: &str| {
            text(key).and_then(|text| text.parse().ok()).ok_or_else(|| refused(format!("{key} is missing")))
        };
        let from = NodeId(number("kvarter-from")?);
        let to = NodeId(number("kvarter-to")?);
        if to != self.own.node {
            return Err(refused(format!("this is {}, not {to}", self.own.node)));
        }
        check_certificate(request, from)?;
        if self.removed.read().contains(&from) {
            return Err(removed_status(from));
        }
        if let Some(disk) = text("kvarter-to-disk")
            && disk != self.own.disk.to_string()
        {
            let reason = format!("this is not the disk that {to} had: it must join under a new id");
            return Err(self.standing.called_by_stranger(from, reason));
        }
        if let (Some(ours), Some(theirs)) = (self.cluster(), text("kvarter-cluster"))
            && theirs != ours.to_string()
        {
            let reason = format!("{from} belongs to cluster {theirs}, this node to {ours}");
            return Err(self.standing.called_by_stranger(from, reason));
        }
        let disk = self.known.read().get(&from).and_then(|peer| peer.disk);
        if let Some(disk) = disk
            && text("kvarter-disk") != Some(disk.to_string().as_str())
        {
            let reason = format!("{from} came back with another disk: it must join under a new id");
            return Err(Refusal::Stranger.status(reason));
        }
        // Programs that are older tell no life.
        let life = |key: &str| text(key).map(str::parse::<Life>).transpose().map_err(|it| refused(it.to_string()));
        if let Some(latest) = life("kvarter-to-life")?
            && self.own.life.is_superseded_by(latest)
        {
            let reason = life::superseded(to);
            self.standing.expel(Expulsion::Refused { reason: reason.clone() });
            // Of the caller it says nothing.
            return Err(refused(reason));
        }
        if let Some(life) = life("kvarter-life")? {
            self.lives.hear(from, life, Instant::now())?;
        }
        Ok(from)
    }

    /// Who this node is, as it is told to `node`, who asks.
    pub(crate) fn identity_for(&self, node: NodeId) -> wire::Identity {
        let identity = self.identity();
        if let Some(peer) = self.known.read().get(&node) {
            peer.knows_unfit.store(identity.unfit, Ordering::Relaxed);
        }
        identity
    }

    pub(crate) fn identity(&self) -> wire::Identity {
        wire::Identity {
            node: self.own.node.0,
            disk: self.own.disk.0.to_be_bytes().to_vec().into(),
            zone: self.own.zone.clone(),
            peer_address: self.own.peer_address.clone(),
            api_address: self.own.api_address.clone(),
            cluster: self.cluster().map(|id| id.0.to_be_bytes().to_vec()).unwrap_or_default().into(),
            clock_us: self.clock.now().0,
            unfit: self.is_unfit.load(Ordering::Relaxed),
            drained: self.is_drained.load(Ordering::Relaxed),
            version: VERSION_MAX,
            ..wire::Identity::default()
        }
    }

    /// Checks a node that asks to be admitted: its certificate, and that it belongs to no other cluster.
    pub(crate) fn authenticate_newcomer(&self, request: &Request<wire::Identity>) -> Result<NodeId, Status> {
        let (node, theirs) = (NodeId(request.get_ref().node), &request.get_ref().cluster);
        check_certificate(request, node)?;
        let ours = self.cluster().ok_or_else(|| Status::unavailable("this node is in no cluster yet"))?;
        if !theirs.is_empty() && theirs[..] != ours.0.to_be_bytes() {
            return Err(refused(format!("{node} belongs to another cluster")));
        }
        Ok(node)
    }

    /// Asks whoever is at `address` to admit this node, and returns the members.
    pub(crate) async fn ask_to_join(&self, address: &str) -> Result<Vec<wire::Identity>, Status> {
        let channel =
            self.channel(address, &self.tls.read()).map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(self.identity());
        request.set_timeout(JOIN_TIMEOUT);
        let answer = tokio::time::timeout(JOIN_TIMEOUT, PeerClient::new(channel).join(request)).await;
        let answer = answer.map_err(|_elapsed| Status::deadline_exceeded("no answer in time"))?;
        answer.map(|admitted| admitted.into_inner().nodes).inspect_err(|status| self.standing.hear(status))
    }

    /// Asks `node` who it is. Also the probe behind [`Peers::is_reachable`].
    pub(crate) async fn identify(&self, node: NodeId) -> Result<wire::Identity, Status> {
        let mut request = self.request(node, None, wire::IdentifyRequest {});
        request.set_timeout(CONNECT_TIMEOUT);
        let mut client = self.client(node)?;
        let asked = Instant::now();
        let answer = tokio::time::timeout(CONNECT_TIMEOUT, client.identify(request))
            .await
            .map_err(|_elapsed| Status::deadline_exceeded(format!("{node} did not answer")))?
            .inspect_err(|status| self.standing.hear(status))?
            .into_inner();
        self.heard_from(node);
        let round_trip = asked.elapsed();
        let known = self.known.read();
        let Some(peer) = known.get(&node) else { return Ok(answer) };
        peer.is_unfit.store(answer.unfit, Ordering::Relaxed);
        peer.is_drained.store(answer.drained, Ordering::Relaxed);
        peer.version.store(answer.version.max(1), Ordering::Relaxed);
        *peer.led.lock() = answer.led.iter().map(|led| (ShardId(led.shard), Term(led.term))).collect();
        *peer.round_trip.lock() = Some(round_trip);
        if round_trip <= CLOCK_ROUND_TRIP_MAX {
            // The other's clock was read about halfway.
            *peer.clock.lock() = Some((Timestamp(answer.clock_us), asked + round_trip / 2));
        }
        Ok(answer)
    }
}

/// Whether the transport certainly failed before the request left this node. A time-out says nothing of the kind, unless it was
/// the connection that was not made in time.
pub(crate) fn never_sent(status: &tonic::Status) -> bool {
    let is_refused = |error: &(dyn std::error::Error + 'static)| {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        error.is::<tonic::ConnectError>() || kind == Some(std::io::ErrorKind::ConnectionRefused)
    };
    let mut causes = std::iter::successors(std::error::Error::source(status), |error| error.source());
    causes.any(is_refused) || status.code() == Code::PermissionDenied
}

/// Whether a peer refuses this node, and not only because an earlier process of it ended a moment ago.
pub(crate) fn is_final(refusal: &Status) -> bool {
    refusal.code() == Code::PermissionDenied && Refusal::of(refusal) != Some(Refusal::Doubled)
}

/// Whether the peer may have done what it was asked: it did not say that it is unavailable, the connection to it broke.
pub(crate) fn is_in_doubt(status: &Status) -> bool {
    status.code() == Code::Unavailable && std::error::Error::source(status).is_some() && !never_sent(status)
}

/// Whether the certificate that `request` came with is `node`'s.
fn check_certificate<M>(request: &Request<M>, node: NodeId) -> Result<(), Status> {
    let certificates = request.peer_certs().ok_or_else(|| refused("no certificate".to_owned()))?;
    let names_node = certificates.first().and_then(|certificate| common_name(certificate));
    if names_node.as_deref() == Some(format!("node:{}", node.0).as_str()) {
        Ok(())
    } else {
        Err(refused(format!("the certificate is not {node}'s")))
    }
}

/// Asks every known node twice a second who it is, so that reachability is known without traffic.
pub(crate) async fn probe(peers: Arc<Peers>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let probes = peers.nodes().into_iter().map(|node| {
            let peers = Arc::clone(&peers);
            async move {
                let answer = peers.identify(node).await;
                (node, answer.inspect_err(|status| tracing::trace!(%node, %status, "a peer does not answer")))
            }
        });
        let answers = futures::future::join_all(probes).await;
        peers.standing.hear_round(&answers, Instant::now());
    }
}

/// The common name of a DER certificate's subject.
fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    certificate.subject().iter_common_name().next()?.as_str().ok().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn peers() -> Peers {
        let key = KeyPair::generate().unwrap();
        let pem = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem().into_bytes();
        let tls = TlsIdentity { ca_pem: pem.clone(), certificate_pem: pem, key_pem: key.serialize_pem().into_bytes() };
        let text = || "127.0.0.1:1".to_owned();
        let (disk, zone, peer_address, api_address) = (DiskId(7), "z".to_owned(), text(), text());
        let own = Own { node: NodeId(1), disk, life: Life { start: 1, draw: 9 }, zone, peer_address, api_address };
        Peers::new(own, tls, None, &Ports::system())
    }

    #[test]
    fn a_time_out_is_no_proof_that_nothing_was_sent() {
        let told = |kind: ErrorKind| never_sent(&Status::from_error(Box::new(Error::from(kind))));
        assert!(told(ErrorKind::ConnectionRefused));
        for unknown in [ErrorKind::TimedOut, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe] {
            assert!(!told(unknown), "{unknown:?}");
        }
        assert!(never_sent(&Status::permission_denied("another cluster")));
        assert!(!never_sent(&Status::deadline_exceeded("no answer in time")));
    }

    #[test]
    fn a_connection_that_breaks_leaves_in_doubt_what_was_asked_over_it() {
        let broken = |kind: ErrorKind| {
            let mut status = Status::unavailable("the connection broke");
            status.set_source(Arc::new(Error::from(kind)));
            status
        };
        assert!(is_in_doubt(&broken(ErrorKind::TimedOut)));
        assert!(!is_in_doubt(&broken(ErrorKind::ConnectionRefused)));
        assert!(!is_in_doubt(&Status::unavailable("said by the peer: it does not lead")));
    }

    #[tokio::test]
    async fn clocks_are_looked_at_while_peers_are_learned() {
        let (peers, address) = (peers(), "127.0.0.1:1");
        (2..9).for_each(|node| peers.learn(NodeId(node), address, None).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| (0..20_000).for_each(|_| drop(peers.clocks_ahead())));
            scope.spawn(|| (0..20_000).for_each(|_| peers.learn(NodeId(2), address, None).unwrap()));
        });
        assert_eq!(peers.clocks_ahead().len(), 1, "nobody else has told its time");
    }
}
