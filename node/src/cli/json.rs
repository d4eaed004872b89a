//! API messages as JSON for programs: snake case as in the protos, times as RFC 3339, enum values without their prefix.
//!
//! Stable: fields are added, never renamed or removed.

use kvarter_api::v1::{
    Argument, Attribute, Command, CommandPriority, CommandState, DesiredValue, Device, Kind, Position, Quality, Twin,
    Value, ValueType, value,
};
use prost_types::Timestamp;
use serde_json::{Map, Value as Json, json};

pub(super) fn time(time: Option<&Timestamp>) -> Json {
    time.map_or(Json::Null, |time| Json::String(time.to_string()))
}

pub(super) fn value(value: Option<&Value>) -> Json {
    match value.and_then(|value| value.kind.as_ref()) {
        Some(value::Kind::Number(number)) => json!(number),
        Some(value::Kind::Integer(integer)) => json!(integer),
        Some(value::Kind::Boolean(boolean)) => json!(boolean),
        Some(value::Kind::Text(text)) => json!(text),
        Some(value::Kind::Point(point)) => json!({ "latitude": point.latitude, "longitude": point.longitude }),
        None => Json::Null,
    }
}

pub(super) fn position(position: Option<&Position>) -> Json {
    position.map_or(
        Json::Null,
        |position| json!({ "shard": position.shard, "index": position.index, "ordinal": position.ordinal }),
    )
}

pub(super) fn device(device: &Device) -> Json {
    let labels: std::collections::BTreeMap<_, _> = device.labels.iter().collect();
    let location = device.location.as_ref();
    json!({
        "name": device.name,
        "kind": device.kind,
        "location": location.map(|point| json!({ "latitude": point.latitude, "longitude": point.longitude })),
        "labels": labels,
    })
}

pub(super) fn twin(twin: &Twin) -> Json {
    let reported = twin.reported.iter().map(|one| {
        let report = json!({
            "value": value(one.value.as_ref()),
            "observe_time": time(one.observe_time.as_ref()),
            "quality": quality(one.quality()),
        });
        (one.attribute.clone(), report)
    });
    let connectivity = twin.connectivity.as_ref();
    json!({
        "device": twin.device.as_ref().map(device),
        "reported": reported.collect::<Map<_, _>>(),
        "desired": desired(&twin.desired),
        "connected": connectivity.is_some_and(|connectivity| connectivity.connected),
        "connectivity_change_time": time(connectivity.and_then(|connectivity| connectivity.change_time.as_ref())),
        "version": twin.version,
        "open_commands": twin.open_commands,
        "register_time": time(twin.register_time.as_ref()),
    })
}

pub(super) fn desired(values: &[DesiredValue]) -> Json {
    Json::Object(values.iter().map(|one| (one.attribute.clone(), value(one.value.as_ref()))).collect())
}

pub(super) fn arguments(arguments: &[Argument]) -> Json {
    Json::Object(arguments.iter().map(|one| (one.name.clone(), value(one.value.as_ref()))).collect())
}

pub(super) fn command(command: &Command) -> Json {
    json!({
        "name": command.name,
        "action": command.action,
        "arguments": arguments(&command.arguments),
        "state": command_state(command.state()),
        "priority": priority(command.priority()),
        "issue_time": time(command.issue_time.as_ref()),
        "deadline": time(command.deadline.as_ref()),
        "state_time": time(command.state_time.as_ref()),
        "detail": command.detail,
        "position": position(command.position.as_ref()),
    })
}

pub(super) fn kind(kind: &Kind) -> Json {
    let safe_state: Map<_, _> = kind.safe_state.iter().map(|(name, one)| (name.clone(), value(Some(one)))).collect();
    let commands = kind.commands.iter().map(|command| {
        let arguments = command.arguments.iter().map(attribute).collect::<Vec<_>>();
        json!({ "name": command.name, "description": command.description, "arguments": arguments })
    });
    json!({
        "name": kind.name,
        "description": kind.description,
        "attributes": kind.attributes.iter().map(attribute).collect::<Vec<_>>(),
        "commands": commands.collect::<Vec<_>>(),
        "safe_state": safe_state,
        "source": kind.source,
    })
}

fn attribute(attribute: &Attribute) -> Json {
    json!({
        "number": attribute.number,
        "name": attribute.name,
        "type": value_type(attribute.r#type()),
        "unit": attribute.unit,
        "minimum": attribute.minimum,
        "maximum": attribute.maximum,
        "values": attribute.values,
        "writable": attribute.writable,
        "description": attribute.description,
        "interval_s": attribute.interval_s,
    })
}

/// `SUCCEEDED` and the like.
pub(super) fn command_state(state: CommandState) -> &'static str {
    without(state.as_str_name(), "COMMAND_STATE_")
}

/// `OPERATOR` and the like.
fn priority(priority: CommandPriority) -> &'static str {
    without(priority.as_str_name(), "COMMAND_PRIORITY_")
}

/// `GOOD` and the like.
pub(super) fn quality(quality: Quality) -> &'static str {
    without(quality.as_str_name(), "QUALITY_")
}

/// `NUMBER` and the like.
pub(super) fn value_type(value_type: ValueType) -> &'static str {
    without(value_type.as_str_name(), "VALUE_TYPE_")
}

fn without(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use kvarter_api::v1::ReportedAttribute;

    use super::*;

    #[test]
    fn a_twin_keeps_types_and_times() {
        let reported = ReportedAttribute {
            attribute: "level".to_owned(),
            value: Some(Value { kind: Some(value::Kind::Number(40.0)) }),
            observe_time: Some(Timestamp { seconds: 0, nanos: 500_000_000 }),
            quality: Quality::OutOfRange.into(),
        };
        let shown = twin(&Twin { reported: vec![reported], version: 3, ..Twin::default() });
        assert_eq!(shown["reported"]["level"]["value"], json!(40.0));
        assert_eq!(shown["reported"]["level"]["observe_time"], "1970-01-01T00:00:00.500Z");
        assert_eq!(shown["reported"]["level"]["quality"], "OUT_OF_RANGE");
        assert_eq!((&shown["version"], &shown["connected"]), (&json!(3), &json!(false)));
    }
}
