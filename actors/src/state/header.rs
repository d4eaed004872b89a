//! The shard's header: counters and tables that are small and change with nearly every entry. One page.

use std::collections::BTreeMap;
use std::sync::Arc;

use kvarter_cluster::{DamagedBytes, PageContent};

use crate::message;
use crate::state::page;

/// Counters kept in the replicated state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardCounters {
    /// Devices that are not retired.
    pub devices: u64,
    pub readings_stored: u64,
    pub readings_late: u64,
    pub readings_duplicate: u64,
    pub readings_rejected: u64,
    pub commands_issued: u64,
    pub commands_succeeded: u64,
    pub commands_open: u64,
}

/// A kind's place in the header, which is how twins name their kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KindIndex(pub(crate) u16);

#[derive(Clone, Default)]
pub(crate) struct Header {
    pub(crate) epoch: u64,
    pub(crate) time_us: i64,
    pub(crate) next_device: u32,
    pub(crate) streams_expired_us: i64,
    pub(crate) counters: ShardCounters,
    kinds: Arc<Vec<Arc<str>>>,
    districts: Arc<BTreeMap<Box<str>, u32>>,
}

impl Header {
    pub(crate) fn kind(&self, index: KindIndex) -> Option<&Arc<str>> {
        self.kinds.get(usize::from(index.0))
    }

    /// The index of `kind`, given on first use.
    pub(crate) fn intern_kind(&mut self, kind: &str) -> KindIndex {
        let place = self.kinds.iter().position(|known| **known == *kind).unwrap_or_else(|| {
            Arc::make_mut(&mut self.kinds).push(kind.into());
            self.kinds.len() - 1
        });
        KindIndex(u16::try_from(place).expect("a catalog has fewer than 65,536 kinds"))
    }

    /// Devices of `district` that are not retired.
    pub(crate) fn district_devices(&self, district: &str) -> u32 {
        self.districts.get(district).copied().unwrap_or(0)
    }

    pub(crate) fn districts(&self) -> impl Iterator<Item = (&str, u32)> {
        self.districts.iter().map(|(district, devices)| (&**district, *devices))
    }

    pub(crate) fn count_registered(&mut self, district: &str) {
        let districts = Arc::make_mut(&mut self.districts);
        match districts.get_mut(district) {
            Some(devices) => *devices += 1,
            None => {
                districts.insert(district.into(), 1);
            }
        }
        self.counters.devices += 1;
    }

    pub(crate) fn count_retired(&mut self, district: &str) {
        let districts = Arc::make_mut(&mut self.districts);
        if let Some(devices) = districts.get_mut(district) {
            *devices = devices.saturating_sub(1);
            if *devices == 0 {
                districts.remove(district);
            }
        }
        self.counters.devices = self.counters.devices.saturating_sub(1);
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DamagedBytes> {
        let page: message::HeaderPage = page::decode(bytes)?;
        page::check_format(page.format)?;
        Ok(Self {
            epoch: page.epoch,
            time_us: page.time_us,
            next_device: page.next_device,
            streams_expired_us: page.streams_expired_us,
            counters: ShardCounters {
                devices: page.districts.values().copied().map(u64::from).sum(),
                readings_stored: page.readings_stored,
                readings_late: page.readings_late,
                readings_duplicate: page.readings_duplicate,
                readings_rejected: page.readings_rejected,
                commands_issued: page.commands_issued,
                commands_succeeded: page.commands_succeeded,
                commands_open: page.commands_open,
            },
            kinds: Arc::new(page.kinds.into_iter().map(Into::into).collect()),
            districts: Arc::new(page.districts.into_iter().map(|(name, devices)| (name.into(), devices)).collect()),
        })
    }
}

impl PageContent for Header {
    fn encode(&self, buffer: &mut Vec<u8>) {
        let page = message::HeaderPage {
            format: page::FORMAT,
            epoch: self.epoch,
            time_us: self.time_us,
            next_device: self.next_device,
            streams_expired_us: self.streams_expired_us,
            kinds: self.kinds.iter().map(|kind| kind.to_string()).collect(),
            districts: self.districts().map(|(district, devices)| (district.to_owned(), devices)).collect(),
            readings_stored: self.counters.readings_stored,
            readings_late: self.counters.readings_late,
            readings_duplicate: self.counters.readings_duplicate,
            readings_rejected: self.counters.readings_rejected,
            commands_issued: self.counters.commands_issued,
            commands_succeeded: self.counters.commands_succeeded,
            commands_open: self.counters.commands_open,
        };
        page::append(&page, buffer);
    }
}
