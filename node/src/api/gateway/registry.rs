//! The streams that are connected to this node: at most one connection each, and the newest wins: by the client's count, or else
//! the one that came last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kvarter_actors::{ConnectionNumber, StreamId};
use tokio_util::sync::CancellationToken;

/// Who holds which stream on this node.
#[derive(Clone, Default)]
pub(crate) struct StreamRegistry {
    holders: Arc<Mutex<HashMap<StreamId, Holder>>>,
}

struct Holder {
    client: String,
    connection: ConnectionNumber,
    superseded: CancellationToken,
    released: CancellationToken,
}

/// The right of one connection to speak for a stream; given back when dropped.
pub(crate) struct StreamClaim {
    stream: StreamId,
    registry: StreamRegistry,
    /// Fires when a newer connection of the stream takes over: end at once, and leave the stream open in its shards.
    pub(crate) superseded: CancellationToken,
    released: CancellationToken,
}

/// Why a stream was not claimed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimError {
    #[error("stream {stream} belongs to another client")]
    Forbidden { stream: StreamId },
    #[error("stream {stream} was resumed on an even newer connection")]
    Superseded { stream: StreamId },
}

impl StreamRegistry {
    /// Takes the stream over from the connection of the same client that holds it, and waits until that one is gone, so
    /// that nothing it still does can undo what the new one does.
    pub(crate) async fn claim(
        &self,
        stream: StreamId,
        client: &str,
        connection: ConnectionNumber,
    ) -> Result<StreamClaim, ClaimError> {
        let (claim, previous_released) = self.replace(stream, client, connection)?;
        if let Some(released) = previous_released {
            // Not cut short when this claim is superseded too: the next one waits for this one, and so for all before.
            released.cancelled().await;
        }
        if claim.superseded.is_cancelled() { Err(ClaimError::Superseded { stream }) } else { Ok(claim) }
    }

    /// Takes the place of the claim before, and returns what tells that it is released.
    fn replace(
        &self,
        stream: StreamId,
        client: &str,
        connection: ConnectionNumber,
    ) -> Result<(StreamClaim, Option<CancellationToken>), ClaimError> {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if holders.get(&stream).is_some_and(|holder| holder.client != client) {
            return Err(ClaimError::Forbidden { stream });
        }
        let is_counted = connection != ConnectionNumber::UNCOUNTED;
        if is_counted && holders.get(&stream).is_some_and(|holder| holder.connection > connection) {
            return Err(ClaimError::Superseded { stream });
        }
        let (superseded, released) = (CancellationToken::new(), CancellationToken::new());
        let client = client.to_owned();
        let holder = Holder { client, connection, superseded: superseded.clone(), released: released.clone() };
        let previous = holders.insert(stream, holder);
        // Under the lock: a claim that is dropped now must not take its successor's place for its own.
        let previous_released = previous.map(|previous| {
            previous.superseded.cancel();
            previous.released
        });
        Ok((StreamClaim { stream, registry: self.clone(), superseded, released }, previous_released))
    }
}

impl Drop for StreamClaim {
    fn drop(&mut self) {
        let mut holders = self.registry.holders.lock().unwrap_or_else(PoisonError::into_inner);
        // A superseded claim has been replaced by its successor, which holds the place now.
        if !self.superseded.is_cancelled() {
            holders.remove(&self.stream);
        }
        drop(holders);
        self.released.cancel();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const STREAM: StreamId = StreamId(7);
    const CLIENT: &str = "client:lamps";
    const UNCOUNTED: ConnectionNumber = ConnectionNumber::UNCOUNTED;

    #[tokio::test]
    async fn the_newest_connection_waits_for_the_older_one_to_end() {
        let registry = StreamRegistry::default();
        let first = registry.claim(STREAM, CLIENT, UNCOUNTED).await.expect("the first claim");
        let mut second = Box::pin(registry.claim(STREAM, CLIENT, UNCOUNTED));
        assert!((&mut second).now_or_never().is_none());
        assert!(first.superseded.is_cancelled());
        drop(first);
        let second = second.await.expect("the second claim");
        assert!(!second.superseded.is_cancelled());
    }

    #[tokio::test]
    async fn of_three_connections_the_last_one_stays() {
        let registry = StreamRegistry::default();
        let first = registry.claim(STREAM, CLIENT, UNCOUNTED).await.expect("the first claim");
        let mut second = Box::pin(registry.claim(STREAM, CLIENT, UNCOUNTED));
        let mut third = Box::pin(registry.claim(STREAM, CLIENT, UNCOUNTED));
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        assert_eq!(second.await.err(), Some(ClaimError::Superseded { stream: STREAM }));
        drop(third.await.expect("the third claim"));
        assert!(registry.holders.lock().expect("no panic under the lock").is_empty());
    }

    #[tokio::test]
    async fn a_connection_that_ends_as_it_is_superseded_leaves_its_successor_its_place() {
        let registry = StreamRegistry::default();
        let first = registry.claim(STREAM, CLIENT, UNCOUNTED).await.expect("the first claim");
        let (second, first_released) = registry.replace(STREAM, CLIENT, UNCOUNTED).expect("the second claim");
        drop(first);
        assert!(first_released.is_some_and(|released| released.is_cancelled()));
        let mut third = Box::pin(registry.claim(STREAM, CLIENT, UNCOUNTED));
        assert!((&mut third).now_or_never().is_none());
        assert!(second.superseded.is_cancelled());
        drop(second);
        drop(third.await.expect("the third claim"));
    }

    #[tokio::test]
    async fn a_connection_that_comes_late_does_not_take_over_from_its_successor() {
        let registry = StreamRegistry::default();
        let newest = registry.claim(STREAM, CLIENT, ConnectionNumber(3)).await.expect("a claim");
        let late = registry.claim(STREAM, CLIENT, ConnectionNumber(2)).await;
        assert_eq!(late.err(), Some(ClaimError::Superseded { stream: STREAM }));
        assert!(!newest.superseded.is_cancelled());
        let mut next = Box::pin(registry.claim(STREAM, CLIENT, ConnectionNumber(4)));
        assert!((&mut next).now_or_never().is_none());
        assert!(newest.superseded.is_cancelled());
        drop(newest);
        drop(next.await.expect("the next claim"));
    }

    #[tokio::test]
    async fn another_client_does_not_take_over() {
        let registry = StreamRegistry::default();
        let first = registry.claim(STREAM, CLIENT, UNCOUNTED).await.expect("a claim");
        let other = registry.claim(STREAM, "client:other", UNCOUNTED).await;
        assert_eq!(other.err(), Some(ClaimError::Forbidden { stream: STREAM }));
        assert!(!first.superseded.is_cancelled());
    }
}
