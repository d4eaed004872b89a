//! Scenarios: files that say what changes in a city, when and where.
//!
//! A file has a `name`, a `description` and any number of `[[change]]`; see `simulator/scenarios`. Times of the day are Danish
//! and count from the day on which the world begins.
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fs, io};

use jiff::civil::Time;
use jiff::{SignedDuration, Timestamp};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::calendar::LocalTime;
use crate::dials::{Dials, milliseconds};

/// A day in seconds: no dial means more.
const DIAL_MAX: f64 = 86_400.0;

#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error("can not read the scenario {}", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    /// `source` names the line and the key.
    #[error("{} is not a scenario", file.display())]
    Malformed { file: PathBuf, source: toml::de::Error },
    #[error("{}: change {number}: {reason}", file.display())]
    Refused { file: PathBuf, number: usize, reason: String },
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    pub description: String,
    #[serde(rename = "change", default)]
    changes: Vec<Change>,
}

/// One change, in force for a time and at a place.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// Days after the first.
    #[serde(default)]
    day: u32,
    /// Time of the day, e.g. `17:30`.
    #[serde(deserialize_with = "parsed")]
    at: Time,
    /// E.g. `45m`.
    #[serde(rename = "for", deserialize_with = "parsed")]
    duration: SignedDuration,
    /// It comes and goes within this time at either end; it is at once when there is none.
    #[serde(default, deserialize_with = "parsed")]
    ramp: SignedDuration,
    /// From and to which share of the districts, counted outwards from the centre.
    #[serde(default = "everywhere")]
    part: [f64; 2],
    /// Times the usual traffic.
    #[serde(default = "one")]
    traffic: f64,
    /// Times the usual people.
    #[serde(default = "one")]
    crowd: f64,
    /// Times the wind.
    #[serde(default = "one")]
    wind: f64,
    /// Millimetres an hour on top.
    #[serde(default)]
    rain_mm_h: f64,
    /// Degrees Celsius on top.
    #[serde(default)]
    temperature: f64,
    /// Whether the grid feeds the place.
    #[serde(default = "yes")]
    power: bool,
    /// Dials that change; the names are those of [`Dials`].
    #[serde(default)]
    dials: toml::Table,
}

/// What a scenario does to one place at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Effect {
    pub(crate) traffic: f64,
    pub(crate) crowd: f64,
    pub(crate) wind: f64,
    pub(crate) rain: f64,
    pub(crate) temperature: f64,
    pub(crate) has_power: bool,
}

/// A scenario on the calendar of a world.
#[derive(Clone, Debug, Default)]
pub(crate) struct Course {
    acts: Vec<Act>,
}

#[derive(Clone, Debug)]
struct Act {
    change: Change,
    from: Timestamp,
    to: Timestamp,
    /// All dials while it is in force; none when it changes none.
    dials: Option<Dials>,
}

/// The end of a blackout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Restart {
    pub(crate) at: Timestamp,
    /// All devices of the place are back within this time.
    pub(crate) spread: SignedDuration,
    pub(crate) part: [f64; 2],
}

impl Scenario {
    /// Reads and checks a file; a key that is not known is an error.
    pub fn load(file: &Path) -> Result<Self, ScenarioError> {
        let text =
            fs::read_to_string(file).map_err(|source| ScenarioError::Unreadable { file: file.to_owned(), source })?;
        let scenario: Self =
            toml::from_str(&text).map_err(|source| ScenarioError::Malformed { file: file.to_owned(), source })?;
        for (number, change) in (1..).zip(&scenario.changes) {
            change.check().map_err(|reason| ScenarioError::Refused { file: file.to_owned(), number, reason })?;
        }
        Ok(scenario)
    }
}

impl Change {
    fn check(&self) -> Result<(), String> {
        let Change { duration, ramp, part: [from, to], .. } = self;
        if !(0.0 <= *from && from < to && *to <= 1.0) {
            return Err(format!("part [{from}, {to}] is not within 0 to 1, in this order"));
        }
        if *duration <= SignedDuration::ZERO || ramp.is_negative() || *ramp + *ramp > *duration {
            return Err("its time must be above zero and have room for both ramps".to_owned());
        }
        let factors = [self.traffic, self.crowd, self.wind, self.rain_mm_h];
        if factors.iter().any(|factor| !factor.is_finite() || *factor < 0.0) || !self.temperature.is_finite() {
            return Err("factors and rain must not be below zero".to_owned());
        }
        let is_sane = |value: &toml::Value| {
            let number = value.as_float().or(value.as_integer().map(|whole| whole as f64));
            number.is_some_and(|number| (0.0..=DIAL_MAX).contains(&number))
        };
        if let Some((name, _)) = self.dials.iter().find(|(_, value)| !is_sane(value)) {
            return Err(format!("dials: `{name}` must be a number from 0 to {DIAL_MAX}"));
        }
        self.dials_over(&Dials::default()).map(|_| ())
    }

