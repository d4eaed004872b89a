//! Twins without what readings and commands change: identity, desired attributes, session. 64 devices a page.

use std::collections::BTreeMap;
use std::sync::Arc;

use kvarter_cluster::{DamagedBytes, PageContent};

use crate::state::header::KindIndex;
use crate::state::page;
use crate::value::{Point, Value};
use crate::{AttributeNumber, StreamId, message};

pub(crate) const PER_PAGE: u32 = 64;

/// Who a device is; kept for ever, so that old facts can be told.
#[derive(Debug, PartialEq)]
pub(crate) struct Identity {
    pub(crate) name: Box<str>,
    pub(crate) kind: KindIndex,
    pub(crate) location: Option<Point>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) registered_us: i64,
    pub(crate) is_retired: bool,
}

pub(crate) type Desired = BTreeMap<AttributeNumber, Value>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Twin {
    pub(crate) identity: Arc<Identity>,
    /// `None`: empty.
    pub(crate) desired: Option<Arc<Desired>>,
    pub(crate) session: Option<StreamId>,
    /// When the session was opened or lost; 0: never had one.
    pub(crate) session_us: i64,
}

impl Twin {
    pub(crate) fn desired(&self) -> impl Iterator<Item = (AttributeNumber, &Value)> {
        self.desired.iter().flat_map(|desired| desired.iter().map(|(number, value)| (*number, value)))
    }
}

#[derive(Clone, Default)]
pub(crate) struct TwinsPage {
    twins: Vec<Option<Twin>>,
}

impl TwinsPage {
    pub(crate) fn twin(&self, slot: usize) -> Option<&Twin> {
        self.twins.get(slot)?.as_ref()
    }

    pub(crate) fn twin_mut(&mut self, slot: usize) -> Option<&mut Twin> {
        self.twins.get_mut(slot)?.as_mut()
    }

    pub(crate) fn insert(&mut self, slot: usize, twin: Twin) {
        if self.twins.len() <= slot {
            self.twins.resize(slot + 1, None);
        }
        self.twins[slot] = Some(twin);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Twin)> {
        self.twins.iter().enumerate().filter_map(|(slot, twin)| Some((slot, twin.as_ref()?)))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DamagedBytes> {
        let decoded: message::TwinsPage = page::decode(bytes)?;
        page::check_format(decoded.format)?;
        let mut result = Self::default();
        for record in decoded.twins {
            if record.slot >= PER_PAGE {
                return Err(page::damaged(format!("twin in slot {}", record.slot)));
            }
            result.insert(record.slot as usize, from_record(record)?);
        }
        Ok(result)
    }
}

impl PageContent for TwinsPage {
    fn encode(&self, buffer: &mut Vec<u8>) {
        let twins =
            (0u32..).zip(&self.twins).filter_map(|(slot, twin)| Some(to_record(slot, twin.as_ref()?))).collect();
        page::append(&message::TwinsPage { format: page::FORMAT, twins }, buffer);
    }
}

fn to_record(slot: u32, twin: &Twin) -> message::TwinRecord {
    message::TwinRecord {
        slot,
        name: twin.identity.name.to_string(),
        kind: u32::from(twin.identity.kind.0),
        location: twin.identity.location.map(Into::into),
        labels: twin.identity.labels.clone(),
        registered_us: twin.identity.registered_us,
        retired: twin.identity.is_retired,
        desired: desired_to_message(twin.desired()),
        session: twin.session.map(StreamId::to_message).unwrap_or_default(),
        session_us: twin.session_us,
    }
}

fn from_record(record: message::TwinRecord) -> Result<Twin, DamagedBytes> {
    let kind = u16::try_from(record.kind).map_err(|error| page::damaged(format!("kind index: {error}")))?;
    let session = match record.session.len() {
        0 => None,
        _ => Some(StreamId::from_message(&record.session).ok_or_else(|| page::damaged("stream id without 16 bytes"))?),
    };
    let desired: Desired = record
        .desired
        .iter()
        .map(|desired| {
            let number = AttributeNumber::from_message(desired.attribute)?;
            Some((number, Value::from_message(desired.value.as_ref()?)?))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| page::damaged(format!("desired attribute of `{}`", record.name)))?;
    Ok(Twin {
        identity: Arc::new(Identity {
            name: record.name.into(),
            kind: KindIndex(kind),
            location: record.location.map(Into::into),
            labels: record.labels,
            registered_us: record.registered_us,
            is_retired: record.retired,
        }),
        desired: (!desired.is_empty()).then(|| Arc::new(desired)),
        session,
        session_us: record.session_us,
    })
}

pub(crate) fn desired_to_message<'a>(
    desired: impl Iterator<Item = (AttributeNumber, &'a Value)>,
) -> Vec<message::DesiredAttribute> {
    desired
        .map(|(number, value)| message::DesiredAttribute {
            attribute: number.to_message(),
            value: Some(value.to_message()),
        })
        .collect()
}
