//! What is there: of a keyspace, its tables, its slices, its owner.

use std::collections::{BTreeMap, BTreeSet};

use scylla::client::session::Session;
use scylla::statement::Consistency;
use uuid::Uuid;

use super::cql;
use super::patience::repeated;
use super::plan::{Found, FoundRole, Wanted};
use super::tables::{Column, FoundTable, KnownOptions, OWNER, Order, Part, REMOVED, SLICES};
use super::usable::usable;
use super::{Error, Result, floors, query, roles, slices};

/// Everything that a plan for `wanted` looks at. `password_is_right`: whether the role that is wanted can log in with the password
/// that is wanted, which only trying tells; it is not tried where there is no such role.
///
/// # Errors
/// When it cannot be read whole.
pub async fn found(
    session: &Session,
    wanted: &Wanted,
    password_is_right: impl Future<Output = Result<bool>> + Send,
) -> Result<Found> {
    let keyspace = &wanted.dataset.keyspace;
    let replication = replication(session, keyspace).await?;
    let tables = tables(session, keyspace).await?;
    // Rows are read only from tables that say they are ours; the plan refuses others.
    let ours = |name: &str| tables.get(name).filter(|table| table.is_marked());
    let (mut owned_by, mut slices, mut floors) = (None, BTreeMap::new(), BTreeMap::new());
    if let Some(table) = ours(OWNER) {
        usable(session, keyspace, OWNER, &table.columns).await?;
        owned_by = owner(session, keyspace, Consistency::LocalQuorum).await?;
    }
    if let Some(table) = ours(SLICES) {
        usable(session, keyspace, SLICES, &table.columns).await?;
        slices = slices::read_regions(session, keyspace).await?;
    }
    if let Some(table) = ours(REMOVED) {
        usable(session, keyspace, REMOVED, &table.columns).await?;
        floors = floors::read(session, keyspace).await?.unwrap_or_default();
    }
    let role = match &wanted.role {
        // Others are not ours to change, whatever they are.
        Some(role) if role.is_of(keyspace) => roles::found(session, role, password_is_right).await?,
        _ => FoundRole::Absent,
    };
    let known = known_options(session).await?;
    Ok(Found { replication, tables, known, owner: owned_by, floors, slices, role })
}

/// One table, if it is there.
///
/// # Errors
/// When it cannot be read.
pub async fn table(session: &Session, keyspace: &str, name: &str) -> Result<Option<FoundTable>> {
    let filter = format!("keyspace_name = {} AND table_name = {}", cql::string(keyspace), cql::string(name));
    Ok(select(session, keyspace, &filter).await?.remove(name))
}

/// Which table options the server knows: those that its own schema has a column for.
///
/// # Errors
/// When it cannot be read.
pub async fn known_options(session: &Session) -> Result<KnownOptions> {
    let text =
        "SELECT column_name FROM system_schema.columns WHERE keyspace_name = 'system_schema' AND table_name = 'tables'";
    let rows: Vec<(String,)> = query::rows(session, "read system_schema.columns", schema(text)).await?;
    let known = |option: &str| rows.iter().any(|(name,)| name == option);
    Ok(KnownOptions { read_repair: known("read_repair"), allow_auto_snapshot: known("allow_auto_snapshot") })
}

/// Whom the dataset belongs to.
///
/// # Errors
/// When it cannot be read.
pub(super) async fn owner(session: &Session, keyspace: &str, consistency: Consistency) -> Result<Option<String>> {
    let text = format!("SELECT owner FROM {keyspace}.{OWNER} WHERE dataset = {}", cql::string(keyspace));
    let statement = query::repeatable(text, consistency);
    let rows: Vec<(Option<String>,)> = query::rows(session, &format!("read {keyspace}.{OWNER}"), statement).await?;
    Ok(rows.into_iter().next().and_then(|(owner,)| owner))
}

async fn replication(session: &Session, keyspace: &str) -> Result<Option<BTreeMap<String, String>>> {
    let text =
        format!("SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = {}", cql::string(keyspace));
    let rows: Vec<(BTreeMap<String, String>,)> =
        query::rows(session, "read system_schema.keyspaces", schema(text)).await?;
    Ok(rows.into_iter().next().map(|(replication,)| replication))
}

async fn tables(session: &Session, keyspace: &str) -> Result<BTreeMap<String, FoundTable>> {
    select(session, keyspace, &format!("keyspace_name = {}", cql::string(keyspace))).await
}

