//! Traffic on a street, the signals at its end, and buses.
use super::{Site, choice, rounded};
use crate::draw::{Draw, Subject};
use crate::registers::{Sum, is_in_service};
use crate::signal::{Signal, SimulatedKind, Value};

/// km/h without traffic. Assumed: limits of Danish towns.
const MAIN_ROAD_KMH: f64 = 70.0;
const STREET_KMH: f64 = 50.0;
/// Time plans of a crossing: flow above which they suit, cycle in seconds. Assumed, as traffic engineers count: long cycles
/// carry more, short ones let single cars wait less.
const PLANS: [(f64, f64); 3] = [(0.5, 80.0), (1.8, 100.0), (0.0, 60.0)];
/// Share of the speed that a plan costs for each plan that would suit better in between.
const WRONG_PLAN_COSTS: f64 = 0.12;
/// An emergency route keeps the others waiting.
const EMERGENCY_COSTS: f64 = 0.25;
/// Length of a bus line, one way.
const LINE_KM: f64 = 9.0;
/// Mean with stops, km/h. Assumed.
const BUS_KMH: f64 = 22.0;

pub(super) fn flow_value(site: &Site<'_>, signal: Signal) -> Value {
    let is_main = site.scene.plan.is_at_main_road(site.kind, site.ordinal);
    let mut build = site.build();
    // Means of the segments of Aarhus reach from less than one vehicle in five minutes to twenty.
    let mean = if is_main { build.between(6.0, 14.0) } else { build.between(0.8, 5.0) };
    // Roads into the city are full in the morning, roads out of it in the afternoon.
    let tilt = build.between(-0.25, 0.25) * if site.causes.local.hour < 12.0 { 1.0 } else { -1.0 };
    let vehicles = mean * site.causes.flow * (1.0 + tilt);
    let free_kmh = if is_main { MAIN_ROAD_KMH } else { STREET_KMH };
    let kmh = || {
        let share = site.causes.speed_share * plan_share(site) * site.noise(Signal::FlowSpeed).around_one(0.1);
        (free_kmh * share).max(3.0)
    };
    match signal {
        Signal::FlowIntensity => rounded(site.noise(signal).count(vehicles)),
        Signal::FlowSpeed => rounded(kmh().round()),
        Signal::FlowTravelTime => rounded((site.scene.plan.street_length_m() / (kmh() / 3.6)).round()),
        // A car of 6 m with its gap over the loop, of all the time; five minutes are 300 s.
        Signal::FlowOccupancy => rounded((vehicles * 6.0 / (kmh() / 3.6) / 300.0).min(1.0)),
        Signal::FlowCongested => Value::Boolean(kmh() < 0.4 * free_kmh),
        Signal::FlowLaneDirection => {
            choice(signal, if site.ordinal.is_multiple_of(2) { "forward" } else { "backward" })
        }
        Signal::FlowSegmentLength => rounded(site.scene.plan.street_length_m()),
        _ => Value::Poison,
    }
}

pub(super) fn crossing_value(site: &Site<'_>, signal: Signal) -> Value {
    let plan = plan_in_use(site);
    let cycle_s = PLANS[(plan - 1) % PLANS.len()].1;
    match signal {
        Signal::CrossingControlMode => choice(signal, if site.causes.has_power { "control" } else { "failure" }),
        Signal::CrossingCurrentTimePlan => Value::Number(plan as f64),
        Signal::CrossingCyclePhase => {
            let in_cycle = (site.at.as_second() as f64 + site.build().between(0.0, cycle_s)) % cycle_s;
            Value::Number(1.0 + (in_cycle / cycle_s * 4.0).floor())
        }
        Signal::CrossingCycleLength => rounded(cycle_s),
        Signal::CrossingEmergencyRoute => rounded(emergency_route(site)),
        Signal::CrossingFaultLevel => {
            let day = site.causes.local.day;
            let is_faulty = Draw::new(site.scene.seed, Subject::Day, site.device.0, day).chance(0.004);
            choice(signal, if is_faulty { "minor" } else { "none" })
        }
        _ => Value::Poison,
    }
}

