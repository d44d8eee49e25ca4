//! From the document's text to a checked configuration, or to the path of the field that is wrong. Pure.

mod storage;

pub use storage::{RESERVED_DATASETS, RESERVED_WORDS};

use std::collections::BTreeSet;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::bounds;
use super::document::{
    self, Config, CounterType, Document, Entry, Id, LifecycleConfig, LifecycleConfigs, LifecycleType, RetentionConfig,
    Span,
};
use super::invalid::At;
use super::{
    Accuracy, BestEffort, Cardinality, Counting, DatasetStorage, Durable, InvalidDocument, NamespaceConfiguration,
    Queue, Retention, RollupTls, TimePartition,
};
use crate::model::{NamespaceName, SliceSettings};

impl NamespaceConfiguration {
    /// Reads and checks a document (`docs/configuration.md`).
    ///
    /// # Errors
    /// At the first thing wrong: the text is no JSON, a field is unknown, missing, not allowed where it stands, or its value
    /// is out of bounds or contradicts another.
    pub fn from_json(text: &str) -> Result<Self, InvalidDocument> {
        let mut json = serde_json::Deserializer::from_str(text);
        let document = serde_path_to_error::deserialize(&mut json).map_err(|e| InvalidDocument::from_shape(&e))?;
        json.end().map_err(|e| InvalidDocument::from_syntax(&e))?;
        configuration(document)
    }

    /// Checks a configuration that was not read from a document by the same rules.
    ///
    /// # Errors
    /// As [`Self::from_json`], with the path in the document that it renders as; at `.` where it holds what no document
    /// can say, as a time bucket of half a second.
    pub fn check(&self) -> Result<(), InvalidDocument> {
        if Self::from_json(&self.to_json())? == *self {
            return Ok(());
        }
        Err(At::root().invalid(
            "it cannot be written as a document: widths have whole seconds, coalescing windows whole milliseconds, files \
             UTF-8 names, and events have credentials and TLS where rollups have",
        ))
    }
}

fn configuration(document: Document) -> Result<NamespaceConfiguration, InvalidDocument> {
    let Document { namespace, region, persistence_configuration } = document;
    let at = At::root();
    let name = at.required("namespace", namespace, "the namespace's name")?;
    let namespace = NamespaceName::new(&name)
        .map_err(|invalid| at.field("namespace").invalid(format!("{name:?} is not allowed: {invalid}")))?;
    let region = at.text("region", region)?;
    let entries = at.required("persistence_configuration", persistence_configuration, "a list of entries")?;
    let counting = counting(Entries::sorted(&at.field("persistence_configuration"), entries)?)?;
    Ok(NamespaceConfiguration { namespace, region, counting })
}

/// An entry, and where it stands.
struct Placed {
    at: At,
    entry: Entry,
}

/// The entries of a document, each at most once.
struct Entries {
    at: At,
    cache: Option<Placed>,
    rollup: Option<Placed>,
    events: Option<Placed>,
}

impl Entries {
    fn sorted(at: &At, entries: Vec<Entry>) -> Result<Self, InvalidDocument> {
        let mut sorted = Self { at: at.clone(), cache: None, rollup: None, events: None };
        for (index, entry) in entries.into_iter().enumerate() {
            let at = at.index(index);
            let id = at.required("id", entry.id, "CACHE, COUNTER_ROLLUP or EVENT_STORAGE")?;
            if let Some(scope) = &entry.scope
                && scope != id.scope()
            {
                let allowed = format!("\"{}\" for {}", id.scope(), id.as_str());
                return Err(at.field("scope").refuse(format_args!("{scope:?}"), allowed));
            }
            let place = match id {
                Id::Cache => &mut sorted.cache,
                Id::CounterRollup => &mut sorted.rollup,
                Id::EventStorage => &mut sorted.events,
            };
            if place.is_some() {
                return Err(at.field("id").refuse(format_args!("{}, a second time,", id.as_str()), "every id once"));
            }
            *place = Some(Placed { at, entry });
        }
        Ok(sorted)
    }

    fn required(&self, entry: Option<Placed>, id: Id, why: &str) -> Result<Placed, InvalidDocument> {
        entry.ok_or_else(|| self.at.invalid(format!("an entry with id {} is missing; {why}", id.as_str())))
    }
}

