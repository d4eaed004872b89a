//! A simulated city: when its devices report, what becomes of their reports, and how they obey.
//!
//! Start at [`City::report_next`]. `plan` says where devices are, `beat` when they report, `reports` what waits; what they
//! report stands in `measure`, what people report in `complaints`. `light` watches the lamps of a city. All of it is a function of seed, start and orders: no clock, no shared random numbers.
pub(crate) mod beat;
mod complaints;
pub(crate) mod light;
pub(crate) mod plan;
mod reports;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::causes::Sky;
use crate::charger::Charger;
use crate::device::DeviceIndex;
use crate::dials::{Dials, Obedience, is_on_radio};
use crate::draw::{Draw, Subject};
use crate::measure::{Scene, Site, charger_rating_w};
use crate::order::{Order, OrderRefused, Wish};
use crate::registers::Registers;
use crate::scenario::{Course, Scenario};
use crate::setpoints::{Account, Setpoints};
use crate::signal::{Signal, SimulatedKind, TimedReading, Value};
use beat::Beat;
use complaints::{Complaint, complaints};
use light::{LightAccount, LightFigures};
use plan::{District, Ordinal, Plan};
use reports::{Delayed, Restarting};

/// Skies of the last minutes, by minute.
const SKIES: usize = 8;
const MINUTE_S: i64 = 60;

#[derive(Clone, Debug)]
pub(crate) struct City {
    seed: u64,
    plan: Plan,
    usual: Dials,
    course: Course,
    beats: Vec<Beat>,
    /// What arrives late.
    delayed: Delayed,
    /// Devices that come back from blackouts.
    restarting: Vec<Restarting>,
    registers: Registers,
    setpoints: Setpoints,
    /// By ordinal.
    chargers: Vec<Charger>,
    skies: [Option<(i64, Sky)>; SKIES],
    /// Orders taken so far.
    orders: i64,
    /// The districts whose devices report; none: all.
    played: Option<BTreeSet<District>>,
    light: Option<LightAccount>,
}

/// One report of a device.
#[derive(Clone, Copy, Debug)]
struct Report<'a> {
    kind: SimulatedKind,
    ordinal: Ordinal,
    signals: &'a [Signal],
    due: Timestamp,
    interval: SignedDuration,
}

impl City {
    /// The city of `plan` from `start` on; its devices report what `signals` has.
    pub(crate) fn new(
        seed: u64,
        plan: Plan,
        start: Timestamp,
        signals: &[Signal],
        usual: Dials,
        scenario: Option<&Scenario>,
    ) -> Self {
        let course = Course::new(scenario, start, &usual);
        let mut restarting = course.restarts(&usual);
        restarting.retain(|restart| restart.at >= start);
        let chargers = (0..plan.count(SimulatedKind::EvCharger)).map(|charger| Charger::new(charger_rating_w(charger)));
        Self {
            beats: beats(&plan, signals, start),
            delayed: Delayed::default(),
            restarting: restarting.into_iter().map(|restart| Restarting::new(restart, plan.device_count())).collect(),
            registers: Registers::new(seed, plan.centre()),
            setpoints: Setpoints::default(),
            chargers: chargers.collect(),
            skies: [None; SKIES],
            orders: 0,
            played: None,
            light: None,
            seed,
            plan,
            usual,
            course,
        }
    }

    /// The same city of which only the devices of these districts report.
    pub(crate) fn only(mut self, districts: BTreeSet<District>) -> Self {
        self.played = Some(districts);
        self
    }

    /// The same city with an account of its light.
    pub(crate) fn with_light(mut self, account: LightAccount) -> Self {
        self.light = Some(account);
        self
    }

    /// What the lamps took and gave before `until`, by district; empty without an account.
    pub(crate) fn light(&mut self, until: Timestamp) -> Vec<LightFigures> {
        self.watch_light(until);
        self.light.as_ref().map(LightAccount::figures).unwrap_or_default()
    }

    fn watch_light(&mut self, until: Timestamp) {
        if let Some(mut account) = self.light.take() {
            account.advance(until, self);
            self.light = Some(account);
        }
    }

