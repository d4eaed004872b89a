//! How devices misbehave: every dial in one place, and what becomes of one report.
//!
//! Measured defaults are derived from the five-minute traffic feed of Aarhus, 2014 (City of Aarhus, Open Data DK, CC BY 4.0),
//! and from four LoRaWAN bins, 2016 (A. C. Lundin, DTU smart-trash pilot, MIT); the others are assumptions and say so.
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::device::DeviceIndex;
use crate::draw::{Draw, Subject};
use crate::signal::{Signal, SimulatedKind, Value};

const DAY_S: i64 = 86_400;
const HOUR_S: f64 = 3_600.0;
/// Shortest outage, hours.
const OUTAGE_MIN_H: f64 = 1.0;
/// What loggers say when they could not measure.
const ERROR_VALUE: f64 = -999.0;

/// The dials. Shares are 0 to 1. The names are those of a scenario's `[change.dials]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dials {
    /// A report was observed up to this long before it arrives, and at most half an interval. Assumed.
    pub jitter_max_s: f64,
    /// Share of lost reports: one missed in the traffic feed.
    pub loss: f64,
    /// The same of devices on radio: bins, outages apart.
    pub radio_loss: f64,
    /// Share of reports that arrive twice. Assumed.
    pub duplicates: f64,
    /// The same of devices on radio: bins, within five seconds.
    pub radio_duplicates: f64,
    /// Share of reports that arrive late, behind younger ones. Assumed.
    pub late: f64,
    pub late_max_s: f64,
    /// Outages in a day: gaps above an hour in the traffic feed.
    pub outages: f64,
    /// The longest, hours.
    pub outage_max_h: f64,
    /// The same of devices on radio: bins.
    pub radio_outages: f64,
    pub radio_outage_max_h: f64,
    /// How much of an outage a device on wire remembers and tells afterwards, late. Assumed.
    pub buffer_s: f64,
    /// After a blackout all devices come back within this time and tell all they know. Assumed; full jitter as in the AWS
    /// device library.
    pub reconnect_spread_s: f64,
    /// Share of a device's days on which it repeats one value. Assumed.
    pub stuck: f64,
    /// Share of numbers that are nonsense. Assumed.
    pub out_of_range: f64,
    /// Share of devices that send another unit. Assumed.
    pub wrong_unit: f64,
    /// Share of devices whose clock is wrong, and by how much at most. Assumed.
    pub clock_skew: f64,
    pub clock_skew_max_s: f64,
    /// Share of devices whose firmware sends what their kind does not allow.
    pub poison: f64,
    /// Share of commands that a device neither follows nor answers. Assumed.
    pub ignored_commands: f64,
    /// Share of commands that are answered late, and by how much at most, in real time. Assumed.
    pub slow_acknowledgements: f64,
    pub slow_acknowledgement_max_s: f64,
}

impl Default for Dials {
    /// As devices were measured; no poison.
    fn default() -> Self {
        Self {
            jitter_max_s: 3.0,
            loss: 0.05,
            radio_loss: 0.174,
            duplicates: 0.001,
            radio_duplicates: 0.025,
            late: 0.005,
            late_max_s: 900.0,
            outages: 0.3,
            outage_max_h: 8.0,
            radio_outages: 0.25,
            radio_outage_max_h: 84.0,
            buffer_s: 600.0,
            reconnect_spread_s: 30.0,
            stuck: 0.003,
            out_of_range: 0.0002,
            wrong_unit: 0.001,
            clock_skew: 0.01,
            clock_skew_max_s: 30.0,
            poison: 0.0,
            ignored_commands: 0.002,
            slow_acknowledgements: 0.01,
            slow_acknowledgement_max_s: 5.0,
        }
    }
}

/// How a report arrives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrival {
    /// Before it arrives, in true time.
    pub(crate) measured: Timestamp,
    /// By the device's clock.
    pub(crate) observed: Timestamp,
    pub(crate) is_doubled: bool,
    /// After it should have arrived.
    pub(crate) delay: Option<SignedDuration>,
}

