//! What readings change in a twin: reported attributes, the ring of the last readings, the version. 16 devices a page.
//!
//! This is the table that every reading touches, so a page is a few flat columns: copying one on write is a handful of
//! allocations whatever it holds. Pages are small because a shard's batches often touch one device of a page.

use kvarter_cluster::{DamagedBytes, PageContent};

use crate::reading::{Reading, ReadingMark};
use crate::state::header::KindIndex;
use crate::state::page;
use crate::value::{Value, ValueRef};
use crate::{AttributeNumber, DeviceNumber, message};

pub(crate) const PER_PAGE: u32 = 16;

const SLOTS: usize = PER_PAGE as usize;

/// The last known value of one attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reported {
    slot: u8,
    /// 1 good, 3 out of range.
    pub(crate) quality: u8,
    pub(crate) attribute: AttributeNumber,
    pub(crate) observed_us: i64,
    pub(crate) value: Value,
}

/// What tells one observation of a device from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observation {
    pub(crate) observed_us: i64,
    pub(crate) fingerprint: u64,
    pub(crate) attribute: AttributeNumber,
}

/// The last accepted observations of a device, by which repeats are known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ring {
    observations: [Observation; Self::LENGTH as usize],
    /// Number of observations.
    length: u8,
    /// Where the next one goes; the oldest is here when the ring is full.
    next: u8,
}

impl Ring {
    const LENGTH: u8 = 8;

    pub(crate) fn push(&mut self, observation: Observation) {
        self.observations[usize::from(self.next)] = observation;
        self.next = (self.next + 1) % Self::LENGTH;
        self.length = (self.length + 1).min(Self::LENGTH);
    }

    pub(crate) fn contains(&self, observation: &Observation) -> bool {
        self.observations[..usize::from(self.length)].contains(observation)
    }

    /// Oldest first.
    fn iter(&self) -> impl Iterator<Item = &Observation> {
        let oldest = if self.length == Self::LENGTH { self.next } else { 0 };
        (0..self.length).map(move |age| &self.observations[usize::from((oldest + age) % Self::LENGTH)])
    }
}

#[derive(Clone, Copy, Default)]
struct Slot {
    /// Index of the kind plus one; 0: no device here, or a retired one.
    kind: u16,
    version: u64,
    ring: Ring,
}

#[derive(Clone, Default)]
pub(crate) struct RecentPage {
    slots: [Slot; SLOTS],
    /// By slot and attribute.
    reported: Vec<Reported>,
}

impl RecentPage {
    /// The kind of the device in `slot`, `None` when there is none or it is retired.
    pub(crate) fn kind(&self, slot: usize) -> Option<KindIndex> {
        self.slots[slot].kind.checked_sub(1).map(KindIndex)
    }

    pub(crate) fn version(&self, slot: usize) -> u64 {
        self.slots[slot].version
    }

    pub(crate) fn ring(&self, slot: usize) -> &Ring {
        &self.slots[slot].ring
    }

    pub(crate) fn reported(&self, slot: usize, attribute: AttributeNumber) -> Option<&Reported> {
        self.find(slot, attribute).ok().map(|place| &self.reported[place])
    }

    /// All reported attributes of the device in `slot`, by number.
    pub(crate) fn all_reported(&self, slot: usize) -> &[Reported] {
        let first = self.reported.partition_point(|reported| usize::from(reported.slot) < slot);
        let end = self.reported.partition_point(|reported| usize::from(reported.slot) <= slot);
        &self.reported[first..end]
    }

    pub(crate) fn raise_version(&mut self, slot: usize) {
        self.slots[slot].version += 1;
    }

    pub(crate) fn register(&mut self, slot: usize, kind: KindIndex) {
        self.slots[slot].kind = kind.0 + 1;
    }

    /// Forgets all but the version.
    pub(crate) fn retire(&mut self, slot: usize) {
        self.slots[slot] = Slot { version: self.slots[slot].version, ..Slot::default() };
        self.reported.retain(|reported| usize::from(reported.slot) != slot);
    }

