//! Times as people type them: `500ms`, `30s`, `5m`, `24h`.

use std::time::Duration;

const SHAPE: &str = "write a whole number and a unit: 500ms, 30s, 5m or 24h";

/// Reads a whole number with its unit.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        _ if number.is_empty() => return Err(SHAPE.to_owned()),
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(SHAPE.to_owned()),
    };
    let number = number.parse().ok().and_then(|number: u64| number.checked_mul(millis));
    number.map(Duration::from_millis).ok_or_else(|| "write a number that is not that long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        for text in ["", "5", "s", "-1s", "1.5s", "1d", "99999999999999999999h", "9999999999999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
