//! Which devices a subscriber wants to hear of.

use std::collections::BTreeSet;

use kvarter_actors::district_of;
use kvarter_api::v1::FeedFilter;
use tonic::Status;

use crate::api::name;

/// Passes facts about devices of certain districts and kinds; an empty set passes all.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    districts: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Filter {
    pub(crate) fn from_public(filter: Option<FeedFilter>) -> Result<Self, Status> {
        let FeedFilter { districts, kinds } = filter.unwrap_or_default();
        let district = |(place, public): (usize, &String)| {
            let district = name::parse_district(public, &format!("filter.districts[{place}]"))?;
            Ok(district.as_str().to_owned())
        };
        let districts = districts.iter().enumerate().map(district).collect::<Result<_, Status>>()?;
        Ok(Self { districts, kinds: kinds.into_iter().collect() })
    }

    /// The districts that can pass; empty: all.
    pub(crate) fn districts(&self) -> impl Iterator<Item = &str> {
        self.districts.iter().map(String::as_str)
    }

    /// Whether facts about the device `{district}/{device}` of this kind pass.
    pub(crate) fn passes(&self, name: &str, kind: &str) -> bool {
        (self.districts.is_empty() || self.districts.contains(district_of(name)))
            && (self.kinds.is_empty() || self.kinds.contains(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(districts: &[&str], kinds: &[&str]) -> Filter {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Filter::from_public(Some(FeedFilter { districts: texts(districts), kinds: texts(kinds) })).expect("a filter")
    }

    #[test]
    fn a_fact_passes_every_list_that_is_not_empty() {
        assert!(filter(&[], &[]).passes("c/lamp", "luminaire"));
        assert!(filter(&["districts/c"], &["luminaire"]).passes("c/lamp", "luminaire"));
        assert!(!filter(&["districts/c"], &["luminaire"]).passes("c/lamp", "bus"));
        assert!(!filter(&["districts/c"], &[]).passes("d/lamp", "luminaire"));
    }

    #[test]
    fn a_malformed_district_is_refused() {
        assert!(Filter::from_public(Some(FeedFilter { districts: vec!["c".to_owned()], kinds: vec![] })).is_err());
    }
}
