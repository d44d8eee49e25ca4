//! The event store of a dataset.

use async_trait::async_trait;
use fjall::Keyspace;
use tokio::sync::oneshot;

use super::dataset::{Dataset, of_refusal, unanswered};
use super::error::{closed, of_read};
use super::queue::{EncodedEvent, Request};
use super::{keys, values};
use crate::model::{Event, SliceRecord, SliceState, Timestamp};
use crate::store::{Append, Capabilities, Error, EventPage, EventStore, NodeClock, Result, Scan};

#[async_trait]
impl EventStore for Dataset {
    fn capabilities(&self) -> Capabilities {
        Capabilities { detects_token_reuse: true, refuses_behind_boundary: true, in_process: true }
    }

    async fn append(&self, appends: Vec<Append>) -> Vec<Result<()>> {
        let count = appends.len();
        if count == 0 {
            return Vec::new();
        }
        let events = encode(appends);
        let (reply, answer) = oneshot::channel();
        let dataset = self.state.clone();
        let refused = match self.database.shared.queue.push(Request::Append { dataset, events, reply }) {
            Ok(()) => match answer.await {
                Ok(results) => return results,
                Err(_) => unanswered(),
            },
            Err(refused) => of_refusal(refused),
        };
        vec![Err(refused); count]
    }

    /// Reads on the caller's thread: recent events are in memory, where a page takes microseconds, and handing it to another
    /// thread would cost more. At worst it waits for some blocks of a local disk.
    async fn scan(&self, scan: Scan) -> Result<EventPage> {
        let table = {
            let slices = self.state.slices();
            let slice = slices.as_ref().ok_or_else(closed)?.get(&scan.partition.slice_start);
            match slice.filter(|slice| slice.record.state != SliceState::Dropped) {
                Some(slice) => slice.events.clone(),
                None => return Err(Error::MissingSlice { slice_start: scan.partition.slice_start }),
            }
        };
        table.map_or_else(|| Ok(EventPage::default()), |table| read_page(&table, &scan))
    }

    async fn slices(&self) -> Result<Vec<SliceRecord>> {
        let slices = self.state.slices();
        Ok(slices.as_ref().ok_or_else(closed)?.values().map(|slice| slice.record.clone()).collect())
    }

    async fn create_slice(&self, record: SliceRecord) -> Result<()> {
        let dataset = self.state.clone();
        self.ask(|reply| Request::CreateSlice { dataset, record, reply }).await
    }

    async fn set_slice_state(&self, slice_start: Timestamp, state: SliceState) -> Result<()> {
        let dataset = self.state.clone();
        self.ask(|reply| Request::SetSliceState { dataset, start: slice_start, state, reply }).await
    }

    async fn node_clocks(&self) -> Result<Vec<NodeClock>> {
        Ok(Vec::new())
    }
}

/// On the caller's thread, so that the committer has less to do.
fn encode(appends: Vec<Append>) -> Vec<EncodedEvent> {
    let mut buffer = Vec::new();
    let encode = |Append { partition, event }: Append| {
        keys::event(&mut buffer, &partition, event.event_time, &event.event_id);
        EncodedEvent {
            slice_start: partition.slice_start,
            event_time: event.event_time,
            key: buffer.as_slice().into(),
            value: values::item(event.item),
        }
    };
    appends.into_iter().map(encode).collect()
}

fn read_page(table: &Keyspace, scan: &Scan) -> Result<EventPage> {
    let Some(range) = keys::scan(scan) else {
        return Ok(EventPage::default());
    };
    let limit = scan.limit.max(1);
    let mut events: Vec<Event> = Vec::new();
    for guard in table.range::<Vec<u8>, _>((range.lower, range.upper)).rev() {
        if events.len() == limit {
            let next = events.last().map(Event::key);
            return Ok(EventPage { events, next });
        }
        let (key, value) = guard.into_inner().map_err(|error| of_read(&error))?;
        let (event_time, event_id) = keys::event_parts(&key, range.prefix_length)?;
        let event = Event { event_time, event_id, item: values::item_from(&value)? };
        if scan.resume.as_ref().is_none_or(|resume| event.key() < *resume) {
            events.push(event);
        }
    }
    Ok(EventPage { events, next: None })
}
