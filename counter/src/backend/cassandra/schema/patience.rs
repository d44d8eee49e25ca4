//! Repeats what others, or a node that is slow for a moment, kept from an answer.

use std::time::Duration;

use tokio::time::Instant;

/// How long it is tried.
const LIMIT: Duration = Duration::from_secs(30);
/// Waits between attempts: doubled from the first to the last, each shortened at random by up to all of it, so that those who met
/// once do not meet again.
const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_LAST: Duration = Duration::from_secs(2);

/// Repeats an attempt while its error may pass, for a bounded time, and answers what the last one did. Each attempt is to end by
/// itself.
pub async fn repeated<T, E, F>(may_pass: impl Fn(&E) -> bool, attempt: impl Fn() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let until = Instant::now() + LIMIT;
    let mut wait = WAIT_FIRST;
    loop {
        match attempt().await {
            Err(error) if may_pass(&error) && Instant::now() < until => {
                tokio::time::sleep(wait.mul_f64(fastrand::f64())).await;
                wait = (2 * wait).min(WAIT_LAST);
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const STATEMENT: Duration = Duration::from_secs(6);

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_repeated_until_there_is_an_answer() {
        let attempts = Cell::new(0);
        let answer = repeated(
            |_| true,
            || async {
                attempts.set(attempts.get() + 1);
                if attempts.get() < 8 { Err("contended") } else { Ok("theirs") }
            },
        );
        assert_eq!((answer.await, attempts.get()), (Ok("theirs"), 8));
    }

    #[tokio::test(start_paused = true)]
    async fn repeating_ends_with_the_last_error() {
        let attempts = Cell::new(0);
        let answer = repeated(
            |_| true,
            || async {
                attempts.set(attempts.get() + 1);
                tokio::time::sleep(STATEMENT).await;
                Err::<(), _>(attempts.get())
            },
        );
        assert_eq!(answer.await, Err(attempts.get()));
        assert!((3..=5).contains(&attempts.get()), "{attempts:?} of {STATEMENT:?} in {LIMIT:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_pass_by_itself_is_not_repeated() {
        let attempts = Cell::new(0);
        let answer = repeated(
            |_| false,
            || async {
                attempts.set(attempts.get() + 1);
                Err::<(), _>("not permitted")
            },
        );
        assert_eq!((answer.await, attempts.get()), (Err("not permitted"), 1));
    }
}
