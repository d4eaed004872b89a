//! The last look at a command before it is written: a client that does not read gets none past its deadline when it reads again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use kvarter_api::v1::{ConnectResponse, connect_response::Message};
use kvarter_cluster::Clock;
use tokio_stream::Stream;
use tonic::Status;

use crate::api::conversion;

/// Responses as the transport takes them, without the commands whose deadline has passed by then. The shard ends those.
pub(crate) struct InTime<S> {
    responses: S,
    clock: Arc<dyn Clock>,
}

impl<S> InTime<S> {
    pub(crate) fn new(responses: S, clock: Arc<dyn Clock>) -> Self {
        Self { responses, clock }
    }

    fn is_late(&self, response: &ConnectResponse) -> bool {
        let Some(Message::Command(command)) = &response.message else { return false };
        let now = conversion::timestamp(self.clock.now().0);
        command.deadline.is_some_and(|deadline| (deadline.seconds, deadline.nanos) <= (now.seconds, now.nanos))
    }
}

impl<S: Stream<Item = Result<ConnectResponse, Status>> + Unpin> Stream for InTime<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(Pin::new(&mut self.responses).poll_next(cx)) {
                Some(Ok(response)) if self.is_late(&response) => {}
                other => return Poll::Ready(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use kvarter_api::v1::{CommandDelivery, DesiredState};
    use kvarter_cluster::Timestamp;
    use tokio_stream::StreamExt;

    use super::*;
    use crate::api::outlet::outlet;

    #[derive(Default)]
    struct TestClock(AtomicI64);

    impl Clock for TestClock {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }
    }

    fn command(id: &str, deadline_us: i64) -> Message {
        let deadline = Some(conversion::timestamp(deadline_us));
        Message::Command(CommandDelivery { id: id.to_owned(), deadline, ..CommandDelivery::default() })
    }

    #[tokio::test]
    async fn a_client_that_did_not_read_gets_no_command_past_its_deadline() {
        let clock = Arc::new(TestClock::default());
        let (responses, ending, stream) = outlet(8);
        let desired = Message::Desired(DesiredState::default());
        for message in [command("a", 1_000), desired.clone(), command("b", 1_000_001), command("c", 1_000_002)] {
            responses.try_send(ConnectResponse { message: Some(message) }).expect("there is room");
        }
        drop((responses, ending));
        clock.0.store(1_000_001, Ordering::Relaxed);
        let read: Vec<_> = InTime::new(stream, clock).map(|response| response.expect("no end").message).collect().await;
        assert_eq!(read, [Some(desired), Some(command("c", 1_000_002))]);
    }
}
