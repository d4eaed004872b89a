//! Heat and water of houses, and public buildings.
use super::{Site, choice, rounded};
use crate::draw::{Draw, Subject};
use crate::registers::Sum;
use crate::signal::{Signal, Value};

/// Mean heat of a house, kW, by the share of houses with less: the middle is 16 MWh a year. Assumed.
const HOUSE_KW: [(f64, f64); 5] = [(0.0, 0.5), (0.1, 0.9), (0.5, 1.8), (0.9, 3.5), (1.0, 20.0)];
/// kWh that a cubic metre of water carries a degree.
const WATER_KWH: f64 = 1.163;
/// Mean water of a household, litres a second: 100 m³ a year. Assumed after Danish use.
const HOUSEHOLD_L_S: f64 = 100_000.0 / (365.0 * 86_400.0);
/// One meter in so many measures a main; the first does.
const MAIN_EVERY: u32 = 500;
/// Litres a second of a main, and how far the day shows behind its reservoir: as in the transmission main whose 1,268 hourly
/// values of 2022 were given to the River library by Tecnojest s.r.l. (BSD-3-Clause).
const MAIN_L_S: f64 = 100.0;
const MAIN_DAY_SHARE: f64 = 0.015;
/// Share of a main's water that is lost: mean of Danish water works (HVAC Fokus).
const LOST: f64 = 0.07;
/// Share of meters that leak: those in alarm (HU Vand); and how much, as a share of the use.
const LEAKING: f64 = 0.01;
const LEAK: f64 = 0.4;
/// Hours in which a building comes two thirds of the way to another temperature. Assumed.
const INERTIA_H: f64 = 6.0;

pub(super) fn heat_value(site: &Site<'_>, signal: Signal) -> Value {
    let mean_kw = site.build().of_quantiles(&HOUSE_KW);
    let energy_kwh = mean_kw * site.scene.registers.since_fitted(Sum::Heat, site.at);
    let power_kw = mean_kw * Sum::Heat.rate(&site.causes) * site.noise(Signal::HeatPower).around_one(0.15);
    // Works send hotter water in the cold: 65 degrees in summer, 85 in hard frost. Assumed.
    let forward = (75.0 - site.causes.weather.temperature).clamp(65.0, 85.0);
    let back = 36.0 + 8.0 * site.build().share();
    match signal {
        Signal::HeatEnergy => rounded(energy_kwh),
        // At the mean difference of the temperatures.
        Signal::HeatVolume => rounded(energy_kwh / (WATER_KWH * 28.0)),
        Signal::HeatFlow => rounded(power_kw / (WATER_KWH * (forward - back))),
        Signal::HeatPower => rounded(power_kw),
        Signal::HeatForwardTemperature => rounded(forward + 0.5 * site.noise(signal).bell()),
        Signal::HeatReturnTemperature => rounded(back + 0.5 * site.noise(signal).bell()),
        _ => Value::Poison,
    }
}

pub(super) fn water_value(site: &Site<'_>, signal: Signal) -> Value {
    let is_open = is_open(site);
    match signal {
        Signal::WaterVolume => rounded(volume_m3(site)),
        // Litres an hour: code E32.
        Signal::WaterMaxFlow => rounded(if is_open { mean_l_s(site) * 3_600.0 * 2.2 } else { 0.0 }),
        Signal::WaterMinFlow => {
            let least = if is_main(site) { 1.0 - MAIN_DAY_SHARE } else { leak(site) };
            rounded(if is_open { mean_l_s(site) * 3_600.0 * least } else { 0.0 })
        }
        Signal::WaterLeakAlarm => Value::Boolean(is_leaking(site)),
        Signal::WaterTamperAlarm => {
            let day = site.causes.local.day;
            Value::Boolean(Draw::new(site.scene.seed, Subject::Day, site.device.0, day).chance(0.0005))
        }
        Signal::WaterType => choice(signal, "serviceWater"),
        Signal::WaterValveOpen => Value::Boolean(is_open),
        _ => Value::Poison,
    }
}

