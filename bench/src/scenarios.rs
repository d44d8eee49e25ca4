//! The scenarios: each starts its servers, compares, verifies, and lets everything go again.

mod adds;
mod footprint;
mod reads;
mod rollup;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use tempfile::TempDir;

use crate::comparison::Comparison;
use crate::counters::Counters;
use crate::measurement::Span;
use crate::standalone::Standalone;

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
    /// The `tallyman` program.
    pub program: PathBuf,
}

impl Settings {
    /// A `tallyman` with empty stores of its own, in `dir`.
    async fn standalone(&self, dir: &TempDir) -> Result<Standalone> {
        Standalone::start(&self.program, dir.path(), Duration::from_millis(10)).await
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
            Self::EmbeddedAdd64 | Self::EmbeddedAdd1 | Self::AccurateAdd64 | Self::BestEffortAdd64 => {
                adds::unary(self, settings, &counters).await
            }
            Self::EmbeddedAddBatch | Self::BestEffortAddBatch => adds::batch(self, settings, &counters).await,
            Self::AccurateGet | Self::GetCacheHit => reads::unary(self, settings, &counters).await,
            Self::Rollup => rollup::run(settings).await,
            Self::Startup => footprint::startup(settings).await,
            Self::IdleMemory => footprint::idle_memory(settings, &counters).await,
        }
    }
}
