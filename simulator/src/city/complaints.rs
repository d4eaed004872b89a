//! What people report: lamps that are dark, overfull bins, potholes, floods and leaks, each as likely as somebody passes by.
//!
//! A channel covers the devices of its part of the city. Nothing is remembered: whether something is reported is drawn anew for
//! each look at it, so what stays wrong is reported again, as in real channels. Lamps that an order left dark are reported like
//! broken ones. All rates are assumptions: together about 20 reports a day in a city of the size of Aarhus.
use jiff::{SignedDuration, Timestamp};

use super::City;
use super::plan::Ordinal;
use crate::causes::{Causes, Sky};
use crate::device::Place;
use crate::draw::{Draw, Subject};
use crate::signal::SimulatedKind;

/// Between two looks at a channel.
pub(super) const LOOK_INTERVAL: SignedDuration = SignedDuration::from_secs(300);
/// Reports an hour of one thing that is wrong, while as many people as in the mean pass by.
const OF_THINGS: [(SimulatedKind, &str, f64); 4] = [
    (SimulatedKind::Luminaire, "streetLight", 0.02),
    (SimulatedKind::WasteContainer, "waste", 0.01),
    (SimulatedKind::FloodLevel, "flooding", 0.5),
    (SimulatedKind::WaterMeter, "waterLeak", 0.0002),
];
/// Potholes that people report, an hour and street, in the mean and while water freezes and thaws.
const POTHOLES: f64 = 0.002 / 24.0;
const POTHOLES_IN_FROST: f64 = 4.0 * POTHOLES;

/// One report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Complaint {
    /// Of the attribute `service_code`.
    pub(super) service: &'static str,
    pub(super) place: Place,
}

/// The reports that come on channel `channel` at its look at the moment `at`.
pub(super) fn complaints(city: &City, channel: Ordinal, at: Timestamp, sky: &Sky) -> Vec<Complaint> {
    let plan = &city.plan;
    let own = SimulatedKind::CitizenReports;
    let remoteness = plan.remoteness(plan.district(own, channel));
    let causes = Causes::of(sky, &city.course.effect(at, remoteness));
    let hours = LOOK_INTERVAL.as_secs_f64() / 3_600.0 * causes.people;
    let when = at.as_second().div_euclid(LOOK_INTERVAL.as_secs());
    let mut complaints = Vec::new();
    for (kind, service, an_hour) in OF_THINGS {
        for thing in plan.partners(own, channel, kind) {
            let device = plan.device(kind, thing);
            let mut draw = Draw::new(city.seed, Subject::Report, device.0, when);
            // The draw first: it costs less than the look.
            if draw.chance(an_hour * hours) && city.site(kind, thing, at, sky).is_amiss() {
                let place = plan.describe(device).place;
                complaints.extend(place.map(|place| Complaint { service, place }));
            }
        }
    }
    let streets = plan.partners(own, channel, SimulatedKind::TrafficFlowSensor);
    let is_frost = (-3.0..3.0).contains(&causes.weather.temperature);
    let an_hour = if is_frost { POTHOLES_IN_FROST } else { POTHOLES };
    let mut draw = Draw::new(city.seed, Subject::Report, plan.device(own, channel).0, when);
    // Only some streets have a sensor; the others lie between them.
    let of_a_sensor = f64::from(plan.streets()) / f64::from(plan.count(SimulatedKind::TrafficFlowSensor).max(1));
    for sensor in streets {
        if draw.chance(an_hour * of_a_sensor * hours) {
            let (from, to) = plan.street_ends(SimulatedKind::TrafficFlowSensor, sensor);
            complaints.push(Complaint { service: "pothole", place: from.towards(to, draw.share()) });
        }
    }
    complaints
}