/// What a device makes of its values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Firmware {
    /// The moment whose values it repeats.
    pub(crate) stuck_at: Option<Timestamp>,
    pub(crate) has_wrong_unit: bool,
    pub(crate) is_poisoned: bool,
}

impl Dials {
    /// Devices that never fail.
    pub fn none() -> Self {
        Self {
            jitter_max_s: 0.0,
            loss: 0.0,
            radio_loss: 0.0,
            duplicates: 0.0,
            radio_duplicates: 0.0,
            late: 0.0,
            late_max_s: 0.0,
            outages: 0.0,
            outage_max_h: 0.0,
            radio_outages: 0.0,
            radio_outage_max_h: 0.0,
            buffer_s: 0.0,
            reconnect_spread_s: 0.0,
            stuck: 0.0,
            out_of_range: 0.0,
            wrong_unit: 0.0,
            clock_skew: 0.0,
            clock_skew_max_s: 0.0,
            poison: 0.0,
            ignored_commands: 0.0,
            slow_acknowledgements: 0.0,
            slow_acknowledgement_max_s: 0.0,
        }
    }

    /// What becomes of the report that is due at `due`; none when it is lost on its way. `signal` is the first of the
    /// report: it tells apart the reports of a device that are due at one moment.
    pub(crate) fn arrival(
        &self,
        seed: u64,
        device: DeviceIndex,
        signal: Signal,
        due: Timestamp,
        interval: SignedDuration,
    ) -> Option<Arrival> {
        let is_radio = is_on_radio(signal.kind());
        let when = due.as_millisecond().wrapping_mul(256) ^ signal as i64;
        let mut draw = Draw::new(seed, Subject::Transport, device.0, when);
        if draw.chance(if is_radio { self.radio_loss } else { self.loss }) {
            return None;
        }
        let jitter_max_s = self.jitter_max_s.min(interval.as_secs_f64() / 2.0);
        let measured = due - milliseconds(jitter_max_s * draw.share());
        let is_doubled = draw.chance(if is_radio { self.radio_duplicates } else { self.duplicates });
        let delay = draw.chance(self.late).then(|| milliseconds(self.late_max_s * draw.share()));
        let skew = milliseconds(self.skew_s(seed, device));
        Some(Arrival { measured, observed: measured + skew, is_doubled, delay })
    }

    /// The end of the outage that keeps `device` silent at `moment`.
    pub(crate) fn outage_end(
        &self,
        seed: u64,
        device: DeviceIndex,
        kind: SimulatedKind,
        moment: Timestamp,
    ) -> Option<Timestamp> {
        let (outages, max_h) = if is_on_radio(kind) {
            (self.radio_outages, self.radio_outage_max_h)
        } else {
            (self.outages, self.outage_max_h)
        };
        if outages <= 0.0 || max_h < OUTAGE_MIN_H {
            return None;
        }
        let second = moment.as_second();
        let today = second.div_euclid(DAY_S);
        let ends = (0..=whole(max_h / 24.0) + 1).filter_map(|days_ago| {
            let day = today - days_ago;
            let mut draw = Draw::new(seed, Subject::Outage, device.0, day);
            if !draw.chance(outages) {
                return None;
            }
            let start = day * DAY_S + i64::from(draw.below(86_400));
            let end = start + whole(OUTAGE_MIN_H * (max_h / OUTAGE_MIN_H).powf(draw.share()) * HOUR_S);
            (start..end).contains(&second).then_some(end)
        });
        ends.max().and_then(|end| Timestamp::from_second(end).ok())
    }

