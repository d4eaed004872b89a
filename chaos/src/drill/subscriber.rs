//! The drill's own subscriber: it reads the feed from before the first fault until everything is over, and audits it on the way.
//!
//! One more reader of the cluster, which comes back by itself as every client does. What it has shown is a bit for each reading, so
//! it bears any load for any time. A second one begins where the first began when all is over: what was there stays there.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kvarter_api::v1::{Fact, FeedMessage, Position, SubscribeRequest, fact, value};
use kvarter_api::{ApiError, Client, ClientConfig, Subscription};
use kvarter_simulator::{LoadPlan, Turns};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::probe::EndMark;
use super::steering::{Run, receipt_state};
use super::{DrillError, RECOVERY_MAX, micros};
use crate::check::{CommandAudit, FeedAudit, FeedPosition, Violation, Violations};

/// A feed that shows no reading of the drill's devices for so long does not reach its end, whatever else the city writes.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A subscription that is open, and being read.
pub(super) struct Subscriber {
    begin: Vec<Position>,
    /// One waits at a time: whoever asks waits for the answer.
    orders: mpsc::Sender<Order>,
    reading: JoinSet<Read>,
}

enum Order {
    Follow(Vec<Arc<Turns>>, oneshot::Sender<()>),
    /// Read on until each shard has shown its mark.
    End(BTreeMap<u32, EndMark>),
}

/// What was read.
pub(super) struct Read {
    pub(super) feed: FeedAudit,
    pub(super) commands: CommandAudit,
    followed: Vec<Arc<Turns>>,
    run: Run,
    /// Why it ended before its time.
    failure: Option<String>,
}

impl Subscriber {
    /// Reads what commits from now on; of commands, those of `run`.
    pub(super) async fn open(client: &Client, run: Run) -> Result<Self, DrillError> {
        Self::begin(client, Read::new(run), SubscribeRequest::default()).await
    }

    /// Reads what `read` has read, from `begin` on.
    pub(super) async fn open_again(client: &Client, read: &Read, begin: Vec<Position>) -> Result<Self, DrillError> {
        let mut again = Read::new(read.run.clone());
        again.follow(read.followed.clone());
        Self::begin(client, again, SubscribeRequest { cursors: begin, ..SubscribeRequest::default() }).await
    }

    async fn begin(client: &Client, read: Read, request: SubscribeRequest) -> Result<Self, DrillError> {
        // As patient as the drill itself: an outage that it waits for must not end the subscription.
        let config = ClientConfig { resume_deadline: RECOVERY_MAX, ..client.config().clone() };
        let subscription = Client::connect(config).await?.subscribe(request).await?;
        let begin = subscription.cursors();
        let (orders, orders_rx) = mpsc::channel(1);
        let mut reading = JoinSet::new();
        reading.spawn(read.on(subscription, orders_rx));
        Ok(Self { begin, orders, reading })
    }

    /// Where it began.
    pub(super) fn begin_cursors(&self) -> Vec<Position> {
        self.begin.clone()
    }

    /// Returns once it knows what these devices will say; they must not have said anything before.
    pub(super) async fn follow(&self, turns: Vec<Arc<Turns>>) {
        let (follows, has_followed) = oneshot::channel();
        // One that has ended says so in the end.
        if self.orders.send(Order::Follow(turns, follows)).await.is_ok() {
            drop(has_followed.await);
        }
    }

    /// Reads on until each shard has shown its mark in `ends`. A feed that ends early shows as lost readings and commands, too.
    pub(super) async fn finish(mut self, ends: BTreeMap<u32, EndMark>) -> Read {
        drop(self.orders.send(Order::End(ends)).await);
        match self.reading.join_next().await {
            Some(read) => read.expect("a subscriber does not panic and is not aborted"),
            None => unreachable!("it was started when this was made"),
        }
    }
}

impl Read {
    fn new(run: Run) -> Self {
        let (feed, commands) = (FeedAudit::default(), CommandAudit::default());
        Self { feed, commands, followed: Vec::new(), run, failure: None }
    }

