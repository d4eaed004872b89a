//! Facts about devices and their desired attributes.

use std::collections::BTreeMap;
use std::sync::Arc;

use kvarter_cluster::LogIndex;

use crate::name::district_of;
use crate::state::commands::{self, Moment};
use crate::state::twins::{self, Identity, Twin};
use crate::state::{page, recent};
use crate::value::Value;
use crate::{AttributeNumber, DeviceNumber, ShardState, message};

impl ShardState {
    /// Registers the next device, or changes location and labels of a known one.
    pub(super) fn apply_device_registered(&mut self, moment: Moment, fact: &message::DeviceRegistered) {
        let number = DeviceNumber(fact.device);
        if self.twin(number).is_some() {
            self.apply_device_described(moment.index, fact);
            return;
        }
        let header = self.header_mut(moment.index);
        header.next_device = header.next_device.max(fact.device.saturating_add(1));
        header.count_registered(district_of(&fact.name));
        let kind = header.intern_kind(&fact.kind);
        let identity = Identity {
            name: fact.name.as_str().into(),
            kind,
            location: fact.location.map(Into::into),
            labels: fact.labels.clone(),
            registered_us: moment.time_us,
            is_retired: false,
        };
        let twin = Twin { identity: Arc::new(identity), desired: None, session: None, session_us: 0 };
        let (number_of_page, slot) = page::place(number.0, twins::PER_PAGE);
        self.twins.page_mut(number_of_page, moment.index).insert(slot, twin);
        let (number_of_page, slot) = page::place(number.0, recent::PER_PAGE);
        let recent = self.recent.page_mut(number_of_page, moment.index);
        recent.register(slot, kind);
        recent.raise_version(slot);
        self.names.insert(&fact.name, number, moment.index);
    }

    fn apply_device_described(&mut self, index: LogIndex, fact: &message::DeviceRegistered) {
        let number = DeviceNumber(fact.device);
        let Some(twin) = self.twin_mut(number, index).filter(|twin| !twin.identity.is_retired) else { return };
        let identity = Identity {
            name: twin.identity.name.clone(),
            kind: twin.identity.kind,
            location: fact.location.map(Into::into),
            labels: fact.labels.clone(),
            registered_us: twin.identity.registered_us,
            is_retired: false,
        };
        twin.identity = Arc::new(identity);
        self.raise_version(number, index);
    }

    /// Leaves name and kind, so that facts about the device can still be told.
    pub(super) fn apply_device_retired(&mut self, moment: Moment, fact: &message::DeviceRetired) {
        let number = DeviceNumber(fact.device);
        let Some(twin) = self.twin_mut(number, moment.index).filter(|twin| !twin.identity.is_retired) else { return };
        let was = Arc::clone(&twin.identity);
        let session = twin.session;
        twin.identity = Arc::new(Identity {
            name: was.name.clone(),
            kind: was.kind,
            location: None,
            labels: BTreeMap::new(),
            registered_us: was.registered_us,
            is_retired: true,
        });
        twin.desired = None;
        twin.session = None;
        twin.session_us = 0;
        if let Some(session) = session {
            self.detach(session, number, moment.index);
        }
        self.raise_version(number, moment.index);
        let (number_of_page, slot) = page::place(number.0, recent::PER_PAGE);
        self.recent.page_mut(number_of_page, moment.index).retire(slot);
        let (number_of_page, slot) = page::place(number.0, commands::PER_PAGE);
        if self.commands.page(number_of_page).is_some() {
            self.commands.page_mut(number_of_page, moment.index).forget_all(slot);
        }
        self.names.remove(&was.name, number, moment.index);
        self.header_mut(moment.index).count_retired(district_of(&was.name));
    }

    pub(super) fn apply_desired_changed(&mut self, moment: Moment, fact: &message::DesiredChanged) {
        let number = DeviceNumber(fact.device);
        let Some(twin) = self.twin_mut(number, moment.index).filter(|twin| !twin.identity.is_retired) else { return };
        let mut desired = twin.desired.take().map(Arc::unwrap_or_clone).unwrap_or_default();
        for set in &fact.set {
            let value = set.value.as_ref().and_then(Value::from_message);
            if let (Some(attribute), Some(value)) = (AttributeNumber::from_message(set.attribute), value) {
                desired.insert(attribute, value);
            }
        }
        for attribute in fact.clear.iter().filter_map(|number| AttributeNumber::from_message(*number)) {
            desired.remove(&attribute);
        }
        twin.desired = (!desired.is_empty()).then(|| Arc::new(desired));
        self.raise_version(number, moment.index);
    }

    pub(super) fn raise_version(&mut self, number: DeviceNumber, index: LogIndex) {
        let (number_of_page, slot) = page::place(number.0, recent::PER_PAGE);
        self.recent.page_mut(number_of_page, index).raise_version(slot);
    }

    /// The twin for a change; looks before it touches, so that an unknown device makes no page.
    pub(super) fn twin_mut(&mut self, number: DeviceNumber, index: LogIndex) -> Option<&mut Twin> {
        self.twin(number)?;
        let (number_of_page, slot) = page::place(number.0, twins::PER_PAGE);
        self.twins.page_mut(number_of_page, index).twin_mut(slot)
    }
}
