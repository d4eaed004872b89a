//! The clock of a simulated world across runs, so that starting again goes on where the last run stopped.
use std::io;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How far in the past a new town begins.
const TOWN_AGE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Real time, the only place where the simulator asks for it.
pub fn wall_clock() -> Timestamp {
    Timestamp::now()
}

/// Where a new town begins: 30 days ago, at midnight UTC.
pub fn town_start(now: Timestamp) -> Timestamp {
    let past_s = (now - TOWN_AGE).as_second();
    Timestamp::from_second(past_s - past_s.rem_euclid(86_400)).unwrap_or(now)
}

/// A world's time as it is kept in a file, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldClock {
    /// Which world it belongs to, e.g. `town 7`; the clock of another world is of no use.
    pub world: String,
    /// RFC 3339: everything that was observed before has been sent.
    #[serde(with = "rfc3339")]
    pub simulated: Timestamp,
}

impl WorldClock {
    /// The clock in `file`; none when there is no such file.
    pub fn load(file: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces `file` whole: a crash leaves the old clock or the new one.
    pub fn save(&self, file: &Path) -> io::Result<()> {
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(&fresh, file)
    }
}

/// Moments as text in JSON.
pub(crate) mod rfc3339 {
    use std::borrow::Cow;

    use jiff::Timestamp;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(moment)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("clock.json");
        assert_eq!(WorldClock::load(&file).unwrap(), None);
        let clock = WorldClock { world: "town 7".to_owned(), simulated: "2025-03-03T05:00:00Z".parse().unwrap() };
        clock.save(&file).unwrap();
        assert_eq!(WorldClock::load(&file).unwrap(), Some(clock));
        std::fs::write(&file, "{\"world\": 3}").unwrap();
        assert!(WorldClock::load(&file).is_err());
    }

    #[test]
    fn a_new_town_begins_at_a_midnight_thirty_days_ago() {
        let start = town_start("2025-03-31T13:20:00Z".parse().unwrap());
        assert_eq!(start, "2025-03-01T00:00:00Z".parse().unwrap());
    }
}
