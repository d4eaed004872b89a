//! Filters of lists. What they compare is held against the catalog here, so that a mistyped name is told and does not merely
//! match nothing.

use kvarter_actors::{Attribute, Catalog, ValueError, ValueRef, ValueType, message};
use kvarter_api::v1;
use kvarter_api::v1::twin_filter::Area;
use tonic::Status;

use super::value;
use crate::api::status;

const CONDITIONS_MAX: usize = 16;
const RADIUS_MAX_M: f64 = 1_000_000.0;

/// The filter under `field` of a request for devices of `kind`, which is empty for all. `None`: it lets everything through.
pub(crate) fn from_public(
    filter: Option<v1::TwinFilter>,
    kind: &str,
    catalog: &Catalog,
    field: &str,
) -> Result<Option<message::TwinFilter>, Status> {
    let Some(filter) = filter.filter(|filter| *filter != v1::TwinFilter::default()) else { return Ok(None) };
    if filter.r#where.len() > CONDITIONS_MAX {
        let problem = format!("{} conditions, at most {CONDITIONS_MAX} are allowed", filter.r#where.len());
        return Err(status::invalid(format!("{field}.where"), problem));
    }
    let conditions =
        filter.r#where.into_iter().enumerate().map(|(place, condition)| {
            condition_from_public(condition, kind, catalog, &format!("{field}.where[{place}]"))
        });
    let r#where = conditions.collect::<Result<_, _>>()?;
    let area = filter.area.map(|area| area_from_public(area, field)).transpose()?;
    Ok(Some(message::TwinFilter { r#where, area }))
}

fn condition_from_public(
    condition: v1::AttributeCondition,
    kind: &str,
    catalog: &Catalog,
    field: &str,
) -> Result<message::AttributeCondition, Status> {
    let comparison = match condition.comparison() {
        v1::Comparison::Unspecified => return Err(status::invalid(format!("{field}.comparison"), "none is given")),
        v1::Comparison::Equal => 1,
        v1::Comparison::NotEqual => 2,
        v1::Comparison::Less => 3,
        v1::Comparison::LessOrEqual => 4,
        v1::Comparison::Greater => 5,
        v1::Comparison::GreaterOrEqual => 6,
    };
    let value = value::from_public(condition.value, &format!("{field}.value"))?;
    let given = ValueRef::from_message(&value).ok_or_else(|| status::invalid(format!("{field}.value"), "no value"))?;
    let kinds = catalog.kinds().filter(|known| kind.is_empty() || known.name == kind);
    let attributes = kinds.filter_map(|known| known.attribute_named(&condition.attribute));
    let mut problem = match kind {
        "" => format!("no kind has an attribute `{}`", condition.attribute),
        kind => format!("a {kind} has no attribute `{}`", condition.attribute),
    };
    for attribute in attributes {
        match compares(attribute, comparison, given) {
            Ok(()) => {
                let attribute = condition.attribute;
                return Ok(message::AttributeCondition { attribute, comparison, value: Some(value) });
            }
            Err(mismatch) => problem = format!("`{}`: {mismatch}", condition.attribute),
        }
    }
    Err(status::invalid(field, problem))
}

/// Whether the comparison of what `attribute` reports with `given` means something.
fn compares(attribute: &Attribute, comparison: u32, given: ValueRef<'_>) -> Result<(), String> {
    let has_order = matches!(attribute.value_type, ValueType::Number | ValueType::Integer);
    if comparison > 2 && !has_order {
        return Err("only numbers have an order".to_owned());
    }
    match attribute.check(given) {
        Ok(_) => Ok(()),
        Err(ValueError::WrongType) if has_order && matches!(given, ValueRef::Number(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn area_from_public(area: Area, field: &str) -> Result<message::twin_filter::Area, Status> {
    let place = |point: Option<v1::Point>, corner: &str| {
        let field = format!("{field}.{corner}");
        let point = point.ok_or_else(|| status::invalid(field.as_str(), "no place"))?;
        value::place_from_public(&point, &field)
    };
    Ok(match area {
        Area::Box(v1::BoundingBox { south_west, north_east }) => {
            let (south_west, north_east) = (place(south_west, "box.south_west")?, place(north_east, "box.north_east")?);
            if south_west.latitude_e7 > north_east.latitude_e7 {
                return Err(status::invalid(format!("{field}.box"), "its south lies north of its north"));
            }
            let (south_west, north_east) = (Some(south_west), Some(north_east));
            message::twin_filter::Area::Box(message::Box { south_west, north_east })
        }
        Area::Circle(v1::Circle { center, radius_m }) => {
            let center = Some(place(center, "circle.center")?);
            if !(radius_m > 0.0 && radius_m <= RADIUS_MAX_M) {
                let problem = format!("{radius_m} m is not above 0 and at most {RADIUS_MAX_M} m");
                return Err(status::invalid(format!("{field}.circle.radius_m"), problem));
            }
            message::twin_filter::Area::Circle(message::Circle { center, radius_m })
        }
    })
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    fn condition(attribute: &str, comparison: v1::Comparison, kind: v1::value::Kind) -> v1::TwinFilter {
        let (attribute, comparison) = (attribute.to_owned(), comparison.into());
        let value = Some(v1::Value { kind: Some(kind) });
        v1::TwinFilter { r#where: vec![v1::AttributeCondition { attribute, comparison, value }], area: None }
    }

    fn refused_field(filter: v1::TwinFilter, kind: &str) -> Option<String> {
        let status = from_public(Some(filter), kind, &Catalog::built_in(), "filter").err()?;
        let details = status.get_error_details();
        Some(details.bad_request().expect("a bad request").field_violations[0].field.clone())
    }

    #[test]
    fn a_condition_is_held_against_the_catalog() {
        use v1::Comparison::{Equal, Greater, Unspecified};
        use v1::value::Kind::{Boolean, Integer, Number, Text};
        for kind in ["luminaire", ""] {
            assert_eq!(refused_field(condition("dimmingLevel", Greater, Integer(50)), kind), None);
            assert_eq!(refused_field(condition("dimmingLevel", Greater, Number(50.5)), kind), None);
        }
        let refused = |filter, kind| refused_field(filter, kind).expect("a refusal");
        assert_eq!(
            refused(condition("dimmingLevel", Unspecified, Integer(50)), "luminaire"),
            "filter.where[0].comparison"
        );
        assert_eq!(refused(condition("dimmingLevel", Equal, Number(f64::NAN)), "luminaire"), "filter.where[0].value");
        for (filter, kind) in [
            (condition("dimmingLevel", Equal, Text("high".to_owned())), "luminaire"),
            (condition("dimmingLevel", Equal, Boolean(true)), ""),
            (condition("dimmingLevel", Equal, Integer(50)), "noise"),
            (condition("dimingLevel", Equal, Integer(50)), ""),
        ] {
            assert_eq!(refused(filter, kind), "filter.where[0]");
        }
    }

    #[test]
    fn an_area_is_a_place_with_an_extent() {
        let point = |latitude| Some(v1::Point { latitude, longitude: 10.0 });
        let circle = |radius_m| v1::TwinFilter {
            area: Some(Area::Circle(v1::Circle { center: point(56.0), radius_m })),
            ..v1::TwinFilter::default()
        };
        assert_eq!(refused_field(circle(100.0), ""), None);
        for radius_m in [0.0, -1.0, f64::NAN, 1e9] {
            assert_eq!(refused_field(circle(radius_m), "").as_deref(), Some("filter.circle.radius_m"), "{radius_m}");
        }
        let corners = |south_west, north_east| v1::TwinFilter {
            area: Some(Area::Box(v1::BoundingBox { south_west, north_east })),
            ..v1::TwinFilter::default()
        };
        assert_eq!(refused_field(corners(point(1.0), point(2.0)), ""), None);
        assert_eq!(refused_field(corners(point(2.0), point(1.0)), "").as_deref(), Some("filter.box"));
        assert_eq!(refused_field(corners(point(2.0), None), "").as_deref(), Some("filter.box.north_east"));
        assert_eq!(refused_field(corners(point(91.0), None), "").as_deref(), Some("filter.box.south_west"));
    }

    #[test]
    fn an_empty_filter_is_none() {
        let none = from_public(Some(v1::TwinFilter::default()), "", &Catalog::built_in(), "filter").expect("valid");
        assert_eq!(none, None);
    }
}
