//! An account of a city's light, minute by minute: what the lamps take, and whether each street has the light that it needs.
//!
//! It looks at the lamps themselves, not at what they report.
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::City;
use super::plan::{District, Ordinal};
use crate::measure::Glow;
use crate::signal::SimulatedKind;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const MINUTES_AN_HOUR: f64 = 60.0;

/// The light of a district.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LightFigures {
    pub lamps: u32,
    pub streets: u32,
    /// At the lamps: what drivers and radios take is in it, day and night.
    pub energy_kwh: f64,
    /// Minutes of streets in which it was dark.
    pub dark_street_minutes: u64,
    /// Those in which a lamp that works gave less than the lowest safe level of its road. Broken lamps are dark whatever
    /// anybody orders, so they count neither way.
    pub unsafe_street_minutes: u64,
}

/// A look at all lamps of some districts at the beginning of each minute of a time, as if they stayed so for that minute.
#[derive(Clone, Debug)]
pub(crate) struct LightAccount {
    /// The minute that is looked at next.
    next: Timestamp,
    to: Timestamp,
    districts: Vec<Account>,
}

#[derive(Clone, Debug)]
struct Account {
    /// The lamps, street by street.
    streets: Vec<Vec<Ordinal>>,
    figures: LightFigures,
}

impl LightAccount {
    /// The light of `districts` of `city` from one moment to another.
    pub(crate) fn new(
        city: &City,
        districts: impl IntoIterator<Item = District>,
        (from, to): (Timestamp, Timestamp),
    ) -> Self {
        let mut all: Vec<(District, Account)> = Vec::new();
        for district in districts {
            all.push((district, Account { streets: Vec::new(), figures: LightFigures::default() }));
        }
        let lamp_kind = SimulatedKind::Luminaire;
        let mut last_street = None;
        for lamp in 0..city.plan().count(lamp_kind) {
            let own = city.plan().district(lamp_kind, lamp);
            let Some((_, account)) = all.iter_mut().find(|(district, _)| *district == own) else { continue };
            let street = city.plan().street(lamp_kind, lamp);
            // Lamps are numbered street by street.
            match account.streets.last_mut().filter(|_| last_street == Some(street)) {
                Some(lamps) => lamps.push(lamp),
                None => account.streets.push(vec![lamp]),
            }
            last_street = Some(street);
        }
        let count = |number: usize| u32::try_from(number).expect("a city has fewer lamps than 2^32");
        let districts = all.into_iter().map(|(_, mut account)| {
            account.figures.streets = count(account.streets.len());
            account.figures.lamps = count(account.streets.iter().map(Vec::len).sum());
            account
        });
        Self { next: from, to, districts: districts.collect() }
    }

    /// Looks at the lamps of `city` in every minute before `until`, as they are now.
    pub(super) fn advance(&mut self, until: Timestamp, city: &mut City) {
        while self.next < until.min(self.to) {
            let sky = city.sky(self.next);
            for account in &mut self.districts {
                for street in &account.streets {
                    let glows =
                        street.iter().map(|lamp| city.site(SimulatedKind::Luminaire, *lamp, self.next, &sky).glow());
                    account.figures.add(glows);
                }
            }
            self.next += MINUTE;
        }
    }

    pub(super) fn figures(&self) -> Vec<LightFigures> {
        self.districts.iter().map(|account| account.figures).collect()
    }
}

impl LightFigures {
    /// A minute of a street.
    fn add(&mut self, glows: impl Iterator<Item = Glow>) {
        let (mut is_dark, mut is_unsafe) = (false, false);
        for glow in glows {
            self.energy_kwh += glow.power_w / MINUTES_AN_HOUR / 1_000.0;
            is_dark |= glow.is_dark;
            is_unsafe |= glow.is_unsafe();
        }
        self.dark_street_minutes += u64::from(is_dark);
        self.unsafe_street_minutes += u64::from(is_unsafe);
    }

    /// This district and another together.
    #[must_use]
    pub fn with(self, other: &Self) -> Self {
        Self {
            lamps: self.lamps + other.lamps,
            streets: self.streets + other.streets,
            energy_kwh: self.energy_kwh + other.energy_kwh,
            dark_street_minutes: self.dark_street_minutes + other.dark_street_minutes,
            unsafe_street_minutes: self.unsafe_street_minutes + other.unsafe_street_minutes,
        }
    }
}
