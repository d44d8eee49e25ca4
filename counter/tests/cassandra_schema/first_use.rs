//! The first use of a table that somebody else is just creating.

use std::time::Duration;

use scylla::statement::Consistency;
use scylla::statement::unprepared::Statement;
use tallyman_counter::backend::cassandra::schema::read;
use tallyman_counter::backend::cassandra::schema::tables::{KnownOptions, Table};
use tallyman_counter::model::Timestamp;

use crate::node::{Keyspace, session};
use crate::{HOUR, provisioned};

const TABLES: u32 = 10;
/// Between looks at whether it is listed.
const EVERY: Duration = Duration::from_millis(2);

#[tokio::test]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn a_table_that_somebody_else_creates_can_be_used_through_any_node_once_it_is_said_to_be_there() {
    let keyspace = Keyspace::new().await;
    let (ddl, name) = (keyspace.ddl(), &keyspace.name);
    provisioned(&ddl, &keyspace.wanted()).await.unwrap();
    let somebody_else = session().await;
    for index in 0..TABLES {
        let start = Timestamp::EPOCH.plus(HOUR * index);
        let table = Table::events(name, start, start.plus(HOUR));
        let create = table.create(KnownOptions::CASSANDRA_5).to_string();
        let created = async { somebody_else.query_unpaged(create, ()).await.unwrap() };
        let used = async {
            while read::table(ddl.session(), name, &table.name).await.unwrap().is_none() {
                tokio::time::sleep(EVERY).await;
            }
            ddl.create_table(&table).await.unwrap();
            let mut everywhere = Statement::new(format!("SELECT * FROM {name}.{}", table.name));
            everywhere.set_consistency(Consistency::All);
            ddl.session().query_unpaged(everywhere, ()).await
        };
        let (_, used) = tokio::join!(created, used);
        assert_eq!(used.unwrap().into_rows_result().unwrap().rows_num(), 0, "{}", table.name);
    }
    keyspace.drop().await;
}