    fn is_played(&self, kind: SimulatedKind, ordinal: Ordinal) -> bool {
        self.played.as_ref().is_none_or(|districts| districts.contains(&self.plan.district(kind, ordinal)))
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// When the next report is due; that it is lost on its way is not known yet.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let beats = self.beats.iter().map(Beat::due);
        let restarts = self.restarting.iter().filter_map(Restarting::due);
        beats.chain(restarts).chain(self.delayed.due()).min()
    }

    /// Makes the report that is due next, or delivers the delayed reading.
    pub(crate) fn report_next(&mut self, readings: &mut Vec<TimedReading>) {
        let Some(due) = self.next_due() else { return };
        self.watch_light(due);
        self.registers.extend(due, &self.course);
        if self.delayed.due() == Some(due) {
            readings.extend(self.delayed.take());
        } else if let Some(place) = self.restarting.iter().position(|one| one.due() == Some(due)) {
            self.restart_next(place, readings);
        } else if let Some(place) = self.beats.iter().position(|beat| beat.due() == due) {
            let mut beat = self.beats.swap_remove(place);
            let (turn, interval) = (beat.next_turn(), beat.interval());
            let report =
                Report { kind: beat.kind, ordinal: turn.ordinal, signals: &beat.signals, due: turn.due, interval };
            self.report(&report, readings);
            // Beats keep their places: of two that are due at once, the first in the list goes first.
            self.beats.push(beat);
            let last = self.beats.len() - 1;
            self.beats.swap(place, last);
        }
    }

    /// Lets a device carry out `order` at the moment `at`; appends what it reports then.
    pub(crate) fn execute(
        &mut self,
        device: DeviceIndex,
        order: &Order,
        at: Timestamp,
        readings: &mut Vec<TimedReading>,
    ) -> Result<Obedience, OrderRefused> {
        let (kind, _) = self.plan.role(device);
        let wish = order.understood_by(kind)?;
        Ok(self.obey(device, wish, at, readings))
    }

    /// Does what was wished, as far as the device listens.
    pub(crate) fn obey(
        &mut self,
        device: DeviceIndex,
        wish: Wish,
        at: Timestamp,
        readings: &mut Vec<TimedReading>,
    ) -> Obedience {
        let (kind, ordinal) = self.plan.role(device);
        self.orders += 1;
        let remoteness = self.plan.remoteness(self.plan.district(kind, ordinal));
        let dials = self.course.dials(at, remoteness).unwrap_or(&self.usual);
        let obedience = dials.obedience(self.seed, device, self.orders);
        if obedience == Obedience::Ignored {
            return obedience;
        }
        self.watch_light(at);
        self.registers.extend(at, &self.course);
        self.settle(device, at);
        let signal = match wish {
            Wish::Set(signal, value) => {
                self.setpoints.want(device, signal, value);
                signal
            }
            Wish::SwitchFeeder { feeder, is_closed } => {
                for lamp in self.plan.partners(kind, ordinal, SimulatedKind::Luminaire) {
                    self.settle(self.plan.device(SimulatedKind::Luminaire, lamp), at);
                }
                self.setpoints.switch_feeder(ordinal, feeder, is_closed);
                Signal::CabinetPower
            }
            Wish::Unlock => {
                if let Some(charger) = self.chargers.get_mut(ordinal as usize) {
                    charger.unlock(self.seed, device.0);
                }
                Signal::ChargerState
            }
        };
        if let (Wish::Set(Signal::ChargerLimit, Value::Number(limit_w)), Some(charger)) =
            (wish, self.chargers.get_mut(ordinal as usize))
        {
            charger.limit_w = limit_w.min(charger_rating_w(ordinal));
        }
        let observed = self.setpoints.report_moment(device, at);
        let sky = self.sky(at);
        let site = self.site(kind, ordinal, at, &sky);
        let told = echo(signal).map(|signal| TimedReading { observed, device, signal, value: site.value(signal) });
        readings.extend(told);
        obedience
    }

    /// Writes down what a device has gathered, before an order changes how it goes on.
    fn settle(&mut self, device: DeviceIndex, at: Timestamp) {
        let (kind, ordinal) = self.plan.role(device);
        if kind == SimulatedKind::EvCharger {
            self.advance_charger(ordinal, at);
        }
        let sky = self.sky(at);
        let amount = self.site(kind, ordinal, at, &sky).gathered();
        self.setpoints.settle(device, Account { at, amount });
    }

