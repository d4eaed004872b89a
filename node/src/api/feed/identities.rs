//! Names and kinds of the devices in a shard's facts, which know them by number only.

use std::sync::Arc;

use kvarter_actors::{Catalog, Kind};

use super::filter::Filter;
use crate::api::name;

/// What a reader of one shard knows of its devices; filled before facts are translated, kept for the next ones.
#[derive(Default)]
pub(crate) struct Identities {
    by_number: Vec<Option<Identity>>,
}

/// A device of the shard.
pub(crate) struct Identity {
    /// `{district}/{device}`
    pub(crate) name: String,
    /// `districts/{district}/devices/{device}`
    pub(crate) public_name: String,
    /// Absent while this node has not heard of the kind.
    pub(crate) kind: Option<Arc<Kind>>,
    /// Whether the subscriber wants to hear of it.
    pub(crate) passes: bool,
}

impl Identities {
    pub(crate) fn knows(&self, device: u32) -> bool {
        self.identity(device).is_some()
    }

    #[inline]
    pub(crate) fn identity(&self, device: u32) -> Option<&Identity> {
        self.by_number.get(device as usize)?.as_ref()
    }

    pub(crate) fn learn(&mut self, device: u32, name: &str, kind: &str, catalog: &Catalog, filter: &Filter) {
        let position = device as usize;
        if position >= self.by_number.len() {
            self.by_number.resize_with(position + 1, || None);
        }
        self.by_number[position] = Some(Identity {
            name: name.to_owned(),
            public_name: name::device(name),
            kind: catalog.kind(kind).cloned(),
            passes: filter.passes(name, kind),
        });
    }

    /// Forgets everything: kinds may have changed.
    pub(crate) fn forget(&mut self) {
        self.by_number.clear();
    }
}
