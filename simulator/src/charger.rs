//! Charging sessions, and what a charger has delivered.
//!
//! Arrivals, energy and time are drawn from those of 6,878 sessions in Trondheim, 2018 to 2020 (Sørensen and others, Data in
//! Brief 2021, CC BY 4.0). That a charger sees a car on three days of four is assumed.
use jiff::Timestamp;

use crate::calendar::{LocalTime, moment_of};
use crate::dials::milliseconds;
use crate::draw::{Draw, Subject};
use crate::registers::fitted;

/// Share of sessions that have begun by the end of each hour of the day.
const ARRIVALS: [(f64, f64); 25] = [
    (0.0, 0.0),
    (0.0148, 1.0),
    (0.0206, 2.0),
    (0.0242, 3.0),
    (0.0267, 4.0),
    (0.0277, 5.0),
    (0.029, 6.0),
    (0.0318, 7.0),
    (0.0433, 8.0),
    (0.0551, 9.0),
    (0.0647, 10.0),
    (0.0816, 11.0),
    (0.1068, 12.0),
    (0.1362, 13.0),
    (0.1789, 14.0),
    (0.2382, 15.0),
    (0.3526, 16.0),
    (0.493, 17.0),
    (0.5814, 18.0),
    (0.6663, 19.0),
    (0.7646, 20.0),
    (0.8494, 21.0),
    (0.9167, 22.0),
    (0.9711, 23.0),
    (1.0, 24.0),
];
/// kWh of a session, by the share of sessions with less.
const ENERGY_KWH: [(f64, f64); 13] = [
    (0.0, 0.01),
    (0.05, 1.59),
    (0.1, 2.76),
    (0.2, 4.45),
    (0.3, 5.94),
    (0.4, 7.34),
    (0.5, 9.05),
    (0.6, 11.6),
    (0.7, 14.49),
    (0.8, 18.21),
    (0.9, 26.07),
    (0.95, 38.14),
    (1.0, 60.0),
];
/// Hours from plug to unplug; those above a day are cut, one in fifteen.
const CONNECTED_H: [(f64, f64); 12] = [
    (0.0, 0.05),
    (0.05, 0.61),
    (0.1, 1.16),
    (0.2, 2.22),
    (0.3, 3.42),
    (0.4, 6.09),
    (0.5, 10.03),
    (0.6, 11.92),
    (0.7, 14.22),
    (0.8, 16.51),
    (0.9, 20.82),
    (1.0, 24.0),
];
const SESSION_ON_A_DAY: f64 = 0.75;
/// Watts that cars take: one phase of 16 A, one of 32 A, three of 16 A. The shares are assumed.
const CAR_W: [(f64, f64); 3] = [(0.3, 3_680.0), (0.65, 7_360.0), (1.0, 11_040.0)];
/// kWh of a car's battery; the state of charge ends full. Assumed.
const BATTERY_KWH: f64 = 62.0;

/// A car at a charger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Session {
    /// The local day of its arrival, in days since 1970-01-01.
    pub(crate) day: i64,
    pub(crate) arrives: Timestamp,
    /// When it leaves of itself.
    pub(crate) leaves: Timestamp,
    /// That it wants.
    pub(crate) energy_kwh: f64,
    /// Watts that it takes at most.
    power_w: f64,
}

/// The state of one charger, carried from report to report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Charger {
    updated: Timestamp,
    /// What the last session got so far.
    delivered_kwh: f64,
    /// Ever delivered.
    pub(crate) register_kwh: f64,
    /// Watts that may be drawn.
    pub(crate) limit_w: f64,
    /// The day whose session was ended by hand.
    unlocked: Option<i64>,
}

impl Session {
    /// The session that begins on a local day.
    pub(crate) fn of_day(seed: u64, charger: u32, day: i64) -> Option<Self> {
        let mut session = Self::wished(seed, charger, day)?;
        if let Some(next) = Self::wished(seed, charger, day + 1) {
            session.leaves = session.leaves.min(next.arrives);
        }
        Some(session)
    }

    fn wished(seed: u64, charger: u32, day: i64) -> Option<Self> {
        let mut draw = Draw::new(seed, Subject::Day, charger, day);
        if !draw.chance(SESSION_ON_A_DAY) {
            return None;
        }
        let arrives = moment_of(day, draw.of_quantiles(&ARRIVALS));
        let leaves = arrives + milliseconds(draw.of_quantiles(&CONNECTED_H) * 3_600.0);
        let (energy_kwh, car) = (draw.of_quantiles(&ENERGY_KWH), draw.share());
        let power_w = CAR_W.iter().find(|(share, _)| car < *share).map_or(0.0, |(_, power_w)| *power_w);
        Some(Self { day, arrives, leaves, energy_kwh, power_w })
    }
}