    pub(crate) fn firmware(&self, seed: u64, device: DeviceIndex, moment: Timestamp) -> Firmware {
        let mut build = Draw::new(seed, Subject::Build, device.0, -1);
        let (unit, vendor) = (build.share(), build.share());
        let day = moment.as_second().div_euclid(DAY_S);
        let is_stuck = Draw::new(seed, Subject::Day, device.0, -day).chance(self.stuck);
        Firmware {
            stuck_at: Timestamp::from_second(day * DAY_S).ok().filter(|_| is_stuck),
            has_wrong_unit: unit < self.wrong_unit,
            is_poisoned: vendor < self.poison,
        }
    }

    /// What the device sends in place of `value`.
    pub(crate) fn spoil(&self, firmware: &Firmware, signal: Signal, value: Value, draw: &mut Draw) -> Value {
        match value {
            _ if firmware.is_poisoned => Value::Poison,
            Value::Number(_) if draw.chance(self.out_of_range) => Value::Number(ERROR_VALUE),
            Value::Number(number) if firmware.has_wrong_unit => Value::Number(in_wrong_unit(signal, number)),
            value => value,
        }
    }

    /// How a device takes the command number `number`.
    pub(crate) fn obedience(&self, seed: u64, device: DeviceIndex, number: i64) -> Obedience {
        let mut draw = Draw::new(seed, Subject::Order, device.0, number);
        if draw.chance(self.ignored_commands) {
            Obedience::Ignored
        } else if draw.chance(self.slow_acknowledgements) {
            Obedience::Slow(milliseconds(self.slow_acknowledgement_max_s * draw.share()))
        } else {
            Obedience::Prompt
        }
    }

    /// Seconds by which a device's clock is ahead.
    fn skew_s(&self, seed: u64, device: DeviceIndex) -> f64 {
        if self.clock_skew <= 0.0 {
            return 0.0;
        }
        let mut draw = Draw::new(seed, Subject::Build, device.0, -2);
        if draw.chance(self.clock_skew) { draw.between(-self.clock_skew_max_s, self.clock_skew_max_s) } else { 0.0 }
    }
}

/// What a device does with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obedience {
    Prompt,
    /// It obeys and answers after this time.
    Slow(SignedDuration),
    /// It does nothing and says nothing.
    Ignored,
}

/// Devices that live on a battery and a radio, and the phones on which people report. An assumption about each kind.
pub(crate) fn is_on_radio(kind: SimulatedKind) -> bool {
    matches!(
        kind,
        SimulatedKind::ParkingBay
            | SimulatedKind::WasteContainer
            | SimulatedKind::FloodLevel
            | SimulatedKind::WaterMeter
            | SimulatedKind::HeatMeter
            | SimulatedKind::CitizenReports
    )
}

/// The mistakes that integrators make: percent for a share, a share for percent, Fahrenheit, watts for kilowatts, and m/s for
/// km/h.
fn in_wrong_unit(signal: Signal, number: f64) -> f64 {
    if signal.attribute().to_lowercase().contains("temperature") {
        return number * 1.8 + 32.0;
    }
    match signal.range() {
        Some((0.0, 1.0)) => number * 100.0,
        Some((0.0, 100.0)) => number / 100.0,
        Some((0.0, 150.0 | 250.0)) => number / 3.6,
        _ => number * 1_000.0,
    }
}

pub(crate) fn milliseconds(seconds: f64) -> SignedDuration {
    SignedDuration::from_millis(whole(seconds * 1_000.0))
}

