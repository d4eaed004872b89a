//! One gateway stream of a player: the tasks that speak and listen, so that the stage never waits.
use std::sync::Arc;
use std::time::Duration;

use kvarter_api::{
    Client, CommandLedger, GatewayEvent, GatewayEvents, GatewayOptions, GatewayStream, SendError, StreamTotals,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Seating;
use super::outbox::{Outbox, Parcel};
use crate::device::DeviceIndex;
use crate::enroll::{EnrollError, open_attached};
use crate::world::World;

/// Parcels between stage and speaker: enough that the speaker never waits for the stage's next look.
const PARCELS_MAX: usize = 4;
/// How far the devices' clocks may be from the cluster's: the bound that its nodes keep among themselves.
const CLOCK_BOUND: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Lane {
    stream: GatewayStream,
    events: GatewayEvents,
}

/// The tasks of all lanes of a player.
#[derive(Debug, Default)]
pub(super) struct LaneTasks {
    /// End when their lanes hang up.
    pub(super) speakers: JoinSet<()>,
    /// End with their streams.
    pub(super) listeners: JoinSet<()>,
}

/// A lane in play.
#[derive(Debug)]
pub(super) struct LaneInPlay {
    pub(super) outbox: Outbox,
    pub(super) commands: CommandLedger,
    stream: Arc<GatewayStream>,
    parcels: mpsc::Sender<Parcel>,
}

impl Lane {
    /// Opens a stream and attaches the devices of lane `number` under their aliases.
    pub(super) async fn open(
        client: &Client,
        world: &World,
        seating: Seating,
        number: u32,
    ) -> Result<Self, EnrollError> {
        let own = (number..world.device_count()).step_by(seating.lanes as usize);
        let names: Vec<String> = own.map(|device| world.device(DeviceIndex(device)).name).collect();
        let (stream, events, _shards) = open_attached(client, GatewayOptions::default(), &names).await?;
        Ok(Self { stream, events })
    }

    /// Starts the speaker and the listener; events come out of `heard` with the lane's `number`.
    pub(super) fn start(
        self,
        number: usize,
        heard: mpsc::Sender<(usize, GatewayEvent)>,
        tasks: &mut LaneTasks,
    ) -> LaneInPlay {
        let (parcels_tx, parcels) = mpsc::channel(PARCELS_MAX);
        let outbox = Outbox::new(self.stream.batch_readings_max() as usize);
        let stream = Arc::new(self.stream);
        tasks.speakers.spawn(speak(Arc::clone(&stream), parcels));
        tasks.listeners.spawn(listen(number, self.events, heard));
        let commands = CommandLedger::new(CLOCK_BOUND);
        LaneInPlay { outbox, commands, stream, parcels: parcels_tx }
    }
}

impl LaneInPlay {
    /// Hands over as much as the speaker takes now.
    pub(super) fn flush(&mut self) {
        while let Ok(place) = self.parcels.try_reserve() {
            match self.outbox.next_parcel() {
                Some(parcel) => place.send(parcel),
                None => return,
            }
        }
    }

    pub(super) fn totals(&self) -> StreamTotals {
        self.stream.totals()
    }

    /// Whether everything that was handed in has been sent and has its outcome.
    pub(super) fn is_settled(&self) -> bool {
        let totals = self.totals();
        let is_idle = self.parcels.capacity() == PARCELS_MAX && totals.acknowledged == totals.sent;
        is_idle && self.outbox.is_empty() && totals.sent == self.outbox.readings_taken()
    }

    /// The stream, to be closed once the speaker has ended.
    pub(super) fn into_stream(self) -> Arc<GatewayStream> {
        self.stream
    }
}

/// Sends parcels in order until the stage hangs up or the stream ends, of which the listener tells.
async fn speak(stream: Arc<GatewayStream>, mut parcels: mpsc::Receiver<Parcel>) {
    while let Some(parcel) = parcels.recv().await {
        let sent: Result<(), SendError> = match parcel {
            Parcel::Readings(readings) => stream.send(readings).await.map(|_sequence| ()),
            Parcel::Acknowledgement(acknowledgement) => stream.acknowledge(acknowledgement).await,
        };
        if let Err(ended) = sent {
            tracing::debug!(error = %ended, "the speaker of a gateway stream ends");
            return;
        }
    }
}

async fn listen(number: usize, mut events: GatewayEvents, heard: mpsc::Sender<(usize, GatewayEvent)>) {
    while let Some(event) = events.next().await {
        if heard.send((number, event)).await.is_err() {
            return;
        }
    }
}
