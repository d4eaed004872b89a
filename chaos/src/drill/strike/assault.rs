//! Clients that misbehave, and what the cluster has to say to them.
//!
//! `garbage` sends what must be refused, `overload` more than can be taken, `streams` loses connections and reads nothing,
//! `poison` has a device whose code fails. Some speak through `proxy`, which can cut connections.
mod garbage;
mod overload;
mod poison;
mod proxy;
mod streams;

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
fn judge_unharmed(before: &[NodeProcess], after: &[NodeProcess], violations: &mut Violations) {
    for node in before {
        if !after.contains(node) || !node.exists() {
            violations.add(Violation::NodeEnded { node: node.id, pid: node.pid });
        }
    }
}

fn failed(reason: impl std::fmt::Display) -> DrillError {
    DrillError::Assault { reason: reason.to_string() }
}