    fn advance_charger(&mut self, ordinal: Ordinal, at: Timestamp) {
        let device = self.plan.device(SimulatedKind::EvCharger, ordinal);
        if let Some(charger) = self.chargers.get_mut(ordinal as usize) {
            charger.advance(self.seed, device.0, at);
        }
    }

    fn report(&mut self, report: &Report<'_>, readings: &mut Vec<TimedReading>) {
        let Report { kind, ordinal, due, interval, .. } = *report;
        let Some(first) = report.signals.first() else { return };
        if !self.is_played(kind, ordinal) {
            return;
        }
        if kind == SimulatedKind::CitizenReports {
            return self.complain(ordinal, due, readings);
        }
        let device = self.plan.device(kind, ordinal);
        let remoteness = self.plan.remoteness(self.plan.district(kind, ordinal));
        // What runs on the grid is silent without it.
        if !is_on_radio(kind) && !self.course.effect(due, remoteness).has_power {
            return;
        }
        let dials = self.course.dials(due, remoteness).unwrap_or(&self.usual);
        if dials.outage_end(self.seed, device, kind, due).is_some() {
            return;
        }
        let buffer = SignedDuration::from_secs_f64(dials.buffer_s);
        let missed = if is_on_radio(kind) { 0 } else { self.missed(device, kind, due, interval, buffer) };
        let Some(arrival) = dials.arrival(self.seed, device, *first, due, interval) else { return };
        let from = readings.len();
        self.measure(report, arrival.measured, arrival.observed, readings);
        if arrival.is_doubled {
            readings.extend_from_within(from..);
        }
        if let Some(delay) = arrival.delay {
            self.delayed.put(due + delay, readings.drain(from..));
        }
        for number in 1..=missed {
            let moment = due - interval * number;
            self.measure(report, moment, moment, readings);
        }
    }

    /// Appends what people report on a channel: each report is observed at a moment of its own.
    fn complain(&mut self, channel: Ordinal, due: Timestamp, readings: &mut Vec<TimedReading>) {
        let sky = self.sky(due);
        let device = self.plan.device(SimulatedKind::CitizenReports, channel);
        let mut observed = due;
        for (number, Complaint { service, place }) in (0..).zip(complaints(self, channel, due, &sky)) {
            let id =
                Draw::new(self.seed, Subject::Report, device.0, due.as_microsecond() + number).below(u32::MAX - 1) + 1;
            let values = [
                (Signal::ReportServiceCode, Signal::ReportServiceCode.choice(service).unwrap_or(Value::Poison)),
                (Signal::ReportLocation, Value::Point(place)),
                (Signal::ReportRequestId, Value::Label(id)),
            ];
            readings.extend(values.map(|(signal, value)| TimedReading { observed, device, signal, value }));
            observed += SignedDuration::from_micros(1);
        }
    }

    /// How many reports before `due` a device kept while an outage lasted that is over now.
    fn missed(
        &self,
        device: DeviceIndex,
        kind: SimulatedKind,
        due: Timestamp,
        interval: SignedDuration,
        buffer: SignedDuration,
    ) -> i32 {
        let mut missed = 0;
        while interval * (missed + 1) <= buffer {
            let moment = due - interval * (missed + 1);
            match self.usual.outage_end(self.seed, device, kind, moment) {
                Some(end) if end <= due => missed += 1,
                Some(_) | None => break,
            }
        }
        missed
    }

    /// Appends what a device measures at `measured` and takes for `observed`.
    fn measure(
        &mut self,
        report: &Report<'_>,
        measured: Timestamp,
        observed: Timestamp,
        readings: &mut Vec<TimedReading>,
    ) {
        let Report { kind, ordinal, signals, .. } = *report;
        if kind == SimulatedKind::EvCharger {
            self.advance_charger(ordinal, measured);
        }
        let device = self.plan.device(kind, ordinal);
        let remoteness = self.plan.remoteness(self.plan.district(kind, ordinal));
        let usual = &self.usual;
        let firmware = self.course.dials(measured, remoteness).unwrap_or(usual).firmware(self.seed, device, measured);
        let shown = firmware.stuck_at.unwrap_or(measured);
        let sky = self.sky(shown);
        let site = self.site(kind, ordinal, shown, &sky);
        let dials = self.course.dials(measured, remoteness).unwrap_or(&self.usual);
        let mut draw = Draw::new(self.seed, Subject::Transport, device.0, -measured.as_millisecond());
        let observed = self.setpoints.after_orders(device, observed);
        for signal in signals {
            let value = dials.spoil(&firmware, *signal, site.value(*signal), &mut draw);
            readings.push(TimedReading { observed, device, signal: *signal, value });
        }
    }

