//! Adaptive lighting: dims each lamp of a district to the traffic nearby, daylight and a safe minimum, and counts what that
//! saves against lamps that burn at full light from dusk to dawn.
//!
//! Time is *event time*, the latest observation of the district's sensors and lamps, so that a replay at any speed comes to
//! the same light and the same energy. Each minute of it is a tick: energy is added up, stale traffic is noticed, levels
//! are reconsidered; a new flow reconsiders the lamps that follow its sensor at once. Start at [`Lighting::take`]. The
//! parts: [`level`] (how bright), [`traffic`] (how busy), [`sun`] (how dark), [`lamps`] and [`orders`] (what was told and
//! done), [`energy`] (the figures), [`record`] (the stored bytes).

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use kvarter_cluster::{DamagedBytes, LogIndex, Timestamp};

use crate::lighting::energy::Energy;
use crate::lighting::lamps::{Lamp, Lamps};
use crate::lighting::level::Level;
use crate::lighting::orders::Orders;
use crate::lighting::sun::Sun;
use crate::lighting::traffic::{Sensor, Sensors};
use crate::message::{self, fact};
use crate::name::district_of;
use crate::reading::{Reading, ReadingMark};
use crate::service::{Outcome, Service, World};
use crate::value::ValueRef;
use crate::{
    AttributeNumber, CommandId, CommandState, DeviceNumber, Kind, ServiceCommand, ServiceFigures, ServiceMode, TwinRef,
};

mod energy;
mod lamps;
mod level;
mod orders;
mod record;
mod sun;
mod traffic;

/// Lamps of a district that are steered; more are counted as left out, so that the state stays below its bound.
pub(crate) const LAMPS_MAX: usize = 6_000;

/// Traffic sensors of a district that are followed.
pub(crate) const SENSORS_MAX: usize = 500;

const TICK_US: i64 = 60 * 1_000_000;

/// An observation so much older than event time means that time was turned back, as when a replay begins again.
const TURNED_BACK_US: i64 = 6 * 3_600 * 1_000_000;

/// A lamp that did not execute its order by then is given another.
const ORDER_TIMEOUT: Duration = Duration::from_secs(60);

/// Priority of a service's commands.
const SERVICE_PRIORITY: u32 = 3;

const LAMP_KIND: &str = "luminaire";
const SENSOR_KIND: &str = "traffic_flow_sensor";

/// The lighting of one district.
#[derive(Clone, Debug)]
pub(crate) struct Lighting {
    district: String,
    mode: ServiceMode,
    /// Event time of the last tick, `i64::MIN` before the first.
    ticked_us: i64,
    lamps: Lamps,
    sensors: Sensors,
    orders: Orders,
    energy: Energy,
    gaps: u64,
    /// Derived from places: which sensor a lamp follows must be worked out again.
    must_assign: bool,
}

/// Numbers of the attributes that lighting reads, as the catalog has them.
#[derive(Clone, Copy)]
struct Attributes {
    level: Option<AttributeNumber>,
    power: Option<AttributeNumber>,
    minimum: Option<AttributeNumber>,
    flow: Option<AttributeNumber>,
}

impl Attributes {
    fn of(world: World<'_>) -> Self {
        let (lamp, sensor) = (world.catalog.kind(LAMP_KIND), world.catalog.kind(SENSOR_KIND));
        let number = |kind: Option<&std::sync::Arc<Kind>>, name: &str| Some(kind?.attribute_named(name)?.number);
        Self {
            level: number(lamp, "dimmingLevel"),
            power: number(lamp, "powerRating"),
            minimum: number(lamp, "minimumLevel"),
            flow: number(sensor, "intensity"),
        }
    }
}

impl Service for Lighting {
    const NAME: &'static str = "lighting";

    fn begin(district: &str, mode: ServiceMode, world: World<'_>) -> Self {
        let mut lighting = Self {
            district: district.to_owned(),
            mode,
            ticked_us: i64::MIN,
            lamps: Lamps::default(),
            sensors: Sensors::new(),
            orders: Orders::default(),
            energy: Energy::default(),
            gaps: 0,
            must_assign: true,
        };
        lighting.read_twins(world);
        lighting
    }

