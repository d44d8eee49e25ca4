//! The store traits' conformance suites on a real Cassandra.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[path = "cassandra/repeating.rs"]
mod repeating;
#[path = "cassandra/server.rs"]
mod server;

use async_trait::async_trait;
use tallyman_counter::store::conformance::{Dataset, DatasetFactory};

use repeating::Repeating;
use server::Keyspaces;

#[async_trait]
impl DatasetFactory for Keyspaces {
    async fn fresh(&self) -> Dataset {
        let keyspace = self.create().await;
        Dataset::of(Repeating(self.cluster().dataset(&keyspace, self.region())))
    }

    async fn reopen(&self, dataset: Dataset) -> Dataset {
        drop(dataset);
        // A cluster of its own: nothing that the other one prepared or queued is known to it.
        self.reconnect().await;
        Dataset::of(Repeating(self.cluster().dataset(&self.last_created(), self.region())))
    }
}

mod dataset {
    use super::Keyspaces;
    tallyman_counter::dataset_conformance! {
        Keyspaces::new().await; token_reuse: no; behind_boundary: no; durable: yes;
        #[ignore = "needs Cassandra: cargo xtask servers up"]
    }
}
