//! Street lamps and the cabinets that feed them.
use super::{Site, choice, rounded};
use crate::draw::{Draw, Subject};
use crate::registers::Sum;
use crate::signal::{Signal, SimulatedKind, Value};

/// Watts at full light, driver included, by road. Assumed: LED luminaires of the kind that Aarhus fits.
const MAIN_ROAD_W: f64 = 80.0;
const STREET_W: f64 = 40.0;
/// What the driver and the radio draw at any level.
const STANDBY_W: f64 = 2.0;
/// Lowest safe level, percent. An assumption in the spirit of EN 13201-2: main roads need twice the light of streets.
const MAIN_ROAD_MINIMUM: f64 = 40.0;
const STREET_MINIMUM: f64 = 20.0;
/// Share of lamps that fail in a day and stay dark until they are mended at the end of the month. Assumed.
const FAILURES_A_DAY: f64 = 0.0001;
/// Feeders of a cabinet; lamps take turns. Assumed.
const FEEDERS: u32 = 4;
const SUPPLY_V: f64 = 230.0;
const COS_PHI: f64 = 0.95;

/// A lamp at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Glow {
    pub(crate) power_w: f64,
    /// Percent of its full light.
    pub(crate) level: f64,
    /// Lowest safe level of its road.
    pub(crate) minimum: f64,
    pub(crate) is_defective: bool,
    pub(crate) is_dark: bool,
}

impl Glow {
    /// Whether it is dark and the lamp, which works, gives less than its road needs.
    pub(crate) fn is_unsafe(&self) -> bool {
        self.is_dark && !self.is_defective && self.level < self.minimum
    }
}

pub(super) fn glow(site: &Site<'_>) -> Glow {
    let is_on = is_fed(site) && site.causes.has_power;
    Glow {
        power_w: power_w(site),
        level: if is_on { level_percent(site) } else { 0.0 },
        minimum: minimum(site),
        is_defective: is_defective(site),
        is_dark: site.causes.is_dark,
    }
}

pub(super) fn lamp_value(site: &Site<'_>, signal: Signal) -> Value {
    match signal {
        Signal::LuminaireDimmingLevel => rounded(level_percent(site)),
        Signal::LuminaireActivePower => rounded(power_w(site)),
        Signal::LuminairePowerState => {
            let level = if is_fed(site) { level_percent(site) } else { 0.0 };
            let state = match level {
                level if level <= 0.0 => "off",
                level if level < 50.0 => "low",
                _ => "on",
            };
            choice(signal, state)
        }
        Signal::LuminaireStatus => choice(signal, if is_defective(site) { "defectiveLamp" } else { "ok" }),
        Signal::LuminairePowerRating => rounded(rating_w(site)),
        Signal::LuminaireMinimumLevel => rounded(minimum(site)),
        Signal::LuminaireEnergy => rounded(energy_kwh(site)),
        Signal::LuminaireTemperature => rounded(site.causes.weather.temperature + 0.4 * power_w(site)),
        Signal::LuminaireVoltage => rounded(supply_v(site, signal)),
        _ => Value::Poison,
    }
}

pub(super) fn cabinet_value(site: &Site<'_>, signal: Signal) -> Value {
    let power_kw = || lamps(site).map(|lamp| power_w(&lamp)).sum::<f64>() / 1_000.0;
    match signal {
        Signal::CabinetPower => rounded(power_kw()),
        Signal::CabinetEnergy => rounded(lamps(site).map(|lamp| energy_kwh(&lamp)).sum()),
        Signal::CabinetVoltageR | Signal::CabinetVoltageS | Signal::CabinetVoltageT => rounded(supply_v(site, signal)),
        // Lamps are spread evenly over the phases.
        Signal::CabinetIntensityR | Signal::CabinetIntensityS | Signal::CabinetIntensityT => {
            rounded(power_kw() * 1_000.0 / 3.0 / SUPPLY_V / COS_PHI)
        }
        Signal::CabinetCosPhi => rounded(COS_PHI),
        Signal::CabinetFrequency => rounded(50.0 + 0.02 * site.noise(signal).bell()),
        Signal::CabinetWorkingMode => site.wanted(signal).unwrap_or(choice(signal, "automatic")),
        Signal::CabinetDoorOpen => {
            let day = Draw::new(site.scene.seed, Subject::Day, site.device.0, site.causes.local.day).chance(0.002);
            Value::Boolean(day)
        }
        _ => Value::Poison,
    }
}

/// kWh since the lamp was fitted.
pub(super) fn energy_kwh(site: &Site<'_>) -> f64 {
    let account = site.scene.setpoints.account(site.device, 0.0);
    let hours = site.scene.registers.between(Sum::Dark, account.at, site.at);
    let all_hours = site.at.duration_since(account.at).as_secs_f64() / 3_600.0;
    let standby = STANDBY_W * all_hours;
    let light_w = rating_w(site) - STANDBY_W;
    let light = match site.wanted_number(Signal::LuminaireDimmingLevel) {
        Some(level) => light_w * level / 100.0 * all_hours,
        None => light_w * hours,
    };
    let fed = if is_fed(site) { 1.0 } else { 0.0 };
    account.amount + (standby + light).max(0.0) * fed / 1_000.0
}

/// As it was told; of itself a lamp burns with full light while it is dark.
fn level_percent(site: &Site<'_>) -> f64 {
    let own = if site.causes.is_dark { 100.0 } else { 0.0 };
    site.wanted_number(Signal::LuminaireDimmingLevel).unwrap_or(own)
}

fn minimum(site: &Site<'_>) -> f64 {
    let usual = if is_main(site) { MAIN_ROAD_MINIMUM } else { STREET_MINIMUM };
    site.wanted_number(Signal::LuminaireMinimumLevel).unwrap_or(usual)
}

/// LED light is close to proportional to its power, above what the driver needs.
fn power_w(site: &Site<'_>) -> f64 {
    if !is_fed(site) || !site.causes.has_power {
        return 0.0;
    }
    let level = if is_defective(site) { 0.0 } else { level_percent(site) };
    STANDBY_W + (rating_w(site) - STANDBY_W) * level / 100.0
}

fn rating_w(site: &Site<'_>) -> f64 {
    if is_main(site) { MAIN_ROAD_W } else { STREET_W }
}

fn is_main(site: &Site<'_>) -> bool {
    site.scene.plan.is_at_main_road(site.kind, site.ordinal)
}

/// Whether its feeder is closed.
fn is_fed(site: &Site<'_>) -> bool {
    let cabinet = site.scene.plan.partner(SimulatedKind::Luminaire, site.ordinal, SimulatedKind::Cabinet);
    cabinet.is_none_or(|cabinet| !site.scene.setpoints.feeder_is_open(cabinet, site.ordinal % FEEDERS))
}

fn is_defective(site: &Site<'_>) -> bool {
    let day = site.causes.local.day;
    let month = day.div_euclid(30);
    let fails = |day| Draw::new(site.scene.seed, Subject::Day, site.device.0, day).chance(FAILURES_A_DAY);
    (month * 30..=day).any(fails)
}

fn lamps<'a>(site: &'a Site<'_>) -> impl Iterator<Item = Site<'a>> {
    let lamps = site.scene.plan.partners(SimulatedKind::Cabinet, site.ordinal, SimulatedKind::Luminaire);
    lamps.map(|lamp| site.other(SimulatedKind::Luminaire, lamp))
}

fn supply_v(site: &Site<'_>, signal: Signal) -> f64 {
    if site.causes.has_power { SUPPLY_V + 2.0 * site.noise(signal).bell() } else { 0.0 }
}
