//! What devices were told, and where their meters stood when they were.
//!
//! Only devices that were told something take memory.
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::city::plan::Ordinal;
use crate::device::DeviceIndex;
use crate::registers::fitted;
use crate::signal::{Signal, Value};

/// What a device has gathered (energy, charge, warmth, water: its kind says) at the moment of its last order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Account {
    pub(crate) at: Timestamp,
    pub(crate) amount: f64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Setpoints {
    wanted: BTreeMap<(DeviceIndex, Signal), Value>,
    accounts: BTreeMap<DeviceIndex, Account>,
    /// By cabinet: one bit for each feeder that is switched off.
    open_feeders: BTreeMap<Ordinal, u32>,
    /// Observation time of a device's last report on an order.
    reported: BTreeMap<DeviceIndex, Timestamp>,
}

impl Setpoints {
    pub(crate) fn wanted(&self, device: DeviceIndex, signal: Signal) -> Option<Value> {
        self.wanted.get(&(device, signal)).copied()
    }

    /// Where a device's account stood last; `before` is what it had when it was fitted.
    pub(crate) fn account(&self, device: DeviceIndex, before: f64) -> Account {
        self.accounts.get(&device).copied().unwrap_or(Account { at: fitted(), amount: before })
    }

    pub(crate) fn feeder_is_open(&self, cabinet: Ordinal, feeder: u32) -> bool {
        self.open_feeders.get(&cabinet).is_some_and(|open| open & (1 << feeder) != 0)
    }

    pub(crate) fn want(&mut self, device: DeviceIndex, signal: Signal, value: Value) {
        self.wanted.insert((device, signal), value);
    }

    pub(crate) fn settle(&mut self, device: DeviceIndex, account: Account) {
        self.accounts.insert(device, account);
    }

    /// `feeder` is below 32.
    pub(crate) fn switch_feeder(&mut self, cabinet: Ordinal, feeder: u32, is_closed: bool) {
        let open = self.open_feeders.entry(cabinet).or_default();
        if is_closed {
            *open &= !(1 << feeder);
        } else {
            *open |= 1 << feeder;
        }
    }

    /// The moment at which a device observes what it reports on an order at `at`: no report of it has the same one, so that
    /// none is taken for a repeated one. Regular reports stand on whole milliseconds.
    pub(crate) fn report_moment(&mut self, device: DeviceIndex, at: Timestamp) -> Timestamp {
        let step = SignedDuration::from_micros(1);
        let off_beat = if at.as_microsecond() % 1_000 == 0 { at + step } else { at };
        let last = self.reported.get(&device).map_or(off_beat, |last| off_beat.max(*last + step));
        self.reported.insert(device, last);
        last
    }

    /// A regular report of `device` that would be observed at `observed`: not before its last report on an order.
    pub(crate) fn after_orders(&self, device: DeviceIndex, observed: Timestamp) -> Timestamp {
        let step = SignedDuration::from_micros(1);
        self.reported.get(&device).map_or(observed, |last| observed.max(*last + step))
    }
}
