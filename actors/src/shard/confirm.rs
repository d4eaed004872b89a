//! Linearizable reads: one ReadIndex serves all who asked before it began.

use kvarter_cluster::{ReadError, ShardHandle};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Criticality, ShardState};

/// Readers that wait for the next ReadIndex, room for more critical ones included; more are answered as overloaded.
const WAITING_MAX: usize = 4_096;

/// Why a read can not be confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unconfirmed {
    NotLeader,
    NoQuorum,
    Overloaded,
}

type Waiter = oneshot::Sender<Result<(), Unconfirmed>>;

#[derive(Clone)]
pub(crate) struct Confirmations {
    waiters: mpsc::Sender<Waiter>,
}

impl Confirmations {
    /// Starts the task that confirms, on `tasks`, until `stop`.
    pub(crate) fn start(handle: ShardHandle<ShardState>, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let (waiters, mut queue) = mpsc::channel::<Waiter>(WAITING_MAX);
        tasks.spawn(async move {
            let rounds = async {
                let mut round = Vec::new();
                while queue.recv_many(&mut round, WAITING_MAX).await > 0 {
                    let outcome = handle.read_index().await.map(|_| ()).map_err(|error| match error {
                        ReadError::NotLeader { .. } => Unconfirmed::NotLeader,
                        ReadError::Unconfirmed { .. } => Unconfirmed::NoQuorum,
                    });
                    // A reader who has gone away needs no answer.
                    round.drain(..).for_each(|waiter| drop(waiter.send(outcome.clone())));
                }
            };
            stop.run_until_cancelled(rounds).await;
        });
        Self { waiters }
    }

    /// Returns when everything committed before the call is applied here, and this node led then.
    pub(crate) async fn confirm(&self, criticality: Criticality) -> Result<(), Unconfirmed> {
        if WAITING_MAX - self.waiters.capacity() >= criticality.share_of(WAITING_MAX) {
            return Err(Unconfirmed::Overloaded);
        }
        let (waiter, outcome) = oneshot::channel();
        self.waiters.try_send(waiter).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unconfirmed::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Unconfirmed::NotLeader,
        })?;
        outcome.await.unwrap_or(Err(Unconfirmed::NotLeader))
    }
}
