//! Finds devices by name. Derived from the twins, so it is in no checkpoint.

use kvarter_cluster::{LogIndex, PageContent, PageTable};
use xxhash_rust::xxh3::xxh3_64;

use crate::DeviceNumber;

/// Buckets of a few entries each for the devices of a shard.
const BUCKETS: u64 = 4096;

#[derive(Clone, Default)]
struct Bucket {
    /// Upper half of the name's hash, and the device.
    entries: Vec<(u32, DeviceNumber)>,
}

impl PageContent for Bucket {
    /// Nothing: the index is derived.
    fn encode(&self, _: &mut Vec<u8>) {}
}

#[derive(Clone, Default)]
pub(crate) struct NameIndex {
    buckets: PageTable<Bucket>,
}

impl NameIndex {
    /// Devices that may have this name: compare it.
    pub(crate) fn candidates(&self, name: &str) -> impl Iterator<Item = DeviceNumber> {
        let (bucket, tag) = place(name);
        let entries = self.buckets.page(bucket).map_or(&[][..], |bucket| &bucket.entries);
        entries.iter().filter(move |entry| entry.0 == tag).map(|entry| entry.1)
    }

    pub(crate) fn insert(&mut self, name: &str, device: DeviceNumber, index: LogIndex) {
        let (bucket, tag) = place(name);
        self.buckets.page_mut(bucket, index).entries.push((tag, device));
    }

    pub(crate) fn remove(&mut self, name: &str, device: DeviceNumber, index: LogIndex) {
        let (bucket, _) = place(name);
        self.buckets.page_mut(bucket, index).entries.retain(|entry| entry.1 != device);
    }
}

fn place(name: &str) -> (u32, u32) {
    let hash = xxh3_64(name.as_bytes());
    ((hash % BUCKETS) as u32, (hash >> 32) as u32)
}
