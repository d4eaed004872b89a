//! Orders that lamps have not answered yet, and lamps that are left alone for a while because they did not.

use std::collections::BTreeMap;

use crate::DeviceNumber;
use crate::lighting::level::Level;

/// Orders that may be open at a time; a district goes dark or bright in waves of so many lamps.
pub(crate) const OPEN_MAX: usize = 1_000;

/// Lamps whose silence is remembered.
pub(crate) const COOLING_MAX: usize = 1_000;

/// An order of which nothing was heard for so long was never taken, microseconds of shard time: twice its deadline.
const LOST_AFTER_US: i64 = 120 * 1_000_000;

/// A lamp that failed an order, or let it expire, is left alone for so long unless it is heard of, microseconds of shard time.
const COOL_DOWN_US: i64 = 300 * 1_000_000;

/// An order under way. Times are shard time, microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) level: Level,
    pub(crate) since_us: i64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Orders {
    pub(crate) open: BTreeMap<DeviceNumber, Order>,
    /// Until when, by lamp.
    pub(crate) cooling: BTreeMap<DeviceNumber, i64>,
}

impl Orders {
    pub(crate) fn may_order(&self, device: DeviceNumber) -> bool {
        self.open.len() < OPEN_MAX && !self.open.contains_key(&device) && !self.cooling.contains_key(&device)
    }

    pub(crate) fn order(&mut self, device: DeviceNumber, level: Level, shard_time_us: i64) {
        self.open.insert(device, Order { level, since_us: shard_time_us });
    }

    /// The lamp's order is over; returns the level that it asked for.
    pub(crate) fn end(&mut self, device: DeviceNumber) -> Option<Level> {
        self.open.remove(&device).map(|order| order.level)
    }

    pub(crate) fn cool_down(&mut self, device: DeviceNumber, shard_time_us: i64) {
        if self.cooling.len() < COOLING_MAX {
            self.cooling.insert(device, shard_time_us.saturating_add(COOL_DOWN_US));
        }
    }

    /// The lamp was heard of.
    pub(crate) fn answered(&mut self, device: DeviceNumber) {
        self.cooling.remove(&device);
    }

    /// Gives up on orders without any outcome, and ends what has cooled down.
    pub(crate) fn forget_lost(&mut self, shard_time_us: i64) {
        self.open.retain(|_, order| shard_time_us.saturating_sub(order.since_us) < LOST_AFTER_US);
        self.cooling.retain(|_, until_us| *until_us > shard_time_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAMP: DeviceNumber = DeviceNumber(3);

    #[test]
    fn a_lamp_has_one_order_at_a_time() {
        let mut orders = Orders::default();
        orders.order(LAMP, Level::FULL, 0);
        assert!(!orders.may_order(LAMP));
        assert_eq!(orders.end(LAMP), Some(Level::FULL));
        assert!(orders.may_order(LAMP));
    }

    #[test]
    fn an_order_that_vanished_is_given_up() {
        let mut orders = Orders::default();
        orders.order(LAMP, Level::FULL, 0);
        orders.forget_lost(LOST_AFTER_US - 1);
        assert!(!orders.may_order(LAMP));
        orders.forget_lost(LOST_AFTER_US);
        assert!(orders.may_order(LAMP));
    }

    #[test]
    fn a_silent_lamp_is_left_alone_until_it_is_heard_of() {
        let mut orders = Orders::default();
        orders.cool_down(LAMP, 0);
        assert!(!orders.may_order(LAMP));
        orders.answered(LAMP);
        assert!(orders.may_order(LAMP));
    }
}
