//! Aliases: the numbers under which a client speaks of its devices, and where each device lives.

use super::lane::LaneId;

/// Highest alias that a client may choose, so that the table stays below 8 MiB.
pub(crate) const ALIAS_MAX: u32 = 1_048_575;

/// Stands in the device column for an alias whose device was refused. Shards reject it as an unknown device, since device
/// numbers are dense from 0 and never get there. It is no alias either: they end at [`ALIAS_MAX`].
pub(crate) const DEVICE_NONE: u32 = u32::MAX;

const LANE_NONE: u32 = u32::MAX;

/// A table from alias to lane and device number, dense by alias.
#[derive(Default)]
pub(crate) struct Aliases {
    slots: Vec<Slot>,
}

#[derive(Clone, Copy)]
struct Slot {
    lane: u32,
    device: u32,
    /// The device was refused. Its readings still go to the shard, which alone knows whether it took them on an earlier
    /// connection; the alias is free for another device.
    is_refused: bool,
}

const FREE: Slot = Slot { lane: LANE_NONE, device: DEVICE_NONE, is_refused: false };

impl Aliases {
    /// Takes `alias` for a device of `lane` that is being attached; false when the alias is in use.
    pub(crate) fn claim(&mut self, alias: u32, lane: LaneId) -> bool {
        debug_assert!(alias <= ALIAS_MAX);
        let position = alias as usize;
        if position >= self.slots.len() {
            self.slots.resize(position + 1, FREE);
        }
        let slot = &mut self.slots[position];
        let is_free = slot.lane == LANE_NONE || slot.is_refused;
        if is_free {
            *slot = Slot { lane: lane.0, ..FREE };
        }
        is_free
    }

    /// The claimed `alias` is attached under this device number.
    pub(crate) fn attach(&mut self, alias: u32, device: u32) {
        if let Some(slot) = self.slots.get_mut(alias as usize) {
            slot.device = device;
        }
    }

    /// The device of a claimed alias could not be attached.
    pub(crate) fn refuse(&mut self, alias: u32) {
        if let Some(slot) = self.slots.get_mut(alias as usize) {
            slot.is_refused = true;
        }
    }

    /// The lane of an alias that is attached or being attached.
    #[inline]
    pub(crate) fn lane(&self, alias: u32) -> Option<LaneId> {
        let slot = self.slots.get(alias as usize)?;
        (slot.lane != LANE_NONE && !slot.is_refused).then_some(LaneId(slot.lane))
    }

    /// The lane of readings under `alias`, and what stands for their device until it is resolved: the alias, or
    /// [`DEVICE_NONE`] when the device was refused.
    #[inline]
    pub(crate) fn route(&self, alias: u32) -> Option<(LaneId, u32)> {
        let slot = self.slots.get(alias as usize)?;
        let stand_in = if slot.is_refused { DEVICE_NONE } else { alias };
        (slot.lane != LANE_NONE).then_some((LaneId(slot.lane), stand_in))
    }

    /// The device number of an attached alias, else [`DEVICE_NONE`].
    #[inline]
    pub(crate) fn device(&self, alias: u32) -> u32 {
        self.slots.get(alias as usize).map_or(DEVICE_NONE, |slot| slot.device)
    }
}
