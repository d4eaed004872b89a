//! One fact, as a line for people and as JSON for programs.

use kvarter_api::v1::{Fact, fact};
use serde_json::{Value as Json, json};

use super::super::{json, target, value};
use super::cursor;

/// `time  position  device  what happened`
pub(super) fn line(fact: &Fact) -> String {
    let time = fact.time.as_ref().map(ToString::to_string).unwrap_or_default();
    let position = fact.position.as_ref().map(cursor).unwrap_or_default();
    format!("{time}  {position}  {}  {}", target::short(&fact.device), what(fact))
}

fn what(fact: &Fact) -> String {
    match &fact.fact {
        Some(fact::Fact::AttributeReported(reported)) => {
            let quality = json::quality(reported.quality()).to_lowercase();
            let late = if reported.late { ", late" } else { "" };
            format!("{}={} ({quality}{late})", reported.attribute, value::display(reported.value.as_ref()))
        }
        Some(fact::Fact::DeviceRegistered(registered)) => {
            let kind = registered.device.as_ref().map_or("", |device| device.kind.as_str());
            format!("registered as {kind}")
        }
        Some(fact::Fact::DeviceRetired(_)) => "retired".to_owned(),
        Some(fact::Fact::DesiredChanged(changed)) => {
            let set = changed.set.iter();
            let set = set.map(|one| format!(" {}={}", one.attribute, value::display(one.value.as_ref())));
            let clear = changed.clear.iter().map(|attribute| format!(" {attribute} cleared"));
            format!("desired{}", set.chain(clear).collect::<String>())
        }
        Some(fact::Fact::CommandChanged(changed)) => {
            let state = json::command_state(changed.state()).to_lowercase();
            let arguments = changed.arguments.iter();
            let arguments = arguments.map(|one| format!(" {}={}", one.name, value::display(one.value.as_ref())));
            let id = changed.command.rsplit('/').next().unwrap_or_default();
            format!("command {id} {state} {}{}{}", changed.action, arguments.collect::<String>(), changed.detail)
        }
        Some(fact::Fact::ConnectivityChanged(changed)) => {
            if changed.connected { "connected" } else { "disconnected" }.to_owned()
        }
        None => "something that this version does not know".to_owned(),
    }
}

/// Common fields, and the fact's own under its name.
pub(super) fn json(fact: &Fact) -> Json {
    let (name, body) = match &fact.fact {
        Some(fact::Fact::AttributeReported(reported)) => (
            "attribute_reported",
            json!({
                "attribute": reported.attribute,
                "value": json::value(reported.value.as_ref()),
                "observe_time": json::time(reported.observe_time.as_ref()),
                "quality": json::quality(reported.quality()),
                "late": reported.late,
            }),
        ),
        Some(fact::Fact::DeviceRegistered(registered)) => {
            ("device_registered", json!({ "device": registered.device.as_ref().map(json::device) }))
        }
        Some(fact::Fact::DeviceRetired(_)) => ("device_retired", json!({})),
        Some(fact::Fact::DesiredChanged(changed)) => {
            ("desired_changed", json!({ "set": json::desired(&changed.set), "clear": changed.clear }))
        }
        Some(fact::Fact::CommandChanged(changed)) => (
            "command_changed",
            json!({
                "command": changed.command,
                "state": json::command_state(changed.state()),
                "action": changed.action,
                "arguments": json::arguments(&changed.arguments),
                "detail": changed.detail,
            }),
        ),
        Some(fact::Fact::ConnectivityChanged(changed)) => {
            ("connectivity_changed", json!({ "connected": changed.connected }))
        }
        None => ("unknown", json!({})),
    };
    let mut shown = json!({
        "position": json::position(fact.position.as_ref()),
        "time": json::time(fact.time.as_ref()),
        "device": fact.device,
        "fact": name,
    });
    shown[name] = body;
    shown
}

#[cfg(test)]
mod tests {
    use kvarter_api::v1::{AttributeReported, Position, Quality, Value, value::Kind};
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn a_reading_is_one_line() {
        let reported = AttributeReported {
            attribute: "level".to_owned(),
            value: Some(Value { kind: Some(Kind::Number(2.5)) }),
            observe_time: None,
            quality: Quality::Good.into(),
            late: true,
        };
        let fact = Fact {
            position: Some(Position { shard: 3, index: 9, ordinal: 1 }),
            time: Some(Timestamp { seconds: 1, nanos: 0 }),
            device: "districts/harbour/devices/lamp-1".to_owned(),
            fact: Some(fact::Fact::AttributeReported(reported)),
        };
        assert_eq!(line(&fact), "1970-01-01T00:00:01Z  3:9:1  harbour/lamp-1  level=2.5 (good, late)");
        let shown = json(&fact);
        assert_eq!(shown["fact"], "attribute_reported");
        assert_eq!(shown["attribute_reported"]["value"], 2.5);
    }
}
