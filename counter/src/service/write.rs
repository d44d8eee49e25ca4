//! The write path of eventual and accurate counters.
//!
//! A mutation is acknowledged when its event **and** a touch of its counter's rollup row are durable, and this process's
//! trusted clock has not reached `event_time + accept_limit + write_timeout`: from `max_clock_skew` later on, rollup servers
//! take the event's window for immutable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use uuid::Uuid;

use super::token_memory::Seen;
use super::touch_memory::TouchMemory;
use super::{ClientToken, CounterService, Error, Field, RETRY_AFTER, Result, Served};
use crate::aggregation;
use crate::clock::Clock;
use crate::dataset::Refusal;
use crate::model::{
    CounterKey, CounterName, Event, EventItem, IdempotencyToken, Partition, SliceRecord, SliceSettings, Slices,
    Timestamp, Token,
};
use crate::namespace::{DurableNamespace, Namespace};
use crate::store::{self, Append, Touch};

/// The wait before the first retry inside a request; it doubles up to [`RETRY_WAIT_MAX`].
const RETRY_WAIT_MIN: Duration = Duration::from_millis(5);
const RETRY_WAIT_MAX: Duration = Duration::from_millis(200);

/// One mutation, checked.
pub(super) struct Mutation {
    pub counter_name: CounterName,
    pub token: IdempotencyToken,
    pub item: EventItem,
}

/// What this process remembers of a namespace's writes.
#[derive(Clone, Default)]
pub(super) struct Writer {
    touches: Arc<TouchMemory>,
}

/// A mutation that has passed every check, on its way to the store.
struct Pending {
    /// Its place in the batch.
    index: usize,
    append: Append,
    settings: SliceSettings,
    /// An earlier attempt may have been applied.
    maybe_applied: bool,
    failure: Option<store::Error>,
}

impl Pending {
    /// From here on it must not be acknowledged.
    fn acknowledge_before(&self) -> Timestamp {
        let settings = &self.settings;
        self.append.event.event_time.plus(settings.accept_limit).plus(settings.write_timeout)
    }

    /// From here on it must not be sent again.
    fn send_before(&self) -> Timestamp {
        self.append.event.event_time.plus(self.settings.accept_limit)
    }

    fn error(&self) -> Error {
        match &self.failure {
            // Whatever came last, an earlier attempt may have been applied.
            Some(store::Error::TokenReused) => Error::TokenReused { token: self.append.event.event_id.clone() },
            Some(error) if self.maybe_applied => Error::OutcomeUnknown { reason: error.to_string() },
            Some(error) => Error::of_mutation(error.clone()),
            None => Error::OutcomeUnknown { reason: "the store did not acknowledge it in time".to_owned() },
        }
    }
}

/// Fills in what the client left out of its token.
pub(super) fn complete(
    token: ClientToken,
    field: impl FnOnce() -> Field,
    source: &str,
    clock: &dyn Clock,
) -> Result<IdempotencyToken> {
    let generation_time = token.generation_time.unwrap_or_else(|| clock.now());
    let text = match token.token.as_deref() {
        Some(text) if !text.is_empty() => text,
        _ => &format!("{source}-{}", unique_id(generation_time)),
    };
    let checked = Token::new(text).map_err(|error| Error::invalid(field().child("token"), error.reason))?;
    Ok(IdempotencyToken { token: checked, generation_time })
}

/// A UUID v7 of the mutation's time; its random part makes it this process's own.
fn unique_id(time: Timestamp) -> Uuid {
    let micros = u64::try_from(time.as_micros()).unwrap_or(0);
    let nanos = u32::try_from(micros % 1_000_000 * 1_000).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, micros / 1_000_000, nanos))
}

pub(super) fn key(namespace: &Namespace, name: CounterName) -> CounterKey {
    CounterKey { namespace: namespace.name().clone(), name }
}

/// Why the dataset takes no mutations now, by what causes it.
fn refused(durable: &DurableNamespace) -> Option<Error> {
    durable.dataset.health().refusal().map(|refusal| match refusal {
        Refusal::Store(reason) => Error::Unavailable { reason },
        Refusal::Clock(untrusted) => untrusted.into(),
    })
}

