//! The ractor actor around [`Driver`]: reads the feed, commits steps.
//!
//! It has one message, `GoOn`, which it sends to itself: each turn reads what there is, and waits for its step. A step that
//! is not committed ends the actor; its shard starts another from what was stored. It is stopped by killing it, which is
//! safe, since nothing that it holds is more than a copy.

use std::sync::Arc;
use std::time::Duration;

use kvarter_cluster::{FeedEntry, FeedError, FeedReader, Ports, ShardHandle};
use prost::Message;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::service::{Driver, Service, World};
use crate::shard::{Answer, ReplyTo, ShardMessage, Submission, Work};
use crate::{Catalog, ServiceStep, ShardState};

/// Entries of one turn.
const ENTRIES_MAX: usize = 64;

/// A turn without entries ends after this, so that what is due is stored.
const TURN_MAX: Duration = Duration::from_secs(1);

/// Between two turns. A city is steered in seconds: a service that woke for each entry would cost more than what it reads.
const TURN_PAUSE: Duration = Duration::from_millis(100);

/// What an actor is given when it starts.
#[derive(Clone)]
pub(crate) struct ServiceBirth {
    pub(crate) district: String,
    pub(crate) handle: ShardHandle<ShardState>,
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) ports: Ports,
    /// The shard's actor, its supervisor.
    pub(crate) shard: ActorRef<ShardMessage>,
}

pub(crate) enum ServiceMessage {
    GoOn,
}

pub(crate) struct ServiceActor<S> {
    service: std::marker::PhantomData<fn() -> S>,
}

impl<S> Default for ServiceActor<S> {
    fn default() -> Self {
        Self { service: std::marker::PhantomData }
    }
}

pub(crate) struct Running<S> {
    birth: ServiceBirth,
    driver: Driver<S>,
    reader: FeedReader<ShardState>,
}

impl<S: Service> Actor for ServiceActor<S> {
    type Msg = ServiceMessage;
    type State = Running<S>;
    type Arguments = ServiceBirth;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        birth: ServiceBirth,
    ) -> Result<Running<S>, ActorProcessingErr> {
        let view = birth.handle.view();
        let catalog = birth.catalog.borrow().clone();
        let world = World { state: &view.state, catalog: &catalog };
        let driver = Driver::new(&birth.district, view.applied, world, birth.ports.clock.now())?;
        let reader = birth.handle.feed(driver.position());
        myself.send_message(ServiceMessage::GoOn)?;
        Ok(Running { birth, driver, reader })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        ServiceMessage::GoOn: ServiceMessage,
        running: &mut Running<S>,
    ) -> Result<(), ActorProcessingErr> {
        let mut is_behind = false;
        match timeout(TURN_MAX, running.reader.next(ENTRIES_MAX)).await {
            Err(_nothing_came) => running.store().await?,
            Ok(Ok(entries)) => {
                is_behind = entries.len() == ENTRIES_MAX;
                for entry in entries {
                    running.take(&entry);
                    running.store().await?;
                }
            }
            // What can not be read here now can not be read at the next start either.
            Ok(Err(error @ (FeedError::Gone { .. } | FeedError::Storage { .. }))) => {
                tracing::warn!(service = running.driver.name(), %error, "reading the twins again");
                running.reread();
                running.store().await?;
            }
            Ok(Err(FeedError::Stopped { .. })) => {
                myself.stop(None);
                return Ok(());
            }
        }
        if !is_behind {
            sleep(TURN_PAUSE).await;
        }
        Ok(myself.send_message(ServiceMessage::GoOn)?)
    }
}

impl<S: Service> Running<S> {
    fn take(&mut self, entry: &FeedEntry<ShardState>) {
        let view = self.birth.handle.view();
        let catalog = self.birth.catalog.borrow().clone();
        self.driver.take(entry.index, &entry.entry, World { state: &view.state, catalog: &catalog });
    }

    fn reread(&mut self) {
        let view = self.birth.handle.view();
        let catalog = self.birth.catalog.borrow().clone();
        self.driver.reread(view.applied, World { state: &view.state, catalog: &catalog });
        self.reader = self.birth.handle.feed(self.driver.position());
    }

    /// Commits the step that is due, if any.
    async fn store(&mut self) -> Result<(), ActorProcessingErr> {
        let Some(step) = self.driver.due_step(self.birth.ports.clock.now()) else { return Ok(()) };
        let (sender, answer) = oneshot::channel();
        let bytes = weight(&step);
        let submission = Submission { work: Work::Step(Box::new(step)), bytes, reply_to: ReplyTo::caller(sender) };
        self.birth.shard.send_message(ShardMessage::Submit(submission)).map_err(|_lost| "the shard's actor is gone")?;
        match answer.await.map_err(|_lost| "the shard's actor failed")? {
            Answer::Stepped(Ok((_, decision))) => {
                for (place, failure) in decision.refused {
                    tracing::warn!(
                        service = self.driver.name(),
                        place,
                        failure = failure.message,
                        "a command was refused"
                    );
                }
                self.driver.stepped(self.birth.ports.clock.now());
                Ok(())
            }
            Answer::Stepped(Err(error)) => Err(error.into()),
            Answer::NotLed(_) => Err("the step was not taken: this node does not lead the shard".into()),
            Answer::Unknown => Err("whether the step was taken is unknown".into()),
            Answer::Reply(_) | Answer::Noted => unreachable!("a step is answered as a step"),
        }
    }
}

/// About how long the facts of a step are.
fn weight(step: &ServiceStep) -> usize {
    let arguments =
        step.commands.iter().flat_map(|command| &command.arguments).map(Message::encoded_len).sum::<usize>();
    128 + step.state.as_ref().map_or(0, bytes::Bytes::len) + step.commands.len() * 128 + arguments
}
