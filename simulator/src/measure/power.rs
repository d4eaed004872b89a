//! Electricity: meters of households, chargers, solar plants and batteries.
use super::{Site, choice, rounded};
use crate::registers::Sum;
use crate::signal::{Signal, Value};

/// Mean power of a household by the share of households with less, watts: the middle is 4,000 kWh a year. Assumed after
/// Danish statistics of use.
const HOUSEHOLD_W: [(f64, f64); 5] = [(0.0, 120.0), (0.1, 210.0), (0.5, 450.0), (0.9, 950.0), (1.0, 2_000.0)];
/// Share of households with a solar roof, and its peak, kW. Assumed.
const SOLAR_ROOFS: f64 = 0.05;
const SOLAR_ROOF_KW: f64 = 5.0;
/// What inverter and heat leave of a panel's nominal power.
const SOLAR_YIELD: f64 = 0.85;
/// Two thirds of a solar roof's energy are not used in the house. Assumed.
const EXPORTED: f64 = 0.66;
const PHASE_V: f64 = 230.0;

pub(super) fn meter_value(site: &Site<'_>, signal: Signal) -> Value {
    match signal {
        Signal::MeterImport => rounded(import_kwh(site)),
        Signal::MeterExport => {
            let sunshine = site.scene.registers.since_fitted(Sum::Sunshine, site.at);
            rounded(roof_kw(site) * sunshine * SOLAR_YIELD * EXPORTED)
        }
        Signal::MeterPower => {
            let is_on = is_connected(site) && site.causes.has_power;
            let own = mean_w(site) * Sum::Household.rate(&site.causes) * site.noise(signal).around_one(0.35);
            let roof = roof_kw(site) * 1_000.0 * Sum::Sunshine.rate(&site.causes) * SOLAR_YIELD;
            rounded(if is_on { own - roof } else { 0.0 })
        }
        Signal::MeterFrequency => {
            rounded(if site.causes.has_power { 50.0 + 0.02 * site.noise(signal).bell() } else { 0.0 })
        }
        Signal::MeterPowerFactor => rounded((0.95 + 0.02 * site.noise(signal).bell()).min(1.0)),
        Signal::MeterConnected => Value::Boolean(is_connected(site)),
        _ => Value::Poison,
    }
}

/// kWh taken since the meter was fitted: nothing while it is switched off.
pub(super) fn import_kwh(site: &Site<'_>) -> f64 {
    let account = site.scene.setpoints.account(site.device, 0.0);
    let hours = site.scene.registers.between(Sum::Household, account.at, site.at);
    let sunshine = site.scene.registers.between(Sum::Sunshine, account.at, site.at);
    let used = mean_w(site) / 1_000.0 * hours - roof_kw(site) * sunshine * SOLAR_YIELD * (1.0 - EXPORTED);
    account.amount + if is_connected(site) { used.max(0.0) } else { 0.0 }
}

pub(super) fn charger_value(site: &Site<'_>, signal: Signal) -> Value {
    let (seed, number) = (site.scene.seed, site.device.0);
    let Some(charger) = site.charger else { return Value::Poison };
    let session = charger.session(seed, number);
    let power_w = session.filter(|_| site.causes.has_power).map_or(0.0, |session| charger.power_w(&session));
    match signal {
        Signal::ChargerConnector => choice(signal, if session.is_some() { "Occupied" } else { "Available" }),
        Signal::ChargerState => {
            let state = match session {
                None => "Idle",
                Some(session) if charger.is_satisfied(&session) => "SuspendedEV",
                Some(_) if power_w > 0.0 => "Charging",
                Some(_) => "SuspendedEVSE",
            };
            choice(signal, state)
        }
        Signal::ChargerPower => rounded(power_w),
        Signal::ChargerEnergy => rounded(charger.register_kwh),
        Signal::ChargerStateOfCharge => rounded(session.map_or(0.0, |session| charger.state_of_charge(&session))),
        Signal::ChargerCurrentImport => {
            let phases = if power_w > 7_400.0 { 3.0 } else { 1.0 };
            rounded(power_w / PHASE_V / phases)
        }
        Signal::ChargerTransactionId => {
            // Local days fit into 32 bits for millions of years.
            let transaction = session.and_then(|session| u32::try_from(session.day * 100_000 % 4_000_000_000).ok());
            Value::Label(transaction.map_or(0, |day| day.wrapping_add(site.ordinal + 1)))
        }
        Signal::ChargerLimit => rounded(charger.limit_w),
        Signal::ChargerPowerRating => rounded(charger_rating_w(site.ordinal)),
        _ => Value::Poison,
    }
}

/// Watts: two of three chargers have 11 kW, the others 22 kW. Assumed.
pub(crate) fn charger_rating_w(ordinal: u32) -> f64 {
    if ordinal.is_multiple_of(3) { 22_000.0 } else { 11_000.0 }
}

