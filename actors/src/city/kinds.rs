//! The catalog on this node: built-in kinds brought into the meta group once, all kinds followed from it, put and removed there.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use kvarter_cluster::{Cluster, MetaError, MetaView};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::city::call::needs_upgrade;
use crate::city::{CallContext, Inner};
use crate::message::{self, Failure, FailureReason, shard_reply::Reply, shard_request::Request};
use crate::{Catalog, Kind, ShardState};

/// The cluster version since which every program refuses devices of a retired kind, and counts devices: older ones would take the
/// kind for any other.
pub(super) const RETIREMENT_VERSION: u32 = 4;

const RETRY_BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(5) };

/// Tries to change a kind while others change the catalog as well.
const CHANGE_TRIES_MAX: u32 = 5;

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
        Ok(catalog) => Some(Arc::new(catalog.at(meta.documents_version))),
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

/// Adds `kind` or extends the one of its name, retired or not; returns when this node's catalog has it.
pub(crate) async fn put(
    cluster: &Cluster<ShardState>,
    mut catalog: watch::Receiver<Arc<Catalog>>,
    kind: Kind,
) -> Result<Kind, Failure> {
    let kind = kind.check().map_err(|error| Failure::invalid("kind", error.to_string()))?;
    let kind = Kind { is_retired: false, ..kind };
    change(cluster, &kind.name, |old| {
        if let Some(old) = old {
            kind.check_extension(&old).map_err(|error| Failure::invalid("kind", error.to_string()))?;
        }
        Ok(kind.clone())
    })
    .await?;
    let is_here = |catalog: &Arc<Catalog>| catalog.kind(&kind.name).is_some_and(|known| **known == kind);
    // It is stored all the same when it takes longer to be seen here.
    drop(timeout(SEEN_MAX, catalog.wait_for(is_here)).await);
    Ok(kind)
}

/// Makes of the kind called `name` what `changed` says, given what it is. Returns the version of the documents that have it.
async fn change(
    cluster: &Cluster<ShardState>,
    name: &str,
    mut changed: impl FnMut(Option<Kind>) -> Result<Kind, Failure>,
) -> Result<u64, Failure> {
    let key = Kind::document_key_of(name);
    for _ in 0..CHANGE_TRIES_MAX {
        let meta = cluster.meta();
        let old = meta.documents.get(&key).map(|document| Kind::from_document(&key, document)).transpose();
        let old = old.map_err(|error| Failure::new(FailureReason::Conflict, error.to_string()))?;
        let document = changed(old)?.to_document();
        match cluster.put_documents(vec![(key.clone(), Some(document))], Some(meta.documents_version)).await {
            Ok(version) => return Ok(version),
            Err(MetaError::Conflict) => {
                let version = meta.documents_version;
                let mut changes = cluster.meta_changes();
                drop(timeout(SEEN_MAX, changes.wait_for(|meta| meta.documents_version != version)).await);
            }
            Err(error) => return Err(failure_of(&error)),
        }
    }
    Err(Failure::new(FailureReason::Conflict, format!("kind `{name}`: the catalog changes all the time")))
}

impl Inner {
    /// Retires the kind, then counts its devices in every shard, and brings it back when there are any.
    ///
    /// Danger: a node that has not heard of the change, and comes to lead a shard after its devices were counted, registers
    /// devices of the kind until it hears of it. Whoever dies in between leaves a kind retired that may have devices; the next
    /// removal of it goes on.
    pub(super) async fn delete_kind(&self, name: &str, context: CallContext) -> Result<(), Failure> {
        let version = self.cluster.meta().version();
        if version < RETIREMENT_VERSION {
            return Err(needs_upgrade(version, RETIREMENT_VERSION));
        }
        let began = Instant::now();
        let not_found = || Failure::new(FailureReason::NotFound, format!("there is no kind `{name}`"));
        let mut found = None;
        // It is written although it is retired already: what is seen here may be old.
        let retired_at = change(&self.cluster, name, |old| {
            let kind = found.insert(old.ok_or_else(not_found)?);
            Ok(Kind { is_retired: true, ..kind.clone() })
        })
        .await?;
        // The rest is for bringing it back.
        let deadline = (context.deadline * 3 / 4).saturating_sub(began.elapsed());
        let context = CallContext { deadline, ..context };
        let counted = self.stop.run_until_cancelled(self.count_devices(name, retired_at, &context)).await;
        let is_stopping = || Err(Failure::new(FailureReason::NotLeader, "the node is shutting down"));
        let (outcome, changed) = match (counted.unwrap_or_else(is_stopping), found) {
            (Ok(0), _) => (Ok(()), Ok(retired_at)),
            (Ok(devices), _) => {
                let text = format!("kind `{name}` can not be removed: {devices} devices are of it");
                let bring_back = |old: Option<Kind>| Ok(Kind { is_retired: false, ..old.ok_or_else(not_found)? });
                let in_use = Failure::new(FailureReason::InUse, text);
                (Err(in_use), change(&self.cluster, name, bring_back).await)
            }
            // Somebody has put it meanwhile.
            (Err(failure), _) if failure.reason() == FailureReason::Conflict => return Err(failure),
            (Err(failure), Some(kind)) if !kind.is_retired => {
                // Unless the catalog was changed since: another removal of the kind may have come to its end.
                let document = (kind.document_key(), Some(kind.to_document()));
                let brought_back = self.cluster.put_documents(vec![document], Some(retired_at)).await;
                (Err(failure), brought_back.map_err(|error| failure_of(&error)))
            }
            // It may have been removed long ago.
            (Err(failure), _) => return Err(failure),
        };
        let version = changed.map_err(|error| {
            let text = format!("kind `{name}` is perhaps removed, although it may have devices: {}", error.message);
            Failure::new(FailureReason::Unknown, text)
        })?;
        let mut catalog = self.catalog.clone();
        // It is stored all the same when it takes longer to be seen here.
        drop(timeout(SEEN_MAX, catalog.wait_for(|catalog| catalog.documents_version() >= version)).await);
        outcome
    }

    /// Devices of the kind in all shards, by catalogs that have it retired: those of `retired_at`, or later ones. Fails when one
    /// shard does.
    async fn count_devices(&self, kind: &str, retired_at: u64, context: &CallContext) -> Result<u64, Failure> {
        let meta = self.cluster.meta();
        let counts = meta.shards.keys().map(async |shard| {
            let count = message::CountDevices { kind: kind.to_owned(), documents_version: retired_at };
            let request = Some(Request::CountDevices(count));
            let request = message::ShardRequest { shard: shard.0, request, ..message::ShardRequest::default() };
            let failure = match self.call(Box::new(request), context.clone()).await {
                Ok(Reply::DevicesCounted(counted)) => return Ok(counted.devices),
                Ok(_) => Failure::new(FailureReason::NotLeader, format!("{shard} answered something else")),
                Err(failure) => failure,
            };
            let reason = match failure.reason() {
                // A count changes nothing.
                FailureReason::Unknown => FailureReason::NotLeader,
                reason => reason,
            };
            let message = format!("the devices of kind `{kind}` were not counted: {}", failure.message);
            Err(Failure { reason: reason.into(), message, ..failure })
        });
        // As many calls as the city has shards.
        Ok(try_join_all(counts).await?.into_iter().sum())
    }
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
