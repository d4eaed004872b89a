//! Times as people write them on a command line.
use std::time::Duration;

use jiff::SignedDuration;

/// A time such as `60s`, `5m` or `1h 30m`; the error is for people.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let explain = |_error| format!("`{text}` is not a time such as 60s, 5m or 1h30m");
    let duration: SignedDuration = text.parse().map_err(|error: jiff::Error| explain(error))?;
    Duration::try_from(duration).map_err(explain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse_duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(parse_duration("-5s").is_err() && parse_duration("60").is_err());
    }
}
