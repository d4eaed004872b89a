//! The links between the nodes of a fleet, each way with switches: cut, delayed, healed.
//!
//! A cut link loses nothing and refuses nothing, it is silent: what was sent waits, as bytes do that TCP sends again and
//! again. So open connections hang, new ones do not come about, and neither end is told.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use kvarter_cluster::{ByteStream, Ports, Transport};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bytes on the way over one connection, each way, before its sender waits: this, times [`PIECES_MAX`].
const PIECE_BYTES_MAX: usize = 64 << 10;
const PIECES_MAX: usize = 64;

#[derive(Clone, Copy, Default)]
struct Condition {
    is_cut: bool,
    delay: Duration,
}

/// All links of a fleet. Clones are the same links.
#[derive(Clone, Default)]
pub(crate) struct Links(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By address.
    nodes: BTreeMap<String, u64>,
    /// By sender and receiver.
    ways: BTreeMap<(u64, u64), watch::Sender<Condition>>,
    /// Ends with the fleet, or with the runtime of the node that made the connection.
    carriers: JoinSet<()>,
}

impl Links {
    pub(crate) fn new(addresses: &BTreeMap<u64, SocketAddr>) -> Self {
        let links = Self::default();
        links.0.lock().nodes = addresses.iter().map(|(node, address)| (address.to_string(), *node)).collect();
        links
    }

    /// The machine's ports, with these links before the transport of `node`.
    pub(crate) fn ports(&self, node: u64) -> Ports {
        let system = Ports::system();
        Ports {
            transport: Arc::new(Linked { node, links: self.clone(), under: Arc::clone(&system.transport) }),
            ..system
        }
    }

    fn change(&self, from: u64, to: u64, change: impl FnOnce(&mut Condition)) {
        self.0.lock().ways.entry((from, to)).or_default().send_modify(change);
    }

    fn follow(&self, from: u64, to: u64) -> watch::Receiver<Condition> {
        self.0.lock().ways.entry((from, to)).or_default().subscribe()
    }

    /// Nothing that `from` sends reaches `to` any more.
    pub(crate) fn cut_one_way(&self, from: u64, to: u64) {
        self.change(from, to, |way| way.is_cut = true);
    }

    /// What `from` sent, and sends, reaches `to` again.
    pub(crate) fn heal_one_way(&self, from: u64, to: u64) {
        self.change(from, to, |way| *way = Condition::default());
    }

    pub(crate) fn cut(&self, one: u64, other: u64) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Everything between the two takes `delay` longer, each way.
    pub(crate) fn delay(&self, one: u64, other: u64, delay: Duration) {
        self.change(one, other, |way| way.delay = delay);
        self.change(other, one, |way| way.delay = delay);
    }

    pub(crate) fn heal(&self) {
        for way in self.0.lock().ways.values() {
            way.send_replace(Condition::default());
        }
    }
}

/// The transport of one node. Only the connecting side goes through the links: it knows both ends.
struct Linked {
    node: u64,
    links: Links,
    under: Arc<dyn Transport>,
}

#[tonic::async_trait]
impl Transport for Linked {
    async fn listen(&self, address: SocketAddr) -> io::Result<BoxStream<'static, Box<dyn ByteStream>>> {
        self.under.listen(address).await
    }

    async fn connect(&self, address: &str) -> io::Result<Box<dyn ByteStream>> {
        let peer = self.links.0.lock().nodes.get(address).copied();
        let peer = peer.ok_or_else(|| io::Error::other(format!("no node has the address {address}")))?;
        let (mut there, mut back) = (self.links.follow(self.node, peer), self.links.follow(peer, self.node));
        is_open(&mut there).await;
        is_open(&mut back).await;
        let (far_read, far_write) = tokio::io::split(self.under.connect(address).await?);
        let (near, inner) = tokio::io::duplex(PIECE_BYTES_MAX);
        let (near_read, near_write) = tokio::io::split(inner);
        let mut state = self.links.0.lock();
        while state.carriers.try_join_next().is_some() {}
        state.carriers.spawn(carry(near_read, far_write, there));
        state.carriers.spawn(carry(far_read, near_write, back));
        Ok(Box::new(near))
    }
}

async fn is_open(way: &mut watch::Receiver<Condition>) {
    way.wait_for(|way| !way.is_cut).await.expect("the links outlive their connections");
}

/// Carries what `from` says to `to`, in order, until either is gone.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut way: watch::Receiver<Condition>) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Bytes)>(PIECES_MAX);
    let take = async move {
        loop {
            let mut piece = BytesMut::with_capacity(PIECE_BYTES_MAX);
            match from.read_buf(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if sender.send((Instant::now(), piece.freeze())).await.is_err() {
                return;
            }
        }
    };
    let give = async move {
        while let Some((sent, piece)) = pieces.recv().await {
            let delay = way.borrow().delay;
            tokio::time::sleep_until(sent + delay).await;
            is_open(&mut way).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        is_open(&mut way).await;
        // An end that is gone has heard all it wants.
        drop(to.shutdown().await);
    };
    tokio::join!(take, give);
}