pub(super) fn bus_value(site: &Site<'_>, signal: Signal) -> Value {
    let is_driving = is_in_service(site.causes.local.hour);
    let line = 1 + site.ordinal % 20;
    match signal {
        Signal::BusLocation => Value::Point(if is_driving {
            let (from, to) = site.scene.plan.street_ends(site.kind, site.ordinal);
            from.towards(to, way(site).0)
        } else {
            site.scene.plan.street_ends(site.kind, site.ordinal).0
        }),
        Signal::BusSpeed => {
            let kmh = BUS_KMH * site.causes.speed_share * site.noise(signal).around_one(0.6);
            rounded(if is_driving { kmh } else { 0.0 })
        }
        Signal::BusHeading => {
            let (from, to) = site.scene.plan.street_ends(site.kind, site.ordinal);
            let (north, east) = (to.latitude - from.latitude, (to.longitude - from.longitude) * 0.56);
            let out = east.atan2(north).to_degrees().rem_euclid(360.0);
            rounded(if way(site).1 { out } else { (out + 180.0).rem_euclid(360.0) })
        }
        Signal::BusServiceStatus => choice(signal, if is_driving { "onRoute" } else { "parked" }),
        Signal::BusDelay => {
            // A bus loses what the traffic slows it down, over its line.
            let late_s = LINE_KM / BUS_KMH * 3_600.0 * (0.8 / site.causes.speed_share - 1.0) * 0.5;
            rounded(if is_driving { (late_s + 40.0 * site.noise(signal).bell()).round() } else { 0.0 })
        }
        Signal::BusLine => Value::Label(line),
        Signal::BusOccupancy => {
            let share = 0.22 * site.causes.people * site.noise(signal).around_one(0.3);
            rounded(if is_driving { share.min(1.0) } else { 0.0 })
        }
        // From full in the morning to a quarter at night.
        Signal::BusBattery => {
            let driven_h = (site.causes.local.hour - 5.0).rem_euclid(24.0);
            rounded(if is_driving {
                (100.0 - 3.8 * driven_h).max(5.0)
            } else {
                (30.0 + 22.0 * (driven_h - 19.5)).clamp(5.0, 100.0)
            })
        }
        Signal::BusMileage => {
            let driven = site.scene.registers.since_fitted(Sum::Driving, site.at) * BUS_KMH;
            rounded(site.build().between(1_000.0, 200_000.0).floor() + driven)
        }
        _ => Value::Poison,
    }
}

/// Where a bus is on its way, 0 to 1, and whether it goes out.
fn way(site: &Site<'_>) -> (f64, bool) {
    let round_s = 2.0 * LINE_KM / BUS_KMH * 3_600.0;
    let since = site.at.as_second() as f64 + site.build().between(0.0, round_s);
    let place = since.rem_euclid(round_s) / round_s * 2.0;
    if place < 1.0 { (place, true) } else { (2.0 - place, false) }
}

/// The plan that a crossing was told, its first one of itself.
fn plan_in_use(crossing: &Site<'_>) -> usize {
    let told = crossing.wanted_number(Signal::CrossingCurrentTimePlan).unwrap_or(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the plans' numbers")]
    let plan = told.clamp(1.0, 255.0) as usize;
    plan
}

fn emergency_route(crossing: &Site<'_>) -> f64 {
    crossing.wanted_number(Signal::CrossingEmergencyRoute).unwrap_or(0.0)
}

/// Share of the speed that the next crossing leaves.
fn plan_share(site: &Site<'_>) -> f64 {
    let crossing = site.scene.plan.partner(site.kind, site.ordinal, SimulatedKind::TrafficSignal);
    let Some(crossing) = crossing.map(|ordinal| site.other(SimulatedKind::TrafficSignal, ordinal)) else { return 1.0 };
    if !site.causes.has_power {
        return 0.6;
    }
    // By flow: the third plan is for the night, the first for the day, the second for the rush hour.
    let rank = |plan: usize| [1_i32, 2, 0][(plan - 1) % PLANS.len()];
    let flow = site.causes.flow;
    let best = if flow >= PLANS[1].0 { 2 } else { i32::from(flow >= PLANS[0].0) };
    let wrong = f64::from((rank(plan_in_use(&crossing)) - best).abs());
    let emergency = if emergency_route(&crossing) > 0.0 { EMERGENCY_COSTS } else { 0.0 };
    1.0 - WRONG_PLAN_COSTS * wrong - emergency
}