    /// `usual` with this change's dials in their places.
    fn dials_over(&self, usual: &Dials) -> Result<Dials, String> {
        let mut table = toml::Table::try_from(usual).map_err(|error| error.to_string())?;
        for (name, value) in &self.dials {
            table.insert(name.clone(), value.clone());
        }
        table.try_into().map_err(|error| format!("dials: {}", error.message()))
    }
}

impl Effect {
    pub(crate) const NONE: Self =
        Self { traffic: 1.0, crowd: 1.0, wind: 1.0, rain: 0.0, temperature: 0.0, has_power: true };
}

impl Course {
    /// The scenario in a world that begins at `start` and whose devices usually misbehave as `usual` says.
    pub(crate) fn new(scenario: Option<&Scenario>, start: Timestamp, usual: &Dials) -> Self {
        let changes = scenario.map(|scenario| scenario.changes.as_slice()).unwrap_or_default();
        let midnight = start - milliseconds(LocalTime::of(start).hour * 3_600.0);
        let act = |change: &Change| {
            let at = SignedDuration::from_hours(24 * i64::from(change.day))
                + SignedDuration::from_secs(i64::from(change.at.hour()) * 3_600 + i64::from(change.at.minute()) * 60);
            let from = midnight + at;
            // They were found to be valid when the file was read.
            let dials = change.dials_over(usual).ok().filter(|_| !change.dials.is_empty());
            Act { change: change.clone(), from, to: from + change.duration, dials }
        };
        Self { acts: changes.iter().map(act).collect() }
    }

    /// What is changed at `moment` in a district with this share of all districts nearer to the centre.
    pub(crate) fn effect(&self, moment: Timestamp, remoteness: f64) -> Effect {
        let mut effect = Effect::NONE;
        for act in self.in_force(moment, remoteness) {
            let (change, strength) = (&act.change, act.strength(moment));
            effect.traffic *= 1.0 + (change.traffic - 1.0) * strength;
            effect.crowd *= 1.0 + (change.crowd - 1.0) * strength;
            effect.wind *= 1.0 + (change.wind - 1.0) * strength;
            effect.rain += change.rain_mm_h * strength;
            effect.temperature += change.temperature * strength;
            effect.has_power &= change.power;
        }
        effect
    }

    /// What is changed in all districts alike.
    pub(crate) fn effect_everywhere(&self, moment: Timestamp) -> Effect {
        let mut whole = Self { acts: Vec::new() };
        whole.acts.extend(self.acts.iter().filter(|act| act.change.part == everywhere()).cloned());
        whole.effect(moment, 0.0)
    }

    /// The dials at a place when they are not the usual ones; of two changes the later in the file.
    pub(crate) fn dials(&self, moment: Timestamp, remoteness: f64) -> Option<&Dials> {
        self.in_force(moment, remoteness).filter_map(|act| act.dials.as_ref()).last()
    }

    /// The ends of all blackouts.
    pub(crate) fn restarts(&self, usual: &Dials) -> Vec<Restart> {
        let blackouts = self.acts.iter().filter(|act| !act.change.power);
        let restart = |act: &Act| {
            let dials = act.dials.as_ref().unwrap_or(usual);
            Restart { at: act.to, spread: milliseconds(dials.reconnect_spread_s), part: act.change.part }
        };
        blackouts.map(restart).collect()
    }

    fn in_force(&self, moment: Timestamp, remoteness: f64) -> impl Iterator<Item = &Act> {
        self.acts.iter().filter(move |act| {
            let [from, to] = act.change.part;
            act.from <= moment && moment < act.to && from <= remoteness && remoteness < to
        })
    }
}

impl Act {
    /// 0 to 1: how far the change has come at a moment within it.
    fn strength(&self, moment: Timestamp) -> f64 {
        if self.change.ramp == SignedDuration::ZERO {
            return 1.0;
        }
        let share = |time: SignedDuration| (time.as_secs_f64() / self.change.ramp.as_secs_f64()).clamp(0.0, 1.0);
        share(moment.duration_since(self.from)).min(share(self.to.duration_since(moment)))
    }
}

fn everywhere() -> [f64; 2] {
    [0.0, 1.0]
}

fn one() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

/// A value that is text in the file.
fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err = jiff::Error>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}
