//! The kinds that the city knows, compiled for look-up.
//!
//! The built-in kinds are the YAML files in `kinds/`. A cluster's catalog is what its meta group keeps in documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kind::{DocumentError, Kind, KindError};

/// Sources of the built-in kinds.
const BUILT_IN: [&str; 21] = [
    include_str!("../kinds/air_quality.yaml"),
    include_str!("../kinds/battery.yaml"),
    include_str!("../kinds/building.yaml"),
    include_str!("../kinds/bus.yaml"),
    include_str!("../kinds/cabinet.yaml"),
    include_str!("../kinds/citizen_reports.yaml"),
    include_str!("../kinds/electricity_meter.yaml"),
    include_str!("../kinds/ev_charger.yaml"),
    include_str!("../kinds/flood_level.yaml"),
    include_str!("../kinds/garage.yaml"),
    include_str!("../kinds/heat_meter.yaml"),
    include_str!("../kinds/luminaire.yaml"),
    include_str!("../kinds/noise.yaml"),
    include_str!("../kinds/parking_bay.yaml"),
    include_str!("../kinds/pump.yaml"),
    include_str!("../kinds/solar.yaml"),
    include_str!("../kinds/traffic_flow_sensor.yaml"),
    include_str!("../kinds/traffic_signal.yaml"),
    include_str!("../kinds/waste_container.yaml"),
    include_str!("../kinds/water_meter.yaml"),
    include_str!("../kinds/weather.yaml"),
];

/// Why a kind written in YAML was not read.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    #[error("the kind does not parse: {reason}")]
    Syntax { reason: String },
    #[error(transparent)]
    Invalid(#[from] KindError),
}

impl Kind {
    /// Reads and checks a kind written in YAML.
    pub fn from_yaml(text: &str) -> Result<Self, YamlError> {
        let kind: Kind =
            serde_saphyr::from_str(text).map_err(|error| YamlError::Syntax { reason: error.to_string() })?;
        Ok(kind.check()?)
    }
}

/// The kinds by name. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    kinds: Arc<BTreeMap<String, Arc<Kind>>>,
    /// Of the meta group's documents; zero: of none.
    documents_version: u64,
}

impl Catalog {
    /// The kinds that come with the program.
    pub fn built_in() -> Self {
        BUILT_IN.into_iter().map(|source| Kind::from_yaml(source).expect("a built-in kind is valid")).collect()
    }

    /// The kinds among a meta group's documents; other documents are passed over.
    pub fn from_documents<'a>(documents: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, DocumentError> {
        documents
            .into_iter()
            .filter(|(key, _)| key.starts_with(Kind::DOCUMENT_PREFIX))
            .map(|(key, bytes)| Kind::from_document(key, bytes))
            .collect()
    }

    /// The same catalog, as the documents of this version have it.
    pub(crate) fn at(self, documents_version: u64) -> Self {
        Self { documents_version, ..self }
    }

    pub(crate) fn documents_version(&self) -> u64 {
        self.documents_version
    }

    /// The kind called `name`, retired or not.
    pub fn kind(&self, name: &str) -> Option<&Arc<Kind>> {
        self.kinds.get(name)
    }

    /// The kind called `name`, if devices may be of it.
    pub fn current(&self, name: &str) -> Option<&Arc<Kind>> {
        self.kind(name).filter(|kind| !kind.is_retired)
    }

    /// All kinds in the order of their names, retired or not.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.kinds.values()
    }
}

impl FromIterator<Kind> for Catalog {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        let kinds = kinds.into_iter().map(|kind| (kind.name.clone(), Arc::new(kind)));
        Self { kinds: Arc::new(kinds.collect()), documents_version: 0 }
    }
}

#[cfg(test)]
mod tests;
