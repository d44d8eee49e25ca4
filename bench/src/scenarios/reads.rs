//! Reads through the API, beside the bare call.

use anyhow::Result;
use tempfile::TempDir;

use super::{CALLERS, Scenario, Settings};
use crate::comparison::{Comparison, Peer, compare};
use crate::counters::Counters;
use crate::echo::Echo;
use crate::standalone::Namespace;
use crate::tallyman::{Reads, read_encoded_len};

/// One read a call.
pub async fn unary(scenario: Scenario, settings: &Settings, counters: &Counters) -> Result<Vec<Comparison>> {
    let (namespace, goal) = match scenario {
        Scenario::AccurateGet => (Namespace::Accurate, None),
        _ => (Namespace::Eventual, Some(0.8)),
    };
    let dir = TempDir::new()?;
    let mut subject = Reads::prepare(settings.standalone(&dir).await?, namespace, CALLERS, counters).await?;
    let echo = Echo::start(dir.path(), CALLERS, read_encoded_len(namespace, counters)?).await?;
    let mut peers = [Peer { contender: Box::new(echo), goal }];
    compare(&scenario.name(), "gets/s", settings.rounds, settings.span, &mut subject, &mut peers).await
}