    /// A device that is back from a blackout tells all it knows.
    fn restart_next(&mut self, place: usize, readings: &mut Vec<TimedReading>) {
        let Some((restart, number, due)) = self.restarting[place].take() else { return };
        let (kind, ordinal) = self.plan.role(DeviceIndex(number));
        let remoteness = self.plan.remoteness(self.plan.district(kind, ordinal));
        let [from, to] = restart.part;
        if is_on_radio(kind) || remoteness < from || remoteness >= to || !self.is_played(kind, ordinal) {
            return;
        }
        let own = self.beats.iter().filter(|beat| beat.kind == kind);
        let signals: Vec<Signal> = own.flat_map(|beat| beat.signals.iter().copied()).collect();
        let report = Report { kind, ordinal, signals: &signals, due, interval: SignedDuration::ZERO };
        self.measure(&report, due, due, readings);
    }

    /// A device at a moment, under the sky of its minute.
    fn site(&self, kind: SimulatedKind, ordinal: Ordinal, at: Timestamp, sky: &Sky) -> Site<'_> {
        let scene = Scene {
            seed: self.seed,
            plan: &self.plan,
            course: &self.course,
            registers: &self.registers,
            setpoints: &self.setpoints,
        };
        let charger = self.chargers.get(ordinal as usize).filter(|_| kind == SimulatedKind::EvCharger);
        Site::new(scene, kind, ordinal, (at, sky), charger)
    }

    pub(crate) fn sky(&mut self, at: Timestamp) -> Sky {
        let minute = at.as_second().div_euclid(MINUTE_S);
        let place = usize::try_from(minute.rem_euclid(8)).expect("below the number of skies");
        if let Some((kept, sky)) = self.skies[place]
            && kept == minute
        {
            return sky;
        }
        let start = Timestamp::from_second(minute * MINUTE_S).unwrap_or(at);
        let sky = Sky::at(self.seed, self.plan.centre(), start);
        self.skies[place] = Some((minute, sky));
        sky
    }
}

/// A beat for each kind and interval that has signals and devices.
fn beats(plan: &Plan, signals: &[Signal], start: Timestamp) -> Vec<Beat> {
    let mut beats: Vec<Beat> = Vec::new();
    for signal in signals {
        let kind = signal.kind();
        let interval =
            if kind == SimulatedKind::CitizenReports { complaints::LOOK_INTERVAL } else { signal.interval() };
        match beats.iter_mut().find(|beat| beat.kind == kind && beat.interval() == interval) {
            Some(beat) => beat.signals.push(*signal),
            None if plan.count(kind) > 0 => {
                beats.push(Beat::new(kind, vec![*signal], interval, plan.count(kind), start));
            }
            None => {}
        }
    }
    beats
}

/// What a device tells after an order about `signal`: that, and what follows from it at once.
fn echo(signal: Signal) -> impl Iterator<Item = Signal> {
    let follows: &[Signal] = match signal {
        Signal::LuminaireDimmingLevel => &[Signal::LuminaireActivePower, Signal::LuminairePowerState],
        Signal::ChargerLimit => &[Signal::ChargerState, Signal::ChargerPower],
        Signal::ChargerState => &[Signal::ChargerConnector, Signal::ChargerPower],
        Signal::BatteryPowerSetpoint => &[Signal::BatteryActivePower, Signal::BatteryStatus],
        Signal::SolarPowerLimit => &[Signal::SolarActivePower],
        Signal::MeterConnected => &[Signal::MeterPower],
        Signal::CrossingCurrentTimePlan => &[Signal::CrossingCycleLength],
        Signal::PumpSpeed => &[Signal::PumpFlow, Signal::PumpPower],
        _ => &[],
    };
    std::iter::once(signal).chain(follows.iter().copied())
}

#[cfg(test)]
mod tests;
