//! A dataset's handle.

use std::fmt;
use std::sync::Arc;

use super::Cluster;
use super::schema::ddl::{Ddl, Permit};
use super::schema::floors::Floors;
use super::statements::Statements;
use super::writer::{WriteStatistics, Writer};
use crate::store;

/// One dataset (keyspace) of a [`Cluster`] in one region: an event store and a rollup store. Clones share their queues.
#[derive(Clone)]
pub struct Dataset {
    pub(super) cluster: Cluster,
    pub(super) keyspace: Arc<str>,
    pub(super) region: Arc<str>,
    pub(super) statements: Arc<Statements>,
    pub(super) writer: Arc<Writer>,
    pub(super) floors: Arc<Floors>,
    permit: Option<Arc<dyn Permit>>,
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("cluster", &self.cluster)
            .field("keyspace", &self.keyspace)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl Dataset {
    pub(super) fn new(cluster: Cluster, keyspace: &str, region: &str) -> Self {
        let statements = Arc::new(Statements::new(keyspace.to_owned(), cluster.profiles().writing.clone()));
        let writer = Writer::new(cluster.clone(), keyspace.to_owned(), region.to_owned(), statements.clone());
        Self {
            cluster,
            keyspace: keyspace.into(),
            region: region.into(),
            statements,
            writer: Arc::new(writer),
            floors: Arc::default(),
            permit: None,
        }
    }

    /// The same dataset, whose slices are created and dropped only with a permit.
    #[must_use]
    pub fn with_permit(self, permit: Arc<dyn Permit>) -> Self {
        Self { permit: Some(permit), ..self }
    }

    /// What runs its schema changes.
    pub(super) fn ddl(&self) -> store::Result<Ddl> {
        let ddl = Ddl::new(self.cluster.session()?);
        Ok(match &self.permit {
            Some(permit) => ddl.with_permit(permit.clone()),
            None => ddl,
        })
    }

    /// Whether the dataset can be used now. Asks the cluster for its schema.
    ///
    /// # Errors
    /// Why not, for a person: what [`Cluster::check`] says, or that the keyspace or its tables are missing.
    pub async fn check(&self) -> Result<(), String> {
        self.cluster.check()?;
        let session = self.cluster.session().map_err(|error| error.to_string())?;
        self.statements.check(&session).await
    }

    /// What has been written so far through this handle and its clones.
    #[must_use]
    pub fn write_statistics(&self) -> WriteStatistics {
        self.writer.statistics()
    }
}
