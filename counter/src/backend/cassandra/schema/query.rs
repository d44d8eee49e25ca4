//! Statements by text, and rows of them.

use std::collections::HashMap;
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::response::query_result::{QueryResult, QueryRowsResult};
use scylla::statement::unprepared::Statement;
use scylla::statement::{Consistency, SerialConsistency};
use scylla::value::{CqlValue, Row};

use super::{Error, Result};

/// How long one statement may take, but for schema changes.
const STATEMENT_LIMIT: Duration = Duration::from_secs(5);

/// A statement that may be sent again without changing what it does.
pub fn repeatable(text: impl Into<String>, consistency: Consistency) -> Statement {
    let mut statement = once(text, consistency);
    statement.set_is_idempotent(true);
    statement
}

/// A statement that the driver sends no second time.
pub fn once(text: impl Into<String>, consistency: Consistency) -> Statement {
    let mut statement = Statement::new(text);
    statement.set_consistency(consistency);
    statement.set_request_timeout(Some(STATEMENT_LIMIT));
    statement
}

/// A conditional statement.
pub fn conditional(text: impl Into<String>, commit: Consistency, serial: SerialConsistency) -> Statement {
    let mut statement = once(text, commit);
    statement.set_serial_consistency(Some(serial));
    statement
}

/// Runs a statement; `doing` says in errors what it is for, after "cannot".
pub async fn run(session: &Session, doing: &str, statement: Statement) -> Result<QueryResult> {
    session.query_unpaged(statement, ()).await.map_err(|error| Error::of_execution(doing, &error))
}

/// The rows of a short answer.
pub async fn rows<R>(session: &Session, doing: &str, statement: Statement) -> Result<Vec<R>>
where
    R: for<'frame> DeserializeRow<'frame, 'frame>,
{
    let answer = answer(run(session, doing, statement).await?, doing)?;
    let rows = answer.rows::<R>().map_err(|error| unreadable(doing, error))?;
    rows.collect::<std::result::Result<_, _>>().map_err(|error| unreadable(doing, error))
}

/// The rows of an answer of any length.
pub async fn all_rows<R>(session: &Session, doing: &str, statement: Statement) -> Result<Vec<R>>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata> + 'static,
{
    row_stream(session, doing, statement).await?.try_collect().await
}

/// The rows of an answer of any length, a page at a time.
pub async fn row_stream<'a, R>(
    session: &Session,
    doing: &'a str,
    statement: Statement,
) -> Result<impl Stream<Item = Result<R>> + use<'a, R>>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata> + 'static,
{
    let pager = session.query_iter(statement, ()).await.map_err(|error| Error::of_pager(doing, &error))?;
    let rows = pager.rows_stream::<R>().map_err(|error| unreadable(doing, error))?;
    Ok(rows.map_err(move |error| match error {
        scylla::errors::NextRowError::NextPageError(error) => Error::of_page(doing, &error),
        error => unreadable(doing, error),
    }))
}

/// A row by the names of its columns, for answers whose columns differ from version to version.
pub struct NamedRow(pub(super) HashMap<String, CqlValue>);

impl NamedRow {
    /// The text in a column; `None` where there is no such column or it is empty.
    pub fn text(&self, column: &str) -> Option<&str> {
        self.value(column)?.as_text().map(String::as_str)
    }

    /// The value in a column.
    pub fn value(&self, column: &str) -> Option<&CqlValue> {
        self.0.get(column)
    }
}

/// The rows of a short answer, by name. Of a list with nothing in it, the server says that there is no answer.
pub async fn named_rows(session: &Session, doing: &str, statement: Statement) -> Result<Vec<NamedRow>> {
    let result = run(session, doing, statement).await?;
    if !result.is_rows() {
        return Ok(Vec::new());
    }
    let answer = answer(result, doing)?;
    let names: Vec<String> = answer.column_specs().iter().map(|column| column.name().to_owned()).collect();
    let rows = answer.rows::<Row>().map_err(|error| unreadable(doing, error))?;
    rows.map(|row| {
        let row = row.map_err(|error| unreadable(doing, error))?;
        let named = names.iter().cloned().zip(row.columns);
        Ok(NamedRow(named.filter_map(|(name, value)| Some((name, value?))).collect()))
    })
    .collect()
}

fn answer(result: QueryResult, doing: &str) -> Result<QueryRowsResult> {
    result.into_rows_result().map_err(|error| unreadable(doing, error))
}

fn unreadable(doing: &str, error: impl std::fmt::Display) -> Error {
    Error::Unreadable { what: format!("the answer to: {doing}"), reason: error.to_string() }
}
