//! For how long nothing is written after the leader's node was killed.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::CompareError;
use super::drive::{Group, Pace, Phase, Witness};
use super::system::{Clients, System};

/// So many writes in a second tell the end of a silence to some milliseconds, and are far below what either system can do.
const WRITES_PER_S: f64 = 2_000.0;
const BEFORE_KILL: Duration = Duration::from_secs(3);
const AFTER_KILL: Duration = Duration::from_secs(12);
/// A client asks another node when its own has said nothing for so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes without haste, kills the node that leads most groups, and returns the longest silence of a group that it led.
pub(super) async fn measure<S: System>(system: &mut S, clients: &Clients) -> Result<Duration, CompareError> {
    let clients =
        Clients { patience: PATIENCE, leader_only: false, prefix: format!("{}-f", clients.prefix), ..clients.clone() };
    let writers = system.writers(&clients).await?;
    let silences = Arc::new(Silences::default());
    let phase = Phase {
        pace: Pace::Steady { records_per_s: WRITES_PER_S },
        records_per_request: 1,
        warm_up: Duration::ZERO,
        duration: BEFORE_KILL + AFTER_KILL,
    };
    let kill = async {
        sleep(BEFORE_KILL).await;
        let led = system.kill_leader().await?;
        silences.begin(Instant::now());
        Ok::<_, CompareError>(led)
    };
    let (_, led) = tokio::join!(phase.drive(writers, Arc::clone(&silences)), kill);
    silences.longest(&led?, Instant::now()).ok_or(CompareError::NoWrites { system: S::NAME })
}

/// When each group was heard last, and its longest silence.
#[derive(Default)]
struct Silences {
    groups: Mutex<BTreeMap<Group, Silence>>,
}

#[derive(Clone, Copy)]
struct Silence {
    heard: Instant,
    longest: Duration,
}

impl Silences {
    /// Forgets the silences that are over.
    fn begin(&self, now: Instant) {
        for silence in self.groups().values_mut() {
            silence.longest = now.saturating_duration_since(silence.heard);
        }
    }

    /// A group that is silent at the end has been so until `now`. `None`: none of the groups was ever heard.
    fn longest(&self, of: &BTreeSet<Group>, now: Instant) -> Option<Duration> {
        let groups = self.groups();
        let silences = of.iter().filter_map(|group| groups.get(group));
        silences
            .map(|silence| {
                let open = now.saturating_duration_since(silence.heard);
                if open > AFTER_KILL / 2 { open } else { silence.longest }
            })
            .max()
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<Group, Silence>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Silences {
    fn acknowledged(&self, group: Group, now: Instant) {
        let mut groups = self.groups();
        let silence = groups.entry(group).or_insert(Silence { heard: now, longest: Duration::ZERO });
        silence.longest = silence.longest.max(now.saturating_duration_since(silence.heard));
        silence.heard = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silence_of_a_killed_leader_counts() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let silences = Silences::default();
        for (group, ms) in [(1, 0), (2, 0), (3, 0), (1, 900), (2, 900), (3, 900)] {
            silences.acknowledged(Group(group), at(ms));
        }
        silences.begin(at(1_000));
        for (group, ms) in [(1, 1_700), (2, 1_010), (3, 4_000), (1, 1_720), (2, 5_000)] {
            silences.acknowledged(Group(group), at(ms));
        }
        let led = BTreeSet::from([Group(1)]);
        assert_eq!(silences.longest(&led, at(1_730)), Some(Duration::from_millis(800)), "from before the kill");
        assert_eq!(silences.longest(&led, at(60_000)), Some(Duration::from_millis(58_280)), "never heard again");
        assert_eq!(silences.longest(&BTreeSet::from([Group(9)]), at(5_000)), None);
    }
}