/// Tables with their columns. A node that is creating or dropping a table may list it without its columns for a moment: they are
/// rows of two tables, which it changes one after the other.
async fn select(session: &Session, keyspace: &str, filter: &str) -> Result<BTreeMap<String, FoundTable>> {
    let in_pieces = |error: &Error| matches!(error, Error::InPieces { .. });
    repeated(in_pieces, || select_once(session, keyspace, filter)).await
}

async fn select_once(session: &Session, keyspace: &str, filter: &str) -> Result<BTreeMap<String, FoundTable>> {
    // Every column, as their set differs from version to version.
    let text = format!("SELECT * FROM system_schema.tables WHERE {filter}");
    let rows = query::named_rows(session, "read system_schema.tables", schema(text)).await?;
    if rows.is_empty() {
        return Ok(BTreeMap::new());
    }
    let columns = columns(session, filter).await?;
    assembled(keyspace, &rows, columns)
}

/// Tables from their rows and their columns.
///
/// # Errors
/// [`Error::InPieces`] when one has no columns.
fn assembled(
    keyspace: &str,
    rows: &[query::NamedRow],
    mut columns: BTreeMap<String, BTreeSet<Column>>,
) -> Result<BTreeMap<String, FoundTable>> {
    rows.iter()
        .map(|row| {
            let absent = |column: &str| Error::Unreadable {
                what: format!("system_schema.tables of keyspace {keyspace}"),
                reason: format!("a row has no {column}"),
            };
            let name = row.text("table_name").ok_or_else(|| absent("table_name"))?.to_owned();
            let columns = columns
                .remove(&name)
                .ok_or_else(|| Error::InPieces { keyspace: keyspace.to_owned(), table: name.clone() })?;
            let table = FoundTable {
                id: row.uuid("id").ok_or_else(|| absent("id"))?,
                comment: row.text("comment").unwrap_or_default().to_owned(),
                columns,
                default_time_to_live: row.int("default_time_to_live").unwrap_or(0),
                read_repair: row.text("read_repair").map(str::to_owned),
            };
            Ok((name, table))
        })
        .collect()
}

async fn columns(session: &Session, filter: &str) -> Result<BTreeMap<String, BTreeSet<Column>>> {
    let text = format!(
        "SELECT table_name, column_name, kind, position, clustering_order, type FROM system_schema.columns WHERE {filter}"
    );
    let rows: Vec<(String, String, String, i32, String, String)> =
        query::all_rows(session, "read system_schema.columns", schema(text)).await?;
    let mut tables: BTreeMap<String, BTreeSet<Column>> = BTreeMap::new();
    for (table, name, kind, position, order, cql_type) in rows {
        let order = if order.eq_ignore_ascii_case("desc") { Order::Descending } else { Order::Ascending };
        let part = match kind.as_str() {
            "partition_key" => Part::Partition(position),
            "clustering" => Part::Clustering(position, order),
            _ => Part::Regular,
        };
        tables.entry(table).or_default().insert(Column { part, name, cql_type });
    }
    Ok(tables)
}

/// A node's own view of the schema; once the nodes agree it is every node's.
fn schema(text: impl Into<String>) -> scylla::statement::unprepared::Statement {
    query::repeatable(text, Consistency::One)
}

impl query::NamedRow {
    fn uuid(&self, column: &str) -> Option<Uuid> {
        self.value(column)?.as_uuid()
    }

    fn int(&self, column: &str) -> Option<i32> {
        self.value(column)?.as_int()
    }
}

#[cfg(test)]
mod tests {
    use scylla::value::CqlValue;

    use super::*;

    fn listed(table: &str) -> query::NamedRow {
        let name = ("table_name".to_owned(), CqlValue::Text(table.to_owned()));
        query::NamedRow([name, ("id".to_owned(), CqlValue::Uuid(Uuid::nil()))].into())
    }

    fn columns(table: &str) -> (String, BTreeSet<Column>) {
        let column = Column { part: Part::Regular, name: "value".to_owned(), cql_type: "blob".to_owned() };
        (table.to_owned(), [column].into())
    }

    /// Seen where four created the same tables at once.
    #[test]
    fn a_table_that_is_listed_without_its_columns_is_none_that_differs() {
        let rows = [listed("rollup"), listed("events_7200")];
        let all = [columns("rollup"), columns("events_7200")];
        assert_eq!(assembled("k", &rows, all.into()).unwrap().len(), 2);
        let error = assembled("k", &rows, [columns("rollup")].into()).unwrap_err();
        assert!(matches!(&error, Error::InPieces { table, .. } if table == "events_7200"), "{error}");
        assert!(error.is_retryable());
    }
}
