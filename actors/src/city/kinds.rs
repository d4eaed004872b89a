//! The catalog on this node: built-in kinds brought into the meta group once, all kinds followed from it.

use std::sync::Arc;
use std::time::Duration;

use kvarter_cluster::{Cluster, MetaError, MetaView};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::message::{Failure, FailureReason};
use crate::{Catalog, Kind, ShardState};

const RETRY_BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(5) };

/// Tries to put a kind while others change the catalog as well.
const PUT_TRIES_MAX: u32 = 5;

/// How long a change of the meta group may take to be seen here.
const SEEN_MAX: Duration = Duration::from_secs(5);

/// Puts the built-in kinds that the meta group lacks into it. Ends when none is missing, or with `stop`.
pub(crate) async fn load_built_in(cluster: Arc<Cluster<ShardState>>, stop: CancellationToken) {
    let built_in = Catalog::built_in();
    let mut failures = 0;
    loop {
        let meta = cluster.meta();
        let missing: Vec<_> = built_in
            .kinds()
            .filter(|kind| !meta.documents.contains_key(&kind.document_key()))
            .map(|kind| (kind.document_key(), Some(kind.to_document())))
            .collect();
        if missing.is_empty() {
            return;
        }
        let count = missing.len();
        match stop.run_until_cancelled(cluster.put_documents(missing, Some(meta.documents_version))).await {
            Some(Ok(_)) => tracing::info!(count, "built-in kinds are in the catalog"),
            // Another node was first, or the cluster is forming.
            Some(Err(error)) => tracing::debug!(%error, "the built-in kinds are not in the catalog yet"),
            None => return,
        }
        failures += 1;
        let delay = RETRY_BACKOFF.delay(failures, cluster.ports().random.next_u64());
        if stop.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
            return;
        }
    }
}

/// The catalog as the meta group has it; a document that is no kind leaves the last good catalog in place.
pub(crate) fn compile(meta: &MetaView) -> Option<Arc<Catalog>> {
    let documents = meta.documents.iter().map(|(key, bytes)| (key.as_str(), bytes.as_ref()));
    match Catalog::from_documents(documents) {
        Ok(catalog) => Some(Arc::new(catalog)),
        Err(error) => {
            tracing::error!(%error, "the catalog is damaged; the last good one stays in use");
            None
        }
    }
}

/// Publishes the catalog whenever documents change.
pub(crate) async fn follow(
    mut meta: watch::Receiver<Arc<MetaView>>,
    published: watch::Sender<Arc<Catalog>>,
    stop: CancellationToken,
) {
    let mut version = None;
    loop {
        let seen = Arc::clone(&meta.borrow_and_update());
        if version.replace(seen.documents_version) != Some(seen.documents_version)
            && let Some(catalog) = compile(&seen)
        {
            published.send_replace(catalog);
        }
        match stop.run_until_cancelled(meta.changed()).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return,
        }
    }
}

/// Adds `kind` or extends the one of its name; returns when this node's catalog has it.
pub(crate) async fn put(
    cluster: &Cluster<ShardState>,
    mut catalog: watch::Receiver<Arc<Catalog>>,
    kind: Kind,
) -> Result<Kind, Failure> {
    let kind = kind.check().map_err(|error| Failure::invalid("kind", error.to_string()))?;
    for _ in 0..PUT_TRIES_MAX {
        let meta = cluster.meta();
        let key = kind.document_key();
        if let Some(document) = meta.documents.get(&key) {
            let old = Kind::from_document(&key, document)
                .map_err(|error| Failure::new(FailureReason::Conflict, error.to_string()))?;
            kind.check_extension(&old).map_err(|error| Failure::invalid("kind", error.to_string()))?;
        }
        match cluster.put_documents(vec![(key, Some(kind.to_document()))], Some(meta.documents_version)).await {
            Ok(_) => {
                let is_here = |catalog: &Arc<Catalog>| catalog.kind(&kind.name).is_some_and(|known| **known == kind);
                // It is stored all the same when it takes longer to be seen here.
                drop(timeout(SEEN_MAX, catalog.wait_for(is_here)).await);
                return Ok(kind);
            }
            Err(MetaError::Conflict) => {
                let version = meta.documents_version;
                let mut changes = cluster.meta_changes();
                drop(timeout(SEEN_MAX, changes.wait_for(|meta| meta.documents_version != version)).await);
            }
            Err(error) => return Err(failure_of(&error)),
        }
    }
    Err(Failure::new(FailureReason::Conflict, format!("kind `{}`: the catalog changes all the time", kind.name)))
}

/// What callers hear when the meta group was not changed.
pub(crate) fn failure_of(error: &MetaError) -> Failure {
    let reason = match error {
        MetaError::Unavailable { .. } => FailureReason::NotLeader,
        MetaError::Unknown => FailureReason::Unknown,
        MetaError::Conflict => FailureReason::Conflict,
        MetaError::NotFound { .. } => FailureReason::NotFound,
        MetaError::Refused { .. } => FailureReason::Limit,
    };
    Failure::new(reason, error.to_string())
}