pub(super) fn solar_value(site: &Site<'_>, signal: Signal) -> Value {
    match signal {
        Signal::SolarActivePower => {
            let kw = solar_peak_kw(site) * Sum::Sunshine.rate(&site.causes) * SOLAR_YIELD;
            rounded(if site.causes.has_power { kw.min(solar_limit_kw(site)) } else { 0.0 })
        }
        Signal::SolarEnergyGenerated => rounded(generated_kwh(site)),
        Signal::SolarPeakPower => rounded(solar_peak_kw(site)),
        // Full sun heats a panel by 30 degrees.
        Signal::SolarTemperature => {
            rounded(site.causes.weather.temperature + 30.0 * site.causes.weather.radiation / 1_000.0)
        }
        Signal::SolarPowerLimit => rounded(site.wanted_number(signal).unwrap_or(100.0)),
        _ => Value::Poison,
    }
}

/// kWh since the plant was built. Below its limit a plant loses nothing; a lower limit is taken to cut all hours alike.
pub(super) fn generated_kwh(site: &Site<'_>) -> f64 {
    let account = site.scene.setpoints.account(site.device, 0.0);
    let sunshine = site.scene.registers.between(Sum::Sunshine, account.at, site.at);
    let share = (solar_limit_kw(site) / solar_peak_kw(site) / SOLAR_YIELD).min(1.0);
    account.amount + solar_peak_kw(site) * sunshine * SOLAR_YIELD * share
}

fn solar_limit_kw(site: &Site<'_>) -> f64 {
    solar_peak_kw(site) * site.wanted_number(Signal::SolarPowerLimit).unwrap_or(100.0) / 100.0
}

/// From a roof to a field. Assumed.
fn solar_peak_kw(site: &Site<'_>) -> f64 {
    if site.ordinal.is_multiple_of(20) { 500.0 } else { site.build().between(10.0, 60.0).round() }
}

pub(super) fn battery_value(site: &Site<'_>, signal: Signal) -> Value {
    let (charge, capacity) = (charge_kwh(site), battery_kwh(site));
    let power_kw = battery_power_kw(site, charge);
    match signal {
        Signal::BatteryStateOfCharge => rounded(charge / capacity * 100.0),
        Signal::BatteryActivePower => rounded(power_kw),
        Signal::BatteryStateOfHealth => rounded(100.0 - 6.0 * site.build().share()),
        Signal::BatteryStatus => {
            let status = match power_kw {
                power if power > 0.0 => "givingEnergy",
                power if power < 0.0 => "consumingEnergy",
                _ => "standby",
            };
            choice(signal, status)
        }
        Signal::BatteryTemperature => rounded(18.0 + 12.0 * power_kw.abs() / capacity),
        Signal::BatteryCapacity => rounded(capacity),
        Signal::BatteryPowerSetpoint => rounded(site.wanted_number(signal).unwrap_or(0.0)),
        _ => Value::Poison,
    }
}

/// A battery that was told nothing stands half full.
pub(super) fn charge_kwh(site: &Site<'_>) -> f64 {
    let account = site.scene.setpoints.account(site.device, battery_kwh(site) / 2.0);
    let hours = site.at.duration_since(account.at).as_secs_f64() / 3_600.0;
    (account.amount - ordered_kw(site) * hours).clamp(0.0, battery_kwh(site))
}

/// Positive gives energy; an empty one gives nothing and a full one takes nothing.
fn battery_power_kw(site: &Site<'_>, charge_kwh: f64) -> f64 {
    let ordered = ordered_kw(site);
    let is_at_end = ordered > 0.0 && charge_kwh <= 0.0 || ordered < 0.0 && charge_kwh >= battery_kwh(site);
    if is_at_end || !site.causes.has_power { 0.0 } else { ordered }
}

/// What it was told, within what it can: two hours from empty to full.
fn ordered_kw(site: &Site<'_>) -> f64 {
    let limit_kw = battery_kwh(site) / 2.0;
    site.wanted_number(Signal::BatteryPowerSetpoint).unwrap_or(0.0).clamp(-limit_kw, limit_kw)
}

/// Assumed: from a yard's to a quarter's.
fn battery_kwh(site: &Site<'_>) -> f64 {
    f64::from(1 + site.build().below(10)) * 100.0
}

fn is_connected(site: &Site<'_>) -> bool {
    site.wanted(Signal::MeterConnected) != Some(Value::Boolean(false))
}

fn mean_w(site: &Site<'_>) -> f64 {
    site.build().of_quantiles(&HOUSEHOLD_W)
}

fn roof_kw(site: &Site<'_>) -> f64 {
    let mut build = site.build();
    build.share();
    if build.chance(SOLAR_ROOFS) { SOLAR_ROOF_KW } else { 0.0 }
}
