//! One attempt at a session with a cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use scylla::client::Compression;
use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::host_filter::DcHostFilter;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::{DefaultRetryPolicy, FallthroughRetryPolicy};
use scylla::statement::{Consistency, SerialConsistency};

use super::credentials::CredentialsFile;
use super::schema::ddl::AGREEMENT_LIMIT;
use super::trouble::{self, Refusal};
use super::{Reach, tls};

/// How long a node may take to take a connection, its name to be resolved, and the cluster to describe itself.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
const DESCRIBE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long all of that may take together: a node that hangs while TLS begins is waited for by the driver without end.
const SESSION_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a request may take, the driver's own repetitions of a read included.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(2);
/// How often an idle connection is asked for a sign of life, and how long that may take: a node that hangs is given up after both.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(2);
const KEEPALIVE_TIME_MAX: Duration = Duration::from_secs(2);

/// How requests are sent: to the replicas in the local datacenter, and to no other datacenter.
pub(super) struct Profiles {
    /// Repeated on another node where the first fails.
    pub reading: ExecutionProfileHandle,
    /// Sent once.
    pub writing: ExecutionProfileHandle,
}

impl Profiles {
    pub fn new(local_datacenter: &str) -> Self {
        let local = DefaultPolicy::builder()
            .prefer_datacenter(local_datacenter.to_owned())
            .permit_dc_failover(false)
            .token_aware(true)
            .build();
        let profile = || {
            ExecutionProfile::builder()
                .load_balancing_policy(local.clone())
                .consistency(Consistency::LocalQuorum)
                .serial_consistency(Some(SerialConsistency::LocalSerial))
                .request_timeout(Some(REQUEST_TIME_MAX))
                .speculative_execution_policy(None)
        };
        Self {
            reading: profile().retry_policy(Arc::new(DefaultRetryPolicy::new())).build().into_handle(),
            writing: profile().retry_policy(Arc::new(FallthroughRetryPolicy::new())).build().into_handle(),
        }
    }
}

/// Connects once.
///
/// # Errors
/// Why it could not, for a person.
pub(super) async fn connect(reach: &Reach, profiles: &Profiles) -> Result<Session, String> {
    let session = match session(reach, profiles, &reach.contact_points).await? {
        Ok(session) => session,
        Err(refusal) => return Err(each_by_itself(reach, profiles, refusal).await),
    };
    let state = session.get_cluster_state();
    let datacenters: BTreeSet<&str> =
        state.get_nodes_info().iter().filter_map(|node| node.datacenter.as_deref()).collect();
    if datacenters.is_empty() {
        // The driver goes on with what it was given; we should find no node of our datacenter, and believe that there is none.
        return Err(trouble::undescribed(reach));
    }
    if !datacenters.contains(reach.local_datacenter.as_str()) {
        let datacenters: Vec<&str> = datacenters.into_iter().collect();
        return Err(trouble::wrong_datacenter(&reach.local_datacenter, state.cluster_name(), &datacenters));
    }
    drop(state);
    Ok(session)
}

/// The driver tells one of many reasons only: asks each contact point for its own.
async fn each_by_itself(reach: &Reach, profiles: &Profiles, refusal: Refusal) -> String {
    if let [contact_point] = reach.contact_points.as_slice() {
        return trouble::in_words(reach, &[(contact_point.clone(), refusal)]);
    }
    let attempts = reach.contact_points.iter().map(|contact_point| async move {
        match session(reach, profiles, std::slice::from_ref(contact_point)).await {
            // It has come up meanwhile: the next attempt will find it.
            Ok(Ok(_)) => (contact_point.clone(), Refusal::Unreachable("it was away a moment ago".to_owned())),
            Ok(Err(refusal)) => (contact_point.clone(), refusal),
            Err(reason) => (contact_point.clone(), Refusal::OurFiles(reason)),
        }
    });
    trouble::in_words(reach, &join_all(attempts).await)
}

/// A session by way of these contact points. The outer error is about what we were given to connect with.
pub(super) async fn session(
    reach: &Reach,
    profiles: &Profiles,
    contact_points: &[String],
) -> Result<Result<Session, Refusal>, String> {
    let mut builder = SessionBuilder::new()
        .known_nodes(contact_points)
        .default_execution_profile_handle(profiles.reading.clone())
        .prefer_datacenter(reach.local_datacenter.clone())
        .host_filter(Arc::new(DcHostFilter::new(reach.local_datacenter.clone())))
        .compression(Some(Compression::Lz4))
        .tcp_keepalive_interval(KEEPALIVE_EVERY)
        .keepalive_interval(KEEPALIVE_EVERY)
        .keepalive_timeout(KEEPALIVE_TIME_MAX)
        .connection_timeout(CONNECT_TIME_MAX)
        .hostname_resolution_timeout(Some(CONNECT_TIME_MAX))
        .metadata_request_serverside_timeout(DESCRIBE_TIME_MAX)
        .schema_agreement_timeout(AGREEMENT_LIMIT)
        // Of the schema only how keyspaces are replicated is of interest.
        .fetch_full_schema_metadata(false);
    if let Some(file) = &reach.credentials_file {
        builder = builder.authenticator_provider(Arc::new(CredentialsFile(file.clone())));
    }
    if let Some(ca_file) = &reach.tls_ca_file {
        builder = builder.tls_context(Some(tls::client_config(ca_file)?));
    }
    let built = tokio::time::timeout(SESSION_TIME_MAX, builder.build()).await;
    let hangs =
        |_| Refusal::Unreachable(format!("no session within {SESSION_TIME_MAX:?}: a node takes connections and hangs"));
    Ok(built.map_err(hangs).and_then(|built| built.map_err(|error| trouble::refusal(&error))))
}