/// How far from now an event may lie that no open slice takes: what its slice says, closed as it is. Where none is known, what
/// the last one says or the next one may say, whichever is more: its own record decides, once there is one.
fn limit_outside(slices: &Slices, durable: &DurableNamespace, event_time: Timestamp) -> Duration {
    let records = slices.records();
    let limit = |record: &SliceRecord| record.settings.accept_limit;
    let next = durable.settings.time_partition.settings.accept_limit;
    match records.iter().rev().find(|record| record.contains(event_time)) {
        Some(record) => limit(record),
        None => records.last().map_or(next, |last| limit(last).max(next)),
    }
}

impl CounterService {
    pub(super) async fn write_one(&self, served: &Served, mutation: Mutation, until: Instant) -> Result<()> {
        let results = self.write(served, vec![Ok(mutation)], until).await;
        results.into_iter().next().unwrap_or_else(|| Err(Error::Damaged { reason: "a write got no answer".to_owned() }))
    }

    /// Writes mutations of one namespace; what is an error already stays one. Results in order.
    pub(super) async fn write(
        &self,
        served: &Served,
        mutations: Vec<Result<Mutation>>,
        until: Instant,
    ) -> Vec<Result<()>> {
        let Some(durable) = served.namespace.durable() else {
            // The callers tell the two kinds apart before they come here.
            return mutations
                .into_iter()
                .map(|_| Err(Error::Damaged { reason: "no event store".to_owned() }))
                .collect();
        };
        let mut results = Vec::with_capacity(mutations.len());
        let mut pending = Vec::with_capacity(mutations.len());
        let slices = self.slices_for(durable, &mutations, until).await;
        let now = slices.max_clock_skew().map(|skew| durable.dataset.clock.now(skew));
        for (index, mutation) in mutations.into_iter().enumerate() {
            let checked = mutation.and_then(|mutation| {
                let now = match &now {
                    Some(Ok(now)) => *now,
                    Some(Err(untrusted)) => return Err(refused(durable).unwrap_or_else(|| untrusted.clone().into())),
                    None => return Err(refused(durable).unwrap_or_else(|| aggregation::Error::NoSlices.into())),
                };
                self.check(&served.namespace, durable, &slices, now, mutation)
            });
            results.push(match checked {
                Ok((append, settings)) => {
                    pending.push(Pending { index, append, settings, maybe_applied: false, failure: None });
                    // Replaced below: every pending mutation ends as acknowledged or with its own error.
                    Ok(())
                }
                Err(error) => Err(error),
            });
        }
        if !pending.is_empty() {
            self.write_pending(durable, &served.writer, pending, until, &mut results).await;
        }
        results
    }

    /// The slices as this process knows them; read again where an event lies beyond the last one.
    async fn slices_for(
        &self,
        durable: &DurableNamespace,
        mutations: &[Result<Mutation>],
        until: Instant,
    ) -> Arc<Slices> {
        let slices = durable.dataset.slices();
        let times = mutations.iter().flatten().map(|mutation| mutation.token.generation_time);
        let plausible = |time: Timestamp| time.distance(self.clock.now()) <= limit_outside(&slices, durable, time);
        let beyond = match slices.end() {
            None => true,
            Some(end) => times.into_iter().any(|time| time >= end && plausible(time)),
        };
        if beyond && let Ok(Ok(read)) = tokio::time::timeout_at(until, durable.dataset.refresh_slices()).await {
            return read;
        }
        slices
    }

    fn check(
        &self,
        namespace: &Namespace,
        durable: &DurableNamespace,
        slices: &Slices,
        now: Timestamp,
        mutation: Mutation,
    ) -> Result<(Append, SliceSettings)> {
        let event = Event::new(mutation.token, mutation.item);
        let slice = slices.accepting(event.event_time);
        let accept_limit = match slice {
            Some(slice) => slice.settings.accept_limit,
            None => limit_outside(slices, durable, event.event_time),
        };
        if event.event_time.distance(now) > accept_limit {
            return Err(Error::EventTimeOutOfRange { event_time: event.event_time, accept_limit, now });
        }
        let Some(slice) = slice else {
            return Err(Error::Unavailable { reason: format!("no open time slice covers {}", event.event_time) });
        };
        let counter = key(namespace, mutation.counter_name);
        if !durable.dataset.events.capabilities().detects_token_reuse {
            let longest = slices.records().iter().map(|record| record.settings.accept_limit).max();
            match self.tokens.see(&counter, &event, longest.unwrap_or(accept_limit) * 2) {
                Seen::Consistent => {}
                Seen::Reused => return Err(Error::TokenReused { token: event.event_id }),
                Seen::Full => return Err(Error::Overloaded { retry_after: RETRY_AFTER }),
            }
        }
        Ok((Append { partition: Partition::of(&counter, &event, slice), event }, slice.settings))
    }

