//! Handshakes under way: so many at a time, and the oldest gives way to a further one. So those who connect and say nothing keep
//! nobody out who comes after them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::Poll;

use futures::{Stream, StreamExt as _, stream};

/// What the futures of `incoming` come to, of which at most `running_max` run: the oldest is dropped when there is a further one.
pub(super) fn keep_newest<F: Future + Send>(
    incoming: impl Stream<Item = F> + Send,
    running_max: usize,
) -> impl Stream<Item = F::Output> + Send {
    let mut incoming = Box::pin(incoming.fuse());
    let mut running: VecDeque<Pin<Box<F>>> = VecDeque::new();
    stream::poll_fn(move |cx| {
        loop {
            for place in 0..running.len() {
                if let Poll::Ready(output) = running[place].as_mut().poll(cx) {
                    drop(running.remove(place));
                    return Poll::Ready(Some(output));
                }
            }
            match incoming.as_mut().poll_next(cx) {
                Poll::Ready(Some(further)) => {
                    if running.len() >= running_max {
                        tracing::debug!(running_max, "the oldest handshake gives way to a further connection");
                        drop(running.pop_front());
                    }
                    running.push_back(Box::pin(further));
                }
                Poll::Ready(None) if running.is_empty() => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::FutureExt as _;
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
