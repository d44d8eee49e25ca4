//! A dataset whose calls are repeated while their errors may pass, as its callers repeat them: a node that stands still for a while fails
//! no test of what it does when it does it.

use std::time::Duration;

use async_trait::async_trait;
use tallyman_counter::backend::cassandra::Dataset;
use tallyman_counter::model::{Checkpoint, CounterKey, NamespaceName, SliceRecord, SliceState, Timestamp};
use tallyman_counter::store::{
    Append, Capabilities, Cursor, Error, EventPage, EventStore, NodeClock, Result, RollupRow, RollupStore, RowPage,
    Scan, Share, Touch,
};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(120);
const EVERY: Duration = Duration::from_millis(100);

pub struct Repeating(pub Dataset);

async fn repeated<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Err(error) if error.is_retryable() && Instant::now() < until => {
                eprintln!("{error}; it is tried again");
                tokio::time::sleep(EVERY).await;
            }
            answer => return answer,
        }
    }
}

#[async_trait]
impl EventStore for Repeating {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn append(&self, appends: Vec<Append>) -> Vec<Result<()>> {
        let mut results = self.0.append(appends.clone()).await;
        for (result, append) in results.iter_mut().zip(appends) {
            if result.as_ref().is_err_and(Error::is_retryable) {
                *result = repeated(|| async { self.0.append(vec![append.clone()]).await.remove(0) }).await;
            }
        }
        results
    }

    async fn scan(&self, scan: Scan) -> Result<EventPage> {
        repeated(|| self.0.scan(scan.clone())).await
    }

    async fn slices(&self) -> Result<Vec<SliceRecord>> {
        repeated(|| self.0.slices()).await
    }

    async fn create_slice(&self, record: SliceRecord) -> Result<()> {
        repeated(|| self.0.create_slice(record.clone())).await
    }

    async fn set_slice_state(&self, slice_start: Timestamp, state: SliceState) -> Result<()> {
        repeated(|| self.0.set_slice_state(slice_start, state)).await
    }

    async fn node_clocks(&self) -> Result<Vec<NodeClock>> {
        repeated(|| self.0.node_clocks()).await
    }
}

#[async_trait]
impl RollupStore for Repeating {
    async fn touch(&self, counter: &CounterKey, touch: Touch) -> Result<()> {
        repeated(|| self.0.touch(counter, touch)).await
    }

    async fn read(&self, counter: &CounterKey) -> Result<Option<RollupRow>> {
        repeated(|| self.0.read(counter)).await
    }

    async fn write_checkpoint(&self, counter: &CounterKey, checkpoint: Checkpoint) -> Result<()> {
        repeated(|| self.0.write_checkpoint(counter, checkpoint)).await
    }

    async fn list(&self, share: Share, from: Option<Cursor>, limit: usize) -> Result<RowPage> {
        repeated(|| self.0.list(share, from.clone(), limit)).await
    }

    fn removed_until(&self, namespace: &NamespaceName) -> Option<Timestamp> {
        self.0.removed_until(namespace)
    }
}