    /// Takes an accepted reading in.
    pub(crate) fn report(
        &mut self,
        slot: usize,
        attribute: AttributeNumber,
        observed_us: i64,
        value: ValueRef<'_>,
        mark: ReadingMark,
    ) {
        let observation = Observation { observed_us, fingerprint: value.fingerprint(), attribute };
        self.slots[slot].ring.push(observation);
        if mark.is_late() {
            return;
        }
        self.slots[slot].version += 1;
        match self.find(slot, attribute) {
            Ok(place) => {
                let reported = &mut self.reported[place];
                reported.quality = mark.quality();
                reported.observed_us = observed_us;
                match (&mut reported.value, value) {
                    // A state that is told again costs no new text.
                    (Value::Text(old), ValueRef::Text(new)) if **old == *new => {}
                    (old, new) => *old = new.to_value(),
                }
            }
            Err(place) => {
                let reported = Reported {
                    slot: slot_byte(slot),
                    quality: mark.quality(),
                    attribute,
                    observed_us,
                    value: value.to_value(),
                };
                self.reported.insert(place, reported);
            }
        }
    }

    fn find(&self, slot: usize, attribute: AttributeNumber) -> Result<usize, usize> {
        self.reported
            .binary_search_by_key(&(slot_byte(slot), attribute), |reported| (reported.slot, reported.attribute))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DamagedBytes> {
        let decoded: message::RecentPage = page::decode(bytes)?;
        page::check_format(decoded.format)?;
        let mut result = Self::default();
        if decoded.kind.len() != SLOTS || decoded.version.len() != SLOTS {
            return Err(page::damaged("a page of recent readings without 16 devices"));
        }
        for (slot, (kind, version)) in decoded.kind.iter().zip(&decoded.version).enumerate() {
            result.slots[slot].kind =
                u16::try_from(*kind).map_err(|error| page::damaged(format!("kind index: {error}")))?;
            result.slots[slot].version = *version;
        }
        let ring = decoded.ring_device.iter().zip(&decoded.ring_attribute);
        let ring = ring.zip(decoded.ring_us.iter().zip(&decoded.ring_fingerprint));
        for ((slot, attribute), (observed_us, fingerprint)) in ring {
            let slot = result.slots.get_mut(*slot as usize).ok_or_else(|| page::damaged("slot in a ring"))?;
            let attribute = attribute_from(*attribute)?;
            slot.ring.push(Observation { observed_us: *observed_us, fingerprint: *fingerprint, attribute });
        }
        result.reported = decoded
            .reported
            .unwrap_or_default()
            .iter()
            .zip(&decoded.quality)
            .map(|(reading, quality)| reported_from(&reading, *quality))
            .collect::<Result<_, _>>()?;
        Ok(result)
    }
}

fn reported_from(reading: &Reading<'_>, quality: u32) -> Result<Reported, DamagedBytes> {
    if reading.device.0 >= PER_PAGE {
        return Err(page::damaged("slot of a reported attribute"));
    }
    Ok(Reported {
        slot: slot_byte(reading.device.0 as usize),
        quality: ReadingMark(quality).quality(),
        attribute: attribute_from(reading.attribute)?,
        observed_us: reading.observed_us,
        value: reading.value.ok_or_else(|| page::damaged("value of a reported attribute"))?.to_value(),
    })
}

fn attribute_from(number: u32) -> Result<AttributeNumber, DamagedBytes> {
    AttributeNumber::from_message(number).ok_or_else(|| page::damaged(format!("attribute number {number}")))
}

fn slot_byte(slot: usize) -> u8 {
    u8::try_from(slot).expect("a page has 16 slots")
}

impl PageContent for RecentPage {
    fn encode(&self, buffer: &mut Vec<u8>) {
        let mut encoded = message::RecentPage {
            format: page::FORMAT,
            kind: self.slots.iter().map(|slot| u32::from(slot.kind)).collect(),
            version: self.slots.iter().map(|slot| slot.version).collect(),
            quality: self.reported.iter().map(|reported| u32::from(reported.quality)).collect(),
            ..Default::default()
        };
        let base_us = self.reported.iter().map(|reported| reported.observed_us).max().unwrap_or(0);
        let mut columns = message::Readings { base_us, ..Default::default() };
        for reported in &self.reported {
            let device = DeviceNumber(u32::from(reported.slot));
            columns.push(device, reported.attribute, reported.observed_us, reported.value.as_ref());
        }
        encoded.reported = Some(columns);
        for (device, slot) in (0u32..).zip(&self.slots) {
            for observation in slot.ring.iter() {
                encoded.ring_device.push(device);
                encoded.ring_attribute.push(observation.attribute.to_message());
                encoded.ring_us.push(observation.observed_us);
                encoded.ring_fingerprint.push(observation.fingerprint);
            }
        }
        page::append(&encoded, buffer);
    }
}
