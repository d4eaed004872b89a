//! Which node answers for which district without a detour, as answers have told.

use std::collections::BTreeMap;
use std::mem;

use crate::endpoints::EndpointId;

/// Districts of one generation. There are two, so that at most twice as many are kept.
const GENERATION_DISTRICTS_MAX: usize = 2_048;

/// District → the node that led its shard when it was last heard of. Bounded: what was not used for long is forgotten.
#[derive(Debug)]
pub(crate) struct Routes {
    generation_max: usize,
    young: BTreeMap<String, EndpointId>,
    old: BTreeMap<String, EndpointId>,
}

impl Default for Routes {
    fn default() -> Self {
        Self::new(GENERATION_DISTRICTS_MAX)
    }
}

impl Routes {
    /// Keeps the `generation_max` districts that were used last, and at most twice as many.
    fn new(generation_max: usize) -> Self {
        Self { generation_max, young: BTreeMap::new(), old: BTreeMap::new() }
    }

    /// Where to call for `district`; `None`: not known.
    pub(crate) fn find(&mut self, district: &str) -> Option<EndpointId> {
        if let Some(id) = self.young.get(district) {
            return Some(*id);
        }
        let (district, id) = self.old.remove_entry(district)?;
        self.keep(district, id);
        Some(id)
    }

    pub(crate) fn remember(&mut self, district: &str, id: EndpointId) {
        match self.young.get_mut(district) {
            Some(known) => *known = id,
            None => {
                self.old.remove(district);
                self.keep(district.to_owned(), id);
            }
        }
    }

    pub(crate) fn forget(&mut self, district: &str) {
        self.young.remove(district);
        self.old.remove(district);
    }

    fn keep(&mut self, district: String, id: EndpointId) {
        if self.young.len() >= self.generation_max {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(district, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: EndpointId = EndpointId::nth(0);
    const THERE: EndpointId = EndpointId::nth(1);

    #[test]
    fn the_last_word_about_a_district_counts() {
        let mut routes = Routes::default();
        assert_eq!(routes.find("c"), None);
        routes.remember("c", HERE);
        routes.remember("c", THERE);
        assert_eq!(routes.find("c"), Some(THERE));
        routes.forget("c");
        assert_eq!(routes.find("c"), None);
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut routes = Routes::new(4);
        routes.remember("used", THERE);
        for other in 0..100 {
            routes.remember(&other.to_string(), HERE);
            assert_eq!(routes.find("used"), Some(THERE), "after {other} others");
            assert!(routes.young.len() + routes.old.len() <= 8);
        }
        assert_eq!(routes.find("0"), None);
        routes.forget("used");
        assert_eq!(routes.find("used"), None);
    }
}
