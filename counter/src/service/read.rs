//! The read path: from the cache, from the last rollup, or counted now.

use std::time::Duration;

use tokio::time::Instant;

use super::{Count, CounterService, Error, Result, Served, write};
use crate::aggregation::{self, Reading, count_accurately, last_rollup};
use crate::model::{CounterKey, CounterName};
use crate::namespace::{DurableNamespace, NamespaceStores};

/// Attempts at a read that the store does not answer.
const ATTEMPTS_MAX: u32 = 3;
/// The wait between them.
const ATTEMPT_WAIT: Duration = Duration::from_millis(20);

impl CounterService {
    pub(super) async fn read_one(
        &self,
        served: &Served,
        counter_name: CounterName,
        max_staleness: Option<Duration>,
        until: Instant,
    ) -> Result<Count> {
        let counter = write::key(&served.namespace, counter_name);
        let reading = async {
            match &served.namespace.counting {
                NamespaceStores::BestEffort(stores) => {
                    let count = stores.store.get(&counter).await.map_err(Error::of_read)?;
                    Ok(Count { count: count.unwrap_or(0), as_of: None })
                }
                NamespaceStores::Durable(durable) => self.read_durable(durable, &counter, max_staleness).await,
            }
        };
        match tokio::time::timeout_at(until, reading).await {
            Ok(count) => count,
            Err(_) => Err(Error::Unavailable { reason: "the store did not answer before the deadline".to_owned() }),
        }
    }

    async fn read_durable(
        &self,
        durable: &DurableNamespace,
        counter: &CounterKey,
        max_staleness: Option<Duration>,
    ) -> Result<Count> {
        let mut attempts = 1;
        let reading = loop {
            match self.reading(durable, counter, max_staleness).await {
                Err(aggregation::Error::Store(error)) if error.is_retryable() && attempts < ATTEMPTS_MAX => {
                    attempts += 1;
                    tokio::time::sleep(ATTEMPT_WAIT).await;
                }
                reading => break reading?,
            }
        };
        if reading.written {
            // It heals a counter whose rollup event was lost. A counter that never was is not worth one.
            self.touched.touch(counter);
        }
        let count = i64::try_from(reading.count).map_err(|_| Error::CountOverflow { count: reading.count })?;
        Ok(Count { count, as_of: Some(reading.as_of) })
    }

    async fn reading(
        &self,
        durable: &DurableNamespace,
        counter: &CounterKey,
        max_staleness: Option<Duration>,
    ) -> aggregation::Result<Reading> {
        let dataset = &durable.dataset;
        // Large; a read from the cache, which is most of them, is not to carry it about.
        let counted = || Box::pin(count_accurately(dataset, &self.budget, counter));
        if durable.is_accurate() {
            return counted().await;
        }
        let Some(max_staleness) = max_staleness else {
            return last_rollup(dataset, durable.cache.as_deref(), counter).await;
        };
        // Without a trusted clock no checkpoint is known to be new enough.
        let skew = dataset.slices().max_clock_skew();
        let now = skew.and_then(|skew| dataset.clock.now(skew).ok());
        if let Some(now) = now {
            let reading = last_rollup(dataset, durable.cache.as_deref(), counter).await?;
            // A checkpoint of a time to come says that the clock was set back: nothing is known of its age.
            if reading.as_of >= now.minus(max_staleness) && reading.as_of <= now {
                return Ok(reading);
            }
        }
        counted().await
    }
}