    fn restore(district: &str, state: &[u8], world: World<'_>) -> Result<Self, DamagedBytes> {
        let mut lighting = record::decode(district, state)?;
        for (number, lamp) in lighting.lamps.iter_mut() {
            lamp.location = world.state.device(number).and_then(TwinRef::location);
        }
        for (number, sensor) in &mut lighting.sensors {
            sensor.location = world.state.device(*number).and_then(TwinRef::location);
        }
        Ok(lighting)
    }

    fn reread(&mut self, mode: ServiceMode, world: World<'_>) {
        self.gaps += 1;
        self.mode = mode;
        self.lamps = Lamps::default();
        self.sensors.clear();
        self.orders = Orders::default();
        self.read_twins(world);
    }

    fn take(&mut self, index: LogIndex, facts: &message::Facts, world: World<'_>) -> Outcome {
        let attributes = Attributes::of(world);
        let tick_us = self.next_tick(facts);
        if let Some(tick_us) = tick_us {
            self.add_energy(tick_us);
        }
        let mut busy = BTreeSet::new();
        let mut is_changed = tick_us.is_some();
        for fact in facts.facts.iter().filter_map(|fact| fact.fact.as_ref()) {
            is_changed |= self.take_fact(fact, Timestamp(facts.time_us), attributes, &mut busy);
        }
        if self.must_assign {
            self.lamps.assign(&self.sensors);
            self.must_assign = false;
        }
        let commands = if tick_us.is_some() || !busy.is_empty() {
            self.orders.forget_lost(facts.time_us);
            self.reconsider(index, facts.time_us, tick_us.is_none().then_some(&busy))
        } else {
            Vec::new()
        };
        Outcome { commands, is_changed }
    }

    fn encode(&self) -> Bytes {
        record::encode(self)
    }

    fn figures(state: &[u8]) -> Result<ServiceFigures, DamagedBytes> {
        record::figures(state)
    }
}

impl Lighting {
    fn read_twins(&mut self, world: World<'_>) {
        let attributes = Attributes::of(world);
        let prefix = format!("{}/", self.district);
        for twin in world.state.devices(DeviceNumber(0)).filter(|twin| twin.name().starts_with(&prefix)) {
            match twin.kind() {
                LAMP_KIND => {
                    let mut lamp = Lamp::new(twin.location(), twin.labels());
                    for reported in twin.reported().filter(|reported| reported.quality == 1) {
                        observe_lamp(&mut lamp, attributes, reported.attribute, reported.value.as_ref());
                    }
                    self.lamps.insert(twin.number(), lamp);
                }
                SENSOR_KIND if self.sensors.len() < SENSORS_MAX => {
                    let mut sensor = Sensor::silent(twin.location());
                    let flow = attributes.flow.and_then(|flow| twin.reported_attribute(flow));
                    if let Some((flow, value)) = flow.and_then(|flow| Some((flow, number(flow.value.as_ref())?))) {
                        sensor.observe(value, flow.observed_us);
                    }
                    self.sensors.insert(twin.number(), sensor);
                }
                _ => {}
            }
        }
        self.must_assign = true;
    }

    /// Whether any reading can matter: most districts of most shards have neither lamps nor traffic sensors.
    fn follows_devices(&self) -> bool {
        !(self.lamps.is_empty() && self.sensors.is_empty())
    }

    /// The minute of event time that these facts bring, if it is a new one.
    fn next_tick(&self, facts: &message::Facts) -> Option<i64> {
        if !self.follows_devices() {
            return None;
        }
        let observed_us =
            readings(facts).filter(|(reading, _)| self.is_mine(reading.device)).map(|(reading, _)| reading);
        let latest_us = observed_us.map(|reading| reading.observed_us).max()?;
        let tick_us = latest_us.div_euclid(TICK_US) * TICK_US;
        let is_turned_back = latest_us < self.ticked_us.saturating_sub(TURNED_BACK_US);
        (tick_us > self.ticked_us || is_turned_back).then_some(tick_us)
    }

