//! Which devices a command line means: by district, kind, what they report, and where they stand.

use kvarter_api::DistrictName;
use kvarter_api::v1::twin_filter::Area;
use kvarter_api::v1::{AttributeCondition, BoundingBox, Circle, Comparison, Point, TwinFilter};

use super::{target, value};

/// Longest sign first, so that `<=` is not read as `<`.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("=", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Query {
    /// Only devices of this district
    #[arg(long, value_parser = target::district)]
    pub(super) district: Option<DistrictName>,
    /// Only devices of this kind
    #[arg(long)]
    pub(super) kind: Option<String>,
    /// Only devices that report this, e.g. dimmingLevel>50: with =, !=, <, <=, > or >=; may be given again, and all must hold
    #[arg(long = "where", value_name = "CONDITION", value_parser = condition)]
    conditions: Vec<AttributeCondition>,
    /// Only devices that stand within RADIUS_M metres of a place, e.g. 56.15,10.21,500
    #[arg(long, value_name = "LAT,LON,RADIUS_M", value_parser = circle, allow_hyphen_values = true)]
    near: Option<Circle>,
    /// Only devices that stand in a rectangle
    #[arg(
        long = "box",
        value_name = "SOUTH,WEST,NORTH,EAST",
        value_parser = bounding_box,
        conflicts_with = "near",
        allow_hyphen_values = true
    )]
    bounds: Option<BoundingBox>,
}

impl Query {
    pub(super) fn filter(&self) -> TwinFilter {
        let area = self.near.map(Area::Circle).or(self.bounds.map(Area::Box));
        TwinFilter { r#where: self.conditions.clone(), area }
    }
}

/// Reads `level>50`.
fn condition(text: &str) -> Result<AttributeCondition, String> {
    let usage = "write ATTRIBUTE, =, !=, <, <=, > or >=, and VALUE, e.g. dimmingLevel>50";
    let place = text.find(['=', '!', '<', '>']).filter(|place| *place > 0).ok_or(usage)?;
    let (attribute, rest) = text.split_at(place);
    let found = COMPARISONS.iter().find_map(|(sign, comparison)| Some((rest.strip_prefix(sign)?, *comparison)));
    let (given, comparison) = found.filter(|(given, _)| !given.is_empty()).ok_or(usage)?;
    let (attribute, comparison) = (attribute.to_owned(), comparison.into());
    Ok(AttributeCondition { attribute, comparison, value: Some(value::parse(given)) })
}

fn circle(text: &str) -> Result<Circle, String> {
    let [latitude, longitude, radius_m] = numbers(text)?;
    Ok(Circle { center: Some(Point { latitude, longitude }), radius_m })
}

fn bounding_box(text: &str) -> Result<BoundingBox, String> {
    let [south, west, north, east] = numbers(text)?;
    let corner = |latitude, longitude| Some(Point { latitude, longitude });
    Ok(BoundingBox { south_west: corner(south, west), north_east: corner(north, east) })
}

fn numbers<const COUNT: usize>(text: &str) -> Result<[f64; COUNT], String> {
    let wrong = || format!("write {COUNT} numbers with commas between them");
    let numbers: Option<Vec<_>> = text.split(',').map(|part| value::parse_number(part.trim())).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use kvarter_api::v1::value::Kind;

    use super::*;

    #[test]
    fn conditions_are_read_as_they_are_written() {
        let read = |text: &str| {
            let condition = condition(text).ok()?;
            let comparison = condition.comparison();
            Some((condition.attribute, comparison, condition.value?.kind?))
        };
        let of = |name: &str, comparison, kind| Some((name.to_owned(), comparison, kind));
        assert_eq!(read("level>50"), of("level", Comparison::Greater, Kind::Integer(50)));
        assert_eq!(read("level>=2.5"), of("level", Comparison::GreaterOrEqual, Kind::Number(2.5)));
        assert_eq!(read("level<=-1"), of("level", Comparison::LessOrEqual, Kind::Integer(-1)));
        assert_eq!(read("state!=open"), of("state", Comparison::NotEqual, Kind::Text("open".to_owned())));
        assert_eq!(read("on=true"), of("on", Comparison::Equal, Kind::Boolean(true)));
        for wrong in ["", "level", ">50", "level>", "level!50"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn areas_are_numbers_with_commas() {
        let near = circle("56.15, 10.21,500").expect("a circle");
        assert_eq!((near.center, near.radius_m), (Some(Point { latitude: 56.15, longitude: 10.21 }), 500.0));
        let area = bounding_box("-1,-2,3,4").expect("a box");
        assert_eq!(area.south_west, Some(Point { latitude: -1.0, longitude: -2.0 }));
        assert!(circle("56,10").is_err() && bounding_box("1,2,3,x").is_err());
    }
}
