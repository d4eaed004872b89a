//! The stored bytes of [`Lighting`]: columns, so that thousands of lamps stay below a service's bound.

use bytes::Bytes;
use kvarter_cluster::DamagedBytes;
use prost::Message;

use crate::lighting::energy::Energy;
use crate::lighting::lamps::{Lamp, Lamps};
use crate::lighting::level::Level;
use crate::lighting::orders::{Order, Orders};
use crate::lighting::traffic::{Sensor, Sensors};
use crate::lighting::{Lighting, TICK_US};
use crate::{DeviceNumber, ServiceFigures, ServiceMode};

/// Version of this format.
const FORMAT: u32 = 1;

/// Stands for a level that is not known.
const UNKNOWN_LEVEL: u8 = 255;

/// Added to a minimum that the lamp reported itself.
const REPORTED_MINIMUM: u8 = 128;

/// Devices and times stand as the difference to the one before.
#[derive(Clone, PartialEq, Message)]
struct LightingRecord {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint32, tag = "2")]
    mode: u32,
    /// Event time of the last tick in whole ticks since 1970; absent before the first.
    #[prost(sint64, optional, tag = "3")]
    ticks: Option<i64>,
    #[prost(double, tag = "4")]
    used_kwh: f64,
    #[prost(double, tag = "5")]
    baseline_kwh: f64,
    #[prost(uint64, tag = "6")]
    commands: u64,
    #[prost(uint64, tag = "7")]
    gaps: u64,
    #[prost(uint64, tag = "8")]
    left_out: u64,
    #[prost(uint32, repeated, tag = "10")]
    lamps: Vec<u32>,
    #[prost(uint32, repeated, tag = "11")]
    power_w: Vec<u32>,
    /// Percent a byte.
    #[prost(bytes = "bytes", tag = "12")]
    minimum: Bytes,
    /// Percent a byte.
    #[prost(bytes = "bytes", tag = "13")]
    level: Bytes,
    #[prost(uint32, repeated, tag = "20")]
    sensors: Vec<u32>,
    #[prost(float, repeated, tag = "21")]
    flow: Vec<f32>,
    #[prost(float, repeated, tag = "22")]
    peak: Vec<f32>,
    /// Microseconds since 1970; 0 for never.
    #[prost(sint64, repeated, tag = "23")]
    observed_us: Vec<i64>,
    #[prost(uint32, repeated, tag = "31")]
    ordered: Vec<u32>,
    #[prost(bytes = "bytes", tag = "32")]
    ordered_level: Bytes,
    #[prost(sint64, repeated, tag = "33")]
    ordered_us: Vec<i64>,
    #[prost(uint32, repeated, tag = "34")]
    cooling: Vec<u32>,
    #[prost(sint64, repeated, tag = "35")]
    cooling_us: Vec<i64>,
}

pub(super) fn encode(lighting: &Lighting) -> Bytes {
    let mut record = LightingRecord {
        format: FORMAT,
        mode: lighting.mode.to_message(),
        ticks: (lighting.ticked_us != i64::MIN).then(|| lighting.ticked_us.div_euclid(TICK_US)),
        used_kwh: lighting.energy.used_kwh,
        baseline_kwh: lighting.energy.baseline_kwh,
        commands: lighting.energy.commands,
        gaps: lighting.gaps,
        left_out: lighting.lamps.left_out,
        lamps: device_differences(lighting.lamps.iter().map(|(device, _)| device)),
        power_w: lighting.lamps.iter().map(|(_, lamp)| u32::from(lamp.power_w)).collect(),
        minimum: lighting.lamps.iter().map(|(_, lamp)| minimum_byte(lamp)).collect(),
        level: lighting.lamps.iter().map(|(_, lamp)| lamp.level.map_or(UNKNOWN_LEVEL, Level::percent)).collect(),
        ..LightingRecord::default()
    };
    record.sensors = device_differences(lighting.sensors.keys().copied());
    record.flow = lighting.sensors.values().map(|sensor| sensor.flow).collect();
    record.peak = lighting.sensors.values().map(|sensor| sensor.peak).collect();
    let observed_us = lighting.sensors.values().map(|sensor| sensor.observed_us);
    record.observed_us = time_differences(observed_us.map(|us| if us == i64::MIN { 0 } else { us }));
    let open = &lighting.orders.open;
    record.ordered = device_differences(open.keys().copied());
    record.ordered_level = open.values().map(|order| order.level.percent()).collect();
    record.ordered_us = time_differences(open.values().map(|order| order.since_us));
    record.cooling = device_differences(lighting.orders.cooling.keys().copied());
    record.cooling_us = time_differences(lighting.orders.cooling.values().copied());
    record.encode_to_vec().into()
}

