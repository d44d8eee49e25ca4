//! What every fault is put upon: three nodes, a data plane, load, and somebody who watches the checkpoints.

use tallyman_e2e::convergence;
use tallyman_e2e::ledger::Fate;
use tallyman_e2e::load::{Load, Plan};
use tallyman_e2e::plane::{NAMESPACE, Plane, Settings};
use tallyman_e2e::tables;
use tallyman_e2e::tables::checkpoints::CheckpointWatch;

use super::servers::Servers;

/// Counted before anything goes wrong.
const BEFORE: usize = 1_000;

/// Everything in full swing.
pub struct Scenario {
    pub load: Load,
    pub plane: Plane,
    pub servers: Servers,
    watch: CheckpointWatch,
}

impl Scenario {
    /// Starts everything, and goes on once it counts. The name is also the keyspace's.
    pub async fn begin(name: &str) -> Self {
        let servers = Servers::take().await;
        let plane = Plane::start(&servers, Settings::new(name));
        let watch = plane.keyspace.watch_checkpoints();
        let plan = Plan { namespace: NAMESPACE.to_owned(), counters: 200, adds_per_second: 300, resent_of_five: 1 };
        let load = Load::start(plane.clients(), plan);
        load.acknowledges(BEFORE).await;
        Self { load, plane, servers, watch }
    }

    /// Stops the load, and asserts that every count is right: in the API, in the tables, and at all times before.
    pub async fn end(self) {
        let Self { load, plane, servers, watch } = self;
        let ledger = load.stop().await;
        assert!(ledger.number_of(Fate::Acknowledged) > BEFORE, "{ledger}");
        convergence::with_ledger(&plane.clients(), NAMESPACE, &ledger).await;
        tables::agree_with_ledger(&plane.keyspace.totals(NAMESPACE), &ledger);
        assert!(watch.finish().counters() > 0);
        plane.stop();
        drop(servers);
    }
}
