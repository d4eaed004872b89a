//! Values and places.

use kvarter_actors::{Point, TEXT_BYTES_MAX, message};
use kvarter_api::v1::{self, value};
use tonic::Status;

use crate::api::status;

const E7: f64 = 1e7;

pub(crate) fn to_public(value: message::Value) -> v1::Value {
    let kind = value.kind.map(|kind| match kind {
        message::value::Kind::Number(number) => value::Kind::Number(number),
        message::value::Kind::Integer(integer) => value::Kind::Integer(integer),
        message::value::Kind::Boolean(boolean) => value::Kind::Boolean(boolean),
        message::value::Kind::Text(text) => value::Kind::Text(text),
        message::value::Kind::Point(point) => value::Kind::Point(point_to_public(point.into())),
    });
    v1::Value { kind }
}

/// The value under `field` of a request; finite, on Earth, and of a length that twins take.
pub(crate) fn from_public(value: Option<v1::Value>, field: &str) -> Result<message::Value, Status> {
    let kind = value.and_then(|value| value.kind).ok_or_else(|| status::invalid(field, "no value"))?;
    let kind = match kind {
        value::Kind::Number(number) if !number.is_finite() => {
            return Err(status::invalid(field, format!("{number} is not a finite number")));
        }
        value::Kind::Number(number) => message::value::Kind::Number(number),
        value::Kind::Integer(integer) => message::value::Kind::Integer(integer),
        value::Kind::Boolean(boolean) => message::value::Kind::Boolean(boolean),
        value::Kind::Text(text) if text.len() > TEXT_BYTES_MAX => {
            let problem = format!("{} bytes of text, at most {TEXT_BYTES_MAX} are allowed", text.len());
            return Err(status::invalid(field, problem));
        }
        value::Kind::Text(text) => message::value::Kind::Text(text),
        value::Kind::Point(point) => message::value::Kind::Point(place_from_public(&point, field)?),
    };
    Ok(message::Value { kind: Some(kind) })
}

/// The place under `field` of a request.
pub(crate) fn place_from_public(point: &v1::Point, field: &str) -> Result<message::Point, Status> {
    let place = point_from_public(point).filter(|point| point.is_on_earth()).map(message::Point::from);
    place.ok_or_else(|| {
        let problem = format!("latitude {}, longitude {} is no place on Earth", point.latitude, point.longitude);
        status::invalid(field, problem)
    })
}

/// Degrees to degrees times 1e7, rounded; `None` for what is not a number. What is not on Earth stays so.
pub(crate) fn point_from_public(point: &v1::Point) -> Option<Point> {
    Some(Point { latitude_e7: e7(point.latitude)?, longitude_e7: e7(point.longitude)? })
}

pub(crate) fn point_to_public(point: Point) -> v1::Point {
    v1::Point { latitude: f64::from(point.latitude_e7) / E7, longitude: f64::from(point.longitude_e7) / E7 }
}

#[expect(clippy::cast_possible_truncation, reason = "saturates, far from any place on Earth")]
fn e7(degrees: f64) -> Option<i32> {
    degrees.is_finite().then(|| (degrees * E7).round() as i32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_keep_their_resolution(latitude in -90.0..=90.0, longitude in -180.0..=180.0) {
            let point = point_from_public(&v1::Point { latitude, longitude }).expect("a place on Earth");
            let back = point_to_public(point);
            prop_assert!((back.latitude - latitude).abs() <= 0.51e-7);
            prop_assert!((back.longitude - longitude).abs() <= 0.51e-7);
            prop_assert_eq!(point_from_public(&back), Some(point));
        }

        #[test]
        fn texts_and_integers_pass_unchanged(text in ".{0,60}", integer: i64) {
            for kind in [value::Kind::Text(text.clone()), value::Kind::Integer(integer)] {
                let value = v1::Value { kind: Some(kind) };
                prop_assert_eq!(to_public(from_public(Some(value.clone()), "value").expect("a good value")), value);
            }
        }
    }

    #[test]
    fn what_no_twin_takes_is_refused() {
        let point = |latitude, longitude| value::Kind::Point(v1::Point { latitude, longitude });
        for kind in [
            value::Kind::Number(f64::NAN),
            value::Kind::Number(f64::INFINITY),
            value::Kind::Text("x".repeat(257)),
            point(90.1, 0.0),
            point(0.0, f64::NAN),
        ] {
            assert!(from_public(Some(v1::Value { kind: Some(kind) }), "value").is_err());
        }
        assert!(from_public(Some(v1::Value { kind: None }), "value").is_err());
        assert!(from_public(None, "value").is_err());
    }
}
