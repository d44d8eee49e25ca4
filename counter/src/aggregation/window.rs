//! The sum of a window: all events of a counter in a range of event time, over many partitions in parallel, with clears in the
//! order of the events.

use futures::{StreamExt, TryStreamExt, stream};

use super::ScanBudget;
use crate::model::{CounterKey, EventItem, EventKey, Partition, Slices, Timestamp};
use crate::store::{self, EventStore, Scan};

/// Partitions whose scans are under way at once, whatever the budget: bounds the futures of a wide window.
const PARTITIONS_IN_PARALLEL_MAX: usize = 64;

/// What a window adds up to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// The sum of the adds after the last clear, or of all where there is none. Fits: 2^64 events of 2^63.
    pub sum: i128,
    /// The last clear: what came before it does not count.
    pub clear: Option<EventKey>,
    /// Events read.
    pub events: u64,
}

impl Tally {
    /// The count after this window, from the count before it.
    pub fn after(&self, count: i128) -> i128 {
        if self.clear.is_some() { self.sum } else { count.saturating_add(self.sum) }
    }
}

/// Adds up the events of `counter` with `after < event_time ≤ through`.
pub(super) async fn tally(
    events: &dyn EventStore,
    slices: &Slices,
    budget: &ScanBudget,
    counter: &CounterKey,
    after: Timestamp,
    through: Timestamp,
) -> store::Result<Tally> {
    let mut read = 0;
    let mut floor: Option<EventKey> = None;
    loop {
        // From a clear on, what lies before its time is not looked at again.
        let from = floor.as_ref().map_or(after, |clear| after.max(clear.event_time.previous()));
        let partitions = slices.partitions(counter, from, through);
        let tallies = stream::iter(partitions)
            .map(|partition| tally_partition(events, budget, partition, from, through, floor.as_ref()))
            .buffer_unordered(PARTITIONS_IN_PARALLEL_MAX)
            .try_fold(Tally::default(), |mut total, one| async move {
                total.sum += one.sum;
                total.events += one.events;
                total.clear = total.clear.max(one.clear);
                Ok(total)
            })
            .await?;
        read += tallies.events;
        match tallies.clear {
            // Each partition stopped at its own last clear. Unless that is the same for all, adds before the last of them
            // are in the sum: once more, from the last clear on. It ends, since each round's clear is later.
            Some(clear) => floor = Some(clear),
            None => return Ok(Tally { sum: tallies.sum, clear: floor, events: read }),
        }
    }
}

/// Adds up one partition, newest first, down to its last clear or to `floor`, whichever comes first.
async fn tally_partition(
    events: &dyn EventStore,
    budget: &ScanBudget,
    partition: Partition,
    after: Timestamp,
    through: Timestamp,
    floor: Option<&EventKey>,
) -> store::Result<Tally> {
    let mut tally = Tally::default();
    let mut size = budget.first_page();
    let mut resume = None;
    loop {
        let permit = budget.page(size).await;
        let scan = Scan { partition: partition.clone(), after, through, resume: resume.take(), limit: permit.limit };
        let page = events.scan(scan).await?;
        size = budget.next_page(size, page.events.len());
        for event in &page.events {
            tally.events += 1;
            if floor.is_some_and(|floor| event.key() <= *floor) {
                return Ok(tally);
            }
            match event.item {
                EventItem::Add(delta) => tally.sum += i128::from(delta),
                EventItem::Clear => {
                    tally.clear = Some(event.key());
                    return Ok(tally);
                }
            }
        }
        match page.next {
            Some(next) => resume = Some(next),
            None => return Ok(tally),
        }
    }
}