/// Cubic metres since the meter was fitted: nothing while its valve is closed.
pub(super) fn volume_m3(site: &Site<'_>) -> f64 {
    let account = site.scene.setpoints.account(site.device, 0.0);
    let used = site.scene.registers.between(Sum::Water, account.at, site.at);
    let hours = site.at.duration_since(account.at).as_secs_f64() / 3_600.0;
    let shape = if is_main(site) {
        hours * (1.0 - MAIN_DAY_SHARE) * (1.0 + LOST) + used * MAIN_DAY_SHARE
    } else {
        used + hours * leak(site)
    };
    account.amount + if is_open(site) { mean_l_s(site) * 3.6 * shape.max(0.0) } else { 0.0 }
}

pub(super) fn building_value(site: &Site<'_>, signal: Signal) -> Value {
    let mut build = site.build();
    let capacity = (build.between(50.0, 800.0)).round();
    let share = (0.45 * site.causes.people * work(site)).min(1.0) * build.between(0.7, 1.0);
    let people = (capacity * share).round();
    let air = match ventilation(site) {
        mode if mode == choice(Signal::BuildingVentilationMode, "boost") => 1.8,
        mode if mode == choice(Signal::BuildingVentilationMode, "unoccupied") => 0.3,
        _ => 1.0,
    };
    match signal {
        Signal::BuildingTemperature => rounded(warmth(site) + 0.1 * site.noise(signal).bell()),
        Signal::BuildingPeopleOccupancy => rounded(people),
        Signal::BuildingPeopleCapacity => rounded(capacity),
        // Outdoor air, and what each share of the people breathes out against the ventilation.
        Signal::BuildingCarbonDioxide => rounded(420.0 + 700.0 * share / air),
        Signal::BuildingActivePower => {
            let heat = (warmth(site) - site.causes.weather.temperature).max(0.0) * 0.012 * capacity / 10.0;
            let rest = capacity * (0.01 + 0.05 * share + 0.02 * air);
            rounded(if site.causes.has_power { heat + rest } else { 0.0 })
        }
        Signal::BuildingTemperatureSetpoint => rounded(setpoint(site)),
        Signal::BuildingVentilationMode => ventilation(site),
        _ => Value::Poison,
    }
}

/// Indoor temperature: it follows the set point slowly, and warms up with the weather beyond it.
pub(super) fn warmth(site: &Site<'_>) -> f64 {
    let account = site.scene.setpoints.account(site.device, setpoint(site));
    let hours = site.at.duration_since(account.at).as_secs_f64() / 3_600.0;
    let heated = setpoint(site) + (account.amount - setpoint(site)) * (-hours / INERTIA_H).exp();
    heated.max(site.causes.weather.temperature - 1.0)
}

fn setpoint(site: &Site<'_>) -> f64 {
    site.wanted_number(Signal::BuildingTemperatureSetpoint).unwrap_or(21.0)
}

fn ventilation(site: &Site<'_>) -> Value {
    let own = if work(site) > 0.2 { "occupied" } else { "unoccupied" };
    site.wanted(Signal::BuildingVentilationMode).unwrap_or(choice(Signal::BuildingVentilationMode, own))
}

/// Public buildings are used on workdays from seven to seventeen.
fn work(site: &Site<'_>) -> f64 {
    let local = site.causes.local;
    if !local.is_weekend() && (7.0..17.0).contains(&local.hour) { 1.0 } else { 0.05 }
}

pub(super) fn is_leaking(site: &Site<'_>) -> bool {
    is_open(site) && leak(site) > 0.0
}

fn is_open(site: &Site<'_>) -> bool {
    site.wanted(Signal::WaterValveOpen) != Some(Value::Boolean(false))
}

fn is_main(site: &Site<'_>) -> bool {
    site.ordinal.is_multiple_of(MAIN_EVERY)
}

fn mean_l_s(site: &Site<'_>) -> f64 {
    if is_main(site) { MAIN_L_S } else { HOUSEHOLD_L_S * site.build().between(0.4, 1.6) }
}

/// Share of the use that runs off unseen; it begins at some day and goes on until the valve is closed.
fn leak(site: &Site<'_>) -> f64 {
    let mut draw = Draw::new(site.scene.seed, Subject::Build, site.device.0, 7);
    if !is_main(site) && draw.chance(LEAKING) { LEAK } else { 0.0 }
}
