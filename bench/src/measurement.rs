//! One measurement of one contender, and the loop that makes it: callers that each send the next request when the last
//! one is answered.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::BoxFuture;
use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::usage::{CpuTimes, Meter, Process};

/// How long a measurement may take beyond its span before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long to run before measuring, and how long to measure.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Time in which nothing is recorded.
    pub warm_up: Duration,
    /// Time that is recorded.
    pub measured: Duration,
}

/// What one measurement found.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// Operations a second; or whatever the comparison's unit is.
    pub value: f64,
    /// Latency of each call in microseconds, where calls were timed.
    pub latency: Option<Histogram<u64>>,
    /// CPU time that each process involved spent on an operation.
    pub cpu: CpuTimes,
}

impl Measurement {
    /// A plain value.
    pub fn of(value: f64) -> Self {
        Self { value, latency: None, cpu: CpuTimes::new() }
    }
}

/// One side of a comparison.
pub trait Contender: Send {
    /// What it is called in the results.
    fn name(&self) -> String;

    /// Measures it once.
    fn measure(&mut self, span: Span) -> BoxFuture<'_, Result<Measurement>>;

    /// Reads back what it was told, after the last measurement: what was acknowledged must be there, once.
    fn verify(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// One closed loop of requests.
pub trait Caller: Send + 'static {
    /// Makes one call; answers how many operations it carried, all of them acknowledged.
    fn call(&mut self) -> impl Future<Output = Result<u64>> + Send;
}

/// What the callers of one measurement did.
struct Load {
    /// Operations a second, of the calls answered while measuring.
    per_second: f64,
    /// Latency of each of these calls, in microseconds.
    latency: Histogram<u64>,
    /// Operations of all calls, those before the measured time included.
    operations: u64,
}

/// Runs all callers at once for the span and watches what they and the servers use meanwhile.
pub async fn measure<C: Caller>(callers: &mut Vec<C>, span: Span, servers: &[Process]) -> Result<Measurement> {
    let processes: Vec<_> = servers.iter().cloned().chain([Process::callers()]).collect();
    let meter = Meter::start(&processes)?;
    let load = run(callers, span).await?;
    ensure!(!load.latency.is_empty(), "no call was answered in the measured time");
    let operations = load.operations as f64;
    let cpu = meter.read()?.into_iter().map(|(name, used)| (name, used.div_f64(operations))).collect();
    Ok(Measurement { value: load.per_second, latency: Some(load.latency), cpu })
}

/// Runs all callers at once for the span, each in its own task.
async fn run<C: Caller>(callers: &mut Vec<C>, span: Span) -> Result<Load> {
    let begin = Instant::now() + span.warm_up;
    let end = begin + span.measured;
    let tasks: Vec<_> = callers.drain(..).map(|caller| tokio::spawn(drive(caller, begin, end))).collect();
    let all = async {
        let mut total = Load { per_second: 0.0, latency: histogram(), operations: 0 };
        for task in tasks {
            let (caller, measured, load) = task.await.context("a caller panicked")??;
            total.operations += load.operations;
            total.per_second += measured as f64 / span.measured.as_secs_f64();
            total.latency.add(&load.latency)?;
            callers.push(caller);
        }
        Ok(total)
    };
    tokio::time::timeout_at(end + PATIENCE, all).await.context("calls were not answered in time")?
}

async fn drive<C: Caller>(mut caller: C, begin: Instant, end: Instant) -> Result<(C, u64, Load)> {
    let mut load = Load { per_second: 0.0, latency: histogram(), operations: 0 };
    let mut measured = 0;
    let mut sent = Instant::now();
    while sent < end {
        let operations = caller.call().await?;
        let answered = Instant::now();
        load.operations += operations;
        // What is answered within the measured time counts, whenever it was sent: at the other edge as much is lost.
        if answered >= begin && answered < end {
            measured += operations;
            load.latency.saturating_record(micros(answered - sent));
        }
        sent = answered;
    }
    Ok((caller, measured, load))
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Three digits, up to a minute.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct EveryTenMillis {
        calls: u64,
    }

    impl Caller for EveryTenMillis {
        async fn call(&mut self) -> Result<u64> {
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.calls += 1;
            Ok(5)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_answered_in_the_measured_time_counts_and_all_callers_come_back() {
        let mut callers: Vec<_> = (0..3).map(|_| EveryTenMillis { calls: 0 }).collect();
        let span = Span { warm_up: Duration::from_millis(95), measured: Duration::from_secs(1) };
        let load = run(&mut callers, span).await.unwrap();
        assert!((load.per_second - 1_500.0).abs() < 1.0, "{}", load.per_second);
        assert_eq!(load.latency.len(), 300);
        assert_eq!(load.operations, callers.iter().map(|caller| caller.calls * 5).sum::<u64>());
        assert_eq!(callers.len(), 3);
        let p50 = load.latency.value_at_quantile(0.5);
        assert!((10_000..=11_100).contains(&p50), "{p50}");
    }

    struct Fails;

    impl Caller for Fails {
        async fn call(&mut self) -> Result<u64> {
            anyhow::bail!("refused")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_fails_fails_the_measurement() {
        let span = Span { warm_up: Duration::ZERO, measured: Duration::from_secs(1) };
        assert!(run(&mut vec![Fails], span).await.is_err());
    }
}
