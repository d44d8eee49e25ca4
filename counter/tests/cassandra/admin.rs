//! A test's own session with the Cassandra under test: `TALLYMAN_CASSANDRA` (comma separated `host:port`), 127.0.0.1:9042 without it.

use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use tallyman_counter::backend::cassandra::schema::nodes;

/// How long nodes that are up may take to describe themselves, and to do what is asked for here: they stand still while their disk does.
const DESCRIBE_TIME_MAX: Duration = Duration::from_secs(60);
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_secs(1);

pub fn contact_points() -> Vec<String> {
    let nodes = std::env::var("TALLYMAN_CASSANDRA").unwrap_or_else(|_| "127.0.0.1:9042".to_owned());
    nodes.split(',').map(str::to_owned).collect()
}

/// A session that knows the nodes and their datacenters.
pub async fn session() -> Session {
    tokio::time::timeout(DESCRIBE_TIME_MAX, described()).await.expect("Cassandra is up: cargo xtask servers up")
}

/// A datacenter, and how many nodes it has.
pub async fn datacenter(session: &Session) -> (String, usize) {
    nodes::per_datacenter(session).await.unwrap().pop_first().expect("the nodes have described themselves")
}

/// Where a node has no time to describe itself and the others, the driver goes on with what it was given: nodes of no datacenter.
async fn described() -> Session {
    let profile = ExecutionProfile::builder().request_timeout(Some(REQUEST_TIME_MAX)).build().into_handle();
    let builder = SessionBuilder::new().known_nodes(contact_points()).default_execution_profile_handle(profile);
    loop {
        match builder.build().await {
            Ok(session) => match nodes::per_datacenter(&session).await {
                Ok(_) => return session,
                Err(error) => eprintln!("{error}; it is tried again"),
            },
            Err(error) => eprintln!("{error}; it is tried again"),
        }
        tokio::time::sleep(EVERY).await;
    }
}