    fn is_mine(&self, device: DeviceNumber) -> bool {
        self.lamps.contains(device) || self.sensors.contains_key(&device)
    }

    /// The time since the last tick was spent as the lamps were then.
    fn add_energy(&mut self, tick_us: i64) {
        let from_us = std::mem::replace(&mut self.ticked_us, tick_us);
        if from_us != i64::MIN && tick_us > from_us {
            let sun = Sun::at(Timestamp(from_us));
            self.energy.add(&self.lamps, &sun, Duration::from_micros((tick_us - from_us).unsigned_abs()));
        }
    }

    /// Takes a fact in; says whether it changed more than the light or the traffic.
    fn take_fact(
        &mut self,
        fact: &fact::Fact,
        time: Timestamp,
        attributes: Attributes,
        busy: &mut BTreeSet<DeviceNumber>,
    ) -> bool {
        match fact {
            fact::Fact::ReadingsReported(reported) => {
                if self.follows_devices() {
                    for (reading, _) in reported_readings(reported) {
                        self.take_reading(&reading, attributes, busy);
                    }
                }
                false
            }
            fact::Fact::DeviceRegistered(registered) => self.take_registered(registered),
            fact::Fact::DeviceRetired(retired) => {
                let device = DeviceNumber(retired.device);
                self.orders.end(device);
                self.must_assign |= self.sensors.remove(&device).is_some();
                self.lamps.remove(device)
            }
            fact::Fact::CommandChanged(changed) => self.take_command_changed(changed, time),
            fact::Fact::ServiceModeSet(set) if set.service == self.name() => {
                self.mode = ServiceMode::from_message(set.mode).unwrap_or(self.mode);
                true
            }
            _ => false,
        }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.district, Self::NAME)
    }

    fn take_reading(&mut self, reading: &Reading<'_>, attributes: Attributes, busy: &mut BTreeSet<DeviceNumber>) {
        let Some((attribute, value)) = AttributeNumber::from_message(reading.attribute).zip(reading.value) else {
            return;
        };
        if let Some(lamp) = self.lamps.get_mut(reading.device) {
            observe_lamp(lamp, attributes, attribute, value);
            if attributes.level == Some(attribute) {
                self.orders.answered(reading.device);
            }
        } else if let Some(sensor) = self.sensors.get_mut(&reading.device)
            && attributes.flow == Some(attribute)
            && let Some(flow) = number(value)
        {
            sensor.observe(flow, reading.observed_us);
            busy.insert(reading.device);
        }
    }

    fn take_registered(&mut self, registered: &message::DeviceRegistered) -> bool {
        if district_of(&registered.name) != self.district {
            return false;
        }
        let (device, location) = (DeviceNumber(registered.device), registered.location.map(Into::into));
        match registered.kind.as_str() {
            LAMP_KIND => match self.lamps.get_mut(device) {
                Some(lamp) => lamp.describe(location, &registered.labels),
                None => self.lamps.insert(device, Lamp::new(location, &registered.labels)),
            },
            SENSOR_KIND if self.sensors.len() < SENSORS_MAX || self.sensors.contains_key(&device) => {
                self.sensors.entry(device).or_insert_with(|| Sensor::silent(location)).location = location;
            }
            _ => return false,
        }
        self.must_assign = true;
        true
    }

    fn take_command_changed(&mut self, changed: &message::CommandChanged, time: Timestamp) -> bool {
        let device = DeviceNumber(changed.device);
        let state = CommandState::from_message(changed.state).filter(|state| state.is_ended());
        let is_mine = changed.id.starts_with(Self::NAME) && self.lamps.contains(device);
        let Some(state) = state.filter(|_| is_mine) else { return false };
        let ordered = self.orders.end(device);
        if state == CommandState::Succeeded {
            if let (Some(level), Some(lamp)) = (ordered, self.lamps.get_mut(device)) {
                lamp.level = Some(level);
            }
        } else {
            self.orders.cool_down(device, time.0);
        }
        true
    }

    /// Orders new levels for lamps that should have another: all of them, or those that follow a sensor among `busy`.
    fn reconsider(
        &mut self,
        index: LogIndex,
        shard_time_us: i64,
        busy: Option<&BTreeSet<DeviceNumber>>,
    ) -> Vec<ServiceCommand> {
        if self.mode != ServiceMode::Active || self.ticked_us == i64::MIN {
            return Vec::new();
        }
        let sun = Sun::at(Timestamp(self.ticked_us));
        let mean = traffic::mean_relative(&self.sensors, self.ticked_us);
        let mut commands = Vec::new();
        for (device, lamp) in self.lamps.iter() {
            let is_concerned = busy.is_none_or(|busy| lamp.sensor.is_some_and(|sensor| busy.contains(&sensor)));
            if !is_concerned || !self.orders.may_order(device) {
                continue;
            }
            let target = if level::is_dark(lamp.elevation_deg(&sun)) {
                let nearby = lamp.sensor.and_then(|sensor| self.sensors.get(&sensor)?.relative(self.ticked_us));
                level::dark_level(lamp.minimum, nearby.or(mean), lamp.level)
            } else {
                Level::OFF
            };
            if lamp.level != Some(target) {
                self.orders.order(device, target, shard_time_us);
                commands.push(order(index, device, target));
            }
        }
        self.energy.commands += commands.len() as u64;
        commands
    }
}