/// The type stands in COUNTER_ROLLUP, and where there is none, in CACHE.
fn counting(mut entries: Entries) -> Result<Counting, InvalidDocument> {
    if entries.rollup.is_none() && entries.events.is_none() {
        let cache = entries.cache.take();
        let cache = entries.required(
            cache,
            Id::Cache,
            "BEST_EFFORT has CACHE alone; EVENTUAL and ACCURATE have COUNTER_ROLLUP and EVENT_STORAGE, and may have CACHE",
        )?;
        return best_effort(&entries, cache).map(Counting::BestEffort);
    }
    if let Some(Placed { at, entry }) = &entries.cache
        && entry.config.is_some()
    {
        return Err(at.field("config").invalid(
            "not allowed here: CACHE has a config (counter_type BEST_EFFORT) only where it is the only entry; otherwise \
             counter_type stands in COUNTER_ROLLUP",
        ));
    }
    durable(entries).map(|durable| Counting::Durable(Box::new(durable)))
}

fn best_effort(entries: &Entries, Placed { at, entry }: Placed) -> Result<BestEffort, InvalidDocument> {
    let Entry { id: _, scope: _, physical_storage, counter_cardinality, config, lifecycle_configs } = entry;
    at.forbidden("counter_cardinality", counter_cardinality.as_ref(), "it belongs to COUNTER_ROLLUP")?;
    at.forbidden("lifecycleConfigs", lifecycle_configs.as_ref(), "it belongs to EVENT_STORAGE")?;
    let config =
        at.required("config", config, "{\"counter_type\": \"BEST_EFFORT\", …} where CACHE is the only entry")?;
    let config_at = at.field("config");
    let counter_type =
        config_at.required("counter_type", config.counter_type, "BEST_EFFORT where CACHE is the only entry")?;
    if counter_type != CounterType::BestEffort {
        return Err(entries.at.invalid(
            "an entry with id COUNTER_ROLLUP is missing; EVENTUAL and ACCURATE have COUNTER_ROLLUP and EVENT_STORAGE",
        ));
    }
    forbid_all_but(&config_at, &config, Id::Cache, &["counter_type", "best_effort_counter_config"])?;
    let ttl_config =
        config_at.required("best_effort_counter_config", config.best_effort_counter_config, "{\"ttl\": …}")?;
    Ok(BestEffort {
        storage: storage::cache(
            &at.field("physical_storage"),
            at.required("physical_storage", physical_storage, "where counters are")?,
        )?,
        ttl: bounds::TTL.read(&config_at.field("best_effort_counter_config"), ttl_config.ttl)?,
    })
}

fn durable(mut entries: Entries) -> Result<Durable, InvalidDocument> {
    let why = "EVENTUAL and ACCURATE have COUNTER_ROLLUP and EVENT_STORAGE";
    let rollup = entries.rollup.take();
    let rollup = rollup_entry(entries.required(rollup, Id::CounterRollup, why)?)?;
    let events = entries.events.take();
    let events = event_entry(entries.required(events, Id::EventStorage, why)?, &rollup.storage)?;
    let cache = match entries.cache.take() {
        Some(Placed { at, entry }) => {
            at.forbidden("counter_cardinality", entry.counter_cardinality.as_ref(), "it belongs to COUNTER_ROLLUP")?;
            at.forbidden("lifecycleConfigs", entry.lifecycle_configs.as_ref(), "it belongs to EVENT_STORAGE")?;
            let physical = at.required("physical_storage", entry.physical_storage, "where checkpoints are cached")?;
            Some(storage::cache(&at.field("physical_storage"), physical)?)
        }
        None => None,
    };
    Ok(Durable {
        accuracy: rollup.accuracy,
        cardinality: rollup.cardinality,
        cache,
        events: events.storage,
        rollups: rollup.storage,
        rollup_endpoints: rollup.endpoints,
        rollup_tls: rollup.tls,
        queue: rollup.queue,
        rollup_batch_count: rollup.batch_count,
        time_partition: events.time_partition,
        retention: events.retention,
    })
}

/// What COUNTER_ROLLUP says.
struct RollupEntry {
    accuracy: Accuracy,
    cardinality: Cardinality,
    storage: DatasetStorage,
    endpoints: Vec<String>,
    tls: Option<RollupTls>,
    queue: Queue,
    batch_count: NonZeroUsize,
}

