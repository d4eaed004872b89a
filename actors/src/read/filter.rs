//! Which twins a list shows: attributes compared, and the area.

use std::cmp::Ordering;

use crate::message::{self, twin_filter::Area};
use crate::value::{Point, ValueRef};
use crate::{AttributeNumber, Catalog, TwinRef};

/// A filter with the numbers that its attributes have in the kind that was looked at last.
pub(super) struct Filter<'f> {
    filter: &'f message::TwinFilter,
    catalog: &'f Catalog,
    kind: String,
    /// In the order of the conditions; `None`: the kind lacks one of them, so nothing of it matches.
    attributes: Option<Vec<AttributeNumber>>,
}

impl<'f> Filter<'f> {
    pub(super) fn new(filter: &'f message::TwinFilter, catalog: &'f Catalog) -> Self {
        // No kind has an empty name.
        Self { filter, catalog, kind: String::new(), attributes: None }
    }

    pub(super) fn matches(&mut self, twin: TwinRef<'_>) -> bool {
        if !self.filter.area.as_ref().is_none_or(|area| twin.location().is_some_and(|place| is_in(place, area))) {
            return false;
        }
        if self.filter.r#where.is_empty() {
            return true;
        }
        if self.kind != twin.kind() {
            self.look_up(twin.kind());
        }
        let Some(attributes) = &self.attributes else { return false };
        attributes.iter().zip(&self.filter.r#where).all(|(attribute, condition)| {
            twin.reported_attribute(*attribute).is_some_and(|reported| holds(reported.value.as_ref(), condition))
        })
    }

    fn look_up(&mut self, kind: &str) {
        kind.clone_into(&mut self.kind);
        let kind = self.catalog.kind(kind);
        let number =
            |condition: &message::AttributeCondition| Some(kind?.attribute_named(&condition.attribute)?.number);
        self.attributes = self.filter.r#where.iter().map(number).collect();
    }
}

/// A comparison that this program does not know holds for nothing.
fn holds(reported: ValueRef<'_>, condition: &message::AttributeCondition) -> bool {
    let Some(wanted) = condition.value.as_ref().and_then(ValueRef::from_message) else { return false };
    let order = order(reported, wanted);
    let is_equal = order == Some(Ordering::Equal) || reported == wanted;
    match condition.comparison {
        1 => is_equal,
        2 => !is_equal,
        3 => order == Some(Ordering::Less),
        4 => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        5 => order == Some(Ordering::Greater),
        6 => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        _ => false,
    }
}

/// Numbers alone have an order.
fn order(one: ValueRef<'_>, other: ValueRef<'_>) -> Option<Ordering> {
    #[expect(clippy::cast_precision_loss, reason = "a number attribute has the precision of a double")]
    let number = |value| match value {
        ValueRef::Number(number) => Some(number),
        ValueRef::Integer(integer) => Some(integer as f64),
        ValueRef::Boolean(_) | ValueRef::Text(_) | ValueRef::Point(_) => None,
    };
    match (one, other) {
        (ValueRef::Integer(one), ValueRef::Integer(other)) => Some(one.cmp(&other)),
        _ => number(one)?.partial_cmp(&number(other)?),
    }
}

fn is_in(place: Point, area: &Area) -> bool {
    match area {
        Area::Box(message::Box { south_west: Some(south_west), north_east: Some(north_east) }) => {
            let (west, east) = (south_west.longitude_e7, north_east.longitude_e7);
            let is_between = if west <= east {
                (west..=east).contains(&place.longitude_e7)
            } else {
                place.longitude_e7 >= west || place.longitude_e7 <= east
            };
            is_between && (south_west.latitude_e7..=north_east.latitude_e7).contains(&place.latitude_e7)
        }
        Area::Circle(message::Circle { center: Some(center), radius_m }) => {
            place.distance_m(Point::from(*center)) <= *radius_m
        }
        Area::Box(_) | Area::Circle(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(latitude_e7: i32, longitude_e7: i32) -> Point {
        Point { latitude_e7, longitude_e7 }
    }

    /// The comparisons that hold, by number.
    fn holding(reported: ValueRef<'_>, wanted: ValueRef<'_>) -> Vec<u32> {
        let condition = |comparison| {
            let value = Some(wanted.to_message());
            message::AttributeCondition { attribute: "level".to_owned(), comparison, value }
        };
        (0..=7).filter(|comparison| holds(reported, &condition(*comparison))).collect()
    }

    #[test]
    fn numbers_are_compared_whatever_their_type() {
        let (low, high) = (ValueRef::Integer(3), ValueRef::Number(3.5));
        assert_eq!(holding(low, high), [2, 3, 4]);
        assert_eq!(holding(high, low), [2, 5, 6]);
        assert_eq!(holding(low, ValueRef::Number(3.0)), [1, 4, 6]);
        assert_eq!(holding(ValueRef::Integer(i64::MAX - 1), ValueRef::Integer(i64::MAX)), [2, 3, 4], "exactly");
    }

    #[test]
    fn what_has_no_order_is_equal_or_not() {
        let (open, shut) = (ValueRef::Text("open"), ValueRef::Text("shut"));
        assert_eq!(holding(open, open), [1]);
        assert_eq!(holding(open, shut), [2]);
        assert_eq!(holding(ValueRef::Boolean(true), ValueRef::Integer(1)), [2], "of another type");
    }

    #[test]
    fn a_box_may_cross_the_antimeridian() {
        let area = |west: i32, east: i32| {
            let (south_west, north_east) = (place(-10, west).into(), place(10, east).into());
            Area::Box(message::Box { south_west: Some(south_west), north_east: Some(north_east) })
        };
        assert!(is_in(place(10, 5), &area(-5, 5)));
        assert!(!is_in(place(11, 0), &area(-5, 5)) && !is_in(place(0, 6), &area(-5, 5)));
        let across = area(1_790_000_000, -1_790_000_000);
        assert!(is_in(place(0, 1_800_000_000), &across) && is_in(place(0, -1_795_000_000), &across));
        assert!(!is_in(place(0, 0), &across));
    }

    #[test]
    fn a_circle_holds_what_is_near() {
        // About 265 m apart.
        let (hall, station) = (place(561_525_000, 102_034_000), place(561_502_000, 102_044_000));
        let circle = |radius_m| Area::Circle(message::Circle { center: Some(hall.into()), radius_m });
        assert!(!is_in(station, &circle(255.0)) && is_in(station, &circle(275.0)));
        assert!(is_in(hall, &circle(0.1)));
    }
}
