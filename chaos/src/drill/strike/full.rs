//! A node whose disk is full: it leads nothing; where all are full, what is new is refused with a word; and where nothing at all is
//! free, the node starts on its ballast.
use std::time::Duration;

use bytes::Bytes;
use kvarter_api::ApiError;
use kvarter_api::v1::{BatchRegisterDevicesRequest, Device, ErrorReason};
use kvarter_simulator::wall_clock;
use prost::Message;
use tokio::time::{Instant, sleep_until};

use super::wire::{self, Papers};
use super::{Aftermath, Strike};
use crate::check::Violation;
use crate::drill::{DrillError, RECOVERY_MAX};
use crate::fleet::NodeProcess;
use crate::journal::FaultError;
use crate::stage::{Filler, Room};

const REGISTER: &str = "/kvarter.v1.TwinService/BatchRegisterDevices";
/// A node looks once a second how full its disk is.
const NOTICED_WITHIN: Duration = Duration::from_secs(3);

impl Strike<'_> {
    pub(super) fn fill(&self) -> Result<(), DrillError> {
        self.struck.iter().try_for_each(|node| match self.room() {
            Room::Little => self.fill_one(node, Room::Little),
            // Once it has ended: it would have laid its ballast anew.
            Room::Nothing => Ok(node.kill().map_err(FaultError::from)?),
        })
    }

    pub(super) async fn outlast_full(&self, begin: Instant, time: Duration) -> Result<Aftermath, DrillError> {
        match (self.room(), self.struck.as_slice()) {
            (Room::Nothing, [node]) => self.outlast_without_room(node, time).await,
            (_, [_one]) => {
                let aftermath = self.taken_over_within(begin, time).await?;
                self.prove_full()?;
                Ok(aftermath)
            }
            (_, all) => {
                sleep_until(begin + NOTICED_WITHIN).await;
                let mut aftermath = Aftermath::default();
                for node in all {
                    self.knock(node, &mut aftermath).await?;
                }
                sleep_until(begin + time).await;
                self.prove_full()?;
                Ok(aftermath)
            }
        }
    }

    /// A node starts while nothing is free, serves for `time`, and leads nothing.
    async fn outlast_without_room(&self, node: &NodeProcess, time: Duration) -> Result<Aftermath, DrillError> {
        self.wait_until_gone().await?;
        self.fill_one(node, Room::Nothing)?;
        if self.has_successor(node) {
            return Err(DrillError::NodeBeforeDisk { id: node.id });
        }
        let successor = self.successor(node).await?;
        self.scene.health.wait_until_whole(RECOVERY_MAX).await?;
        let mut aftermath = self.taken_over_within(Instant::now(), time).await?;
        self.prove_full()?;
        if self.filler(node).has_ballast() {
            let what = format!("node {} kept its ballast on a disk without room", node.id);
            aftermath.violations.add(Violation::Broken { what });
        }
        if !successor.exists() {
            aftermath.violations.add(Violation::NodeEnded { node: node.id, pid: successor.pid });
        }
        Ok(aftermath)
    }

    /// Registers a device at `node`, which must be refused with the reason and a time to come back.
    async fn knock(&self, node: &NodeProcess, aftermath: &mut Aftermath) -> Result<(), DrillError> {
        let tls = &self.scene.client.config().tls;
        let papers = Papers::of(tls);
        let unable = |error: tonic::transport::Error| DrillError::Assault { reason: error.to_string() };
        let channel = wire::channel(&node.api_address, tls, &papers).map_err(unable)?;
        let name = format!("districts/full/devices/{:x}", wall_clock().as_microsecond());
        let device = Device { name, kind: "waste_container".to_owned(), ..Device::default() };
        let request = BatchRegisterDevicesRequest { devices: vec![device] };
        let answer = wire::call_once(&channel, REGISTER, Bytes::from(request.encode_to_vec())).await;
        aftermath.acts += 1;
        match answer.map_err(ApiError::from) {
            Err(ApiError::NotApplied { reason: Some(ErrorReason::DiskFull), retry_after: Some(_), message }) => {
                aftermath.said = Some(message);
            }
            other => {
                let what = format!("node {} answered {other:?} while all disks were full", node.id);
                aftermath.violations.add(Violation::Broken { what });
            }
        }
        Ok(())
    }

    fn prove_full(&self) -> Result<(), DrillError> {
        for node in &self.struck {
            let is_full = self.filler(node).is_full();
            if !is_full.map_err(|source| FaultError::Filler { node: node.id, source })? {
                return Err(DrillError::StrikeWithoutEffect { id: node.id, pid: node.pid });
            }
        }
        Ok(())
    }

    fn fill_one(&self, node: &NodeProcess, room: Room) -> Result<(), DrillError> {
        let filled = self.filler(node).fill(room);
        Ok(filled.map_err(|source| FaultError::Filler { node: node.id, source })?)
    }

    fn filler(&self, node: &NodeProcess) -> Filler {
        Filler::of(self.scene.fleet.data_dir(), node.id)
    }

    fn room(&self) -> Room {
        if self.struck.len() == 1 && self.round.is_multiple_of(2) { Room::Nothing } else { Room::Little }
    }
}
