//! The simulated city: its devices, what they measure next, and how they obey.
//!
//! A world knows no network and no wall clock; the `player` takes it through time.
mod lit;

use std::path::Path;

use jiff::Timestamp;

use crate::city::City;
use crate::city::light::LightFigures;
use crate::city::plan::Plan;
use crate::device::{DeviceIndex, SimulatedDevice};
use crate::dials::{Dials, Obedience};
use crate::order::{self, Argument, Order, OrderRefused};
use crate::preset::{Counts, Preset};
use crate::replay::{FileTally, Replay, ReplayError, ReplaySpan};
use crate::scenario::Scenario;
use crate::signal::{Signal, SimulatedKind, TimedReading};
use lit::LitDistricts;
pub use lit::LitPart;

/// What lamps report in a replay.
const LAMP_SIGNALS: [Signal; 2] = [Signal::LuminaireDimmingLevel, Signal::LuminaireActivePower];

/// Which city to simulate.
#[derive(Clone, Debug)]
pub struct CityOptions {
    pub seed: u64,
    pub preset: Preset,
    /// In all; the preset's own number without.
    pub devices: Option<u32>,
    pub dials: Dials,
    pub scenario: Option<Scenario>,
}

#[derive(Clone, Debug)]
pub struct World {
    source: Source,
    start: Timestamp,
}

/// Where the readings come from.
#[derive(Clone, Debug)]
enum Source {
    City(Box<City>),
    Replay(Box<Recorded>),
    Lit(Box<LitDistricts>),
}

/// Recorded readings of sensors, and the lamps beside them, which are simulated.
#[derive(Clone, Debug)]
struct Recorded {
    replay: Replay,
    devices: Vec<SimulatedDevice>,
    /// In order; the lamp with place n is number n of `lights`.
    lamps: Vec<DeviceIndex>,
    lights: City,
}

impl CityOptions {
    fn counts(&self) -> Counts {
        let usual = self.preset.counts();
        self.devices.map_or(usual, |devices| usual.scaled(devices))
    }
}

impl World {
    /// The built-in village of `seed`, from the moment `start` on, without end.
    pub fn town(seed: u64, start: Timestamp) -> Self {
        let options =
            CityOptions { seed, preset: Preset::Village, devices: None, dials: Dials::default(), scenario: None };
        Self::city(&options, start)
    }

    /// The city of `options`, from the moment `start` on, without end.
    pub fn city(options: &CityOptions, start: Timestamp) -> Self {
        let CityOptions { seed, preset, dials, scenario, .. } = options;
        let plan = Plan::new(preset.name(), *seed, preset.centre(), options.counts());
        let city = City::new(*seed, plan, start, &Signal::ALL, dials.clone(), scenario.as_ref());
        Self { source: Source::City(Box::new(city)), start }
    }

    /// Some districts of the city of `options` with what lighting is about, from the moment `start` on, without end.
    pub fn lit_part(options: &CityOptions, part: &LitPart, start: Timestamp) -> Self {
        Self { source: Source::Lit(Box::new(LitDistricts::new(options, part, start))), start }
    }

    /// The readings of the files in `dir` that were observed in `span`; without one, those of the traffic file's days.
    pub fn replay(dir: &Path, span: Option<ReplaySpan>) -> Result<Self, ReplayError> {
        let (replay, devices) = Replay::load(dir, span)?;
        let start = replay.start();
        let is_lamp = |(_, device): &(u32, &SimulatedDevice)| device.kind == SimulatedKind::Luminaire;
        let lamps: Vec<_> = (0..).zip(&devices).filter(is_lamp).map(|(number, _)| DeviceIndex(number)).collect();
        let count = u32::try_from(lamps.len()).expect("a city has fewer lamps than 2^32");
        let plan = Plan::new("replay", 0, Preset::Aarhus.centre(), Counts::only(&[(SimulatedKind::Luminaire, count)]));
        let lights = City::new(0, plan, start, &LAMP_SIGNALS, Dials::none(), None);
        Ok(Self { source: Source::Replay(Box::new(Recorded { replay, devices, lamps, lights })), start })
    }

    pub fn device_count(&self) -> u32 {
        match &self.source {
            Source::City(city) => city.plan().device_count(),
            Source::Replay(recorded) => {
                u32::try_from(recorded.devices.len()).expect("a replay has fewer devices than 2^32")
            }
            Source::Lit(lit) => u32::try_from(lit.devices().len()).expect("a city has fewer devices than 2^32"),
        }
    }

    /// The device as it is registered; `device` is below the number of devices.
    pub fn device(&self, device: DeviceIndex) -> SimulatedDevice {
        match &self.source {
            Source::City(city) => city.plan().describe(device),
            Source::Replay(recorded) => recorded.devices[device.as_usize()].clone(),
            Source::Lit(lit) => lit.city().plan().describe(lit.devices()[device.as_usize()]),
        }
    }

    pub fn kind(&self, device: DeviceIndex) -> SimulatedKind {
        match &self.source {
            Source::City(city) => city.plan().role(device).0,
            Source::Replay(recorded) => recorded.devices[device.as_usize()].kind,
            Source::Lit(lit) => lit.city().plan().role(lit.devices()[device.as_usize()]).0,
        }
    }

