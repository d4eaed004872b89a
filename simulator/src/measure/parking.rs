//! Garages and bays.
use super::{Site, choice, rounded};
use crate::calendar::DayType;
use crate::draw::{Draw, Subject};
use crate::signal::{Signal, Value};
use crate::traffic::{Hours, at_hour};

/// Mean occupied share of eight garages in the centre of Aarhus by hour, May to November 2014 (City of Aarhus, Open Data DK,
/// CC BY 4.0, collected by the CityPulse project).
const WORKDAY: Hours = [
    0.347, 0.344, 0.343, 0.343, 0.342, 0.34, 0.338, 0.344, 0.408, 0.501, 0.594, 0.672, 0.698, 0.715, 0.692, 0.642,
    0.558, 0.514, 0.484, 0.477, 0.455, 0.419, 0.383, 0.367,
];
const SATURDAY: Hours = [
    0.428, 0.417, 0.411, 0.406, 0.399, 0.393, 0.385, 0.381, 0.382, 0.391, 0.502, 0.646, 0.733, 0.759, 0.721, 0.64,
    0.558, 0.49, 0.483, 0.494, 0.504, 0.498, 0.486, 0.472,
];
const SUNDAY: Hours = [
    0.457, 0.441, 0.432, 0.428, 0.421, 0.413, 0.405, 0.4, 0.4, 0.399, 0.417, 0.463, 0.495, 0.513, 0.516, 0.502, 0.468,
    0.433, 0.415, 0.416, 0.414, 0.396, 0.391, 0.386,
];
/// Mean of the curves over a week, and the means of the eight garages over it. Above one: its declared number is wrong.
const MEAN: f64 = 0.47;
const GARAGE_MEANS: [f64; 8] = [0.45, 0.75, 0.32, 0.24, 1.32, 0.27, 0.14, 0.27];
/// Hours in which two thirds of the cars leave a garage that lets none in. Assumed.
const LEAVING_H: f64 = 2.0;
/// Time that a car stays in a bay, seconds. Assumed.
const STAY_S: i64 = 2_700;

pub(super) fn garage_value(site: &Site<'_>, signal: Signal) -> Value {
    let spots = spots(site);
    let counted = || cars(site).round();
    match signal {
        Signal::GarageOccupied => rounded(counted()),
        Signal::GarageSpots => rounded(spots),
        Signal::GarageAvailable => rounded((spots - counted()).max(0.0)),
        Signal::GarageOccupancy => rounded((counted() / spots).min(1.0)),
        Signal::GarageStatus => site.wanted(signal).unwrap_or_else(|| {
            let status = match counted() / spots {
                share if share >= 1.0 => "full",
                share if share > 0.9 => "almostFull",
                _ => "open",
            };
            choice(signal, status)
        }),
        _ => Value::Poison,
    }
}

pub(super) fn bay_value(site: &Site<'_>, signal: Signal) -> Value {
    match signal {
        Signal::BayStatus => {
            // Each bay changes cars at its own times.
            let shift = i64::from(site.build().below(2_700));
            let stay = (site.at.as_second() + shift).div_euclid(STAY_S);
            let mut draw = Draw::new(site.scene.seed, Subject::Day, site.device.0, stay);
            let wish =
                (usual(site) * site.causes.people.max(0.3).sqrt() * 1.3 * (1.2 - 0.5 * site.remoteness)).min(0.97);
            choice(signal, if draw.chance(wish) { "occupied" } else { "free" })
        }
        Signal::BayBatteryLevel => site.charge_of_sensor(),
        _ => Value::Poison,
    }
}

/// Cars in a garage, as it counts.
pub(super) fn cars(site: &Site<'_>) -> f64 {
    let spots = spots(site);
    let mean = GARAGE_MEANS[site.ordinal as usize % GARAGE_MEANS.len()];
    let noise = site.noise(Signal::GarageOccupied).around_one(0.04);
    let crowd = (site.causes.flow / crate::traffic::flow_multiplier(&site.causes.local).max(1e-9)).clamp(0.2, 1.6);
    let usual = spots * usual(site) * mean / MEAN * crowd * noise;
    let closed = site.wanted(Signal::GarageStatus).filter(|status| {
        [choice(Signal::GarageStatus, "closed"), choice(Signal::GarageStatus, "full")].contains(status)
    });
    if closed.is_none() {
        return usual;
    }
    let account = site.scene.setpoints.account(site.device, usual);
    let hours = site.at.duration_since(account.at).as_secs_f64() / 3_600.0;
    account.amount * (-hours / LEAVING_H).exp()
}

fn spots(site: &Site<'_>) -> f64 {
    f64::from(2 + site.build().below(11)) * 50.0
}

/// Occupied share of all garages.
fn usual(site: &Site<'_>) -> f64 {
    let hours = match site.causes.local.day_type {
        DayType::MondayToThursday | DayType::Friday => &WORKDAY,
        DayType::Saturday => &SATURDAY,
        DayType::Sunday => &SUNDAY,
    };
    at_hour(hours, site.causes.local.hour)
}
