//! The ports through which nondeterminism enters: clock, randomness, the transport in `ports/transport.rs` and the storage in
//! `ports/storage.rs`; beside them, where tasks run (`ports/execution.rs`).

mod disk;
mod execution;
mod memory;
pub(crate) mod storage;
mod transport;

use std::fmt;
use std::sync::Arc;

pub use execution::Execution;
pub(crate) use execution::RaftRuntime;
pub use memory::{MemoryStorage, Operation as StorageOperation};
pub use storage::{Batch, Database, DatabaseError, Listing, Space, Storage, StoredFile, Tree};
pub use transport::{ByteStream, Transport};

/// Microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// Tells wall-clock time.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// Draws random numbers.
pub trait Random: Send + Sync + 'static {
    fn next_u64(&self) -> u64;

    fn next_u128(&self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }
}

/// The ports that a node runs on.
#[derive(Clone)]
pub struct Ports {
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub transport: Arc<dyn Transport>,
    pub execution: Execution,
    pub storage: Arc<dyn Storage>,
}

impl Ports {
    /// The machine's own clock, entropy and disk, and TCP.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            transport: Arc::new(transport::TcpTransport),
            execution: Execution::OwnRuntime,
            storage: Arc::new(disk::DiskStorage),
        }
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ports")
    }
}

struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock port")]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("the machine's clock is after 1970");
        Timestamp(i64::try_from(since_epoch.as_micros()).expect("the machine's clock is before year 290,000"))
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    #[expect(clippy::disallowed_methods, reason = "this is the randomness port")]
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}
