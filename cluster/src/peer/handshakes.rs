//! Handshakes under way: so many at a time, and the oldest gives way to a further one. So those who connect and say nothing keep
//! nobody out who comes after them.

use std::collections::BTreeMap;
use std::task::Poll;

use futures::future::{AbortHandle, FutureExt as _, abortable};
use futures::stream::{self, FuturesUnordered, Stream, StreamExt as _};

/// What the futures of `incoming` come to, of which at most `running_max` run: the oldest is dropped when there is a further one.
pub(super) fn keep_newest<F: Future + Send>(
    incoming: impl Stream<Item = F> + Send,
    running_max: usize,
) -> impl Stream<Item = F::Output> + Send {
    let mut incoming = Box::pin(incoming.fuse().enumerate());
    let mut running = FuturesUnordered::new();
    let mut by_age: BTreeMap<usize, AbortHandle> = BTreeMap::new();
    stream::poll_fn(move |cx| {
        loop {
            while let Poll::Ready(Some((number, outcome))) = running.poll_next_unpin(cx) {
                by_age.remove(&number);
                if let Ok(output) = outcome {
                    return Poll::Ready(Some(output));
                }
            }
            match incoming.as_mut().poll_next(cx) {
                Poll::Ready(Some((number, further))) => {
                    if by_age.len() >= running_max
                        && let Some((_, oldest)) = by_age.pop_first()
                    {
                        tracing::debug!(running_max, "the oldest handshake gives way to a further connection");
                        oldest.abort();
                    }
                    let (further, handle) = abortable(further);
                    by_age.insert(number, handle);
                    running.push(further.map(move |outcome| (number, outcome)));
                }
                Poll::Ready(None) if by_age.is_empty() => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn the_oldest_gives_way_to_whoever_comes_then() {
        let (senders, silent): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel::<u32>()).unzip();
        let silent = silent.into_iter().map(|receiver| async { receiver.await.unwrap_or_default() }.boxed());
        let incoming = silent.chain([ready(7).boxed(), pending().boxed()]);
        let mut ended = Box::pin(keep_newest(stream::iter(incoming), 3));
        assert_eq!(ended.next().await, Some(7));
        assert!(senders[0].is_closed());
        assert!(!senders[1].is_closed() && !senders[2].is_closed());
        assert_eq!(ended.next().now_or_never(), None, "those who are silent are waited for");
        assert!(!senders[1].is_closed());
    }

    #[tokio::test]
    async fn it_ends_behind_the_last() {
        let ended = keep_newest(stream::iter([ready(1), ready(2), ready(3)]), 1);
        assert_eq!(ended.collect::<Vec<_>>().await, [1, 2, 3]);
    }
}
