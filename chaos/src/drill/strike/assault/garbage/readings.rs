//! Readings and registrations that are refused one by one, and leave those beside them alone.
use kvarter_api::v1::{Device, Reading, ReadingOutcome, ReadingRejectionReason, reading};
use kvarter_api::{Client, GatewayEvent, GatewayOptions};
use kvarter_simulator::{open_attached, wall_clock};
use tokio::time::timeout;

use super::calls::hostile_device;
use super::{Answer, failed};
use crate::drill::DrillError;
use crate::drill::strike::wire::ANSWER_MAX;

const HOUR_US: i64 = 3_600_000_000;
/// `temperature` and `ventilationMode` of the kind `building`, by number.
const TEMPERATURE: u32 = 1;
const VENTILATION: u32 = 7;

/// Sends every kind of wrong reading in one batch with right ones, and registers wrong devices with a right one.
pub(super) async fn send(client: &Client, address: &str) -> Result<Vec<Answer>, DrillError> {
    let node = client.only(address)?;
    let mut answers = register(&node).await?;
    let (stream, mut events, _) = open_attached(&node, GatewayOptions::default(), &[hostile_device().name]).await?;
    let now_us = wall_clock().as_microsecond();
    let number = |number: f64| Some(reading::Value::Number(number));
    let reading = |attribute, observed_us, value| Reading { alias: 0, attribute, observed_us, value };
    let inputs: [(&'static str, Reading, Option<ReadingRejectionReason>); 9] = [
        ("a right reading", reading(TEMPERATURE, now_us, number(20.0)), None),
        (
            "a time in an hour",
            reading(TEMPERATURE, now_us + HOUR_US, number(20.0)),
            Some(ReadingRejectionReason::AbsurdTime),
        ),
        ("a time before all", reading(TEMPERATURE, i64::MIN, number(20.0)), Some(ReadingRejectionReason::AbsurdTime)),
        ("not a number", reading(TEMPERATURE, now_us, number(f64::NAN)), Some(ReadingRejectionReason::NotANumber)),
        (
            "an infinite number",
            reading(TEMPERATURE, now_us, number(f64::INFINITY)),
            Some(ReadingRejectionReason::NotANumber),
        ),
        (
            "a text for a number",
            reading(TEMPERATURE, now_us, Some(reading::Value::Text("warm".to_owned()))),
            Some(ReadingRejectionReason::WrongType),
        ),
        ("no value", reading(TEMPERATURE, now_us, None), Some(ReadingRejectionReason::NotANumber)),
        (
            "an attribute that there is not",
            reading(9_999, now_us, number(1.0)),
            Some(ReadingRejectionReason::UnknownAttribute),
        ),
        (
            "an enum value that there is not",
            reading(VENTILATION, now_us, Some(reading::Value::Text("storm\u{0}".to_owned()))),
            Some(ReadingRejectionReason::UnknownValue),
        ),
    ];
    stream.send(inputs.iter().map(|(_, reading, _)| reading.clone()).collect()).await?;
    let acknowledged = timeout(ANSWER_MAX, async {
        loop {
            match events.next().await {
                Some(GatewayEvent::Acknowledged(acknowledgement)) => return Ok(acknowledgement),
                Some(GatewayEvent::Failed(error)) => return Err(failed(error)),
                None => return Err(failed("the stream ended")),
                Some(_) => {}
            }
        }
    });
    let acknowledged = acknowledged.await.map_err(|_elapsed| failed("wrong readings are not acknowledged"))??;
    stream.close(ANSWER_MAX).await;
    for (index, (what, _, expected)) in (0..).zip(inputs) {
        let found = acknowledged.readings.iter().find(|reading| reading.index == index);
        let told = found.map(|reading| (reading.outcome, reading.rejection));
        let is_right = match (told, expected) {
            (Some((ReadingOutcome::Rejected, reason)), Some(expected)) => reason == expected,
            (Some((outcome, _)), None) => outcome != ReadingOutcome::Rejected,
            _ => false,
        };
        answers.push(Answer { what, wrong: (!is_right).then(|| format!("{told:?}")) });
    }
    Ok(answers)
}

async fn register(node: &Client) -> Result<Vec<Answer>, DrillError> {
    let device = |name: &str, kind: &str| Device { name: name.to_owned(), kind: kind.to_owned(), ..Device::default() };
    let labelled = |name: &str, key: &str, value: &str| {
        let labels = [(key.to_owned(), value.to_owned())].into();
        Device { labels, ..device(name, "building") }
    };
    let inputs = [
        ("a right device", hostile_device()),
        ("a device with control characters", device("districts/drill-0/devices/x\u{8}", "building")),
        ("a device with capitals", device("districts/drill-0/devices/X", "building")),
        ("a kind that there is not", device("districts/drill-0/devices/bomb", "bomb")),
        ("a label above its size", labelled("districts/drill-0/devices/wordy", "note", &"x".repeat(10_000))),
        ("a label with a wrong key", labelled("districts/drill-0/devices/odd", "\u{1b}]0;", "x")),
    ];
    let registrations = node.register(inputs.iter().map(|(_, device)| device.clone()).collect()).await?;
    let answers = inputs.iter().zip(&registrations).map(|((what, _), registration)| {
        let is_right = registration.error.is_empty() == (*what == "a right device");
        Answer { what, wrong: (!is_right).then(|| format!("{:?} {}", registration.outcome(), registration.error)) }
    });
    Ok(answers.collect())
}
