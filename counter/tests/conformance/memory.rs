//! The stores in memory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tallyman_counter::backend::memory;
use tallyman_counter::store::conformance::{BestEffortFactory, Dataset, DatasetFactory, RollupCacheFactory};
use tallyman_counter::store::{BestEffortStore, RollupCache};

use crate::clock::SetClock;

struct Datasets;

#[async_trait]
impl DatasetFactory for Datasets {
    async fn fresh(&self) -> Dataset {
        Dataset::of(memory::Dataset::new())
    }

    async fn reopen(&self, _: Dataset) -> Dataset {
        unreachable!("declared not to be durable")
    }
}

#[derive(Default)]
struct OnSetClock(Arc<SetClock>);

#[async_trait]
impl RollupCacheFactory for OnSetClock {
    const EXPIRY: Duration = Duration::from_secs(60);

    async fn fresh(&self) -> Arc<dyn RollupCache> {
        Arc::new(memory::Cache::new(1 << 20, Self::EXPIRY, self.0.clone()))
    }

    async fn pass(&self, span: Duration) {
        self.0.advance(span);
    }
}

#[async_trait]
impl BestEffortFactory for OnSetClock {
    async fn fresh(&self) -> Arc<dyn BestEffortStore> {
        Arc::new(memory::BestEffort::new(1 << 20, self.0.clone()))
    }

    async fn pass(&self, span: Duration) {
        self.0.advance(span);
    }
}

mod dataset {
    use super::Datasets;
    tallyman_counter::dataset_conformance! { Datasets; token_reuse: yes; behind_boundary: yes; durable: no }
}

mod rollup_cache {
    use super::OnSetClock;
    tallyman_counter::rollup_cache_conformance! { OnSetClock::default() }
}

mod best_effort {
    use super::OnSetClock;
    tallyman_counter::best_effort_conformance! { OnSetClock::default() }
}
