//! `INSERT … IF NOT EXISTS`: of those who insert the same row at once one wins, and all are told who it was.
//!
//! Such statements on one partition keep each other out. Where many are sent at once, Cassandra gives up on some of them after a
//! second or two, without saying whether they were carried out. They can be repeated: the row that is there stays.

use std::time::Duration;

use scylla::client::session::Session;
use scylla::statement::{Consistency, SerialConsistency};
use tokio::sync::Mutex;

use super::cql::Cql;
use super::{Error, Result, query};

/// How long an insert is repeated.
const CONTENTION_LIMIT: Duration = Duration::from_secs(30);
/// Waits between attempts: doubled from the first to the last, each shortened at random by up to all of it, so that those who met
/// once do not meet again.
const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_LAST: Duration = Duration::from_secs(2);

/// Of this process: one at a time, so that only other processes are in the way.
static INSERTING: Mutex<()> = Mutex::const_new(());

/// Inserts a row unless it is there, and answers what `read` finds then: ours, or that of who was quicker. `read` is to read at a
/// serial consistency, which sees what a quorum was promised and not told yet.
///
/// # Errors
/// When it may not be there.
pub async fn insert<T, F: Future<Output = Result<Option<T>>>>(
    session: &Session,
    doing: &str,
    text: &Cql,
    serial: SerialConsistency,
    read: impl Fn() -> F,
) -> Result<T> {
    let _one = INSERTING.lock().await;
    let attempt = || async {
        let statement = query::conditional(text.to_run(), Consistency::LocalQuorum, serial);
        query::run(session, doing, statement).await?;
        let reason = || "it is not there, though its creation was acknowledged".to_owned();
        read().await?.ok_or_else(|| Error::Unavailable { doing: doing.to_owned(), reason: reason() })
    };
    repeated(attempt).await
}

/// Repeats what was not answered in time.
async fn repeated<T, F: Future<Output = Result<T>>>(attempt: impl Fn() -> F) -> Result<T> {
    let mut last = None;
    let answered = tokio::time::timeout(CONTENTION_LIMIT, async {
        let mut wait = WAIT_FIRST;
        loop {
            match attempt().await {
                Err(error @ Error::Timeout { .. }) => last = Some(error),
                answer => return answer,
            }
            tokio::time::sleep(wait.mul_f64(fastrand::f64())).await;
            wait = (2 * wait).min(WAIT_LAST);
        }
    });
    match (answered.await, last) {
        (Ok(answer), _) => answer,
        (Err(_), Some(last)) => Err(last),
        (Err(late), None) => Err(Error::Timeout { doing: "insert a row".to_owned(), reason: late.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn timeout() -> Error {
        Error::Timeout { doing: "record a slice".to_owned(), reason: "CAS".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_kept_from_an_answer_is_repeated_until_there_is_one() {
        let attempts = Cell::new(0);
        let answer = repeated(|| async {
            attempts.set(attempts.get() + 1);
            if attempts.get() < 8 { Err(timeout()) } else { Ok("theirs") }
        });
        assert_eq!(answer.await.unwrap(), "theirs");
        assert_eq!(attempts.get(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn repeating_ends_with_the_last_reason() {
        let attempts = Cell::new(0);
        let answer = repeated(|| async {
            attempts.set(attempts.get() + 1);
            // Longer than a statement takes.
            tokio::time::sleep(Duration::from_secs(6)).await;
            Err::<(), _>(timeout())
        });
        assert_eq!(answer.await.unwrap_err().to_string(), timeout().to_string());
        assert!((4..=5).contains(&attempts.get()), "{attempts:?} in {CONTENTION_LIMIT:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_will_not_come_right_by_itself_is_not_repeated() {
        let attempts = Cell::new(0);
        let answer = repeated(|| async {
            attempts.set(attempts.get() + 1);
            Err::<(), _>(Error::NotPermitted("no".to_owned()))
        });
        assert!(matches!(answer.await, Err(Error::NotPermitted(_))));
        assert_eq!(attempts.get(), 1);
    }
}
