//! What is missing in Cassandra: read, never written.

use std::sync::Arc;

use tallyman_counter::backend::cassandra::schema::plan::Wanted;
use tallyman_counter::clock::Clock;

use super::arguments::Plan;
use super::report::Schema;
use crate::failure::Failure;
use crate::schema::missing;

/// Plans against what is there. The role is left out: its password is known in the cluster alone.
pub async fn look(wanted: Wanted, arguments: &Plan, clock: &Arc<dyn Clock>) -> Result<Schema, Failure> {
    let mut wanted = Wanted { role: None, ..wanted };
    if wanted.dataset.tls_ca_file.is_some() {
        let file = arguments.cassandra_ca.clone();
        wanted.dataset.tls_ca_file = Some(file.ok_or_else(|| {
            Failure::local(format!("dataset {}: its CounterClass has TLS", wanted.dataset.keyspace))
                .with_remedy("name the file of ca.crt with --cassandra-ca")
        })?);
    }
    let plan = missing(&wanted, &arguments.login, clock).await?;
    Ok(Schema { wanted, plan, is_compared: true })
}