    async fn write_pending(
        &self,
        durable: &DurableNamespace,
        writer: &Writer,
        mut pending: Vec<Pending>,
        until: Instant,
        results: &mut [Result<()>],
    ) {
        let mut wait = RETRY_WAIT_MIN;
        loop {
            let attempt = self.attempt(durable, writer, &mut pending);
            let in_time = tokio::time::timeout_at(until, attempt).await.is_ok();
            if !in_time {
                for mutation in &mut pending {
                    mutation.maybe_applied = true;
                    mutation.failure.get_or_insert(store::Error::Timeout { reason: "the deadline passed".to_owned() });
                }
            }
            // Asked anew after the store's answer, and trusted only if the clock still is, by the events' own slices.
            let skew = pending.iter().map(|mutation| mutation.settings.max_clock_skew).min();
            let now = skew.map(|skew| durable.dataset.clock.now(skew));
            let again = in_time && Instant::now() + wait < until;
            pending.retain(|mutation| {
                let result = match (&mutation.failure, &now) {
                    (None, Some(Ok(now))) if *now < mutation.acknowledge_before() => {
                        self.touched.touch(&mutation.append.partition.counter);
                        Ok(())
                    }
                    (None, Some(Ok(_))) => Err(Error::OutcomeUnknown {
                        reason: "the store acknowledged it too late to be counted on".to_owned(),
                    }),
                    (None, _) => Err(Error::OutcomeUnknown {
                        reason: "the clock stopped being trusted before it was acknowledged".to_owned(),
                    }),
                    (Some(error), Some(Ok(now)))
                        if again && error.is_retryable() && now.plus(wait) < mutation.send_before() =>
                    {
                        return true;
                    }
                    (Some(_), _) => Err(mutation.error()),
                };
                results[mutation.index] = result;
                false
            });
            if pending.is_empty() {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
    }

    /// Sends all of `pending` once, and leaves in each what became of it.
    async fn attempt(&self, durable: &DurableNamespace, writer: &Writer, pending: &mut [Pending]) {
        let touches = self.touches_needed(writer, pending);
        let appends = pending.iter().map(|mutation| mutation.append.clone()).collect();
        let touching = join_all(touches.iter().map(|(counter, touch)| durable.dataset.rollups.touch(counter, *touch)));
        let (appended, touched) = if touches.is_empty() {
            (durable.dataset.events.append(appends).await, Vec::new())
        } else {
            futures::join!(durable.dataset.events.append(appends), touching)
        };
        let mut untouched = BTreeMap::new();
        for ((counter, touch), result) in touches.iter().zip(touched) {
            match result {
                Ok(()) => writer.touches.learn(&counter.name, *touch),
                Err(error) => drop(untouched.insert(counter, error)),
            }
        }
        let unanswered = || Err(store::Error::Timeout { reason: "the store left an event unanswered".to_owned() });
        let appended = appended.into_iter().chain(std::iter::repeat_with(unanswered));
        for (mutation, result) in pending.iter_mut().zip(appended) {
            let applied = result.is_ok();
            if let Err(store::Error::BehindBoundary { boundary }) = &result {
                durable.dataset.clock.at_least(*boundary);
            }
            mutation.failure = result.err().or_else(|| untouched.get(&mutation.append.partition.counter).cloned());
            // An event that is durable is not undone by a touch that failed.
            mutation.maybe_applied |=
                applied || mutation.failure.as_ref().is_some_and(store::Error::is_outcome_unknown);
        }
    }

    /// One touch per counter that needs one, for all its mutations together.
    fn touches_needed(&self, writer: &Writer, pending: &[Pending]) -> BTreeMap<CounterKey, Touch> {
        let now = self.clock.now();
        let mut touches: BTreeMap<CounterKey, Touch> = BTreeMap::new();
        for mutation in pending {
            let counter = &mutation.append.partition.counter;
            let oldest_acceptable = now.minus(mutation.settings.accept_limit);
            if let Some(needed) =
                writer.touches.needed(&counter.name, mutation.append.event.event_time, oldest_acceptable)
            {
                let touch = touches.entry(counter.clone()).or_default();
                touch.last_write_ts = touch.last_write_ts.max(needed.last_write_ts);
                touch.first_write_ts = match (touch.first_write_ts, needed.first_write_ts) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
            }
        }
        touches
    }
}