    /// All devices in the order of their [`DeviceIndex`], each made when it is asked for.
    pub fn devices(&self) -> impl ExactSizeIterator<Item = SimulatedDevice> + '_ {
        (0..self.device_count()).map(|number| self.device(DeviceIndex(number)))
    }

    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// When the next report is due; none when a replay has ended, though lamps would report for ever.
    pub fn next_due(&self) -> Option<Timestamp> {
        match &self.source {
            Source::City(city) => city.next_due(),
            Source::Lit(lit) => lit.city().next_due(),
            Source::Replay(recorded) => {
                let source = recorded.replay.next_due()?;
                Some(recorded.lights.next_due().map_or(source, |lamps| lamps.min(source)))
            }
        }
    }

    /// Appends the readings that arrive up to and including `until`, in the order of their arrival. Late ones were observed
    /// before.
    pub fn step(&mut self, until: Timestamp, readings: &mut Vec<TimedReading>) {
        while self.next_due().is_some_and(|due| due <= until) {
            match &mut self.source {
                Source::City(city) => city.report_next(readings),
                Source::Replay(recorded) => recorded.report_next(readings),
                Source::Lit(lit) => lit.report_next(readings),
            }
        }
    }

    /// Lets a device carry out `order` at the moment `at`; appends what it reports then.
    pub fn execute(
        &mut self,
        device: DeviceIndex,
        order: &Order,
        at: Timestamp,
        readings: &mut Vec<TimedReading>,
    ) -> Result<Obedience, OrderRefused> {
        match &mut self.source {
            Source::City(city) => city.execute(device, order, at, readings),
            Source::Lit(lit) => {
                let own = lit.devices()[device.as_usize()];
                lit.with_city(readings, |city, readings| city.execute(own, order, at, readings))
            }
            Source::Replay(recorded) => {
                let unknown = || OrderRefused::UnknownAction { action: order.action.clone() };
                let lamp = recorded.lamp(device).ok_or_else(unknown)?;
                recorded.with_lights(readings, |lights, readings| lights.execute(lamp, order, at, readings))
            }
        }
    }

    /// Lets a device follow a wish for one of its attributes.
    pub fn follow(
        &mut self,
        device: DeviceIndex,
        signal: Signal,
        wanted: &Argument,
        at: Timestamp,
        readings: &mut Vec<TimedReading>,
    ) -> Result<Obedience, OrderRefused> {
        let wish = order::wish(signal, wanted)?;
        match &mut self.source {
            Source::City(city) => Ok(city.obey(device, wish, at, readings)),
            Source::Lit(lit) => {
                let own = lit.devices()[device.as_usize()];
                Ok(lit.with_city(readings, |city, readings| city.obey(own, wish, at, readings)))
            }
            Source::Replay(recorded) => {
                let attribute = signal.attribute();
                let lamp = recorded.lamp(device).ok_or(OrderRefused::NotWritable { attribute })?;
                Ok(recorded.with_lights(readings, |lights, readings| lights.obey(lamp, wish, at, readings)))
            }
        }
    }

    /// The outcomes that the files of a replay must have; empty for a city.
    pub fn tallies(&self) -> &[FileTally] {
        match &self.source {
            Source::City(_) | Source::Lit(_) => &[],
            Source::Replay(recorded) => recorded.replay.tallies(),
        }
    }

    /// What the lamps of a lit part took and gave before `until`, within the time that is watched, by district; empty for other
    /// worlds.
    pub fn light(&mut self, until: Timestamp) -> Vec<LightFigures> {
        match &mut self.source {
            Source::City(_) | Source::Replay(_) => Vec::new(),
            Source::Lit(lit) => lit.light(until),
        }
    }

    /// Names of the districts of a lit part, in the order of its light; empty for other worlds.
    pub fn district_names(&self) -> Vec<String> {
        match &self.source {
            Source::City(_) | Source::Replay(_) => Vec::new(),
            Source::Lit(lit) => lit.district_names(),
        }
    }
}

impl Recorded {
    fn report_next(&mut self, readings: &mut Vec<TimedReading>) {
        let (source, lamp) = (self.replay.next_due(), self.lights.next_due());
        if lamp.is_some_and(|lamp| source.is_some_and(|source| lamp < source)) {
            self.with_lights(readings, City::report_next);
        } else {
            self.replay.measure_next(readings);
        }
    }

    /// The number of a lamp among the lights; none for a sensor.
    fn lamp(&self, device: DeviceIndex) -> Option<DeviceIndex> {
        let place = self.lamps.binary_search(&device).ok()?;
        u32::try_from(place).ok().map(DeviceIndex)
    }

    /// Gives the readings that `act` makes of the lights the lamps' own numbers.
    fn with_lights<T>(
        &mut self,
        readings: &mut Vec<TimedReading>,
        act: impl FnOnce(&mut City, &mut Vec<TimedReading>) -> T,
    ) -> T {
        let from = readings.len();
        let done = act(&mut self.lights, readings);
        for reading in &mut readings[from..] {
            reading.device = self.lamps[reading.device.as_usize()];
        }
        done
    }
}

#[cfg(test)]
mod tests;
