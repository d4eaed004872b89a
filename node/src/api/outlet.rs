//! The response half of a streaming call: messages up to a bound, then perhaps the status that ends it.
//!
//! The status travels beside the bounded channel, so that a reader that lets the channel fill up is still told why its
//! stream ended, behind everything that it was sent before.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tonic::Status;

/// Makes a response stream that holds at most `messages_max` messages.
pub(crate) fn outlet<T>(messages_max: usize) -> (mpsc::Sender<T>, Ending, OutletStream<T>) {
    let (messages_tx, messages_rx) = mpsc::channel(messages_max);
    let (ending_tx, ending_rx) = oneshot::channel();
    (messages_tx, Ending { status: ending_tx }, OutletStream { messages: messages_rx, ending: Some(ending_rx) })
}

/// Decides how the stream ends once all its senders are gone; dropped, it ends well.
pub(crate) struct Ending {
    status: oneshot::Sender<Status>,
}

impl Ending {
    pub(crate) fn with(self, status: Status) {
        // A caller that is gone needs no status.
        drop(self.status.send(status));
    }
}

/// What tonic sends to the caller.
pub(crate) struct OutletStream<T> {
    messages: mpsc::Receiver<T>,
    ending: Option<oneshot::Receiver<Status>>,
}

impl<T> Stream for OutletStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.messages.poll_recv(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(message)) => return Poll::Ready(Some(Ok(message))),
            Poll::Ready(None) => {}
        }
        let Some(ending) = self.ending.as_mut() else { return Poll::Ready(None) };
        let Poll::Ready(ended) = Pin::new(ending).poll(cx) else { return Poll::Pending };
        self.ending = None;
        Poll::Ready(ended.ok().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_full_stream_still_tells_why_it_ended() {
        let (messages, ending, stream) = outlet(1);
        messages.try_send(7).expect("room for one");
        assert!(messages.try_send(8).is_err());
        drop(messages);
        ending.with(Status::aborted("too slow"));
        let received: Vec<_> = stream.map(|item| item.map_err(|status| status.code())).collect().await;
        assert_eq!(received, [Ok(7), Err(tonic::Code::Aborted)]);
    }

    #[tokio::test]
    async fn a_stream_whose_ending_is_dropped_ends_well() {
        let (messages, ending, stream) = outlet(1);
        messages.try_send(7).expect("room for one");
        drop((messages, ending));
        let received: Vec<_> = stream.map(|item| item.is_ok()).collect().await;
        assert_eq!(received, [true]);
    }
}