/// The same id when the same entry is taken in again.
fn order(index: LogIndex, device: DeviceNumber, level: Level) -> ServiceCommand {
    let id = format!("{}-{}-{}", Lighting::NAME, index.0, device.0);
    let level = message::Value { kind: Some(message::value::Kind::Number(f64::from(level.percent()))) };
    ServiceCommand {
        device,
        id: CommandId::parse(&id).expect("letters, digits and hyphens, at most 41 of them"),
        action: "set_level".to_owned(),
        arguments: vec![message::Argument { name: "level".to_owned(), value: Some(level) }],
        timeout: ORDER_TIMEOUT,
        priority: SERVICE_PRIORITY,
    }
}

fn observe_lamp(lamp: &mut Lamp, attributes: Attributes, attribute: AttributeNumber, value: ValueRef<'_>) {
    let Some(value) = number(value) else { return };
    if attributes.level == Some(attribute) {
        lamp.level = Some(Level::from_percent(value));
    } else if attributes.power == Some(attribute) {
        lamp.rate(value);
    } else if attributes.minimum == Some(attribute) {
        lamp.set_minimum(Level::from_percent(value));
    }
}

fn number(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Number(number) => Some(number),
        #[expect(clippy::cast_precision_loss, reason = "counts of vehicles and percents are small")]
        ValueRef::Integer(integer) => Some(integer as f64),
        ValueRef::Boolean(_) | ValueRef::Text(_) | ValueRef::Point(_) => None,
    }
}

fn readings(facts: &message::Facts) -> impl Iterator<Item = (Reading<'_>, ReadingMark)> {
    facts.facts.iter().flat_map(|fact| match &fact.fact {
        Some(fact::Fact::ReadingsReported(reported)) => Some(reported_readings(reported)).into_iter().flatten(),
        _ => None.into_iter().flatten(),
    })
}

/// Readings that are good and the latest of their attribute.
fn reported_readings(reported: &message::ReadingsReported) -> impl Iterator<Item = (Reading<'_>, ReadingMark)> {
    let marks = reported.mark.iter().map(|mark| ReadingMark(*mark));
    let marked = reported.readings.iter().flat_map(message::Readings::iter).zip(marks);
    marked.filter(|(_, mark)| !mark.is_late() && mark.quality() == 1)
}

#[cfg(test)]
mod tests;
