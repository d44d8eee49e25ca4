//! How events are laid out: partitions by the hottest counter, slices by all events.

use tallyman_crds::counter_namespace::{DEFAULT_BUCKET_WIDTH, DEFAULT_BUCKETS_PER_ID, DEFAULT_SLICE_WIDTH, EventStore};
use tallyman_crds::{CounterNamespaceSpec, Duration};

use super::figures::{EVENT_BYTES, PARTITION_BYTES, PARTITION_WRITES_PER_SECOND, SLICE_BYTES};
use super::load::Load;
use super::{Choice, Events, Origin};

/// The most that the schema allows.
const BUCKETS_MAX: u64 = 1_024;
/// Widths of a bucket, in seconds, from wide to narrow.
const BUCKET_WIDTHS_S: [u64; 10] = [3_600, 1_800, 1_200, 600, 300, 120, 60, 30, 10, 1];
/// Widths of a slice, in seconds, from wide to narrow. They divide each other and a day.
const SLICE_WIDTHS_S: [u64; 6] = [86_400, 43_200, 21_600, 10_800, 7_200, 3_600];

pub fn plan(spec: &CounterNamespaceSpec, load: &Load, dataset_of: Option<&CounterNamespaceSpec>) -> Events {
    let set = spec.event_store.clone().unwrap_or_default();
    let Some(oldest) = dataset_of else { return own(&set, load) };
    let theirs = own(&oldest.event_store.clone().unwrap_or_default(), &Load::of(oldest));
    let slice_width = match set.slice_width {
        Some(width) => Choice::of_spec(width, "eventStore.sliceWidth"),
        None => of_dataset(theirs.slice_width),
    };
    // What does not divide the slice would be refused before the disagreement is told.
    let bucket_width = match set.bucket_width {
        Some(width) => Choice::of_spec(width, "eventStore.bucketWidth"),
        None => of_dataset(theirs.bucket_width),
    };
    let buckets_per_id = match set.buckets_per_id {
        Some(buckets) => Choice::of_spec(buckets, "eventStore.bucketsPerId"),
        None => of_dataset(theirs.buckets_per_id),
    };
    fitting(Events { buckets_per_id, bucket_width, slice_width }, &set)
}

fn of_dataset<T>(choice: Choice<T>) -> Choice<T> {
    Choice {
        origin: Origin::Dataset,
        reason: format!("of the dataset's oldest namespace, as slices are the dataset's: {}", choice.reason),
        ..choice
    }
}

fn own(set: &EventStore, load: &Load) -> Events {
    let buckets_per_id = buckets_per_id(set, load);
    let slice_width = slice_width(set, load);
    let bucket_width = bucket_width(set, load, &buckets_per_id);
    fitting(Events { buckets_per_id, bucket_width, slice_width }, set)
}

fn buckets_per_id(set: &EventStore, load: &Load) -> Choice<i32> {
    if let Some(buckets) = set.buckets_per_id {
        return Choice::of_spec(buckets, "eventStore.bucketsPerId");
    }
    let Some(hottest) = load.hottest() else {
        return Choice::new(DEFAULT_BUCKETS_PER_ID, Origin::Default, no("writesPerSecond"));
    };
    let needed = hottest.number.div_ceil(PARTITION_WRITES_PER_SECOND).max(1);
    let buckets = needed.next_power_of_two().min(BUCKETS_MAX);
    let reason =
        format!("{} ÷ {PARTITION_WRITES_PER_SECOND} writes/s a partition = {needed}, to a power of two", hottest.why);
    // Not above 1,024.
    Choice::new(buckets as i32, Origin::Workload, reason)
}

fn bucket_width(set: &EventStore, load: &Load, buckets: &Choice<i32>) -> Choice<Duration> {
    if let Some(width) = set.bucket_width {
        return Choice::of_spec(width, "eventStore.bucketWidth");
    }
    let Some(hottest) = load.hottest() else {
        return Choice::new(DEFAULT_BUCKET_WIDTH, Origin::Default, no("writesPerSecond"));
    };
    // Planned buckets bring a partition down to its rate, whatever they were rounded up to: wider buckets for more load would
    // be odd.
    let buckets_set = u64::try_from(buckets.value).unwrap_or(1).max(1);
    let rate = match buckets.origin {
        Origin::Workload => hottest.number.min(PARTITION_WRITES_PER_SECOND).max(hottest.number.div_ceil(BUCKETS_MAX)),
        _ => hottest.number.div_ceil(buckets_set),
    };
    let rate = rate.max(1);
    let limit_s = PARTITION_BYTES / (rate * EVENT_BYTES);
    let width_s = BUCKET_WIDTHS_S.into_iter().find(|width| *width <= limit_s).unwrap_or(1);
    let reason = format!(
        "{} MiB a partition ÷ ({rate} events/s × {EVENT_BYTES} B) = {limit_s} s, down to a usual width",
        PARTITION_BYTES >> 20
    );
    Choice::new(Duration::from_secs(width_s), Origin::Workload, reason)
}

fn slice_width(set: &EventStore, load: &Load) -> Choice<Duration> {
    if let Some(width) = set.slice_width {
        return Choice::of_spec(width, "eventStore.sliceWidth");
    }
    let Some(writes) = load.writes else {
        return Choice::new(DEFAULT_SLICE_WIDTH, Origin::Default, no("writesPerSecond"));
    };
    let writes = writes.max(1);
    let limit_s = SLICE_BYTES / (writes * EVENT_BYTES);
    let narrowest = SLICE_WIDTHS_S[SLICE_WIDTHS_S.len() - 1];
    let width_s = SLICE_WIDTHS_S.into_iter().find(|width| *width <= limit_s).unwrap_or(narrowest);
    let reason = format!(
        "{} GiB a table ÷ ({writes} events/s × {EVENT_BYTES} B) = {limit_s} s, down to a part of a day",
        SLICE_BYTES >> 30
    );
    Choice::new(Duration::from_secs(width_s), Origin::Workload, reason)
}

/// Makes what is not set fit what is: the bucket's width divides the slice's.
fn fitting(events: Events, set: &EventStore) -> Events {
    let Events { buckets_per_id, mut bucket_width, mut slice_width } = events;
    let (bucket_s, slice_s) = (bucket_width.value.as_secs().max(1), slice_width.value.as_secs().max(1));
    if !slice_s.is_multiple_of(bucket_s) {
        if set.bucket_width.is_none() {
            let fits = BUCKET_WIDTHS_S.into_iter().find(|width| *width <= bucket_s && slice_s.is_multiple_of(*width));
            bucket_width.value = Duration::from_secs(fits.unwrap_or(1));
            bucket_width.reason.push_str(&format!(", and dividing the slice of {}", slice_width.value));
        } else {
            // A set width divides 24h, the width of a slice that is not set: the schema's rule.
            let fits =
                SLICE_WIDTHS_S.into_iter().rev().find(|width| *width >= slice_s && width.is_multiple_of(bucket_s));
            slice_width.value = fits.map_or(DEFAULT_SLICE_WIDTH, Duration::from_secs);
            slice_width.reason.push_str(&format!(", up to a multiple of the buckets of {}", bucket_width.value));
        }
    }
    Events { buckets_per_id, bucket_width, slice_width }
}

fn no(field: &str) -> String {
    format!("the default, as workload.{field} is not given")
}