/// The lighting of `district`, without places, which are for the caller to look up.
pub(super) fn decode(district: &str, state: &[u8]) -> Result<Lighting, DamagedBytes> {
    let record = read(state)?;
    let mode = ServiceMode::from_message(record.mode).ok_or_else(|| damaged("mode"))?;
    let mut lamps = Lamps::default();
    let columns = devices(&record.lamps).zip(&record.power_w).zip(record.minimum.iter().zip(record.level.iter()));
    for ((device, power_w), (minimum, level)) in columns {
        let mut lamp = Lamp::new(None, &std::collections::BTreeMap::new());
        lamp.rate(f64::from(*power_w));
        lamp.minimum = Level::from_percent(f64::from(minimum % REPORTED_MINIMUM));
        lamp.is_minimum_reported = *minimum >= REPORTED_MINIMUM;
        lamp.level = (*level != UNKNOWN_LEVEL).then(|| Level::from_percent(f64::from(*level)));
        lamps.insert(device, lamp);
    }
    lamps.left_out = record.left_out;
    let flows = record.flow.iter().zip(&record.peak);
    let sensors = devices(&record.sensors).zip(flows.zip(times(&record.observed_us)));
    let sensors = sensors.map(|(device, ((flow, peak), observed_us))| {
        let observed_us = if observed_us == 0 { i64::MIN } else { observed_us };
        (device, Sensor { location: None, flow: *flow, peak: *peak, observed_us })
    });
    let sensors: Sensors = sensors.collect();
    let ordered = record.ordered_level.iter().zip(times(&record.ordered_us));
    let open = devices(&record.ordered)
        .zip(ordered)
        .map(|(device, (level, since_us))| (device, Order { level: Level::from_percent(f64::from(*level)), since_us }));
    let orders =
        Orders { open: open.collect(), cooling: devices(&record.cooling).zip(times(&record.cooling_us)).collect() };
    Ok(Lighting {
        district: district.to_owned(),
        mode,
        ticked_us: record.ticks.map_or(i64::MIN, |ticks| ticks.saturating_mul(TICK_US)),
        lamps,
        sensors,
        orders,
        energy: Energy { used_kwh: record.used_kwh, baseline_kwh: record.baseline_kwh, commands: record.commands },
        gaps: record.gaps,
        must_assign: true,
    })
}

pub(super) fn figures(state: &[u8]) -> Result<ServiceFigures, DamagedBytes> {
    let record = read(state)?;
    let energy = Energy { used_kwh: record.used_kwh, baseline_kwh: record.baseline_kwh, commands: record.commands };
    #[expect(clippy::cast_precision_loss, reason = "counts for people, far below 2^53")]
    let figures = [
        ("energy_saved_kwh", energy.saved_kwh()),
        ("energy_used_kwh", energy.used_kwh),
        ("energy_baseline_kwh", energy.baseline_kwh),
        ("lamps", record.lamps.len() as f64),
        ("lamps_left_out", record.left_out as f64),
        ("commands", record.commands as f64),
        ("gaps", record.gaps as f64),
    ];
    Ok(ServiceFigures {
        figures: figures.into_iter().map(|(name, figure)| (name.to_owned(), figure)).collect(),
        observed_us: record.ticks.map_or(0, |ticks| ticks.saturating_mul(TICK_US)),
    })
}

fn read(state: &[u8]) -> Result<LightingRecord, DamagedBytes> {
    let record = LightingRecord::decode(state).map_err(|error| damaged(&error.to_string()))?;
    if record.format != FORMAT {
        return Err(damaged(&format!("format {}, this program knows {FORMAT}", record.format)));
    }
    let is_rectangular = [record.power_w.len(), record.minimum.len(), record.level.len()]
        .iter()
        .all(|length| *length == record.lamps.len())
        && [record.flow.len(), record.peak.len(), record.observed_us.len()]
            .iter()
            .all(|length| *length == record.sensors.len())
        && [record.ordered_level.len(), record.ordered_us.len()].iter().all(|length| *length == record.ordered.len())
        && record.cooling.len() == record.cooling_us.len();
    if is_rectangular { Ok(record) } else { Err(damaged("columns of different lengths")) }
}

fn damaged(what: &str) -> DamagedBytes {
    DamagedBytes { reason: format!("state of a lighting service: {what}") }
}

fn minimum_byte(lamp: &Lamp) -> u8 {
    lamp.minimum.percent() + if lamp.is_minimum_reported { REPORTED_MINIMUM } else { 0 }
}

fn device_differences(devices: impl Iterator<Item = DeviceNumber>) -> Vec<u32> {
    let mut last = 0;
    devices.map(|device| device.0.wrapping_sub(std::mem::replace(&mut last, device.0))).collect()
}

fn devices(differences: &[u32]) -> impl Iterator<Item = DeviceNumber> {
    differences.iter().scan(0u32, |last, difference| {
        *last = last.wrapping_add(*difference);
        Some(DeviceNumber(*last))
    })
}

fn time_differences(times_us: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut last = 0;
    times_us.map(|time_us| time_us.wrapping_sub(std::mem::replace(&mut last, time_us))).collect()
}

fn times(differences: &[i64]) -> impl Iterator<Item = i64> {
    differences.iter().scan(0i64, |last, difference| {
        *last = last.wrapping_add(*difference);
        Some(*last)
    })
}
