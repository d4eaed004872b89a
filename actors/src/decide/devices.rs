//! Registering, retiring and counting devices.

use std::collections::BTreeMap;

use crate::DeviceNumber;
use crate::decide::{Decider, Effect};
use crate::message::{self, Failure, FailureReason, fact, shard_reply::Reply};
use crate::name::DeviceName;
use crate::state::CommandState;
use crate::value::Point;

/// Devices of one request.
const DEVICES_MAX: usize = 1_000;

const LABELS_MAX: usize = 8;
const LABEL_KEY_BYTES_MAX: usize = 31;
const LABEL_VALUE_BYTES_MAX: usize = 64;

const REGISTERED: u32 = 1;
const UNCHANGED: u32 = 2;
const REJECTED: u32 = 3;

impl Decider<'_> {
    pub(super) fn register_devices(&mut self, request: &message::RegisterDevices) -> Result<Reply, Failure> {
        if request.devices.len() > DEVICES_MAX {
            let text = format!("{} devices in one request, at most {DEVICES_MAX} are allowed", request.devices.len());
            return Err(Failure::invalid("devices", text));
        }
        let outcomes = request
            .devices
            .iter()
            .map(|device| match self.register_device(device) {
                Ok(outcome) => message::RegistrationOutcome { outcome, error: String::new() },
                Err(error) => message::RegistrationOutcome { outcome: REJECTED, error },
            })
            .collect();
        Ok(Reply::DevicesRegistered(message::DevicesRegistered { outcomes }))
    }

    /// Registers a device, or changes location and labels of one that is; its kind never changes.
    fn register_device(&mut self, device: &message::DeviceRegistration) -> Result<u32, String> {
        let name = DeviceName::parse(&device.name).map_err(|error| error.to_string())?;
        if self.catalog.current(&device.kind).is_none() {
            return Err(format!("kind `{}` is not in the catalog", device.kind));
        }
        if device.location.is_some_and(|location| !Point::from(location).is_on_earth()) {
            return Err("the location is not on Earth".to_owned());
        }
        check_labels(&device.labels)?;
        let number = match self.scratch.device_named(name.as_str()) {
            Some(known) if known.kind() != device.kind => {
                return Err(format!("device `{name}` is registered as a {}, not as a {}", known.kind(), device.kind));
            }
            Some(known) if known.location() == device.location.map(Into::into) && *known.labels() == device.labels => {
                return Ok(UNCHANGED);
            }
            Some(known) => known.number().0,
            None => self.next_number(&name)?,
        };
        self.push(fact::Fact::DeviceRegistered(message::DeviceRegistered {
            device: number,
            name: device.name.clone(),
            kind: device.kind.clone(),
            location: device.location,
            labels: device.labels.clone(),
        }));
        Ok(REGISTERED)
    }

    fn next_number(&self, name: &DeviceName) -> Result<u32, String> {
        let devices = self.scratch.header().map_or(0, |header| header.district_devices(name.district()));
        let limit = self.limits.district_devices_max;
        if devices >= limit {
            return Err(format!("district `{}` has {devices} devices and may have {limit}", name.district()));
        }
        match self.scratch.next_device() {
            u32::MAX => Err("the shard has no device numbers left".to_owned()),
            next => Ok(next),
        }
    }

    pub(super) fn retire_device(&mut self, request: &message::RetireDevice) -> Result<Reply, Failure> {
        let number = self.scratch.find(&request.name).ok_or_else(|| Failure::device_not_found(&request.name))?;
        let device = self.scratch.device(number).ok_or_else(|| Failure::device_not_found(&request.name))?;
        let open: Vec<String> = device.open_commands().map(|command| command.id.clone()).collect();
        for id in open {
            self.end_command(number, &id, CommandState::Failed, "the device was retired");
        }
        let position = self.push(fact::Fact::DeviceRetired(message::DeviceRetired { device: number.0 }));
        self.touched.remove(&number);
        self.effects.push(Effect::Retired(number));
        Ok(Reply::Done(message::Done { position: Some(position) }))
    }

    /// Counts the devices of a retired kind, those of this batch with them. `CONFLICT`: it is not retired, and they may become more.
    pub(super) fn count_devices(&self, request: &message::CountDevices) -> Result<Reply, Failure> {
        let kind = &*request.kind;
        if self.catalog.kind(kind).is_none_or(|known| !known.is_retired) {
            return Err(Failure::new(FailureReason::Conflict, format!("kind `{kind}` is not retired")));
        }
        let devices = self.scratch.devices(DeviceNumber(0)).filter(|device| device.kind() == kind).count() as u64;
        Ok(Reply::DevicesCounted(message::DevicesCounted { devices }))
    }
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    if labels.len() > LABELS_MAX {
        return Err(format!("{} labels, at most {LABELS_MAX} are allowed", labels.len()));
    }
    for (key, value) in labels {
        let is_key = (1..=LABEL_KEY_BYTES_MAX).contains(&key.len())
            && key.starts_with(|first: char| first.is_ascii_lowercase())
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !is_key {
            return Err(format!("label `{key}` must match [a-z][a-z0-9_]{{0,30}}"));
        }
        if value.len() > LABEL_VALUE_BYTES_MAX {
            return Err(format!("the value of label `{key}` is above {LABEL_VALUE_BYTES_MAX} bytes"));
        }
    }
    Ok(())
}
