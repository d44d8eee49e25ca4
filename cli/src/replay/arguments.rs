//! The options of `tallyman replay`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use tallyman_api::BATCH_ITEMS_MAX;

use super::template::CounterArgument;
use crate::arguments::Connection;

/// Send the rows of a CSV file as adds.
///
/// Each row becomes one add for each --counter, each with an idempotency token of its own. The end is a report; the exit
/// code is 0 if every row was acknowledged, 3 if the outcome of some is unknown, 1 otherwise.
///
/// Counters are templates over the columns of the header. `--counter 'origin/{origin}'` counts the rows of each origin,
/// `--counter 'miles/{origin}=distance_miles'` sums up a column. Write {{ and }} for braces.
///
/// With --journal, a replay that was interrupted goes on with --resume: rows that were sent and not acknowledged are sent
/// again with the token and generation time they had, so they count once, as long as the namespace's accept limit has not
/// passed since.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The file: comma-separated with a header; compressed if its name ends in .gz.
    #[arg(long, value_name = "FILE")]
    pub csv: PathBuf,

    /// The namespace of the counters.
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: String,

    /// A counter for each row, and what to add to it: TEMPLATE, or TEMPLATE=DELTA with DELTA a column or an integer.
    /// What follows the last '=' outside of braces is the delta. May be given several times.
    #[arg(long = "counter", value_name = "TEMPLATE[=DELTA]", required = true)]
    pub counters: Vec<CounterArgument>,

    /// What the counters without a DELTA of their own add: a column or an integer.
    #[arg(long, value_name = "DELTA", default_value = "1", allow_negative_numbers = true)]
    pub delta: String,

    /// How many requests to have on their way at once.
    #[arg(long, value_name = "N", default_value = "64")]
    pub concurrency: NonZeroUsize,

    /// How many adds to put into a request.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = batch_size)]
    pub batch: usize,

    /// The share of the rows to send twice with the same token, the second time at random a little later: 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub resend: f64,

    /// What the choice of rows to send twice depends on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// The first row to send, counted from 1 without the header.
    #[arg(long, value_name = "ROW", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub from: u64,

    /// How many rows to send at most.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,

    /// Go on after a row that was not acknowledged, rather than stop there.
    #[arg(long)]
    pub keep_going: bool,

    /// Send nothing again of itself, whatever becomes of it.
    #[arg(long)]
    pub no_retries: bool,

    /// What the tokens begin with: PREFIX-ROW, or PREFIX-ROW.K for the K-th of several counters. By default new for each
    /// run. A token counts once with one and the same generation time only: to go on with an interrupted replay, use
    /// --journal.
    #[arg(long, value_name = "PREFIX")]
    pub token_prefix: Option<String>,

    /// Write down each row before it is sent, and when it is acknowledged. The file must not exist yet, but for --resume.
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,

    /// Go on where the journal ends: first with the rows that were not acknowledged.
    #[arg(long, requires = "journal", conflicts_with = "token_prefix")]
    pub resume: bool,

    #[command(flatten)]
    pub connection: Connection,
}

impl Arguments {
    /// The last row to send, if there is one.
    pub fn last_row(&self) -> Option<u64> {
        self.limit.map(|limit| (self.from - 1).saturating_add(limit))
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "must be a number from 0 to 1, such as 0.2".to_owned())
}

fn batch_size(text: &str) -> Result<usize, String> {
    let size = text.parse::<usize>().ok().filter(|size| (1..=BATCH_ITEMS_MAX).contains(size));
    size.ok_or_else(|| format!("must be an integer from 1 to {BATCH_ITEMS_MAX}"))
}
