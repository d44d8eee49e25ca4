//! Deliberate breaks, applied at the edges of the engine: each must be caught by the checker of the invariant that it breaks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tallyman_counter::clock::Clock;
use tallyman_counter::model::{
    Checkpoint, CounterKey, Event, EventItem, SliceRecord, SliceSettings, SliceState, Timestamp, Token,
};
use tallyman_counter::store::{Append, Capabilities, EventPage, EventStore, NodeClock, Result, RollupCache, Scan};

use crate::invariants::Invariant;

/// One way to break the design.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// A client takes a new token for each retry.
    RetryWithNewToken,
    /// A store that timed out writes the event once more, under another id.
    AppendTwiceAfterTimeout,
    /// A cached checkpoint is read with a later time than it has.
    CachedWithWrongTime,
    /// The cache keeps whatever came last.
    CacheWithoutCompare,
    /// A checkpoint's cell carries the time of the write.
    CheckpointAtTimeOfWrite,
    /// Rollup servers wait for no event's acknowledgement: their slices have no limits.
    NoLag,
    /// Rollup events are lost, and there are no sweeps, nor the closing of slices, which is one.
    NoSweep,
    /// Events are ordered by when they arrived: a clear's time becomes the time of its arrival.
    OrderOfArrival,
    /// A slice is closed though nobody swept.
    CloseWithoutSweep,
    /// Every comparison of clocks says that they agree.
    ClocksAlwaysAgree,
    /// Rollup servers take a slice's settings from their own configuration.
    SettingsFromConfiguration,
    /// Rollup servers have far larger queues than they were given.
    QueuesWithoutBound,
    /// A graceful stop is none.
    StopThatForgets,
}

impl Break {
    pub const ALL: [Self; 13] = [
        Self::RetryWithNewToken,
        Self::AppendTwiceAfterTimeout,
        Self::CachedWithWrongTime,
        Self::CacheWithoutCompare,
        Self::CheckpointAtTimeOfWrite,
        Self::NoLag,
        Self::NoSweep,
        Self::OrderOfArrival,
        Self::CloseWithoutSweep,
        Self::ClocksAlwaysAgree,
        Self::SettingsFromConfiguration,
        Self::QueuesWithoutBound,
        Self::StopThatForgets,
    ];

    /// The invariant that it breaks.
    pub fn breaks(self) -> Invariant {
        match self {
            Self::RetryWithNewToken => Invariant::ExactlyOnce,
            Self::AppendTwiceAfterTimeout => Invariant::AtMostOnce,
            Self::CachedWithWrongTime => Invariant::NoReplyLies,
            Self::CacheWithoutCompare | Self::CheckpointAtTimeOfWrite => Invariant::Monotone,
            Self::NoLag => Invariant::SameWindowSameCount,
            Self::NoSweep => Invariant::Convergence,
            Self::OrderOfArrival => Invariant::Clear,
            Self::CloseWithoutSweep => Invariant::RetentionLosesNothing,
            Self::ClocksAlwaysAgree => Invariant::SkewNeverMiscounts,
            Self::SettingsFromConfiguration => Invariant::ChangeIsSafe,
            Self::QueuesWithoutBound => Invariant::Bounds,
            Self::StopThatForgets => Invariant::GracefulStop,
        }
    }
}

/// An event store as a broken process would use it.
pub struct BrokenEvents {
    pub inner: Arc<dyn EventStore>,
    pub broken: Break,
    /// Whether the process is a rollup server.
    pub rolls_up: bool,
    /// The process's clock.
    pub clock: Arc<dyn Clock>,
    /// The settings that its own configuration has.
    pub configured: Box<dyn Fn() -> SliceSettings + Send + Sync>,
}

impl BrokenEvents {
    fn with_settings(&self, record: SliceRecord) -> SliceRecord {
        let settings = match self.broken {
            Break::NoLag if self.rolls_up => {
                SliceSettings { accept_limit: Duration::ZERO, write_timeout: Duration::ZERO, ..record.settings }
            }
            Break::SettingsFromConfiguration if self.rolls_up => (self.configured)(),
            _ => record.settings,
        };
        SliceRecord { settings, ..record }
    }
}

#[async_trait]
impl EventStore for BrokenEvents {
    fn capabilities(&self) -> Capabilities {
        // No second clock to disagree with.
        let in_process = self.broken == Break::ClocksAlwaysAgree;
        Capabilities { in_process, ..self.inner.capabilities() }
    }

    async fn append(&self, mut appends: Vec<Append>) -> Vec<Result<()>> {
        if self.broken == Break::OrderOfArrival {
            let arrived = self.clock.now();
            for append in &mut appends {
                if append.event.item == EventItem::Clear {
                    append.event.event_time = append.event.event_time.max(arrived);
                }
            }
        }
        let results = self.inner.append(appends.clone()).await;
        if self.broken == Break::AppendTwiceAfterTimeout {
            let unknown = appends.into_iter().zip(&results).filter(|(_, result)| result.is_err());
            let again: Vec<Append> = unknown
                .map(|(append, _)| {
                    let event_id = Token::new(&format!("{}-again", append.event.event_id)).expect("a short token");
                    Append { event: Event { event_id, ..append.event }, ..append }
                })
                .collect();
            if !again.is_empty() {
                self.inner.append(again).await;
            }
        }
        results
    }

    async fn scan(&self, scan: Scan) -> Result<EventPage> {
        self.inner.scan(scan).await
    }

    async fn slices(&self) -> Result<Vec<SliceRecord>> {
        let records = self.inner.slices().await?;
        Ok(records.into_iter().map(|record| self.with_settings(record)).collect())
    }

    async fn create_slice(&self, record: SliceRecord) -> Result<()> {
        self.inner.create_slice(record).await
    }

    async fn set_slice_state(&self, slice_start: Timestamp, state: SliceState) -> Result<()> {
        self.inner.set_slice_state(slice_start, state).await
    }

    async fn node_clocks(&self) -> Result<Vec<NodeClock>> {
        self.inner.node_clocks().await
    }
}

/// A rollup cache as a broken process would read it.
pub struct BrokenCache {
    pub inner: Arc<dyn RollupCache>,
    pub broken: Break,
}

#[async_trait]
impl RollupCache for BrokenCache {
    async fn get(&self, counter: &CounterKey) -> Result<Option<Checkpoint>> {
        let mut entry = self.inner.get(counter).await?;
        if self.broken == Break::CachedWithWrongTime
            && let Some(checkpoint) = &mut entry
        {
            checkpoint.last_rollup_ts = checkpoint.last_rollup_ts.plus(Duration::from_secs(2));
        }
        Ok(entry)
    }

    async fn offer(&self, counter: &CounterKey, checkpoint: Checkpoint) -> Result<()> {
        self.inner.offer(counter, checkpoint).await
    }
}
