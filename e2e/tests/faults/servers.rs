//! The servers of all scenarios: started with the first, ended with the last, hurt by one at a time.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, Weak};

use tallyman_e2e::binaries::Binaries;
use tallyman_servers::{CommitlogSync, Place, Set, Shape};
use tokio::sync::OwnedMutexGuard;

/// Third byte of the addresses, so that a developer's servers run beside these.
const ADDRESSES: u8 = 21;

type Shared = tokio::sync::Mutex<Option<Set>>;

/// There as long as a scenario has them or waits for them.
static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());

/// Three nodes and two caches, for one scenario at a time.
pub struct Servers(OwnedMutexGuard<Option<Set>>);

impl Servers {
    /// Waits until no other scenario has them. All of them run then, and the caches are empty.
    pub async fn take() -> Self {
        // Before servers run, which it would keep waiting and starve.
        Binaries::built();
        let mut set = shared().lock_owned().await;
        match set.as_mut() {
            Some(set) => (0..set.memcached().len()).for_each(|server| set.restart_memcached(server).unwrap()),
            None => {
                let commitlog_sync = CommitlogSync::Batch;
                let shape = Shape { nodes: 3, memcached: 2, commitlog_sync, ..Shape::default() };
                *set = Some(Set::start(&Place::in_memory("faults", ADDRESSES).unwrap(), &shape).unwrap());
            }
        }
        Self(set)
    }
}

fn shared() -> Arc<Shared> {
    let mut shared = SHARED.lock().unwrap();
    shared.upgrade().unwrap_or_else(|| {
        let new = Arc::default();
        *shared = Arc::downgrade(&new);
        new
    })
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Who knows in what state they are. The next scenario starts others.
        if std::thread::panicking() {
            *self.0 = None;
        }
    }
}

impl Deref for Servers {
    type Target = Set;

    fn deref(&self) -> &Set {
        // `take` puts it there, and only the end takes it away.
        self.0.as_ref().expect("they run")
    }
}

impl DerefMut for Servers {
    fn deref_mut(&mut self) -> &mut Set {
        // As above.
        self.0.as_mut().expect("they run")
    }
}
