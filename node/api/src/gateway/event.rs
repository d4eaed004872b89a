//! What a gateway stream tells its client.

use std::time::Duration;

use super::BatchSequence;
use crate::error::ApiError;
use crate::v1::{CommandDelivery, DesiredState, ReadingOutcome, ReadingRejectionReason};

/// Something that happened on a gateway stream.
#[derive(Clone, Debug)]
pub enum GatewayEvent {
    /// Readings have their outcomes.
    Acknowledged(BatchAcknowledgement),
    /// An order to a device; ask its [`crate::CommandLedger`] what to do.
    Command(CommandDelivery),
    /// Desired attributes that a device does not report.
    Desired(DesiredState),
    /// The stream moves to another node by itself: this one drains, or that one leads the shards of most devices.
    Moving,
    /// The connection was lost; the stream comes back by itself.
    Disconnected(ApiError),
    /// The stream goes on at this node; unacknowledged batches are sent again.
    Resumed { endpoint: String },
    /// A device that was attached could not be attached again after the connection was lost; its readings are rejected.
    Detached { alias: u32, error: String },
    /// The stream can not go on. The last event: readings that are not acknowledged are perhaps stored.
    Failed(ApiError),
}

/// Outcomes of readings of one batch: those of one shard, or those that no shard knows. Every reading of a batch is in
/// exactly one of these.
#[derive(Clone, Debug)]
pub struct BatchAcknowledgement {
    /// As [`super::GatewayStream::send`] returned it.
    pub sequence: BatchSequence,
    /// The shard that decided, or `None` for readings of devices that are not attached.
    pub shard: Option<u32>,
    pub readings: Vec<AcknowledgedReading>,
    /// The batch has no reading left without an outcome.
    pub is_complete: bool,
    /// Time from the call of `send`, its wait for the window included, until this arrived.
    pub elapsed: Duration,
}

/// What became of one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcknowledgedReading {
    /// Index of the reading within its batch.
    pub index: u32,
    pub outcome: ReadingOutcome,
    /// Why it was rejected; `Unspecified` otherwise.
    pub rejection: ReadingRejectionReason,
}
