//! The event store: immutable events in partitions, partitions in slices, one store per dataset.

use async_trait::async_trait;

use super::Result;
use crate::model::{Event, EventKey, Partition, SliceRecord, SliceState, Timestamp};

/// What a backend does beyond the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// An append whose token is stored with another delta or operation is refused with
    /// [`Error::TokenReused`](super::Error::TokenReused), whoever wrote it. Without it the engine remembers tokens itself.
    pub detects_token_reuse: bool,
    /// The store remembers the highest checkpoint written and refuses event times at or below it with
    /// [`Error::BehindBoundary`](super::Error::BehindBoundary), whatever the clocks say.
    pub refuses_behind_boundary: bool,
    /// The store lives in this process: it has no second clock that could disagree.
    pub in_process: bool,
}

/// One event to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Where it belongs, by its slice's settings.
    pub partition: Partition,
    /// The event.
    pub event: Event,
}

/// Which events of one partition to read, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The partition.
    pub partition: Partition,
    /// Only events later than this…
    pub after: Timestamp,
    /// …and not later than this.
    pub through: Timestamp,
    /// Only events whose key is less than this one: the last page's [`EventPage::next`].
    pub resume: Option<EventKey>,
    /// The most events in the page; at least one.
    pub limit: usize,
}

/// One page of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventPage {
    /// Events in descending order of their keys.
    pub events: Vec<Event>,
    /// Where the next page resumes; `None` when this was the last one.
    pub next: Option<EventKey>,
}

/// What a store node's clock said when it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeClock {
    /// Which node.
    pub node: String,
    /// Its time.
    pub time: Timestamp,
}

/// The events of one dataset in one region.
///
/// An event's place is its partition and key; an event never changes. Two different writes of one key (a token sent with two
/// deltas to two sidecars) resolve to the same one everywhere. What is acknowledged is durable at a local quorum, and read by
/// every later scan.
#[async_trait]
pub trait EventStore: Send + Sync + 'static {
    /// What the backend does beyond the contract.
    fn capabilities(&self) -> Capabilities;

    /// Appends events, each with its own result, in order. `Ok` means that the event is durable and every scan that starts
    /// later sees it. Appending an event that is there already is `Ok`. Dropping the future leaves each event applied or
    /// not, now or later.
    ///
    /// # Errors
    /// Each in its place. [`Error::MissingSlice`](super::Error::MissingSlice) when the partition's slice was never created or is dropped.
    async fn append(&self, appends: Vec<Append>) -> Vec<Result<()>>;

    /// Reads one page of one partition.
    ///
    /// # Errors
    /// [`Error::MissingSlice`](super::Error::MissingSlice) when the slice was never created or is dropped: an empty page always means that there is nothing.
    async fn scan(&self, scan: Scan) -> Result<EventPage>;

    /// All slice records of the dataset, in any order.
    ///
    /// # Errors
    /// When they cannot be read whole.
    async fn slices(&self) -> Result<Vec<SliceRecord>>;

    /// Creates a slice: its record first, then its table. A slice that is there already stays as it is (the first record of a
    /// start wins, with its settings), so that a repeated or late call harms nothing.
    ///
    /// # Errors
    /// When the slice may not be there.
    async fn create_slice(&self, record: SliceRecord) -> Result<()>;

    /// Moves a slice's state on. A state never goes back. [`SliceState::Dropped`] also drops the events: the state is
    /// recorded first, so that a crash between the two leaves nothing that looks readable; calling again finishes it.
    ///
    /// # Errors
    /// [`Error::MissingSlice`](super::Error::MissingSlice) when there is no such record; else when it may not have happened.
    async fn set_slice_state(&self, slice_start: Timestamp, state: SliceState) -> Result<()>;

    /// Asks the store's nodes for their time: more than half of the datacenter's answer, so that the measurements of any two
    /// processes have a node in common. A store with [`Capabilities::in_process`] has none, and is not asked.
    ///
    /// # Errors
    /// When too few nodes answer.
    async fn node_clocks(&self) -> Result<Vec<NodeClock>>;
}
