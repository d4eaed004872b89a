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

#[cfg(test)]
mod tests {
    use kvarter_cluster::Timestamp;
    use ractor::SupervisionEvent;
    use tokio::sync::mpsc;

    use super::*;

    /// Stands for the shard's actor: notes what becomes of its children.
    struct Supervisor;

    impl Actor for Supervisor {
        type Msg = ShardMessage;
        type State = mpsc::UnboundedSender<String>;
        type Arguments = mpsc::UnboundedSender<String>;

        async fn pre_start(
            &self,
            _: ActorRef<ShardMessage>,
            notes: mpsc::UnboundedSender<String>,
        ) -> Result<Self::State, ActorProcessingErr> {
            Ok(notes)
        }

        async fn handle(
            &self,
            _: ActorRef<ShardMessage>,
            message: ShardMessage,
            notes: &mut Self::State,
        ) -> Result<(), ActorProcessingErr> {
            if let ShardMessage::Device(report) = message {
                notes.send(format!("{} reported", report.device))?;
            }
            Ok(())
        }

        async fn handle_supervisor_evt(
            &self,
            _: ActorRef<ShardMessage>,
            event: SupervisionEvent,
            notes: &mut Self::State,
        ) -> Result<(), ActorProcessingErr> {
            match event {
                SupervisionEvent::ActorFailed(_, error) => notes.send(format!("failed: {error}"))?,
                SupervisionEvent::ActorTerminated(_, _, reason) => notes.send(format!("ended: {reason:?}"))?,
                SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
            }
            Ok(())
        }
    }

    fn message(event: DeviceEvent) -> DeviceMessage {
        DeviceMessage { event, moment: Moment { now: Timestamp(0), random: 0 } }
    }

    #[tokio::test]
    async fn a_panic_reaches_the_supervisor_and_spares_the_other_devices() {
        let (sender, mut notes) = mpsc::unbounded_channel();
        let (shard, ended) = Actor::spawn(None, Supervisor, sender).await.unwrap();
        let spawn = async |device| {
            let birth = DeviceBirth { device: DeviceNumber(device), shard: shard.clone() };
            Actor::spawn_linked(None, DeviceActor, birth, shard.get_cell()).await.unwrap().0
        };
        let (faulty, sound) = (spawn(1).await, spawn(2).await);
        faulty.send_message(message(DeviceEvent::Poisoned)).unwrap();
        assert_eq!(
            notes.recv().await.unwrap(),
            "failed: the code for this device met a poisoned reading, as the drill wants"
        );
        sound.send_message(message(DeviceEvent::Observed(Default::default()))).unwrap();
        assert_eq!(notes.recv().await.unwrap(), "device 2 reported");
        sound.drain().unwrap();
        assert_eq!(notes.recv().await.unwrap(), "ended: Some(\"Drained\")");
        shard.stop(None);
        ended.await.unwrap();
    }
}
