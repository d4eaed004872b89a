//! What each kind of device reports at a moment: a function of its site, its build, what it was told, and noise.
//!
//! One file for each part of the city. Nothing is remembered here.
mod buildings;
mod lights;
mod parking;
mod power;
mod roads;
mod sky;
mod waste;
mod water;

use jiff::Timestamp;

use crate::causes::{Causes, Sky};
use crate::charger::Charger;
use crate::city::plan::{Ordinal, Plan};
use crate::device::DeviceIndex;
use crate::draw::{Draw, Subject};
use crate::registers::Registers;
use crate::scenario::Course;
use crate::setpoints::Setpoints;
use crate::signal::{Signal, SimulatedKind, Value};
pub(crate) use lights::Glow;
pub(crate) use power::charger_rating_w;

/// What all devices stand in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) seed: u64,
    pub(crate) plan: &'a Plan,
    pub(crate) course: &'a Course,
    pub(crate) registers: &'a Registers,
    pub(crate) setpoints: &'a Setpoints,
}

/// One device at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site<'a> {
    pub(crate) scene: Scene<'a>,
    pub(crate) device: DeviceIndex,
    pub(crate) kind: SimulatedKind,
    pub(crate) ordinal: Ordinal,
    pub(crate) at: Timestamp,
    pub(crate) causes: Causes,
    /// Share of the districts that are nearer to the centre.
    pub(crate) remoteness: f64,
    /// Of a charger alone.
    pub(crate) charger: Option<&'a Charger>,
}

impl<'a> Site<'a> {
    /// `sky` is that of the minute of `at`.
    pub(crate) fn new(
        scene: Scene<'a>,
        kind: SimulatedKind,
        ordinal: Ordinal,
        (at, sky): (Timestamp, &Sky),
        charger: Option<&'a Charger>,
    ) -> Self {
        let remoteness = scene.plan.remoteness(scene.plan.district(kind, ordinal));
        let causes = Causes::of(sky, &scene.course.effect(at, remoteness));
        let device = scene.plan.device(kind, ordinal);
        Self { scene, device, kind, ordinal, at, causes, remoteness, charger }
    }

    /// What the device reports.
    pub(crate) fn value(&self, signal: Signal) -> Value {
        match self.kind {
            SimulatedKind::Luminaire => lights::lamp_value(self, signal),
            SimulatedKind::Cabinet => lights::cabinet_value(self, signal),
            SimulatedKind::TrafficFlowSensor => roads::flow_value(self, signal),
            SimulatedKind::TrafficSignal => roads::crossing_value(self, signal),
            SimulatedKind::Bus => roads::bus_value(self, signal),
            SimulatedKind::Garage => parking::garage_value(self, signal),
            SimulatedKind::ParkingBay => parking::bay_value(self, signal),
            SimulatedKind::WasteContainer => waste::bin_value(self, signal),
            SimulatedKind::Weather => sky::weather_value(self, signal),
            SimulatedKind::AirQuality => sky::air_value(self, signal),
            SimulatedKind::Noise => sky::noise_value(self, signal),
            SimulatedKind::FloodLevel => water::flood_value(self, signal),
            SimulatedKind::ElectricityMeter => power::meter_value(self, signal),
            SimulatedKind::EvCharger => power::charger_value(self, signal),
            SimulatedKind::Solar => power::solar_value(self, signal),
            SimulatedKind::Battery => power::battery_value(self, signal),
            SimulatedKind::HeatMeter => buildings::heat_value(self, signal),
            SimulatedKind::WaterMeter => buildings::water_value(self, signal),
            SimulatedKind::Building => buildings::building_value(self, signal),
            SimulatedKind::Pump => water::pump_value(self, signal),
            // People report what they see, when they see it: `city::complaints`.
            SimulatedKind::CitizenReports => Value::Poison,
        }
    }

    /// Whether people who pass by see that something is wrong with the device: a lamp that gives too little light in the dark,
    /// an overfull bin, water above its alert, a leak.
    pub(crate) fn is_amiss(&self) -> bool {
        match self.kind {
            SimulatedKind::Luminaire => {
                let glow = self.glow();
                glow.is_dark && (glow.is_defective || glow.level < glow.minimum)
            }
            SimulatedKind::WasteContainer => waste::is_overfull(self),
            SimulatedKind::FloodLevel => water::is_above_alert(self),
            SimulatedKind::WaterMeter => buildings::is_leaking(self),
            _ => false,
        }
    }

    /// What the device has gathered by now; of kinds that obey no order, or keep it elsewhere, nothing.
    pub(crate) fn gathered(&self) -> f64 {
        match self.kind {
            SimulatedKind::Luminaire => lights::energy_kwh(self),
            SimulatedKind::ElectricityMeter => power::import_kwh(self),
            SimulatedKind::Solar => power::generated_kwh(self),
            SimulatedKind::Battery => power::charge_kwh(self),
            SimulatedKind::WaterMeter => buildings::volume_m3(self),
            SimulatedKind::Building => buildings::warmth(self),
            SimulatedKind::Garage => parking::cars(self),
            SimulatedKind::Pump => water::lowered_m(self),
            _ => 0.0,
        }
    }

    /// How a lamp shines; the site is one of a lamp.
    pub(crate) fn glow(&self) -> Glow {
        lights::glow(self)
    }

    /// Another device at the same moment.
    fn other(&self, kind: SimulatedKind, ordinal: Ordinal) -> Self {
        let device = self.scene.plan.device(kind, ordinal);
        Self { device, kind, ordinal, charger: None, ..*self }
    }

    /// The noise of one measurement.
    fn noise(&self, signal: Signal) -> Draw {
        let when = self.at.as_millisecond().wrapping_mul(256) ^ signal as i64;
        Draw::new(self.scene.seed, Subject::Noise, self.device.0, when)
    }

    /// What is fixed about the device.
    fn build(&self) -> Draw {
        Draw::new(self.scene.seed, Subject::Build, self.device.0, 0)
    }

    fn wanted(&self, signal: Signal) -> Option<Value> {
        self.scene.setpoints.wanted(self.device, signal)
    }

    fn wanted_number(&self, signal: Signal) -> Option<f64> {
        self.wanted(signal)?.number()
    }

    /// Whole days since 1970, for what changes from day to day.
    fn charge_of_sensor(&self) -> Value {
        // Batteries of sensors last about three years; they are changed in a month of their own. Assumed.
        let day = self.causes.local.day + i64::from(self.build().below(1_000));
        rounded(100.0 - day.rem_euclid(1_000) as f64 / 10.0 * 0.95)
    }
}

/// Two decimals are what such devices send.
fn rounded(value: f64) -> Value {
    Value::Number((value * 100.0).round() / 100.0)
}

/// An enumeration's value; all texts here are of the table, which a test holds.
fn choice(signal: Signal, text: &str) -> Value {
    signal.choice(text).unwrap_or(Value::Poison)
}