fn rollup_entry(Placed { at, entry }: Placed) -> Result<RollupEntry, InvalidDocument> {
    let Entry { id: _, scope: _, physical_storage, counter_cardinality, config, lifecycle_configs } = entry;
    at.forbidden("lifecycleConfigs", lifecycle_configs.as_ref(), "it belongs to EVENT_STORAGE")?;
    let config = at.required("config", config, "{\"counter_type\": \"EVENTUAL\", …}")?;
    let cardinality = match at.required("counter_cardinality", counter_cardinality, "LOW or HIGH")? {
        document::Cardinality::Low => Cardinality::Low,
        document::Cardinality::High => Cardinality::High,
    };
    let physical = at.required("physical_storage", physical_storage, "where rollup rows are")?;
    let storage = storage::dataset(&at.field("physical_storage"), Id::CounterRollup, physical)?;

    let at = at.field("config");
    let accuracy = match at.required("counter_type", config.counter_type, "EVENTUAL or ACCURATE")? {
        CounterType::Eventual => Accuracy::Eventual,
        CounterType::Accurate => Accuracy::Accurate,
        CounterType::BestEffort => {
            let allowed = "EVENTUAL or ACCURATE in COUNTER_ROLLUP; BEST_EFFORT stands in the config of CACHE, the only entry then";
            return Err(at.field("counter_type").refuse("BEST_EFFORT", allowed));
        }
    };
    let fields = ["counter_type", "rollup_endpoints", "rollup_tls", "eventual_counter_config"];
    forbid_all_but(&at, &config, Id::CounterRollup, &fields)?;
    let endpoints = config.rollup_endpoints.unwrap_or_default();
    let endpoints = storage::servers(&at.field("rollup_endpoints"), endpoints, &mut BTreeSet::new())?;
    let tls = config.rollup_tls.map(|tls| rollup_tls(&at.field("rollup_tls"), tls)).transpose()?;

    let at = at.field("eventual_counter_config").field("internal_config");
    let internal = config.eventual_counter_config.and_then(|eventual| eventual.internal_config).unwrap_or_default();
    let batch_count = bounds::ROLLUP_BATCH_COUNT.read(&at, internal.rollup_batch_count)?;

    let at = at.field("queue_config");
    let queue = internal.queue_config.unwrap_or_default();
    let coalesce_ms: NonZeroU64 = bounds::COALESCE_MS.read(&at, queue.coalesce_ms)?;
    let capacity_bytes: NonZeroUsize = bounds::CAPACITY_BYTES.read(&at, queue.capacity_bytes)?;
    let queue = Queue {
        num_queues: bounds::NUM_QUEUES.read(&at, queue.num_queues)?,
        coalesce: Duration::from_millis(coalesce_ms.get()),
        capacity_bytes: capacity_bytes.get(),
    };
    Ok(RollupEntry { accuracy, cardinality, storage, endpoints, tls, queue, batch_count })
}

/// All three files or none: half of a mutual TLS is none.
fn rollup_tls(at: &At, tls: document::RollupTls) -> Result<RollupTls, InvalidDocument> {
    let document::RollupTls { ca_file, cert_file, key_file } = tls;
    Ok(RollupTls {
        ca_file: PathBuf::from(at.text("ca_file", ca_file)?),
        cert_file: PathBuf::from(at.text("cert_file", cert_file)?),
        key_file: PathBuf::from(at.text("key_file", key_file)?),
    })
}

/// What EVENT_STORAGE says.
struct EventEntry {
    storage: DatasetStorage,
    time_partition: TimePartition,
    retention: Retention,
}

