//! What the engine tells Prometheus, gathered when it is asked: the engine itself only counts.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::dataset::{Dataset, Health};
use crate::forward::TouchedCounters;
use crate::model::SliceState;
use crate::pipeline::RollupServer;

/// Rollups that succeeded.
pub const ROLLUPS: &str = "tallyman_rollups";
/// Rollups that another server had done already, within the same window.
pub const ROLLUP_DUPLICATES: &str = "tallyman_rollup_duplicates";
/// Rollups that failed and were put back.
pub const ROLLUP_FAILURES: &str = "tallyman_rollup_failures";
/// Events that rollups read.
pub const ROLLUP_EVENTS_READ: &str = "tallyman_rollup_events_read";
/// Touched counters that found their queue full; sweeps find them.
pub const ROLLUP_QUEUE_REFUSED: &str = "tallyman_rollup_queue_refused";
/// Counters waiting to be rolled up.
pub const ROLLUP_QUEUE_COUNTERS: &str = "tallyman_rollup_queue_counters";
/// Memory of the rollup queues.
pub const ROLLUP_QUEUE: &str = "tallyman_rollup_queue";
/// Sweeps that read all they were to read.
pub const ROLLUP_SWEEPS: &str = "tallyman_rollup_sweeps";
/// Counters that sweeps found though their last write could have been rolled up by then: their rollup events were lost, or
/// their servers are behind.
pub const ROLLUP_SWEPT_OVERDUE: &str = "tallyman_rollup_swept_overdue";
/// Touched counters that no rollup server took; sweeps find them.
pub const TOUCHED_DROPPED: &str = "tallyman_touched_dropped";
/// The largest offset to the store's clocks that the last measurement leaves possible.
pub const CLOCK_OFFSET_MAX: &str = "tallyman_clock_offset_max";
/// Touched counters that wait for a rollup server.
pub const TOUCHED_WAITING: &str = "tallyman_touched_waiting";
/// 1 while the clock is trusted, 0 while mutations are refused and checkpoints stand still.
pub const CLOCK_TRUSTED: &str = "tallyman_clock_trusted";
/// 1 while the store answers what it is asked all the time, 0 while it does not.
pub const STORE_AVAILABLE: &str = "tallyman_store_available";
/// 1 while mutations of now are accepted, 0 while they are refused: the readiness page says why.
pub const DATASET_ACCEPTING: &str = "tallyman_dataset_accepting";
/// Time slices by state.
pub const SLICES: &str = "tallyman_slices";

/// Where the engine's numbers come from.
pub struct EngineCollector {
    /// The rollup server of this process, if it has one.
    pub rollups: Option<Arc<RollupServer>>,
    /// The touched counters of this process, if it has some.
    pub touched: Option<Arc<TouchedCounters>>,
    /// The datasets open now.
    pub datasets: Box<dyn Fn() -> Vec<Arc<Dataset>> + Send + Sync>,
}

impl fmt::Debug for EngineCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineCollector").finish_non_exhaustive()
    }
}

impl Collector for EngineCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(rollups) = &self.rollups {
            let now = rollups.statistics();
            counter(&mut encoder, ROLLUPS, "Rollups that succeeded", now.rolled_up)?;
            let help = "Rollups that another server had done already, within the same window";
            counter(&mut encoder, ROLLUP_DUPLICATES, help, now.duplicates)?;
            counter(&mut encoder, ROLLUP_FAILURES, "Rollups that failed and were put back", now.failed)?;
            counter(&mut encoder, ROLLUP_EVENTS_READ, "Events that rollups read", now.events)?;
            counter(&mut encoder, ROLLUP_QUEUE_REFUSED, "Touched counters that found their queue full", now.refused)?;
            counter(&mut encoder, ROLLUP_SWEEPS, "Sweeps that read all they were to read", now.sweeps)?;
            let help = "Counters that sweeps found though their last write could have been rolled up by then";
            counter(&mut encoder, ROLLUP_SWEPT_OVERDUE, help, now.overdue)?;
            gauge(&mut encoder, ROLLUP_QUEUE_COUNTERS, "Counters waiting to be rolled up", now.queued)?;
            let bytes = ConstGauge::new(i64::try_from(now.queued_bytes).unwrap_or(i64::MAX));
            let descriptor = encoder.encode_descriptor(
                ROLLUP_QUEUE,
                "Memory of the rollup queues",
                Some(&Unit::Bytes),
                bytes.metric_type(),
            )?;
            bytes.encode(descriptor)?;
        }
        if let Some(touched) = &self.touched {
            counter(&mut encoder, TOUCHED_DROPPED, "Touched counters that no rollup server took", touched.dropped())?;
            let waiting = touched.pending_count() as u64;
            gauge(&mut encoder, TOUCHED_WAITING, "Touched counters that wait for a rollup server", waiting)?;
        }
        self.encode_datasets(&mut encoder)
    }
}

impl EngineCollector {
    fn encode_datasets(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let datasets = each_name_once((self.datasets)());
        let offsets = datasets.iter().filter_map(|dataset| {
            let offset = dataset.clock.offset_max()?;
            Some((vec![("dataset", dataset.name.clone())], offset.as_secs_f64()))
        });
        let help = "Largest offset to the store's clocks that the last measurement leaves possible";
        family(encoder, CLOCK_OFFSET_MAX, help, Some(&Unit::Seconds), offsets)?;
        let health: Vec<_> = datasets.iter().map(|dataset| (&dataset.name, dataset.health())).collect();
        let each = |is_so: fn(&Health) -> bool| {
            let labelled = move |(name, health): &(&String, Health)| {
                (vec![("dataset", (*name).clone())], f64::from(u8::from(is_so(health))))
            };
            health.iter().map(labelled)
        };
        let help = "1 while the store answers what it is asked all the time, 0 while it does not";
        family(encoder, STORE_AVAILABLE, help, None, each(|health| health.store.is_ok()))?;
        let help = "1 while mutations of now are accepted, 0 while they are refused";
        family(encoder, DATASET_ACCEPTING, help, None, each(|health| health.refusal().is_none()))?;
        let help = "1 while the clock is trusted, 0 while mutations are refused and checkpoints stand still";
        family(encoder, CLOCK_TRUSTED, help, None, each(|health| health.clock.is_ok()))?;
        let states = [(SliceState::Open, "open"), (SliceState::Closed, "closed"), (SliceState::Dropped, "dropped")];
        let slices = datasets.iter().flat_map(|dataset| {
            let slices = dataset.slices();
            states.map(|(state, label)| {
                let count = slices.records().iter().filter(|slice| slice.state == state).count();
                let labels = vec![("dataset", dataset.name.clone()), ("state", label.to_owned())];
                (labels, u32::try_from(count).map_or(f64::INFINITY, f64::from))
            })
        });
        family(encoder, SLICES, "Time slices by state", None, slices)
    }
}

/// Of two datasets of one name, which is reached in two ways then, the one that is worse off: a series is told once.
fn each_name_once(mut datasets: Vec<Arc<Dataset>>) -> Vec<Arc<Dataset>> {
    datasets.sort_by_cached_key(|dataset| (dataset.name.clone(), dataset.health().refusal().is_none()));
    datasets.dedup_by(|next, kept| next.name == kept.name);
    datasets
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = ConstCounter::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    values: impl Iterator<Item = (Vec<(&'static str, String)>, f64)>,
) -> fmt::Result {
    let mut descriptor = encoder.encode_descriptor(name, help, unit, prometheus_client::metrics::MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(descriptor.encode_family(&labels)?)?;
    }
    Ok(())
}
