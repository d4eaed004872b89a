//! Clients that misbehave, and what the cluster has to say to them.
//!
//! `garbage` sends what must be refused, `overload` more than can be taken, `streams` loses connections and reads nothing,
//! `poison` has a device whose code fails. Some speak through `proxy`, which can cut connections.
mod garbage;
mod overload;
mod poison;
mod proxy;
mod streams;

use std::collections::BTreeMap;

use kvarter_simulator::Usage;

use super::{Aftermath, Scene};
use crate::check::{Violation, Violations};
use crate::drill::DrillError;
use crate::fault::Assault;
use crate::fleet::NodeProcess;

/// Districts of an assault's own devices: few enough that they are soon made while the cluster is busy.
const DISTRICTS: u32 = 32;

/// Carries `assault` out from its begin to its end.
pub(super) async fn carry_out(assault: Assault, round: u32, scene: Scene<'_>) -> Result<Aftermath, DrillError> {
    match assault {
        Assault::Garbage => {
            let before = scene.fleet.nodes()?;
            let mut aftermath = garbage::throw(scene).await?;
            judge_unharmed(&before, &scene.fleet.nodes()?, &mut aftermath.violations);
            Ok(aftermath)
        }
        Assault::Overload => {
            let before = scene.fleet.nodes()?;
            let mut aftermath = overload::flood(scene, overload::factor_of_round(round)).await?;
            judge_unharmed(&before, &scene.fleet.nodes()?, &mut aftermath.violations);
            Ok(aftermath)
        }
        Assault::Poison => {
            let before = scene.fleet.nodes()?;
            let mut aftermath = poison::administer(scene).await?;
            judge_unharmed(&before, &scene.fleet.nodes()?, &mut aftermath.violations);
            Ok(aftermath)
        }
        Assault::Streams => streams::misbehave(scene).await,
    }
}

/// No process may have ended, and been started again.
pub(super) fn judge_unharmed(before: &[NodeProcess], after: &[NodeProcess], violations: &mut Violations) {
    for node in before {
        if !after.contains(node) || !node.exists() {
            violations.add(Violation::NodeEnded { node: node.id, pid: node.pid });
        }
    }
}

impl Scene<'_> {
    /// Memory of each node that is no page of a file, bytes.
    fn memory(self) -> Result<Vec<(u64, u64)>, DrillError> {
        let of_node = |node: NodeProcess| {
            let usage = Usage::of(u32::try_from(node.pid).map_err(failed)?).map_err(failed)?;
            Ok((node.id, usage.anonymous_bytes))
        };
        self.fleet.nodes()?.into_iter().map(of_node).collect()
    }

    /// No shard may have another leader, or another term, than `before`.
    async fn judge_same_leaders(
        self,
        before: &BTreeMap<u32, (Option<u64>, u64)>,
        violations: &mut Violations,
    ) -> Result<(), DrillError> {
        for (shard, now) in self.health.leaderships().await? {
            if before.get(&shard) != Some(&now) {
                let before = before.get(&shard).and_then(|it| it.0);
                violations.add(Violation::LeaderChanged { shard, before, now: now.0 });
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
fn precise(count: u64) -> f64 {
    count as f64
}

fn failed(reason: impl std::fmt::Display) -> DrillError {
    DrillError::Assault { reason: reason.to_string() }
}
