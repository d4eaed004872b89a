//! Twins, devices and their registration.

use kvarter_actors::{AttributeNumber, Catalog, Kind, message};
use kvarter_api::v1;
use tonic::Status;

use super::{timestamp, timestamp_if_any, value};
use crate::api::name;

/// Attribute changes in one patch, set and cleared together.
pub(crate) const PATCH_ATTRIBUTES_MAX: usize = 256;

/// A twin with the names that `catalog` has for its attributes.
pub(crate) fn to_public(twin: message::Twin, catalog: &Catalog) -> v1::Twin {
    let kind = catalog.kind(&twin.kind).map(AsRef::as_ref);
    let open_commands = twin.open_commands.iter().map(|command| name::command(&twin.name, &command.id)).collect();
    let reported = |reported: message::ReportedAttribute| v1::ReportedAttribute {
        attribute: attribute_name(kind, reported.attribute),
        value: reported.value.map(value::to_public),
        observe_time: Some(timestamp(reported.observed_us)),
        quality: quality_to_public(reported.quality).into(),
    };
    v1::Twin {
        reported: twin.reported.into_iter().map(reported).collect(),
        desired: twin.desired.into_iter().map(|desired| desired_to_public(desired, kind)).collect(),
        connectivity: Some(v1::Connectivity {
            connected: twin.connected,
            change_time: timestamp_if_any(twin.connectivity_us),
        }),
        version: twin.version,
        open_commands,
        register_time: timestamp_if_any(twin.registered_us),
        device: Some(device_to_public(&twin.name, twin.kind, twin.location, twin.labels)),
    }
}

/// `name` is `{district}/{device}`.
pub(crate) fn device_to_public(
    name: &str,
    kind: String,
    location: Option<message::Point>,
    labels: std::collections::BTreeMap<String, String>,
) -> v1::Device {
    let location = location.map(|location| value::point_to_public(location.into()));
    v1::Device { name: name::device(name), kind, location, labels }
}

pub(crate) fn desired_to_public(desired: message::DesiredAttribute, kind: Option<&Kind>) -> v1::DesiredValue {
    let attribute = attribute_name(kind, desired.attribute);
    v1::DesiredValue { attribute, value: desired.value.map(value::to_public) }
}

/// The attribute's name. Its number stands in while this node has not yet heard of a kind or an extension that the
/// shard's leader already knows.
pub(crate) fn attribute_name(kind: Option<&Kind>, number: u32) -> String {
    let attribute = AttributeNumber::from_message(number).and_then(|number| kind?.attribute(number));
    attribute.map_or_else(|| format!("#{number}"), |attribute| attribute.name.clone())
}

pub(crate) fn quality_to_public(quality: u32) -> v1::Quality {
    match quality {
        1 => v1::Quality::Good,
        2 => v1::Quality::Uncertain,
        3 => v1::Quality::OutOfRange,
        4 => v1::Quality::Stale,
        _ => v1::Quality::Unspecified,
    }
}

/// A device to register, under `field` of the request. Kind and labels are for its shard to judge.
pub(crate) fn registration_from_public(
    device: v1::Device,
    field: &str,
) -> Result<(kvarter_actors::DeviceName, message::DeviceRegistration), Status> {
    let name = name::parse_device(&device.name, &format!("{field}.name"))?;
    let place = |point: &v1::Point| value::place_from_public(point, &format!("{field}.location"));
    let location = device.location.as_ref().map(place).transpose()?;
    let inner = name.as_str().to_owned();
    let registration = message::DeviceRegistration { name: inner, kind: device.kind, location, labels: device.labels };
    Ok((name, registration))
}

pub(crate) fn registration_outcome_to_public(outcome: u32) -> v1::RegistrationOutcome {
    match outcome {
        1 => v1::RegistrationOutcome::Registered,
        2 => v1::RegistrationOutcome::Unchanged,
        3 => v1::RegistrationOutcome::Rejected,
        _ => v1::RegistrationOutcome::Unspecified,
    }
}

/// Values to set, under `field` of the request.
pub(crate) fn desired_from_public(
    values: Vec<v1::DesiredValue>,
    field: &str,
) -> Result<Vec<message::NamedValue>, Status> {
    let from_public = |(index, desired): (usize, v1::DesiredValue)| {
        let value = value::from_public(desired.value, &format!("{field}[{index}].value"))?;
        Ok(message::NamedValue { name: desired.attribute, value: Some(value) })
    };
    values.into_iter().enumerate().map(from_public).collect()
}

/// `None`: linearizable.
pub(crate) fn consistency_from_public(consistency: Option<v1::ReadConsistency>) -> message::Consistency {
    let staleness_max_ms = consistency.map_or(0, |consistency| consistency.staleness_max_ms);
    message::Consistency { staleness_max_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_is_told_in_names() {
        let catalog = Catalog::built_in();
        let kind = catalog.kind("luminaire").expect("a built-in kind");
        let attribute = kind.attributes.first().expect("an attribute");
        let number = attribute.number.to_message();
        let twin = message::Twin {
            name: "c/lamp-1".to_owned(),
            kind: "luminaire".to_owned(),
            reported: vec![message::ReportedAttribute { attribute: number, quality: 3, ..Default::default() }],
            desired: vec![message::DesiredAttribute { attribute: 4095, value: None }],
            open_commands: vec![message::Command { id: "a1".to_owned(), ..Default::default() }],
            ..Default::default()
        };
        let public = to_public(twin, &catalog);
        assert_eq!(public.device.expect("a device").name, "districts/c/devices/lamp-1");
        assert_eq!(public.reported[0].attribute, attribute.name);
        assert_eq!(public.reported[0].quality(), v1::Quality::OutOfRange);
        assert_eq!(public.desired[0].attribute, "#4095");
        assert_eq!(public.open_commands, ["districts/c/devices/lamp-1/commands/a1"]);
        assert_eq!(public.register_time, None);
    }
}
