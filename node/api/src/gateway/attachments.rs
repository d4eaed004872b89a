//! The devices of a stream, and the attachments that wait for their answers. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::sync::oneshot;

use crate::v1::{AttachedDevice, Attachment, DevicesAttached};

/// Devices in one request.
pub(crate) const ATTACH_DEVICES_MAX: usize = 10_000;

/// Who waits for the answer to an attachment.
pub(crate) type AttachReply = oneshot::Sender<Vec<AttachedDevice>>;

/// The devices that the stream speaks for.
#[derive(Debug, Default)]
pub(crate) struct Attachments {
    /// Names of the devices that were ever attached, by alias. Those that were refused are asked for again after a resume,
    /// too: the shard alone knows which of their readings it took before.
    devices: BTreeMap<u32, String>,
    refused: BTreeSet<u32>,
    /// Requests of this connection without an answer, oldest first.
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    devices: Vec<Attachment>,
    /// `None`: attached again after a lost connection.
    reply: Option<AttachReply>,
}

/// A device that could not be attached again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Detached {
    pub(crate) alias: u32,
    pub(crate) error: String,
}

/// An answer to no request, or of another length.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an answer for {answered} devices to a request for {asked}")]
pub(crate) struct UnexpectedAnswer {
    asked: usize,
    answered: usize,
}

impl Attachments {
    /// Adds devices that are asked for on this connection.
    pub(crate) fn request(&mut self, devices: Vec<Attachment>, reply: AttachReply) {
        for Attachment { alias, device, .. } in &devices {
            self.devices.insert(*alias, device.clone());
            self.refused.remove(alias);
        }
        self.waiting.push_back(Waiting { devices, reply: Some(reply) });
    }

    /// Takes the answer to the oldest request; returns the devices that were lost.
    pub(crate) fn answer(&mut self, answer: DevicesAttached) -> Result<Vec<Detached>, UnexpectedAnswer> {
        let waiting = self.waiting.pop_front();
        let asked = waiting.as_ref().map_or(0, |waiting| waiting.devices.len());
        let answered = answer.devices.len();
        let waiting = waiting.filter(|_| asked == answered).ok_or(UnexpectedAnswer { asked, answered })?;
        let mut detached = Vec::new();
        for refused in answer.devices.iter().filter(|device| !device.error.is_empty()) {
            if self.refused.insert(refused.alias) && waiting.reply.is_none() {
                detached.push(Detached { alias: refused.alias, error: refused.error.clone() });
            }
        }
        if let Some(reply) = waiting.reply {
            // Who asked may have gone; the devices stay attached.
            drop(reply.send(answer.devices));
        }
        Ok(detached)
    }

    /// The connection was lost: all requests that the next one begins with, in order. Devices whose first answer is open
    /// are asked for again in the requests that they were in. None is a first time: nobody knows what became of those before.
    pub(crate) fn resume(&mut self) -> Vec<Vec<Attachment>> {
        let open: Vec<_> = self.waiting.drain(..).filter(|waiting| waiting.reply.is_some()).collect();
        let mut devices = self.devices.clone();
        for attachment in open.iter().flat_map(|waiting| &waiting.devices) {
            devices.remove(&attachment.alias);
        }
        let devices: Vec<_> =
            devices.into_iter().map(|(alias, device)| Attachment { alias, device, first: false }).collect();
        for chunk in devices.chunks(ATTACH_DEVICES_MAX) {
            self.waiting.push_back(Waiting { devices: chunk.to_vec(), reply: None });
        }
        self.waiting.extend(open);
        self.waiting.iter().map(|waiting| waiting.devices.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(alias: u32) -> Attachment {
        Attachment { alias, device: format!("districts/d/devices/x{alias}"), first: false }
    }

    fn answer(devices: &[(u32, u32, &str)]) -> DevicesAttached {
        let device =
            |&(alias, shard, error): &(u32, u32, &str)| AttachedDevice { alias, shard, error: error.to_owned() };
        DevicesAttached { devices: devices.iter().map(device).collect() }
    }

    #[test]
    fn after_a_loss_all_devices_are_attached_again_and_open_requests_still_answered() {
        let mut attachments = Attachments::default();
        let (first_tx, mut first) = oneshot::channel();
        let (second_tx, mut second) = oneshot::channel();
        attachments.request((0..4).map(attachment).collect(), first_tx);
        attachments.request(vec![attachment(4)], second_tx);
        let said = answer(&[(0, 1, ""), (1, 0, "no such district"), (2, 1, ""), (3, 1, "not registered")]);
        assert_eq!(attachments.answer(said), Ok(Vec::new()));
        assert_eq!(first.try_recv().expect("answered").len(), 4);

        let devices: Vec<_> = (0..4).map(attachment).collect();
        assert_eq!(attachments.resume(), [devices, vec![attachment(4)]]);
        let lost = Detached { alias: 2, error: "retired".to_owned() };
        let said = || answer(&[(0, 1, ""), (1, 0, "no such district"), (2, 1, "retired"), (3, 1, "not registered")]);
        assert_eq!(attachments.answer(said()), Ok(vec![lost]), "what was refused before is no news");
        assert_eq!(attachments.answer(answer(&[(4, 2, "")])), Ok(Vec::new()));
        assert_eq!(second.try_recv().expect("answered").len(), 1);
        let devices: Vec<_> = (0..5).map(attachment).collect();
        assert_eq!(attachments.resume(), [devices]);
    }

    #[test]
    fn an_answer_to_nothing_is_refused() {
        let mut attachments = Attachments::default();
        assert_eq!(attachments.answer(answer(&[(0, 1, "")])), Err(UnexpectedAnswer { asked: 0, answered: 1 }));
    }
}
