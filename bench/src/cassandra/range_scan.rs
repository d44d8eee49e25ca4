//! Reads partitions of Tallyman's event tables by themselves, with the driver alone.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::{Context, Result};
use scylla::client::session::Session;
use scylla::response::PagingState;
use scylla::statement::prepared::PreparedStatement;
use tallyman_counter::model::{Partition, SliceRecord, Timestamp};

use super::{Keyspace, Node};

/// The statements that read the tables of a dataset.
#[derive(Clone)]
pub struct RangeScan {
    session: Arc<Session>,
    region: Arc<str>,
    /// By the slice's start.
    selects: Arc<HashMap<Timestamp, PreparedStatement>>,
}

impl RangeScan {
    /// Prepares the statements of the slices.
    pub async fn prepare(node: &Node, keyspace: &Keyspace, slices: &[SliceRecord]) -> Result<Self> {
        let session = keyspace.session().clone();
        let mut selects = HashMap::with_capacity(slices.len());
        for slice in slices {
            let seconds = slice.start.as_micros() / 1_000_000;
            let select = format!(
                "SELECT event_time, event_id, event_item_key, event_item_value FROM {}.events_{seconds} WHERE namespace = ? \
                 AND counter_name = ? AND region = ? AND time_bucket = ? AND event_bucket = ? AND event_time > ? AND event_time <= ?",
                keyspace.name()
            );
            selects.insert(slice.start, session.prepare(select).await?);
        }
        Ok(Self { session, region: node.datacenter().into(), selects: Arc::new(selects) })
    }

    /// How many rows the partition has in the window; each is taken apart.
    pub async fn count(&self, partition: &Partition, after: Timestamp, through: Timestamp) -> Result<u64> {
        let select = self.selects.get(&partition.slice_start).context("the slice has no table")?;
        let values = (
            partition.counter.namespace.as_str(),
            partition.counter.name.as_str(),
            &*self.region,
            i64::from(partition.time_bucket),
            i32::from(partition.event_bucket),
            after.as_micros(),
            through.as_micros(),
        );
        let mut count = 0;
        let mut state = PagingState::start();
        loop {
            let (page, next) = self.session.execute_single_page(select, values, state).await?;
            let page = page.into_rows_result()?;
            for row in page.rows::<(i64, &str, i8, &[u8])>()? {
                std::hint::black_box(row?);
                count += 1;
            }
            match next.into_paging_control_flow() {
                ControlFlow::Continue(more) => state = more,
                ControlFlow::Break(()) => return Ok(count),
            }
        }
    }
}