fn event_entry(Placed { at, entry }: Placed, rollups: &DatasetStorage) -> Result<EventEntry, InvalidDocument> {
    let Entry { id: _, scope: _, physical_storage, counter_cardinality, config, lifecycle_configs } = entry;
    at.forbidden("counter_cardinality", counter_cardinality.as_ref(), "it belongs to COUNTER_ROLLUP")?;
    let storage_at = at.field("physical_storage");
    let physical = at.required("physical_storage", physical_storage, "where events are")?;
    let mut storage = storage::dataset(&storage_at, Id::EventStorage, physical)?;
    storage::same_dataset(&storage_at, &mut storage, rollups)?;

    let config = config.unwrap_or_default();
    let config_at = at.field("config");
    let fields = ["time_partition", "accept_limit", "write_timeout", "max_clock_skew"];
    forbid_all_but(&config_at, &config, Id::EventStorage, &fields)?;
    let partition = config.time_partition.unwrap_or_default();
    let partition_at = config_at.field("time_partition");
    let slice_s: NonZeroU64 = bounds::SECONDS_PER_SLICE.read(&partition_at, partition.seconds_per_slice)?;
    let bucket_s: NonZeroU64 = bounds::SECONDS_PER_BUCKET.read(&partition_at, partition.seconds_per_bucket)?;
    if !slice_s.get().is_multiple_of(bucket_s.get()) {
        let allowed = format!("a divisor of seconds_per_slice, {slice_s}");
        return Err(partition_at.field("seconds_per_bucket").refuse(bucket_s, allowed));
    }
    let settings = SliceSettings {
        buckets_per_id: bounds::BUCKETS_PER_ID.read(&partition_at, partition.buckets_per_id)?,
        bucket_width: Duration::from_secs(bucket_s.get()),
        accept_limit: bounds::ACCEPT_LIMIT.read(&config_at, config.accept_limit)?,
        write_timeout: bounds::WRITE_TIMEOUT.read(&config_at, config.write_timeout)?,
        max_clock_skew: bounds::MAX_CLOCK_SKEW.read(&config_at, config.max_clock_skew)?,
    };
    let retention = retention(&at.field("lifecycleConfigs"), lifecycle_configs, &settings)?;
    let time_partition = TimePartition { settings, slice_width: Duration::from_secs(slice_s.get()) };
    Ok(EventEntry { storage, time_partition, retention })
}

fn retention(
    at: &At,
    configs: Option<LifecycleConfigs>,
    settings: &SliceSettings,
) -> Result<Retention, InvalidDocument> {
    let at = at.field("lifecycleConfig");
    let one = "exactly one, {\"type\": \"retention\", \"config\": …}";
    let config = match configs {
        None => RetentionConfig::default(),
        Some(configs) => {
            let configs = configs.lifecycle_config.ok_or_else(|| at.invalid(format!("missing; allowed: {one}")))?;
            let count = configs.len();
            let [config] = <[LifecycleConfig; 1]>::try_from(configs)
                .map_err(|_| at.refuse(format_args!("a list of {count}"), one))?;
            let LifecycleType::Retention = at.index(0).required("type", config.lifecycle_type, "retention")?;
            config.config.unwrap_or_default()
        }
    };
    let at = at.index(0).field("config");
    let close_after = bounds::CLOSE_AFTER.read(&at, config.close_after)?;
    let delete_after = bounds::DELETE_AFTER.read(&at, config.delete_after)?;
    if close_after <= settings.lag() {
        let allowed = format!("more than accept_limit + write_timeout + max_clock_skew, {}", Span(settings.lag()));
        return Err(at.field("close_after").refuse(Span(close_after), allowed));
    }
    if delete_after <= close_after {
        let allowed = format!("more than close_after, {}", Span(close_after));
        return Err(at.field("delete_after").refuse(Span(delete_after), allowed));
    }
    Ok(Retention { close_after, delete_after })
}

fn forbid_all_but(at: &At, config: &Config, id: Id, fields: &[&str]) -> Result<(), InvalidDocument> {
    let Config {
        counter_type,
        best_effort_counter_config,
        rollup_endpoints,
        rollup_tls,
        eventual_counter_config,
        time_partition,
        accept_limit,
        write_timeout,
        max_clock_skew,
    } = config;
    let given = [
        ("counter_type", counter_type.is_some()),
        ("best_effort_counter_config", best_effort_counter_config.is_some()),
        ("rollup_endpoints", rollup_endpoints.is_some()),
        ("rollup_tls", rollup_tls.is_some()),
        ("eventual_counter_config", eventual_counter_config.is_some()),
        ("time_partition", time_partition.is_some()),
        ("accept_limit", accept_limit.is_some()),
        ("write_timeout", write_timeout.is_some()),
        ("max_clock_skew", max_clock_skew.is_some()),
    ];
    for (field, given) in given {
        let value = (given && !fields.contains(&field)).then_some(&());
        at.forbidden(field, value, format_args!("{} has {}", id.as_str(), fields.join(", ")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
