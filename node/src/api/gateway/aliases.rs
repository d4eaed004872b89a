//! Aliases: the numbers under which a client speaks of its devices, and where each device lives.

use super::lane::LaneId;

/// Highest alias that a client may choose.
pub(crate) const ALIAS_MAX: u32 = 1_048_575;

/// Stands in the device column for an alias whose device was refused. Shards reject it as an unknown device, since device
/// numbers are dense from 0 and never get there. It is no alias either: they end at [`ALIAS_MAX`].
pub(crate) const DEVICE_NONE: u32 = u32::MAX;

const LANE_NONE: u32 = u32::MAX;

/// Aliases of one page of the table.
const PAGE: usize = 64;

/// A table from alias to lane and device number. Aliases are dense; a client whose are not takes a page of the table for each.
#[derive(Default)]
pub(crate) struct Aliases {
    pages: Vec<Option<Box<[Slot; PAGE]>>>,
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
        let (page, position) = place(alias);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let slot = &mut self.pages[page].get_or_insert_with(|| Box::new([FREE; PAGE]))[position];
        let is_free = slot.lane == LANE_NONE || slot.is_refused;
        if is_free {
            *slot = Slot { lane: lane.0, ..FREE };
        }
        is_free
    }

    /// The claimed `alias` is attached under this device number.
    pub(crate) fn attach(&mut self, alias: u32, device: u32) {
        if let Some(slot) = self.slot_mut(alias) {
            slot.device = device;
        }
    }

    /// The device of a claimed alias could not be attached.
    pub(crate) fn refuse(&mut self, alias: u32) {
        if let Some(slot) = self.slot_mut(alias) {
            slot.is_refused = true;
        }
    }

    /// The lane of an alias that is attached or being attached.
    #[inline]
    pub(crate) fn lane(&self, alias: u32) -> Option<LaneId> {
        let slot = self.slot(alias)?;
        (slot.lane != LANE_NONE && !slot.is_refused).then_some(LaneId(slot.lane))
    }

    /// The lane of readings under `alias`, and what stands for their device until it is resolved: the alias, or
    /// [`DEVICE_NONE`] when the device was refused.
    #[inline]
    pub(crate) fn route(&self, alias: u32) -> Option<(LaneId, u32)> {
        let slot = self.slot(alias)?;
        let stand_in = if slot.is_refused { DEVICE_NONE } else { alias };
        (slot.lane != LANE_NONE).then_some((LaneId(slot.lane), stand_in))
    }

    /// The device number of an attached alias, else [`DEVICE_NONE`].
    #[inline]
    pub(crate) fn device(&self, alias: u32) -> u32 {
        self.slot(alias).map_or(DEVICE_NONE, |slot| slot.device)
    }

    #[inline]
    fn slot(&self, alias: u32) -> Option<&Slot> {
        let (page, position) = place(alias);
        Some(&self.pages.get(page)?.as_ref()?[position])
    }

    fn slot_mut(&mut self, alias: u32) -> Option<&mut Slot> {
        let (page, position) = place(alias);
        Some(&mut self.pages.get_mut(page)?.as_mut()?[position])
    }
}

#[inline]
fn place(alias: u32) -> (usize, usize) {
    (alias as usize / PAGE, alias as usize % PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_alias_costs_a_page_and_no_more() {
        let mut aliases = Aliases::default();
        for alias in [0, 1, u32::try_from(PAGE).unwrap(), ALIAS_MAX] {
            assert!(aliases.claim(alias, LaneId(7)));
            assert!(!aliases.claim(alias, LaneId(7)), "{alias} is in use");
            aliases.attach(alias, alias + 1);
        }
        assert_eq!(aliases.pages.iter().flatten().count(), 3);
        assert_eq!([0, 1, 64, ALIAS_MAX].map(|alias| aliases.device(alias)), [1, 2, 65, ALIAS_MAX + 1]);
        assert_eq!([2, 128, DEVICE_NONE].map(|alias| aliases.device(alias)), [DEVICE_NONE; 3]);
        assert_eq!(aliases.lane(ALIAS_MAX - 1), None);
    }
}
