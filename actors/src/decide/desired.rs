//! Changing desired attributes.

use crate::decide::{Decider, Effect};
use crate::kind::{Attribute, Kind};
use crate::message::{self, Failure, FailureReason, fact, shard_reply::Reply};
use crate::reading::Reading;
use crate::value::Value;
use crate::{AttributeNumber, DeviceNumber};

impl Decider<'_> {
    pub(super) fn patch_desired(&mut self, request: &message::PatchDesired) -> Result<Reply, Failure> {
        let not_found = || Failure::device_not_found(&request.name);
        let number = self.scratch.find(&request.name).ok_or_else(not_found)?;
        let kind = self.kind_of(number).ok_or_else(|| {
            Failure::new(
                FailureReason::NotFound,
                format!("the kind of device `{}` is not in the catalog", request.name),
            )
        })?;
        let version = self.version(number);
        if request.if_version != 0 && request.if_version != version {
            let text = format!("device `{}` has version {version}, not {}", request.name, request.if_version);
            return Err(Failure::new(FailureReason::Conflict, text));
        }
        let device = self.scratch.device(number).ok_or_else(not_found)?;
        let is_desired = |attribute: AttributeNumber, value: Option<&Value>| {
            device.desired().find(|(known, _)| *known == attribute).map(|(_, known)| known) == value
        };
        let mut set = Vec::new();
        for named in &request.set {
            let attribute = writable(&kind, &named.name).map_err(|text| Failure::invalid("set", text))?;
            let value = attribute.accept(named.value.as_ref()).map_err(|text| Failure::invalid("set", text))?;
            if !is_desired(attribute.number, Some(&value)) {
                let attribute = attribute.number.to_message();
                set.push(message::DesiredAttribute { attribute, value: Some(value.to_message()) });
            }
        }
        let mut clear = Vec::new();
        for name in &request.clear {
            let attribute = writable(&kind, name).map_err(|text| Failure::invalid("clear", text))?;
            if request.set.iter().any(|named| named.name == *name) {
                return Err(Failure::invalid("clear", format!("`{name}` is both set and cleared")));
            }
            if !is_desired(attribute.number, None) {
                clear.push(attribute.number.to_message());
            }
        }
        if set.is_empty() && clear.is_empty() {
            return Ok(Reply::DesiredPatched(message::DesiredPatched { version, position: None }));
        }
        let position = self.push(fact::Fact::DesiredChanged(message::DesiredChanged { device: number.0, set, clear }));
        self.effects.push(Effect::Activate(number));
        let version = self.version(number);
        Ok(Reply::DesiredPatched(message::DesiredPatched { version, position: Some(position) }))
    }

    /// Devices that were as desired before the request of these readings, which came behind so many facts, and are not by them.
    pub(super) fn activate_departed(&mut self, readings: &message::Readings, request: usize) {
        let has_departed = |reading: &Reading<'_>| {
            let twin = self.scratch.device(reading.device)?;
            let (attribute, desired) = twin.desired().find(|(known, _)| known.to_message() == reading.attribute)?;
            let latest = self.touched.get(&reading.device)?.latest(attribute)?;
            Some(latest.has_left(desired, request))
        };
        let departed = readings.iter().filter(|reading| has_departed(reading) == Some(true));
        let mut departed: Vec<_> = departed.map(|reading| reading.device).collect();
        departed.dedup();
        self.effects.extend(departed.into_iter().map(Effect::Activate));
    }

    /// Whether the device's actor will have something to do, with this batch's readings.
    pub(super) fn has_work(&self, number: DeviceNumber) -> bool {
        let Some(twin) = self.scratch.device(number) else { return false };
        let touched = self.touched.get(&number);
        let is_brought_about =
            |attribute: AttributeNumber, desired: &Value| match touched.and_then(|touched| touched.latest(attribute)) {
                Some(latest) => latest.is(desired),
                None => twin.reported_attribute(attribute).is_some_and(|reported| reported.value == desired),
            };
        twin.open_commands().next().is_some()
            || twin.desired().any(|(attribute, desired)| !is_brought_about(attribute, desired))
    }

    /// The twin's version with this batch's readings.
    fn version(&self, number: DeviceNumber) -> u64 {
        self.scratch.version(number) + self.touched.get(&number).map_or(0, |touched| touched.stored())
    }
}

fn writable<'k>(kind: &'k Kind, name: &str) -> Result<&'k Attribute, String> {
    let attribute = kind.attribute_named(name).ok_or_else(|| format!("a {} has no attribute `{name}`", kind.name))?;
    if attribute.writable { Ok(attribute) } else { Err(format!("`{name}` of a {} can not be written", kind.name)) }
}