    /// That it could not go on, if so.
    pub(super) fn failure(&self) -> Violations {
        let mut violations = Violations::default();
        if let Some(reason) = self.failure.clone() {
            violations.add(Violation::SubscriptionEnded { reason });
        }
        violations
    }

    async fn on(mut self, mut subscription: Subscription, mut orders: mpsc::Receiver<Order>) -> Self {
        let mut open: Option<BTreeMap<u32, EndMark>> = None;
        let mut give_up = Instant::now();
        loop {
            tokio::select! {
                order = orders.recv(), if open.is_none() => match order {
                    Some(Order::Follow(turns, follows)) => {
                        self.follow(turns);
                        // Whoever asked may have gone.
                        let (Ok(()) | Err(())) = follows.send(());
                    }
                    Some(Order::End(ends)) => {
                        open = Some(ends);
                        give_up = Instant::now() + SILENCE_MAX;
                    }
                    None => return self,
                },
                message = subscription.next() => match message {
                    Ok(message) => if self.take(&message) {
                        give_up = Instant::now() + SILENCE_MAX;
                    },
                    Err(error) => return self.failed(&error),
                },
                () = sleep_until(give_up), if open.is_some() => {
                    let shards: Vec<u32> = open.into_iter().flatten().map(|(shard, _)| shard).collect();
                    self.failure = Some(format!("nothing for {SILENCE_MAX:?} before the end of shards {shards:?}"));
                    return self;
                }
            }
            if let Some(open) = &mut open {
                open.retain(|_, end| !self.feed.has_shown(&end.device, end.observed_us));
                if open.is_empty() {
                    return self;
                }
            }
        }
    }

    fn failed(mut self, error: &ApiError) -> Self {
        tracing::warn!(%error, "the drill's subscription ended");
        self.failure = Some(super::with_causes(error));
        self
    }

    fn follow(&mut self, turns: Vec<Arc<Turns>>) {
        turns.iter().for_each(|turns| self.feed.follow(turns));
        self.followed.extend(turns);
    }

    /// Audits a message; returns whether it had a reading of a device that is followed.
    fn take(&mut self, message: &FeedMessage) -> bool {
        if let Some(gap) = &message.gap {
            self.feed.gap(message.shard, position(gap.from.as_ref()), position(gap.to.as_ref()));
        }
        let mut is_of_drill = false;
        for fact in &message.facts {
            is_of_drill |= self.take_fact(message.shard, fact);
        }
        is_of_drill
    }

    fn take_fact(&mut self, shard: u32, fact: &Fact) -> bool {
        let at = position(fact.position.as_ref());
        if let Some(fact::Fact::ConnectivityChanged(_)) = &fact.fact {
            self.feed.shared_fact(shard, at, &fact.device);
            return false;
        }
        self.feed.fact(shard, at);
        match &fact.fact {
            Some(fact::Fact::AttributeReported(reported)) if reported.attribute == LoadPlan::ATTRIBUTE => {
                let Some(observed) = reported.observe_time else { return false };
                let value = reported.value.as_ref().and_then(number);
                self.feed.reading(&fact.device, micros(&observed), value)
            }
            Some(fact::Fact::CommandChanged(changed)) if self.run.has_issued(&changed.command) => {
                if let Some(state) = receipt_state(changed.state()) {
                    self.commands.change(&changed.command, state);
                }
                false
            }
            _ => false,
        }
    }
}

/// `value`, if it is a number.
pub(super) fn number(value: &kvarter_api::v1::Value) -> Option<f64> {
    match value.kind {
        Some(value::Kind::Number(number)) => Some(number),
        _ => None,
    }
}

fn position(position: Option<&Position>) -> FeedPosition {
    position.map_or(FeedPosition { index: 0, ordinal: 0 }, |it| FeedPosition { index: it.index, ordinal: it.ordinal })
}

