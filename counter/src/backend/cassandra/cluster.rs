//! The connection to a cluster: made in the background, kept, and made again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use scylla::client::session::Session;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::connecting::{Profiles, connect};
use super::{Dataset, Reach};
use crate::store::{Error, Result};

/// The wait after a failed attempt to connect; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often an established connection is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What can be said of the connection now.
enum State {
    /// Never connected, and why.
    Away(String),
    /// Connected; the driver looks after its nodes.
    Here(Arc<Session>),
    /// It was connected, and no node can be reached now. The session may come back by itself.
    Lost(Arc<Session>, String),
}

struct Shared {
    reach: Reach,
    profiles: Profiles,
    state: ArcSwap<State>,
    changed: Notify,
}

struct Inner {
    shared: Arc<Shared>,
    connecting: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.connecting.abort();
    }
}

/// A Cassandra cluster. Clones share one connection, which is closed with the last of them and of their datasets.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("reach", &self.inner.shared.reach).field("check", &self.check()).finish()
    }
}

impl Cluster {
    /// Begins to connect, in the background, and does not stop trying: what is wrong now may be mended.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    #[must_use]
    pub fn new(reach: Reach) -> Self {
        let away = State::Away(format!("still connecting to Cassandra at {}", reach.contact_points.join(", ")));
        let profiles = Profiles::new(&reach.local_datacenter);
        let shared = Arc::new(Shared { reach, profiles, state: ArcSwap::from_pointee(away), changed: Notify::new() });
        let connecting = tokio::spawn(shared.clone().keep_connected()).abort_handle();
        Self { inner: Arc::new(Inner { shared, connecting }) }
    }

    /// One dataset of the cluster, as written in `region`. It need not exist yet.
    #[must_use]
    pub fn dataset(&self, keyspace: &str, region: &str) -> Dataset {
        Dataset::new(self.clone(), keyspace, region)
    }

    /// Whether the cluster can be used now.
    ///
    /// # Errors
    /// Why not, for a person: wrong credentials, a wrong datacenter, unreachable contact points.
    pub fn check(&self) -> std::result::Result<(), String> {
        match &**self.inner.shared.state.load() {
            State::Here(_) => Ok(()),
            State::Away(reason) | State::Lost(_, reason) => Err(reason.clone()),
        }
    }

    /// Waits until the cluster can be used.
    pub async fn connected(&self) {
        loop {
            // Asked for before looking, so that no change goes unnoticed.
            let changed = self.inner.shared.changed.notified();
            if self.check().is_ok() {
                return;
            }
            changed.await;
        }
    }

    /// Waits until [`Cluster::check`] may answer otherwise. While there is no connection, every attempt at one ends this wait.
    pub async fn changed(&self) {
        self.inner.shared.changed.notified().await;
    }

    pub(super) fn session(&self) -> Result<Arc<Session>> {
        match &**self.inner.shared.state.load() {
            // Where the nodes are gone, the driver says so at once; and knows first when they are back.
            State::Here(session) | State::Lost(session, _) => Ok(session.clone()),
            State::Away(reason) => Err(Error::Unavailable { reason: reason.clone() }),
        }
    }

    pub(super) fn profiles(&self) -> &Profiles {
        &self.inner.shared.profiles
    }

    pub(super) fn local_datacenter(&self) -> &str {
        &self.inner.shared.reach.local_datacenter
    }
}

impl Shared {
    fn set(&self, state: State) {
        self.state.store(Arc::new(state));
        self.changed.notify_waiters();
    }

    async fn keep_connected(self: Arc<Self>) {
        let mut session = self.first_session().await;
        loop {
            self.set(State::Here(session.clone()));
            tracing::info!(contact_points = ?self.reach.contact_points, "connected to Cassandra");
            self.until_lost(&session).await;
            session = self.regained(session).await;
        }
    }

    async fn first_session(&self) -> Arc<Session> {
        let mut wait = RETRY_MIN;
        let mut told = String::new();
        loop {
            match connect(&self.reach, &self.profiles).await {
                Ok(session) => return Arc::new(session),
                Err(reason) => {
                    // It is tried for as long as it takes, and every reason told once.
                    if told != reason {
                        tracing::warn!(%reason, "cannot connect to Cassandra; it is tried again and again");
                        told.clone_from(&reason);
                    }
                    self.set(State::Away(reason));
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    async fn until_lost(&self, session: &Session) {
        while self.reaches_a_node(session) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The session, when it reaches a node again, or another one, when that is sooner: the nodes may have moved.
    async fn regained(&self, session: Arc<Session>) -> Arc<Session> {
        let reason = "no node of the local datacenter can be reached any more".to_owned();
        tracing::warn!(%reason, "lost Cassandra");
        self.set(State::Lost(session.clone(), reason));
        let mut wait = RETRY_MIN;
        loop {
            tokio::time::sleep(wait).await;
            if self.reaches_a_node(&session) {
                return session;
            }
            match connect(&self.reach, &self.profiles).await {
                Ok(another) => return Arc::new(another),
                Err(reason) => self.set(State::Lost(session.clone(), reason)),
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    fn reaches_a_node(&self, session: &Session) -> bool {
        let state = session.get_cluster_state();
        let local = |datacenter: &Option<String>| datacenter.as_deref() == Some(&self.reach.local_datacenter);
        state.get_nodes_info().iter().any(|node| local(&node.datacenter) && node.is_connected())
    }
}
