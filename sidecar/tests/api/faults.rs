//! Event stores in memory that fail on purpose.

use std::time::Duration;

use async_trait::async_trait;
use tallyman_counter::backend::memory;
use tallyman_counter::clock::{Clock, SystemClock};
use tallyman_counter::model::{SliceRecord, SliceState, Timestamp};
use tallyman_counter::store::{Append, Capabilities, Error, EventPage, EventStore, NodeClock, Result, Scan};
use tokio::sync::watch;

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing.
    None,
    /// Appends get no answer.
    AppendsHang,
    /// Appends wait until the value is true.
    AppendsWait(watch::Receiver<bool>),
    /// Appends are refused before anything is written.
    AppendsUnavailable,
    /// Scans find damage.
    ScansCorrupt,
    /// The store's node has another time.
    NodeClockAhead,
}

/// A dataset's events, with a fault.
pub struct Faulty {
    pub inner: memory::Dataset,
    pub fault: Fault,
}

#[async_trait]
impl EventStore for Faulty {
    fn capabilities(&self) -> Capabilities {
        let in_process = !matches!(self.fault, Fault::NodeClockAhead);
        Capabilities { in_process, ..self.inner.capabilities() }
    }

    async fn append(&self, appends: Vec<Append>) -> Vec<Result<()>> {
        match &self.fault {
            Fault::AppendsHang => std::future::pending().await,
            Fault::AppendsWait(open) => {
                open.clone().wait_for(|open| *open).await.unwrap();
            }
            Fault::AppendsUnavailable => {
                return appends.iter().map(|_| Err(Error::Unavailable { reason: "told so".to_owned() })).collect();
            }
            _ => {}
        }
        self.inner.append(appends).await
    }

    async fn scan(&self, scan: Scan) -> Result<EventPage> {
        match &self.fault {
            Fault::ScansCorrupt => Err(Error::Corrupt { reason: "told so".to_owned() }),
            _ => self.inner.scan(scan).await,
        }
    }

    async fn slices(&self) -> Result<Vec<SliceRecord>> {
        self.inner.slices().await
    }

    async fn create_slice(&self, record: SliceRecord) -> Result<()> {
        self.inner.create_slice(record).await
    }

    async fn set_slice_state(&self, slice_start: Timestamp, state: SliceState) -> Result<()> {
        self.inner.set_slice_state(slice_start, state).await
    }

    async fn node_clocks(&self) -> Result<Vec<NodeClock>> {
        match &self.fault {
            Fault::NodeClockAhead => {
                let time = SystemClock::new().now().plus(Duration::from_secs(3_600));
                Ok(vec![NodeClock { node: "ahead".to_owned(), time }])
            }
            _ => self.inner.node_clocks().await,
        }
    }
}
