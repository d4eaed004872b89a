//! The ractor actor around [`DeviceState`]: takes events from its shard, reports what the device wants.

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::DeviceNumber;
use crate::device::state::{DeviceEvent, DeviceState, Moment, Wishes};
use crate::shard::ShardMessage;

pub(crate) struct DeviceMessage {
    pub(crate) event: DeviceEvent,
    pub(crate) moment: Moment,
}

/// What an actor is given when it is activated.
pub(crate) struct DeviceBirth {
    pub(crate) device: DeviceNumber,
    /// The shard's actor, its supervisor.
    pub(crate) shard: ActorRef<ShardMessage>,
}

/// What a device wants, told to its shard.
pub(crate) struct DeviceReport {
    pub(crate) device: DeviceNumber,
    pub(crate) wishes: Wishes,
}

pub(crate) struct DeviceActor;

pub(crate) struct Living {
    birth: DeviceBirth,
    state: DeviceState,
}

impl Actor for DeviceActor {
    type Msg = DeviceMessage;
    type State = Living;
    type Arguments = DeviceBirth;

    async fn pre_start(&self, _: ActorRef<Self::Msg>, birth: DeviceBirth) -> Result<Living, ActorProcessingErr> {
        Ok(Living { birth, state: DeviceState::default() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: DeviceMessage,
        living: &mut Living,
    ) -> Result<(), ActorProcessingErr> {
        let wishes = living.state.step(message.event, message.moment);
        let report = DeviceReport { device: living.birth.device, wishes };
        // A shard that is gone has lost its leadership, and with it the right to deliver.
        if living.birth.shard.send_message(ShardMessage::Device(report)).is_err() {
            myself.stop(None);
        }
        Ok(())
    }
}
