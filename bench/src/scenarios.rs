//! The scenarios: each starts its servers, compares, verifies, and lets everything go again.

mod adds;
mod cassandra;
mod footprint;
mod reads;
mod rollup;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::cassandra::Node;
use crate::comparison::{Comparison, Rounds};
use crate::counters::Counters;
use crate::deployment::Deployment;
use crate::measurement::Span;
use crate::programs::Programs;
use crate::standalone;

/// Counters in the scenarios that add and read through the API.
const COUNTERS: usize = 1_000;
/// Callers of the scenarios that are named for it.
const CALLERS: usize = 64;

/// A scenario's name is its name on the command line and in the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Scenario {
    /// Durable adds, one a call, 64 callers.
    #[value(name = "embedded-add-64")]
    EmbeddedAdd64,
    /// Durable adds, one a call, one caller.
    #[value(name = "embedded-add-1")]
    EmbeddedAdd1,
    /// Durable adds, many a call.
    EmbeddedAddBatch,
    /// Best-effort adds, one a call, 64 callers.
    #[value(name = "best-effort-add-64")]
    BestEffortAdd64,
    /// Best-effort adds, many a call.
    BestEffortAddBatch,
    /// Adds to accurate counters, one a call, 64 callers.
    #[value(name = "accurate-add-64")]
    AccurateAdd64,
    /// Reads of accurate counters that are written meanwhile, 64 callers.
    AccurateGet,
    /// Reads of counters at rest from the cache, 64 callers.
    GetCacheHit,
    /// The rollup pipeline, beside reading the same events.
    Rollup,
    /// Durable adds through a sidecar into Cassandra, one a call, 64 callers, 100,000 counters.
    CassandraAddSpread,
    /// The same, many a call.
    CassandraAddSpreadBatch,
    /// Durable adds through a sidecar into Cassandra, one a call, 64 callers, one counter.
    CassandraAddHot,
    /// The same, many a call.
    CassandraAddHotBatch,
    /// From starting the program to `GET /readyz` answering 200.
    Startup,
    /// Memory that is resident when nothing happens.
    IdleMemory,
}

/// What all scenarios are run with.
pub struct Settings {
    /// Measurements of each contender.
    pub rounds: usize,
    /// The time of each.
    pub span: Span,
    /// The programs to measure.
    pub programs: Programs,
    /// Cassandra, once a scenario has asked for it.
    pub cassandra: OnceCell<Node>,
}

impl Settings {
    /// A `tallyman` with empty stores of its own, in `dir`.
    async fn standalone(&self, dir: &TempDir) -> Result<Deployment> {
        standalone::start(&self.programs.path("tallyman")?, dir.path(), Duration::from_millis(10)).await
    }

    /// The rounds of a scenario that needs no warming up.
    fn rounds(&self) -> Rounds {
        Rounds { warm_up: 0, counted: self.rounds }
    }

    /// Cassandra, the same for all scenarios.
    async fn cassandra(&self) -> Result<&Node> {
        self.cassandra.get_or_try_init(Node::find).await
    }
}

impl Scenario {
    /// Its name.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Runs it.
    pub async fn run(self, settings: &Settings) -> Result<Vec<Comparison>> {
        let counters = Counters::new(COUNTERS);
        match self {
            Self::EmbeddedAdd64 | Self::EmbeddedAdd1 | Self::AccurateAdd64 => {
                adds::unary(self, settings, &counters).await
            }
            Self::BestEffortAdd64 => {
                let through_sidecar = adds::best_effort_sidecar(self, settings, &counters).await?;
                let embedded = adds::unary(self, settings, &counters).await?;
                Ok([through_sidecar, embedded].concat())
            }
            Self::EmbeddedAddBatch => adds::batch(self, settings, &counters).await,
            Self::BestEffortAddBatch => {
                let through_sidecar = adds::best_effort_sidecar(self, settings, &counters).await?;
                let embedded = adds::batch(self, settings, &counters).await?;
                Ok([through_sidecar, embedded].concat())
            }
            Self::AccurateGet => reads::unary(self, settings, &counters).await,
            Self::GetCacheHit => {
                let through_sidecar = reads::sidecar(self, settings, &counters).await?;
                let embedded = reads::unary(self, settings, &counters).await?;
                Ok([through_sidecar, embedded].concat())
            }
            Self::CassandraAddSpread
            | Self::CassandraAddSpreadBatch
            | Self::CassandraAddHot
            | Self::CassandraAddHotBatch => cassandra::run(self, settings).await,
            Self::Rollup => {
                let in_cassandra = rollup::cassandra(settings).await?;
                Ok([in_cassandra, rollup::embedded(settings).await?].concat())
            }
            Self::Startup => footprint::startup(settings).await,
            Self::IdleMemory => footprint::idle_memory(settings, &counters).await,
        }
    }
}
