//! Water levels in the rain, and the pumps that lower them.
use jiff::{SignedDuration, Timestamp};

use super::{Site, choice, rounded};
use crate::causes::Sky;
use crate::signal::{Signal, SimulatedKind, Value};

/// Water levels remember the rain of so many half hours.
const REMEMBERED_HALF_HOURS: i32 = 24;
/// Half hours after which two thirds of the rain have run off. Assumed, as for a paved catchment.
const RUN_OFF_HALF_HOURS: f64 = 4.0;
/// Metres that a millimetre of remembered rain lifts the water. Assumed.
const RISE_M_PER_MM: f64 = 0.035;
/// Metres above the station's zero; 15 mm in half an hour, the national cloudburst, stay below the second, twice that do not.
const ALERT_M: f64 = 0.9;
const DANGER_M: f64 = 1.3;
/// From the zero of the station up to the sensor.
const SENSOR_M: f64 = 3.0;
/// Below this there is nothing left to pump.
const DRY_M: f64 = 0.05;
/// Metres by which a pump lowers the water in the end when it runs at full speed, and hours after which it has come two thirds
/// of the way. Assumed: a pump that carries off half of a national cloudburst.
const LOWERED_MAX_M: f64 = 0.6;
const PUMPING_H: f64 = 0.75;
/// Lifted at full speed, m³/h, and what it takes, kW for each. Assumed: 6 m of lift at two thirds of efficiency.
const LIFTED_M3_H: (f64, f64) = (200.0, 1_500.0);
const KW_PER_M3_H: f64 = 9.81 * 6.0 / 3_600.0 / 0.66;

pub(super) fn flood_value(site: &Site<'_>, signal: Signal) -> Value {
    let level = || level_m(site) + 0.005 * site.noise(Signal::FloodLevel).bell();
    match signal {
        Signal::FloodLevel => rounded(level()),
        Signal::FloodDistance => rounded((SENSOR_M - level()).max(0.0)),
        Signal::FloodAlert => rounded(alert_m(site)),
        Signal::FloodDanger => rounded(site.wanted_number(signal).unwrap_or(DANGER_M)),
        Signal::FloodBatteryLevel => site.charge_of_sensor(),
        _ => Value::Poison,
    }
}

pub(super) fn is_above_alert(site: &Site<'_>) -> bool {
    level_m(site) > alert_m(site)
}

pub(super) fn pump_value(site: &Site<'_>, signal: Signal) -> Value {
    let flow = lifted_m3_h(site);
    match signal {
        Signal::PumpSpeed => rounded(speed(site)),
        Signal::PumpFlow => rounded(flow),
        // A pump that runs dry takes a third.
        Signal::PumpPower => {
            let full_kw = nominal_m3_h(site) * KW_PER_M3_H * speed(site) / 100.0;
            rounded(if flow > 0.0 { full_kw } else { full_kw / 3.0 })
        }
        Signal::PumpStatus => choice(signal, if speed(site) > 0.0 && flow <= 0.0 { "runningDry" } else { "ok" }),
        _ => Value::Poison,
    }
}

/// Metres by which a pump has lowered the water at its station: it follows the speed slowly, and the water comes back as
/// slowly. A station has a generator, so it pumps without the grid as well. Assumed.
pub(super) fn lowered_m(pump: &Site<'_>) -> f64 {
    let account = pump.scene.setpoints.account(pump.device, 0.0);
    let hours = pump.at.duration_since(account.at).as_secs_f64() / 3_600.0;
    let in_the_end = speed(pump) / 100.0 * LOWERED_MAX_M;
    in_the_end + (account.amount - in_the_end) * (-hours / PUMPING_H).exp()
}

/// Metres above the station's zero.
fn level_m(station: &Site<'_>) -> f64 {
    let usual = 0.2 + 0.2 * station.build().share();
    let pump = station.scene.plan.partner(SimulatedKind::FloodLevel, station.ordinal, SimulatedKind::Pump);
    let lowered = pump.map_or(0.0, |pump| lowered_m(&station.other(SimulatedKind::Pump, pump)));
    (usual + RISE_M_PER_MM * remembered_rain(station) - lowered).clamp(DRY_M, SENSOR_M)
}

fn alert_m(station: &Site<'_>) -> f64 {
    station.wanted_number(Signal::FloodAlert).unwrap_or(ALERT_M)
}

/// Percent: a pump stands still until it is told.
fn speed(pump: &Site<'_>) -> f64 {
    pump.wanted_number(Signal::PumpSpeed).unwrap_or(0.0)
}

fn nominal_m3_h(pump: &Site<'_>) -> f64 {
    pump.build().between(LIFTED_M3_H.0, LIFTED_M3_H.1)
}

/// Nothing once its station is dry.
fn lifted_m3_h(pump: &Site<'_>) -> f64 {
    let stations = pump.scene.plan.partners(SimulatedKind::Pump, pump.ordinal, SimulatedKind::FloodLevel);
    let is_dry = |station| level_m(&pump.other(SimulatedKind::FloodLevel, station)) <= DRY_M;
    if !stations.is_empty() && stations.clone().all(is_dry) { 0.0 } else { nominal_m3_h(pump) * speed(pump) / 100.0 }
}

/// Millimetres of the last hours that have not run off yet.
pub(super) fn remembered_rain(site: &Site<'_>) -> f64 {
    let scene = &site.scene;
    let half_hours = (0..REMEMBERED_HALF_HOURS).map(|ago| {
        let moment: Timestamp = site.at - SignedDuration::from_mins(30 * i64::from(ago) + 15);
        let sky = Sky::at(scene.seed, scene.plan.centre(), moment);
        let rain = sky.weather.rain + scene.course.effect(moment, site.remoteness).rain;
        rain / 2.0 * (-f64::from(ago) / RUN_OFF_HALF_HOURS).exp()
    });
    half_hours.sum()
}
