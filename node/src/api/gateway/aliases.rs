//! Aliases: the numbers under which a client speaks of its devices, and where each device lives.

use super::lane::LaneId;

/// Highest alias that a client may choose, so that the table stays below 8 MiB.
pub(crate) const ALIAS_MAX: u32 = 1_048_575;

/// Stands in the device column for an alias that is not attached. Shards reject it as an unknown device, since device
/// numbers are dense from 0 and never get there.
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
}

const FREE: Slot = Slot { lane: LANE_NONE, device: DEVICE_NONE };

impl Aliases {
    /// Takes `alias` for a device of `lane` that is being attached; false when the alias is in use.
    pub(crate) fn claim(&mut self, alias: u32, lane: LaneId) -> bool {
        debug_assert!(alias <= ALIAS_MAX);
        let position = alias as usize;
        if position >= self.slots.len() {
            self.slots.resize(position + 1, FREE);
        }
        let is_free = self.slots[position].lane == LANE_NONE;
        if is_free {
            self.slots[position] = Slot { lane: lane.0, device: DEVICE_NONE };
        }
        is_free
    }

    /// The claimed `alias` is attached under this device number.
    pub(crate) fn attach(&mut self, alias: u32, device: u32) {
        if let Some(slot) = self.slots.get_mut(alias as usize) {
            slot.device = device;
        }
    }

    /// Gives a claimed alias back: its device could not be attached.
    pub(crate) fn release(&mut self, alias: u32) {
        if let Some(slot) = self.slots.get_mut(alias as usize) {
            *slot = FREE;
        }
    }

    /// The lane of an alias that is attached or being attached.
    #[inline]
    pub(crate) fn lane(&self, alias: u32) -> Option<LaneId> {
        let slot = self.slots.get(alias as usize)?;
        (slot.lane != LANE_NONE).then_some(LaneId(slot.lane))
    }

    /// The device number of an attached alias, else [`DEVICE_NONE`].
    #[inline]
    pub(crate) fn device(&self, alias: u32) -> u32 {
        self.slots.get(alias as usize).map_or(DEVICE_NONE, |slot| slot.device)
    }
}
