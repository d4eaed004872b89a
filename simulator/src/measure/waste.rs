//! Waste containers: people fill them, crews empty them.
use super::{Site, choice, rounded};
use crate::calendar::moment_of;
use crate::draw::{Draw, Subject};
use crate::registers::Sum;
use crate::signal::{Signal, Value};

/// Filled in a day, as a share of the volume, by the share of bins that fill slower: 323 litter bins in Edinburgh, 2016 (City of
/// Edinburgh Council, Open Government Licence v3.0) have 14, 33 and 61 % at one tenth, the middle and nine tenths.
const FILL_A_DAY: [(f64, f64); 5] = [(0.0, 0.06), (0.1, 0.139), (0.5, 0.334), (0.9, 0.611), (1.0, 0.9)];
/// Filling at which crews of a fixed round come, on average; with it bins are emptied 0.44 times a day as there.
const ROUND_AT: (f64, f64) = (0.4, 0.9);
/// Days between two rounds at most. Assumed.
const ROUND_DAYS_MAX: f64 = 14.0;
/// Hour of the emptying, of each bin its own. The rounds of Edinburgh are in the morning and at noon.
const ROUND_HOURS: (f64, f64) = (5.0, 15.0);
/// A crew comes so many hours before or after its hour. Assumed.
const CREW_H: f64 = 3.0;
/// A full bin's rest lies beside it.
const FULL: f64 = 1.0;

pub(super) fn bin_value(site: &Site<'_>, signal: Signal) -> Value {
    match signal {
        Signal::BinFilling => rounded(filling(site)),
        Signal::BinTemperature => {
            rounded(site.causes.weather.temperature + 6.0 * site.causes.sun.max(0.0) + 0.5 * site.noise(signal).bell())
        }
        Signal::BinStatus => {
            let mut draw = Draw::new(site.scene.seed, Subject::Day, site.device.0, site.causes.local.day);
            let status = match draw.share() {
                share if share < 0.001 => "lidOpen",
                share if share < 0.0013 => "moved",
                share if share < 0.0014 => "burning",
                _ => "ok",
            };
            choice(signal, status)
        }
        Signal::BinCapacity => rounded(if site.ordinal.is_multiple_of(5) { 3_000.0 } else { 240.0 }),
        Signal::BinThreshold => rounded(threshold(site).unwrap_or(75.0)),
        Signal::BinWasteKind => choice(signal, "other"),
        Signal::BinBatteryLevel => site.charge_of_sensor(),
        _ => Value::Poison,
    }
}

/// Share of the volume. A bin without a threshold of its own is emptied in fixed rounds; with one, on the first round hour of
/// a day at which it would otherwise pass the threshold.
pub(super) fn filling(site: &Site<'_>) -> f64 {
    let mut build = site.build();
    let a_day = build.of_quantiles(&FILL_A_DAY);
    let round_at = build.between(ROUND_AT.0, ROUND_AT.1);
    let hour = build.between(ROUND_HOURS.0, ROUND_HOURS.1);
    let (wanted, days): (f64, fn(f64) -> f64) = match threshold(site) {
        Some(percent) => (percent / 100.0, f64::floor),
        None => (round_at, f64::round),
    };
    #[expect(clippy::cast_possible_truncation, reason = "clamped to some days")]
    let round_days = days(wanted / a_day).clamp(1.0, ROUND_DAYS_MAX) as i64;
    let local = site.causes.local;
    let shift = i64::from(build.below(14));
    let crew_hour =
        |day| hour + Draw::new(site.scene.seed, Subject::Day, site.device.0, -1 - day).between(-CREW_H, CREW_H);
    // The last day of a round whose crew has come.
    let mut emptied_day = local.day - (local.day + shift).rem_euclid(round_days);
    if emptied_day == local.day && local.hour < crew_hour(local.day) {
        emptied_day -= round_days;
    }
    let emptied = moment_of(emptied_day, crew_hour(emptied_day));
    let gathered = site.scene.registers.between(Sum::People, emptied, site.at) / 24.0;
    let luck = Draw::new(site.scene.seed, Subject::Day, site.device.0, emptied_day).around_one(0.25);
    (a_day * gathered * luck).min(FULL)
}

pub(super) fn is_overfull(site: &Site<'_>) -> bool {
    filling(site) >= FULL
}

/// Percent, when somebody asked for it.
fn threshold(site: &Site<'_>) -> Option<f64> {
    site.wanted_number(Signal::BinThreshold)
}
