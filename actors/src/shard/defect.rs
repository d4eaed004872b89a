//! A defect: work whose deciding panicked, in words for those who run the city.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::message::{self, shard_request::Request};
use crate::shard::state::Work;
use crate::{DeviceNumber, StreamId};

/// Devices that are told of a part of readings.
const DEVICES_MAX: usize = 8;
/// Between two times that defects are told of which recur.
const RECURRENCES_INTERVAL: Duration = Duration::from_secs(60);

/// Work whose deciding panicked; shown as what the work was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Defect {
    work: String,
    /// What the panic said; where it was, the panic hook tells.
    pub(crate) panic: String,
    /// Devices whose readings were rejected for it, as far as known, the first few.
    pub(crate) devices: Vec<DeviceNumber>,
    /// It comes again and again by itself, until what is due has changed or the code is mended.
    pub(crate) recurs: bool,
}

/// Counts defects that recur: the first is told of at once, what follows together, a minute at a time.
#[derive(Default)]
pub(crate) struct Recurrences {
    told: Option<Instant>,
    untold: u64,
}

impl Recurrences {
    /// Counts one. How many are to be told of now; `None`: later.
    pub(crate) fn count(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < RECURRENCES_INTERVAL) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl Defect {
    pub(crate) fn of_work(work: &Work, panic: String) -> Self {
        let work = match work {
            Work::Request(request) => request.request.as_ref().map_or_else(String::new, words),
            Work::Step(step) => format!("a step of service `{}`", step.service),
            Work::Delivered(commands) => match &commands[..] {
                [] => "deliveries".to_owned(),
                [(device, id), ..] => format!("deliveries of {} commands, first `{id}` to {device}", commands.len()),
            },
        };
        Self { work, panic, devices: Vec::new(), recurs: false }
    }

    /// Commands expire and streams end later, when they can.
    pub(crate) fn of_sweep(panic: String) -> Self {
        Self { work: "the sweep of what is due".to_owned(), panic, devices: Vec::new(), recurs: true }
    }

    /// Adds the devices whose readings the verdict rejected for the defect.
    pub(crate) fn with_devices(self, devices: impl Iterator<Item = DeviceNumber>) -> Self {
        let mut devices: Vec<_> = devices.collect();
        devices.sort_unstable();
        devices.dedup();
        devices.truncate(DEVICES_MAX);
        Self { devices, ..self }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.work)
    }
}

fn words(request: &Request) -> String {
    let named = |what: &str, name: &str| format!("{what} device `{name}`");
    let of_stream = |what: &str, stream: &[u8]| match StreamId::from_message(stream) {
        Some(stream) => format!("{what} stream {stream}"),
        None => format!("{what} a stream without an id"),
    };
    match request {
        Request::RegisterDevices(request) => match &request.devices[..] {
            [] => "the registration of no devices".to_owned(),
            [first, ..] => format!("the registration of {} devices, first `{}`", request.devices.len(), first.name),
        },
        Request::RetireDevice(request) => named("the retirement of", &request.name),
        Request::PatchDesired(request) => named("a desired change of", &request.name),
        Request::OpenStream(request) => of_stream("the opening of", &request.stream),
        Request::AttachDevices(request) => match &request.names[..] {
            [] => of_stream("the attachment of no devices to", &request.stream),
            [first, ..] => {
                let what = format!("the attachment of {} devices, first `{first}`, to", request.names.len());
                of_stream(&what, &request.stream)
            }
        },
        Request::SubmitReadings(request) => {
            let readings = request.readings.as_ref().map_or(0, message::Readings::len);
            let what = format!("{readings} readings up to batch {} of", request.sequence);
            of_stream(&what, &request.stream)
        }
        Request::CloseStream(request) => of_stream("the end of", &request.stream),
        Request::IssueCommand(request) => named(&format!("command `{}` to", request.id), &request.name),
        Request::CancelCommand(request) => {
            named(&format!("the cancelling of command `{}` to", request.id), &request.name)
        }
        Request::AcknowledgeCommands(request) => match &request.acknowledgements[..] {
            [] => "no acknowledgements of commands".to_owned(),
            [first, ..] => {
                let (count, device) = (request.acknowledgements.len(), DeviceNumber(first.device));
                format!("{count} acknowledgements of commands, first `{}` of {device}", first.id)
            }
        },
        Request::SetServiceMode(request) => format!("the mode of service `{}`", request.service),
        Request::CountDevices(request) => format!("the count of devices of kind `{}`", request.kind),
        Request::ReadTwin(_)
        | Request::ListTwins(_)
        | Request::ReadTwins(_)
        | Request::ReadCommand(_)
        | Request::ReadServices(_)
        | Request::ReadStream(_)
        | Request::ReadFeed(_) => "a read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_recurs_is_told_at_once_and_then_once_a_minute_with_its_count() {
        let (mut recurrences, start) = (Recurrences::default(), Instant::now());
        let counts = (0..700u64).map(|tick| recurrences.count(start + Duration::from_millis(200 * tick)));
        let told: Vec<_> = (0..700u64).zip(counts).filter_map(|(tick, count)| Some((tick, count?))).collect();
        assert_eq!(told, [(0, 1), (300, 300), (600, 300)]);
    }
}
