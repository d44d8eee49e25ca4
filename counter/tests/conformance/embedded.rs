//! The embedded store.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use tallyman_counter::backend::embedded::Database;
use tallyman_counter::store::conformance::{Dataset, DatasetFactory};

/// Datasets of one database in a directory of its own. Only the last one made is reopened by name.
struct Datasets {
    dir: tempfile::TempDir,
    open: Mutex<Option<Database>>,
    made: AtomicU32,
}

impl Datasets {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let open = Mutex::new(Some(Database::open(dir.path()).unwrap()));
        Self { dir, open, made: AtomicU32::new(0) }
    }

    async fn dataset(&self, nth: u32) -> Dataset {
        let database = self.open.lock().unwrap().clone().unwrap();
        Dataset::of(database.dataset(&format!("dataset-{nth}"), "region").await.unwrap())
    }
}

#[async_trait]
impl DatasetFactory for Datasets {
    async fn fresh(&self) -> Dataset {
        self.dataset(self.made.fetch_add(1, Ordering::Relaxed)).await
    }

    async fn reopen(&self, dataset: Dataset) -> Dataset {
        drop(dataset);
        // Closes with its last handle.
        *self.open.lock().unwrap() = None;
        *self.open.lock().unwrap() = Some(Database::open(self.dir.path()).unwrap());
        self.dataset(self.made.load(Ordering::Relaxed) - 1).await
    }
}

mod dataset {
    use super::Datasets;
    tallyman_counter::dataset_conformance! { Datasets::new(); token_reuse: yes; behind_boundary: yes; durable: yes }
}
