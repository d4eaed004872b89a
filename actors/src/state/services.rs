//! What services keep: mode, cursor and a state that is opaque here. One service a page.

use std::sync::Arc;

use bytes::Bytes;
use kvarter_cluster::{DamagedBytes, PageContent};

use crate::message;
use crate::state::page;

/// Longest state of a service, bytes.
pub const SERVICE_STATE_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceMode {
    /// Steers its devices.
    #[default]
    Active = 1,
    /// Keeps its figures, issues no commands.
    Observe = 2,
}

impl ServiceMode {
    pub fn from_message(mode: u32) -> Option<Self> {
        [Self::Active, Self::Observe].into_iter().find(|known| known.to_message() == mode)
    }

    pub fn to_message(self) -> u32 {
        self as u32
    }
}

/// A service as its shard keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// `{district}/{service}`
    pub name: Arc<str>,
    pub mode: ServiceMode,
    /// The last fact that the service has seen.
    pub cursor: message::LogPosition,
    /// The service's own.
    pub state: Bytes,
}

#[derive(Clone, Default)]
pub(crate) struct ServicePage {
    /// `None` only before the first fact.
    pub(crate) service: Option<Service>,
}

impl ServicePage {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DamagedBytes> {
        let decoded: message::ServicePage = page::decode(bytes)?;
        page::check_format(decoded.format)?;
        let mode = ServiceMode::from_message(decoded.mode)
            .ok_or_else(|| page::damaged(format!("mode {} of a service", decoded.mode)))?;
        let cursor = message::LogPosition { index: decoded.cursor_index, ordinal: decoded.cursor_ordinal };
        Ok(Self { service: Some(Service { name: decoded.name.into(), mode, cursor, state: decoded.state }) })
    }
}

impl PageContent for ServicePage {
    fn encode(&self, buffer: &mut Vec<u8>) {
        let Some(service) = &self.service else { return };
        let page = message::ServicePage {
            format: page::FORMAT,
            name: service.name.to_string(),
            mode: service.mode.to_message(),
            cursor_index: service.cursor.index,
            cursor_ordinal: service.cursor.ordinal,
            state: service.state.clone(),
        };
        page::append(&page, buffer);
    }
}