#[cfg(test)]
mod tests {
    use kvarter_api::v1::{AttributeReported, CommandChanged, CommandState, ConnectivityChanged, Gap, Value};
    use kvarter_simulator::{Ledger, Serial};

    use super::*;
    use crate::check::ReceiptState;

    const DEVICE: &str = "districts/d/devices/0";

    fn fact(index: u64, fact: fact::Fact) -> Fact {
        let position = Some(Position { shard: 1, index, ordinal: 0 });
        Fact { position, time: None, device: DEVICE.to_owned(), fact: Some(fact) }
    }

    fn reported(index: u64, observed_us: i64, number: f64) -> Fact {
        let observe_time = Some(prost_types::Timestamp {
            seconds: observed_us / 1_000_000,
            nanos: i32::try_from(observed_us % 1_000_000).unwrap() * 1_000,
        });
        let value = Some(Value { kind: Some(value::Kind::Number(number)) });
        let attribute = LoadPlan::ATTRIBUTE.to_owned();
        fact(
            index,
            fact::Fact::AttributeReported(AttributeReported { attribute, value, observe_time, ..Default::default() }),
        )
    }

    fn changed(index: u64, id: &str, state: CommandState) -> Fact {
        let command = format!("{DEVICE}/commands/{id}");
        let state = state.into();
        fact(index, fact::Fact::CommandChanged(CommandChanged { command, state, ..Default::default() }))
    }

    fn message(facts: Vec<Fact>) -> FeedMessage {
        FeedMessage { shard: 1, facts, ..FeedMessage::default() }
    }

    #[test]
    fn what_devices_said_is_found_in_messages_as_they_said_it() {
        let mut ledger = Ledger::new(vec![DEVICE.to_owned()], 1_700_000_000_123_456);
        let (first, second) = (ledger.send(), ledger.send());
        ledger.accept(first);
        ledger.accept(second);
        let mut read = Read::new(Run::new(7));
        read.follow(vec![Arc::clone(ledger.turns())]);
        let said = |index, serial: Serial| reported(index, ledger.observed_us(serial), Turns::value(serial));
        let connected = |index| fact(index, fact::Fact::ConnectivityChanged(ConnectivityChanged { connected: true }));
        assert!(read.take(&message(vec![connected(4), said(5, first)])));
        assert!(!read.take(&message(vec![connected(6)])), "nothing that was said");
        assert!(read.take(&message(vec![said(7, second)])));
        assert_eq!((read.feed.facts(), read.failure()), (4, Violations::default()));
        assert_eq!(read.feed.conclude(&[ledger], 2, 1), Violations::default());
    }

    #[test]
    fn a_gap_that_a_message_tells_of_is_a_violation() {
        let mut read = Read::new(Run::new(7));
        let at = |index| Some(Position { shard: 1, index, ordinal: 0 });
        let gap = Some(Gap { from: at(5), to: at(9) });
        assert!(!read.take(&FeedMessage { shard: 1, gap, ..FeedMessage::default() }));
        assert!(matches!(read.feed.conclude(&[], 0, 0).first[..], [Violation::FeedGap { shard: 1, .. }]));
    }

    #[test]
    fn commands_of_the_drill_that_are_gone_when_the_feed_is_read_again_are_named() {
        let run = Run::new(7);
        let id = format!("{}0-0", run.prefix());
        let (mut read, mut again) = (Read::new(run.clone()), Read::new(run));
        let facts = vec![changed(3, &id, CommandState::Accepted), changed(4, "others", CommandState::Accepted)];
        read.take(&message(facts.clone()));
        again.take(&message(facts));
        assert_eq!(read.commands.compare(&again.commands), Violations::default());
        read.take(&message(vec![changed(5, &id, CommandState::Failed)]));
        let (command, shown) = (format!("{DEVICE}/commands/{id}"), ReceiptState::Failed);
        let again_shown = Some(ReceiptState::Accepted);
        assert_eq!(
            read.commands.compare(&again.commands).first,
            [Violation::CommandShownOtherwise { command, shown, again: again_shown }]
        );
    }
}
