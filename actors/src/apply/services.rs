//! Facts about services.

use std::sync::Arc;

use crate::state::commands::Moment;
use crate::state::{Service, ServiceMode};
use crate::{ShardState, message};

impl ShardState {
    /// The first step of a service also brings it into being.
    pub(super) fn apply_service_stepped(&mut self, moment: Moment, fact: &message::ServiceStepped) {
        let cursor = message::LogPosition { index: fact.cursor_index, ordinal: fact.cursor_ordinal };
        let number = self.service_page(&fact.service);
        let page = self.services.page_mut(number, moment.index);
        let service = page.service.get_or_insert_with(|| Service {
            name: fact.service.as_str().into(),
            mode: ServiceMode::default(),
            cursor,
            state: bytes::Bytes::new(),
        });
        service.cursor = cursor;
        if let Some(state) = &fact.state {
            // Its own allocation: a part of the entry's would keep the whole entry.
            service.state = bytes::Bytes::copy_from_slice(state);
        }
    }

    pub(super) fn apply_service_mode_set(&mut self, moment: Moment, fact: &message::ServiceModeSet) {
        let Some(mode) = ServiceMode::from_message(fact.mode) else { return };
        let Some(number) = self.service_pages.get(fact.service.as_str()).copied() else { return };
        if let Some(service) = &mut self.services.page_mut(number, moment.index).service {
            service.mode = mode;
        }
    }

    fn service_page(&mut self, name: &str) -> u32 {
        if let Some(number) = self.service_pages.get(name) {
            return *number;
        }
        let pages = Arc::make_mut(&mut self.service_pages);
        let number = u32::try_from(pages.len()).expect("a shard has fewer than 2^32 services");
        pages.insert(name.into(), number);
        number
    }
}
