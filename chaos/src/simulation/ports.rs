//! The ports of a simulated node: its clock, its chance, its network. Its storage is the cluster's own [`MemoryStorage`].
//!
//! [`MemoryStorage`]: kvarter_cluster::MemoryStorage

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use kvarter_cluster::{ByteStream, Clock, Random, Timestamp, Transport};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use turmoil::net::{TcpListener, TcpStream};

/// When simulations begin: 2026-06-01 00:00 UTC, microseconds since 1970.
const BEGIN_US: i64 = 1_780_272_000_000_000;

/// The true time, which no node knows for certain.
#[derive(Clone, Default)]
pub(super) struct Time(Arc<AtomicI64>);

impl Time {
    /// Microseconds since the simulation began.
    pub(super) fn elapsed_us(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Microseconds since 1970.
    pub(super) fn now_us(&self) -> i64 {
        BEGIN_US + self.elapsed_us()
    }

    pub(super) fn set_elapsed_us(&self, elapsed_us: i64) {
        self.0.store(elapsed_us, Ordering::Relaxed);
    }
}

/// A node's clock; shows the true time and how far it is wrong. Clones are the same clock.
#[derive(Clone, Default)]
pub(super) struct SkewedClock {
    time: Time,
    ahead_us: Arc<AtomicI64>,
}

impl SkewedClock {
    pub(super) fn new(time: Time) -> Self {
        Self { time, ahead_us: Arc::default() }
    }

    pub(super) fn set_ahead_us(&self, ahead_us: i64) {
        self.ahead_us.store(ahead_us, Ordering::Relaxed);
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.time.now_us() + self.ahead_us.load(Ordering::Relaxed))
    }
}

/// Random numbers that follow from a seed.
pub(super) struct SeededRandom(Mutex<StdRng>);

impl SeededRandom {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Random for SeededRandom {
    fn next_u64(&self) -> u64 {
        self.0.lock().random()
    }
}

/// The simulated TCP of the host that calls; TLS and HTTP/2 stand above it as they do everywhere.
pub(super) struct SimulatedNetwork;

#[async_trait::async_trait]
impl Transport for SimulatedNetwork {
    async fn listen(&self, address: SocketAddr) -> io::Result<BoxStream<'static, Box<dyn ByteStream>>> {
        let listener = TcpListener::bind(address).await?;
        let accepted = futures::stream::unfold(listener, |listener| async move {
            // It fails only when the host is gone.
            let (stream, _) = listener.accept().await.ok()?;
            Some((Box::new(stream) as Box<dyn ByteStream>, listener))
        });
        Ok(accepted.boxed())
    }

    async fn connect(&self, address: &str) -> io::Result<Box<dyn ByteStream>> {
        Ok(Box::new(TcpStream::connect(address).await?))
    }
}