fn whole(number: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "saturates; times of a device are some days")]
    let whole = number as i64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: SignedDuration = SignedDuration::from_mins(5);

    fn moments(count: i64) -> impl Iterator<Item = Timestamp> {
        (0..count).map(|report| Timestamp::from_second(1_740_000_000 + report * 300).unwrap())
    }

    #[test]
    fn a_feed_is_as_complete_as_the_measured_one() {
        let dials = Dials::default();
        let (mut due, mut here) = (0.0, 0.0);
        for device in (0..200).map(DeviceIndex) {
            for moment in moments(288 * 14) {
                due += 1.0;
                let kind = SimulatedKind::TrafficFlowSensor;
                if dials.outage_end(5, device, kind, moment).is_none()
                    && dials.arrival(5, device, Signal::FlowIntensity, moment, INTERVAL).is_some()
                {
                    here += 1.0;
                }
            }
        }
        let completeness: f64 = here / due;
        assert!((completeness - 0.91).abs() < 0.015, "{completeness}: measured 0.910");
    }

    #[test]
    fn bins_double_and_lose_as_measured() {
        let dials = Dials::default();
        let arrivals = |of: fn(&Arrival) -> bool| {
            let all =
                moments(40_000).filter_map(|due| dials.arrival(5, DeviceIndex(1), Signal::BinFilling, due, INTERVAL));
            let arrived: Vec<_> = all.collect();
            (arrived.len() as f64, arrived.iter().filter(|arrival| of(arrival)).count() as f64)
        };
        let (arrived, doubled) = arrivals(|arrival| arrival.is_doubled);
        assert!((arrived / 40_000.0 - 0.826).abs() < 0.01 && (doubled / arrived - 0.025).abs() < 0.004);
        let (_, late) = arrivals(|arrival| arrival.delay.is_some());
        assert!((late / arrived - 0.005).abs() < 0.002);
    }

    #[test]
    fn without_faults_everything_arrives_as_it_was_measured() {
        let dials = Dials::none();
        for due in moments(500) {
            let arrival = Arrival { measured: due, observed: due, is_doubled: false, delay: None };
            assert_eq!(dials.arrival(5, DeviceIndex(3), Signal::BusSpeed, due, INTERVAL), Some(arrival));
            let healthy = Firmware { stuck_at: None, has_wrong_unit: false, is_poisoned: false };
            assert_eq!(dials.firmware(5, DeviceIndex(3), due), healthy);
            assert_eq!(dials.outage_end(5, DeviceIndex(3), SimulatedKind::Bus, due), None);
        }
        assert_eq!(dials.obedience(5, DeviceIndex(3), 9), Obedience::Prompt);
    }

    #[test]
    fn each_dial_shows() {
        let whole = Dials {
            stuck: 1.0,
            out_of_range: 1.0,
            wrong_unit: 1.0,
            clock_skew: 1.0,
            clock_skew_max_s: 60.0,
            jitter_max_s: 20.0,
            ..Dials::none()
        };
        let (device, due) = (DeviceIndex(3), moments(9).last().unwrap());
        let firmware = whole.firmware(5, device, due);
        assert!(
            firmware
                .stuck_at
                .is_some_and(|stuck| stuck <= due && due.duration_since(stuck) < SignedDuration::from_hours(24))
        );
        let mut draw = Draw::new(5, Subject::Noise, 3, 0);
        let spoiled = whole.spoil(&firmware, Signal::BusSpeed, Value::Number(36.0), &mut draw);
        assert_eq!(spoiled, Value::Number(ERROR_VALUE));
        let sane = Dials { out_of_range: 0.0, ..whole.clone() };
        assert_eq!(sane.spoil(&firmware, Signal::BusSpeed, Value::Number(36.0), &mut draw), Value::Number(10.0));
        let arrival = whole.arrival(5, device, Signal::BusSpeed, due, INTERVAL).unwrap();
        assert!(arrival.measured < due && arrival.observed != arrival.measured);
        let poisoned = Dials { poison: 1.0, ..Dials::none() };
        let firmware = poisoned.firmware(5, device, due);
        assert_eq!(poisoned.spoil(&firmware, Signal::BusSpeed, Value::Number(1.0), &mut draw), Value::Poison);
        let deaf = Dials { ignored_commands: 1.0, ..Dials::none() };
        assert_eq!(deaf.obedience(5, device, 1), Obedience::Ignored);
        let slow = Dials { slow_acknowledgements: 1.0, slow_acknowledgement_max_s: 9.0, ..Dials::none() };
        assert!(matches!(slow.obedience(5, device, 1), Obedience::Slow(_)));
    }
}
