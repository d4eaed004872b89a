//! Attribute values as people type and read them.

use kvarter_api::v1::{Point, Value, value};

/// Reads `name=value`.
pub(super) fn parse_assignment(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write name=value, e.g. level=40")?;
    if name.is_empty() {
        return Err("the name before `=` is empty".to_owned());
    }
    Ok((name.to_owned(), parse(value)))
}

/// The value that a text looks like: `true`, `40`, `2.5`, `56.16,10.2` (a place), or text. In quotes it is always text.
pub(super) fn parse(text: &str) -> Value {
    let kind = match text {
        "true" => value::Kind::Boolean(true),
        "false" => value::Kind::Boolean(false),
        _ => {
            let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            if let Some(quoted) = quoted {
                value::Kind::Text(quoted.to_owned())
            } else if let Ok(integer) = text.parse() {
                value::Kind::Integer(integer)
            } else if let Some(number) = parse_number(text) {
                value::Kind::Number(number)
            } else if let Some(point) = parse_point(text) {
                value::Kind::Point(point)
            } else {
                value::Kind::Text(text.to_owned())
            }
        }
    };
    Value { kind: Some(kind) }
}

fn parse_point(text: &str) -> Option<Point> {
    let (latitude, longitude) = text.split_once(',')?;
    Some(Point { latitude: parse_number(latitude)?, longitude: parse_number(longitude)? })
}

/// A decimal number; `inf` and `nan` are words here.
pub(super) fn parse_number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// What people read; empty for no value.
pub(super) fn display(value: Option<&Value>) -> String {
    match value.and_then(|value| value.kind.as_ref()) {
        Some(value::Kind::Number(number)) => number.to_string(),
        Some(value::Kind::Integer(integer)) => integer.to_string(),
        Some(value::Kind::Boolean(boolean)) => boolean.to_string(),
        Some(value::Kind::Text(text)) => text.clone(),
        Some(value::Kind::Point(point)) => format!("{:.6},{:.6}", point.latitude, point.longitude),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_it_looks_like() {
        let kind = |text: &str| parse_assignment(&format!("a={text}")).expect("valid").1.kind.expect("a value");
        assert_eq!(kind("true"), value::Kind::Boolean(true));
        assert_eq!(kind("-40"), value::Kind::Integer(-40));
        assert_eq!(kind("2.50"), value::Kind::Number(2.5));
        assert_eq!(kind("56.16,10.2"), value::Kind::Point(Point { latitude: 56.16, longitude: 10.2 }));
        for (typed, text) in [("\"40\"", "40"), ("on", "on"), ("", ""), ("NaN", "NaN"), ("a=b", "a=b")] {
            assert_eq!(kind(typed), value::Kind::Text(text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_assignment_is_refused() {
        assert!(parse_assignment("level").is_err());
        assert!(parse_assignment("=4").is_err());
    }
}
