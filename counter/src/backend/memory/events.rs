//! The event store of a dataset in memory.

use async_trait::async_trait;

use super::Dataset;
use super::dataset::State;
use crate::model::{Event, SliceRecord, SliceState, Timestamp};
use crate::store::{Append, Capabilities, Error, EventPage, EventStore, NodeClock, Result, Scan};

impl State {
    fn append(&mut self, append: Append) -> Result<()> {
        let Append { partition, event } = append;
        self.readable(partition.slice_start)?;
        if let Some(boundary) = self.boundary.filter(|boundary| event.event_time <= *boundary) {
            return Err(Error::BehindBoundary { boundary });
        }
        let events = self.events.entry(partition).or_default();
        match events.insert((event.event_time, event.event_id.clone()), event.item) {
            Some(stored) if stored != event.item => {
                events.insert((event.event_time, event.event_id), stored);
                Err(Error::TokenReused)
            }
            _ => Ok(()),
        }
    }

    /// Refuses slices that were never created or are dropped.
    fn readable(&self, slice_start: Timestamp) -> Result<()> {
        match self.slices.get(&slice_start) {
            Some(record) if record.state != SliceState::Dropped => Ok(()),
            _ => Err(Error::MissingSlice { slice_start }),
        }
    }

    fn scan(&self, scan: &Scan) -> Result<EventPage> {
        self.readable(scan.partition.slice_start)?;
        let Some(events) = self.events.get(&scan.partition) else {
            return Ok(EventPage::default());
        };
        let newest_first = events.iter().rev().map(|((event_time, event_id), item)| Event {
            event_time: *event_time,
            event_id: event_id.clone(),
            item: *item,
        });
        let mut wanted = newest_first
            .filter(|event| scan.after < event.event_time && event.event_time <= scan.through)
            .filter(|event| scan.resume.as_ref().is_none_or(|resume| event.key() < *resume));
        let events: Vec<Event> = wanted.by_ref().take(scan.limit.max(1)).collect();
        let next = wanted.next().and_then(|_| events.last()).map(Event::key);
        Ok(EventPage { events, next })
    }
}

#[async_trait]
impl EventStore for Dataset {
    fn capabilities(&self) -> Capabilities {
        Capabilities { detects_token_reuse: true, refuses_behind_boundary: true, in_process: true }
    }

    async fn append(&self, appends: Vec<Append>) -> Vec<Result<()>> {
        let mut state = self.lock();
        appends.into_iter().map(|append| state.append(append)).collect()
    }

    async fn scan(&self, scan: Scan) -> Result<EventPage> {
        self.lock().scan(&scan)
    }

    async fn slices(&self) -> Result<Vec<SliceRecord>> {
        Ok(self.lock().slices.values().cloned().collect())
    }

    async fn create_slice(&self, record: SliceRecord) -> Result<()> {
        self.lock().slices.entry(record.start).or_insert(record);
        Ok(())
    }

    async fn set_slice_state(&self, slice_start: Timestamp, to: SliceState) -> Result<()> {
        let mut state = self.lock();
        let record = state.slices.get_mut(&slice_start).ok_or(Error::MissingSlice { slice_start })?;
        record.state = record.state.max(to);
        if record.state == SliceState::Dropped {
            state.events.retain(|partition, _| partition.slice_start != slice_start);
        }
        Ok(())
    }

    async fn node_clocks(&self) -> Result<Vec<NodeClock>> {
        Ok(Vec::new())
    }
}
