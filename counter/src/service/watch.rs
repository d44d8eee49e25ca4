//! Watching a counter: its count now, and again whenever it has changed.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::{Count, CounterService, Error, RETRY_AFTER, Result, counter};
use crate::namespace::DurableNamespace;

/// The least time between two messages of one watch.
const WATCH_EVERY: Duration = Duration::from_millis(100);

struct Watch {
    service: Arc<CounterService>,
    namespace: String,
    counter_name: String,
    is_accurate: bool,
    last: Option<Count>,
    next_read: Instant,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    /// Waits for the next count to tell. Each look is a read, and so a touch.
    async fn next(&mut self) -> Result<Count> {
        loop {
            tokio::time::sleep_until(self.next_read).await;
            let count = self.service.get_count(&self.namespace, &self.counter_name, None, None).await;
            self.next_read = Instant::now() + WATCH_EVERY;
            let mut count = count?;
            if self.is_accurate {
                // Whatever was acknowledged before the last message is in this one as well.
                count.as_of = count.as_of.max(self.last.and_then(|last| last.as_of));
            }
            if self.last.is_none_or(|last| is_news(last, count)) {
                self.last = Some(count);
                return Ok(count);
            }
        }
    }
}

/// Another count, and not from an older checkpoint than the one told before.
fn is_news(last: Count, now: Count) -> bool {
    now.count != last.count && now.as_of >= last.as_of
}

impl CounterService {
    /// The count of a counter at once, then whenever it changed, at most every 100 ms. `as_of` never goes back. The stream ends
    /// after an error, and never otherwise.
    ///
    /// # Errors
    /// When the namespace or the name is wrong, or too many watch already; later ones come in the stream.
    pub fn watch_count(
        self: &Arc<Self>,
        namespace: &str,
        counter_name: &str,
    ) -> Result<impl Stream<Item = Result<Count>> + Send + use<>> {
        let is_accurate = self.served(namespace)?.namespace.durable().is_some_and(DurableNamespace::is_accurate);
        counter(counter_name, || "counter_name".into())?;
        let permit = self.watches.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Error::Overloaded { retry_after: RETRY_AFTER })?;
        let watch = Watch {
            _permit: permit,
            service: self.clone(),
            namespace: namespace.to_owned(),
            counter_name: counter_name.to_owned(),
            is_accurate,
            last: None,
            next_read: Instant::now(),
            ended: false,
        };
        Ok(stream::unfold(watch, |mut watch| async move {
            if watch.ended {
                return None;
            }
            let message = watch.next().await;
            watch.ended = message.is_err();
            Some((message, watch))
        }))
    }
}
