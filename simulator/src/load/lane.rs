//! One stream of a load: sends what is due, hears what became of it, at the same time.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kvarter_api::{
    AcknowledgedReading, ApiError, BatchAcknowledgement, BatchSequence, GatewayEvent, GatewayEvents, GatewayStream,
    SendError, StreamTotals, v1,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::schedule::Schedule;
use super::timeline::Timeline;
use super::{Ledger, Serial, Turns};
use crate::latency::Latencies;

/// Time to end a stream in order once nothing is open.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Lane {
    stream: GatewayStream,
    events: GatewayEvents,
    attribute: u32,
    book: Mutex<Book>,
}

/// What the sending and the hearing half share; locked for moments only.
#[derive(Debug)]
struct Book {
    ledger: Ledger,
    /// First reading of each batch, the batch with sequence 1 at the front.
    batches: Vec<Serial>,
    answered: u64,
    latencies: Latencies,
    timeline: Timeline,
    disconnects: u64,
    detached: u64,
}

/// What one lane saw.
#[derive(Debug)]
pub(super) struct LaneOutcome {
    pub(super) ledger: Ledger,
    pub(super) totals: StreamTotals,
    pub(super) latencies: Latencies,
    /// From the start of the load to the last acknowledgement.
    pub(super) elapsed: Duration,
    pub(super) disconnects: u64,
    pub(super) detached: u64,
    /// Why the stream ended before its time.
    pub(super) failure: Option<ApiError>,
}

impl Lane {
    /// The devices of `ledger` must be attached to `stream` under their places.
    pub(super) fn new(
        stream: GatewayStream,
        events: GatewayEvents,
        ledger: Ledger,
        attribute: u32,
        timeline: Timeline,
    ) -> Self {
        let book = Book {
            ledger,
            batches: Vec::new(),
            answered: 0,
            latencies: Latencies::default(),
            timeline,
            disconnects: 0,
            detached: 0,
        };
        Self { stream, events, attribute, book: Mutex::new(book) }
    }

    pub(super) fn turns(&self) -> Arc<Turns> {
        Arc::clone(lock(&self.book).ledger.turns())
    }

    /// Sends by `schedule`, in batches of what became due in a `linger`; then waits up to `patience` for open answers.
    pub(super) async fn run(
        self,
        schedule: Schedule,
        linger: Duration,
        start: Instant,
        stop: CancellationToken,
        patience: Duration,
        totals: watch::Sender<StreamTotals>,
    ) -> LaneOutcome {
        let Self { stream, mut events, attribute, book } = self;
        let mut failure = None;
        let sending = async {
            let sending = Sending { stream: &stream, attribute, book: &book, schedule, start, linger };
            tokio::select! {
                ended = sending.until_over(&totals) => ended,
                () = stop.cancelled() => Ok(()),
            }
        };
        let mut is_sent = false;
        let mut acknowledged = start;
        {
            tokio::pin!(sending);
            let mut give_up = None;
            while failure.is_none() && !(is_sent && lock(&book).is_settled()) {
                tokio::select! {
                    _ended = &mut sending, if !is_sent => {
                        is_sent = true;
                        give_up = Some(Instant::now() + patience);
                    }
                    event = events.next() => match event {
                        Some(GatewayEvent::Failed(error)) => failure = Some(error),
                        Some(event) => {
                            let now = Instant::now();
                            if matches!(event, GatewayEvent::Acknowledged(_)) {
                                acknowledged = now;
                            }
                            lock(&book).hear(&event, &schedule, now, start);
                        }
                        None => break,
                    },
                    () = sleep_until(give_up.unwrap_or(start)), if give_up.is_some() => break,
                }
            }
        }
        let totals = stream.close(CLOSE_PATIENCE).await;
        let Book { ledger, latencies, disconnects, detached, .. } =
            book.into_inner().unwrap_or_else(PoisonError::into_inner);
        LaneOutcome { ledger, totals, latencies, elapsed: acknowledged - start, disconnects, detached, failure }
    }
}

/// The sending half.
struct Sending<'a> {
    stream: &'a GatewayStream,
    attribute: u32,
    book: &'a Mutex<Book>,
    schedule: Schedule,
    start: Instant,
    linger: Duration,
}