impl Charger {
    pub(crate) fn new(rating_w: f64) -> Self {
        Self { updated: fitted(), delivered_kwh: 0.0, register_kwh: 0.0, limit_w: rating_w, unlocked: None }
    }

    /// Delivers what is delivered until `moment`.
    pub(crate) fn advance(&mut self, seed: u64, charger: u32, moment: Timestamp) {
        if moment <= self.updated {
            return;
        }
        let (first, last) = (LocalTime::of(self.updated).day - 1, LocalTime::of(moment).day);
        for session in (first..=last).filter_map(|day| Session::of_day(seed, charger, day)) {
            if session.arrives >= self.updated && session.arrives < moment {
                self.delivered_kwh = 0.0;
            }
            let (from, to) = (session.arrives.max(self.updated), session.leaves.min(moment));
            if from < to && self.unlocked != Some(session.day) {
                let hours = to.duration_since(from).as_secs_f64() / 3_600.0;
                let possible = session.power_w.min(self.limit_w) / 1_000.0 * hours;
                let taken = possible.min(session.energy_kwh - self.delivered_kwh).max(0.0);
                self.delivered_kwh += taken;
                self.register_kwh += taken;
            }
        }
        self.updated = moment;
    }

    /// The car that is there at the moment of the last advance.
    pub(crate) fn session(&self, seed: u64, charger: u32) -> Option<Session> {
        let today = LocalTime::of(self.updated).day;
        let sessions = [today, today - 1].into_iter().filter_map(|day| Session::of_day(seed, charger, day));
        let mut here = sessions.filter(|session| session.arrives <= self.updated && self.updated < session.leaves);
        here.next().filter(|session| self.unlocked != Some(session.day))
    }

    /// Watts that `session` draws now.
    pub(crate) fn power_w(&self, session: &Session) -> f64 {
        if self.is_satisfied(session) { 0.0 } else { session.power_w.min(self.limit_w) }
    }

    pub(crate) fn is_satisfied(&self, session: &Session) -> bool {
        self.delivered_kwh >= session.energy_kwh - 1e-6
    }

    /// Percent.
    pub(crate) fn state_of_charge(&self, session: &Session) -> f64 {
        (100.0 - (session.energy_kwh - self.delivered_kwh) / BATTERY_KWH * 100.0).clamp(0.0, 100.0)
    }

    /// Ends the session that is there.
    pub(crate) fn unlock(&mut self, seed: u64, charger: u32) {
        self.unlocked = self.session(seed, charger).map(|session| session.day).or(self.unlocked);
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn at(minute: i64) -> Timestamp {
        fitted() + SignedDuration::from_mins(minute)
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_often_one_looks(looks in prop::collection::vec(1..2_000_i64, 1..40)) {
            let (mut often, mut minute) = (Charger::new(11_000.0), 0);
            for look in looks {
                minute += look;
                often.advance(3, 9, at(minute));
            }
            let mut once = Charger::new(11_000.0);
            once.advance(3, 9, at(minute));
            prop_assert!((often.register_kwh - once.register_kwh).abs() < 1e-6);
            prop_assert!((often.delivered_kwh - once.delivered_kwh).abs() < 1e-6);
        }

        #[test]
        fn a_session_never_gets_more_than_it_wants(limit_w in 0.0..12_000.0_f64, minutes in 1..20_000_i64) {
            let mut charger = Charger::new(11_000.0);
            charger.advance(3, 4, at(1));
            charger.limit_w = limit_w;
            charger.advance(3, 4, at(minutes));
            if let Some(session) = charger.session(3, 4) {
                prop_assert!(charger.delivered_kwh <= session.energy_kwh + 1e-9);
                prop_assert!(charger.power_w(&session) <= limit_w);
            }
        }
    }

    #[test]
    fn an_unlocked_car_is_gone() {
        let mut charger = Charger::new(11_000.0);
        let minute = (0..10_000).find(|minute| {
            charger.advance(3, 4, at(*minute));
            charger.session(3, 4).is_some()
        });
        charger.unlock(3, 4);
        assert!(minute.is_some() && charger.session(3, 4).is_none());
    }
}
