//! Answers to `AttachDevices`: collected from the shards of their devices, and given in the order of the requests.

use std::collections::VecDeque;

use kvarter_api::v1::{AttachedDevice, DevicesAttached};
use kvarter_cluster::ShardId;

use super::lane::AttachShare;

/// A device that the client wants to speak for.
pub(crate) struct Attaching {
    pub(crate) alias: u32,
    /// Its shard and `{district}/{device}`, or why it has none.
    pub(crate) place: Result<(ShardId, String), String>,
    /// No earlier connection of the stream asked for it.
    pub(crate) is_first: bool,
}

/// The answers that are not complete yet, oldest first.
#[derive(Default)]
pub(crate) struct AttachAnswers {
    answers: VecDeque<Answer>,
    /// Number of the oldest answer.
    first: u64,
    /// Devices of all answers, those that are refused already too, and one more for each answer.
    size: usize,
}

struct Answer {
    devices: Vec<AttachedDevice>,
    open_count: usize,
}

impl AttachAnswers {
    /// Starts the answer to a request and returns its number.
    pub(crate) fn begin(&mut self, devices: &[Attaching]) -> u64 {
        let open_count = devices.len();
        self.size += devices.len() + 1;
        let devices = devices.iter().map(|device| AttachedDevice { alias: device.alias, ..AttachedDevice::default() });
        self.answers.push_back(Answer { devices: devices.collect(), open_count });
        self.first + self.answers.len() as u64 - 1
    }

    /// The device at `position` can not be attached.
    pub(crate) fn refuse(&mut self, attach: u64, position: usize, error: String) {
        if let Some(answer) = self.answer(attach) {
            answer.devices[position].error = error;
            answer.open_count -= 1;
        }
    }

    /// A shard answered its share; per device its error, empty when attached.
    pub(crate) fn answered(&mut self, share: &AttachShare, errors: Vec<String>, shard: ShardId) {
        let Some(answer) = self.answer(share.attach) else { return };
        answer.open_count -= share.devices.len();
        for (asked, error) in share.devices.iter().zip(errors) {
            let device = &mut answer.devices[asked.position];
            device.shard = if error.is_empty() { shard.0 } else { 0 };
            device.error = error;
        }
    }

    /// The oldest answer, if it is complete.
    pub(crate) fn next_complete(&mut self) -> Option<DevicesAttached> {
        let answer = self.answers.pop_front_if(|answer| answer.open_count == 0)?;
        self.first += 1;
        self.size -= answer.devices.len() + 1;
        Some(DevicesAttached { devices: answer.devices })
    }

    /// What waits to be answered: its devices, and one more for each request.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    fn answer(&mut self, attach: u64) -> Option<&mut Answer> {
        let position = attach.checked_sub(self.first)?;
        self.answers.get_mut(usize::try_from(position).ok()?)
    }
}