impl Sending<'_> {
    /// Dropped before its end, it takes what was not sent out of the book again.
    async fn until_over(&self, totals: &watch::Sender<StreamTotals>) -> Result<(), SendError> {
        let mut wake = self.start;
        loop {
            sleep_until(wake).await;
            let elapsed = self.start.elapsed();
            let due = self.schedule.due_count(elapsed);
            while let Some(batch) = self.next_batch(due) {
                let entry = Entry { book: self.book, is_sent: false };
                self.stream.send(batch).await?;
                entry.keep();
            }
            totals.send_replace(self.stream.totals());
            if self.schedule.is_over(elapsed) {
                return Ok(());
            }
            wake = (wake + self.linger).max(Instant::now());
        }
    }

    /// The next readings below `due`, entered in the book: the stream numbers its batches in the order of sending.
    fn next_batch(&self, due: u64) -> Option<Vec<v1::Reading>> {
        let mut book = lock(self.book);
        let first = Serial(book.ledger.sent());
        let count = due.saturating_sub(first.0).min(self.stream.batch_readings_max().into());
        if count == 0 {
            return None;
        }
        book.batches.push(first);
        let readings = (0..count).map(|_| {
            let serial = book.ledger.send();
            book.ledger.turns().reading(serial, self.attribute)
        });
        Some(readings.collect())
    }
}

/// The last batch in the book while it is not sent.
struct Entry<'a> {
    book: &'a Mutex<Book>,
    is_sent: bool,
}

impl Entry<'_> {
    fn keep(mut self) {
        self.is_sent = true;
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if !self.is_sent {
            let mut book = lock(self.book);
            if let Some(first) = book.batches.pop() {
                book.ledger.withdraw_from(first);
            }
        }
    }
}

impl Book {
    fn is_settled(&self) -> bool {
        self.answered == self.ledger.sent()
    }

    fn hear(&mut self, event: &GatewayEvent, schedule: &Schedule, now: Instant, start: Instant) {
        match event {
            GatewayEvent::Acknowledged(acknowledgement) => self.acknowledge(acknowledgement, schedule, now - start),
            GatewayEvent::Disconnected(_) => {
                self.disconnects += 1;
                self.timeline.disconnected(now - start);
            }
            GatewayEvent::Detached { .. } => self.detached += 1,
            // Devices of a load obey nobody, and the stream itself sees to the rest.
            GatewayEvent::Command(_)
            | GatewayEvent::Desired(_)
            | GatewayEvent::Moving
            | GatewayEvent::Resumed { .. }
            | GatewayEvent::Failed(_) => {}
        }
    }

    fn acknowledge(&mut self, acknowledgement: &BatchAcknowledgement, schedule: &Schedule, elapsed: Duration) {
        let BatchSequence(sequence) = acknowledgement.sequence;
        let place = usize::try_from(sequence - 1).expect("as many batches as were sent");
        let first = self.batches[place];
        self.answered += acknowledgement.readings.len() as u64;
        let rejected = |reading: &&AcknowledgedReading| reading.outcome == v1::ReadingOutcome::Rejected;
        let rejected = acknowledgement.readings.iter().filter(rejected).count() as u64;
        let since_due = |reading: &AcknowledgedReading| {
            elapsed.saturating_sub(schedule.due(Serial(first.0 + u64::from(reading.index))))
        };
        self.timeline.answered(elapsed, acknowledgement.readings.iter().map(since_due), rejected);
        for reading in &acknowledgement.readings {
            let serial = Serial(first.0 + u64::from(reading.index));
            if schedule.is_measured(serial) {
                self.latencies.record(since_due(reading));
            }
            match reading.outcome {
                v1::ReadingOutcome::Stored
                | v1::ReadingOutcome::Late
                | v1::ReadingOutcome::Duplicate
                | v1::ReadingOutcome::AcceptedEarlier => self.ledger.accept(serial),
                v1::ReadingOutcome::Rejected => self.ledger.reject(serial),
                v1::ReadingOutcome::Unspecified => {}
            }
        }
    }
}

fn lock(book: &Mutex<Book>) -> std::sync::MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
