//! `INSERT … IF NOT EXISTS`: of those who insert the same row at once one wins, and all are told who it was.
//!
//! Such statements on one partition keep each other out. Where many are sent at once, Cassandra gives up on some of them after a
//! second or two, without saying whether they were carried out; and a replica that has not heard of a new table yet fails them. They
//! can be repeated: the row that is there stays.

use scylla::statement::{Consistency, SerialConsistency};
use tokio::sync::Mutex;

use super::cql::Cql;
use super::ddl::Ddl;
use super::patience::repeated;
use super::{Error, Result, query};

/// Of this process: one at a time, so that only other processes are in the way.
static INSERTING: Mutex<()> = Mutex::const_new(());

/// Inserts a row unless it is there, and answers what `read` finds then: ours, or that of who was quicker. `read` is to read at a
/// serial consistency, which sees what a quorum was promised and not told yet.
///
/// # Errors
/// When it may not be there.
pub async fn insert<T, F: Future<Output = Result<Option<T>>>>(
    ddl: &Ddl,
    doing: &str,
    text: &Cql,
    serial: SerialConsistency,
    read: impl Fn() -> F,
) -> Result<T> {
    let attempt = || async {
        let _one = INSERTING.lock().await;
        // Anew each time: repeating takes long enough for somebody else to be in charge by now.
        ddl.ask_permit().await?;
        let statement = query::conditional(text.to_run(), Consistency::LocalQuorum, serial);
        query::run(ddl.session(), doing, statement).await?;
        let reason = || "it is not there, though its creation was acknowledged".to_owned();
        read().await?.ok_or_else(|| Error::Unavailable { doing: doing.to_owned(), reason: reason() })
    };
    repeated(Error::is_retryable, attempt).await
}
