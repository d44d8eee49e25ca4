//! What a restart leaves, for backends that outlive their process.

use super::listing::{fill, list_all};
use crate::store::Share;
use crate::store::conformance::DatasetFactory;

/// Every row acknowledged is there, whole.
pub async fn rows_are_there_after_a_restart(factory: &impl DatasetFactory) {
    let dataset = factory.fresh().await;
    let expected = fill(&*dataset.rollups, 30).await;
    let dataset = factory.reopen(dataset).await;
    assert_eq!(list_all(&*dataset.rollups, Share::ALL, 1000).await, expected);
    for (counter, row) in &expected {
        assert_eq!(dataset.rollups.read(counter).await.expect("readable"), Some(*row), "{counter}");
    }
}

/// A cursor outlives the process that made it.
pub async fn a_listing_goes_on_after_a_restart(factory: &impl DatasetFactory) {
    let dataset = factory.fresh().await;
    let expected = fill(&*dataset.rollups, 30).await;
    let first = dataset.rollups.list(Share::ALL, None, 10).await.expect("readable");
    assert!(first.next.is_some(), "more than a page");
    let dataset = factory.reopen(dataset).await;
    let rest = dataset.rollups.list(Share::ALL, first.next, 1000).await.expect("readable");
    let listed: std::collections::BTreeMap<_, _> = first.rows.into_iter().chain(rest.rows).collect();
    assert_eq!(listed, expected);
}
