//! Where the cluster's tasks run: beside the application in production; in a simulation on the caller's one thread, where all
//! repeats itself exactly. (Whether there are threads that wait for disks is the storage port's to say.)

use std::io;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinError;

/// Longest wait for tasks that do not end by themselves.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Where Raft cores, transport and upkeep run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// On a runtime of their own: a busy application does not cost a leader its place.
    OwnRuntime,
    /// On the runtime of whoever starts the cluster.
    CallersRuntime,
}

impl Execution {
    pub(crate) fn raft_runtime(self) -> io::Result<RaftRuntime> {
        Ok(RaftRuntime(match self {
            Self::OwnRuntime => {
                let mut builder = tokio::runtime::Builder::new_multi_thread();
                Some(builder.worker_threads(2).thread_name("raft").enable_all().build()?)
            }
            Self::CallersRuntime => None,
        }))
    }
}

/// The runtime of Raft cores, transport and upkeep; `None`: the caller's. A `Runtime` itself must not be dropped in async
/// code.
pub(crate) struct RaftRuntime(Option<Runtime>);

impl RaftRuntime {
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError> {
        match &self.0 {
            Some(runtime) => runtime.spawn(task).await,
            None => Ok(task.await),
        }
    }

    /// Waits for the last tasks, since they hold the stores: the directory can be opened again afterwards.
    pub(crate) async fn end(mut self) {
        let Some(runtime) = self.0.take() else { return };
        if let Err(error) = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(SHUTDOWN_TIMEOUT)).await {
            tracing::error!(%error, "the cluster's runtime did not end");
        }
    }
}

impl Drop for RaftRuntime {
    /// Ends the tasks where they are, as a crash would; `Cluster::shutdown` is the orderly way.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
