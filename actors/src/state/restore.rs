//! A state as pages and back: checkpoints, snapshots and the state hash.

use std::sync::Arc;

use bytes::Bytes;
use kvarter_cluster::{DamagedBytes, LogIndex, Page, PageContent, PageId, PageTable};

use crate::DeviceNumber;
use crate::state::header::Header;
use crate::state::{ShardState, commands, page, recent, services, streams, twins};

const HEADER: u8 = 0;
const TWINS: u8 = 1;
const RECENT: u8 = 2;
const COMMANDS: u8 = 3;
const STREAMS: u8 = 4;
const SERVICES: u8 = 5;

/// Restored pages were changed before the log that follows them.
const RESTORED: LogIndex = LogIndex(0);

impl ShardState {
    /// All pages that were ever written, in the order of their ids. None encodes to nothing: each begins with its format.
    pub(crate) fn all_pages(&self) -> Vec<Page> {
        let header = self.header.pages(HEADER);
        header
            .chain(self.twins.pages(TWINS))
            .chain(self.recent.pages(RECENT))
            .chain(self.commands.pages(COMMANDS))
            .chain(self.streams.pages(STREAMS))
            .chain(self.services.pages(SERVICES))
            .collect()
    }

    /// The state whose pages these are, with all that is derived from them.
    pub(crate) fn from_pages(pages: &mut dyn Iterator<Item = (PageId, Bytes)>) -> Result<Self, DamagedBytes> {
        let mut state = Self::default();
        for (id, bytes) in pages {
            match id.table {
                HEADER => put(&mut state.header, id, Header::decode(&bytes)?),
                TWINS => put(&mut state.twins, id, twins::TwinsPage::decode(&bytes)?),
                RECENT => put(&mut state.recent, id, recent::RecentPage::decode(&bytes)?),
                COMMANDS => put(&mut state.commands, id, commands::CommandsPage::decode(&bytes)?),
                STREAMS => put(&mut state.streams, id, streams::StreamsPage::decode(&bytes)?),
                SERVICES => put(&mut state.services, id, services::ServicePage::decode(&bytes)?),
                unknown => return Err(page::damaged(format!("page of the unknown table {unknown}"))),
            }
        }
        state.derive_from_twins();
        state.derive_services();
        Ok(state)
    }

    fn derive_from_twins(&mut self) {
        let devices: Vec<_> = self
            .devices(DeviceNumber(0))
            .map(|device| (device.number(), Arc::clone(&device.twin.identity), device.session()))
            .collect();
        for (number, identity, session) in devices {
            self.names.insert(&identity.name, number, RESTORED);
            if let Some(session) = session {
                self.attach(session, number, RESTORED);
            }
        }
    }

    fn derive_services(&mut self) {
        let names =
            self.services.iter().filter_map(|(number, page)| Some((page.service.as_ref()?.name.clone(), number)));
        self.service_pages = Arc::new(names.collect());
    }
}

fn put<P: PageContent>(table: &mut PageTable<P>, id: PageId, content: P) {
    *table.page_mut(id.number, RESTORED) = content;
}
