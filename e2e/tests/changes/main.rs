//! What changes while it counts, on purpose or not: the number of servers, settings, slices, clocks, and how much there is of
//! one counter. Nothing that was acknowledged is lost, nothing counts twice.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod changed_settings;
mod clocks;
mod retention;
mod scaling;
mod wide;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tallyman_e2e::load::Plan;
use tallyman_e2e::plane::{NAMESPACE, Settings};
use tallyman_servers::{Place, Set, Shape};

/// Third byte of the addresses, so that a developer's servers run beside these.
const ADDRESSES: u8 = 25;

/// One Cassandra node, no cache: reads show what is in the store. Tests that run at the same time share it, each with a
/// keyspace of its own.
fn one_node() -> Arc<Set> {
    static SHARED: Mutex<Weak<Set>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(servers) = shared.upgrade() {
        return servers;
    }
    let servers = Arc::new(Set::start(&Place::in_memory("changes", ADDRESSES).unwrap(), &Shape::default()).unwrap());
    *shared = Arc::downgrade(&servers);
    servers
}

/// Settings for a busy machine, on which a look at another's clock takes long.
fn settings(name: &str) -> Settings {
    Settings { max_clock_skew: Duration::from_secs(2), ..Settings::new(name) }
}

fn plan(adds_per_second: u32) -> Plan {
    Plan { namespace: NAMESPACE.to_owned(), counters: 200, adds_per_second, resent_of_five: 1 }
}
