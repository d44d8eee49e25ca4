//! The command line: every subcommand with its options, and what `--help` says.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand};
use tallyman_api::client::Client;
use tallyman_api::proto::IdempotencyToken;
use tallyman_api::time::Timestamp;

use crate::counter_path::CounterPath;
use crate::failure::Failure;
use crate::output::Format;
use crate::{inject, plan, replay, schema, standalone};

const AFTER_HELP: &str = "\
Examples:
  tallyman standalone
  tallyman add video-plays/video/42
  tallyman add account-credits/alice -- -5
  tallyman get account-credits/alice -o json
  tallyman watch video-plays/video/42
  tallyman plan -f video-plays.yaml
  tallyman replay --csv flights.csv.gz --namespace video-plays --counter 'origin/{origin}'

Exit codes:
  0  done
  1  refused or failed; nothing was counted, unless the message says otherwise
  2  wrong usage; of `plan --exit-code`: something would change
  3  outcome unknown: the change may or may not be counted; sending it again with the same --token and
     --generation-time is safe, except in BestEffort namespaces";

/// A distributed counter: adjust and read counters, replay files into them, or serve them from this machine alone.
#[derive(Debug, Parser)]
#[command(name = "tallyman", version = tallyman_daemon::VERSION, after_help = AFTER_HELP, arg_required_else_help = true)]
pub struct Arguments {
    /// How to print results (standard output) and errors (standard error).
    #[arg(short, long, global = true, value_enum, default_value_t, env = "TALLYMAN_OUTPUT")]
    pub output: Format,

    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add to a counter.
    Add(Add),
    /// Add to a counter and print its count.
    ///
    /// In an Accurate namespace the count includes the add; in an Eventual one it is the last rolled-up count.
    AddAndGet(Add),
    /// Print a counter's count.
    Get(Get),
    /// Set a counter to 0.
    Clear(Clear),
    /// Print a counter's count now and whenever it changes.
    Watch(Watch),
    Plan(Box<plan::Arguments>),
    Replay(Box<replay::Arguments>),
    /// Show or make what namespaces need in Cassandra: keyspaces, tables, slices, roles.
    Schema {
        #[command(subcommand)]
        command: schema::Command,
    },
    Inject(inject::Arguments),
    Standalone(Box<standalone::Arguments>),
    /// Print the completions for a shell.
    ///
    /// For bash: source <(tallyman completions bash)
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Where the counter API is.
#[derive(Debug, Args)]
pub struct Connection {
    /// The counter API: http://HOST:PORT or unix:/PATH.
    #[arg(long, value_name = "ADDRESS", default_value = "http://127.0.0.1:7777", env = "TALLYMAN_ADDR")]
    pub addr: String,

    /// How long a request may take, retries included: 500ms, 10s, 1m.
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration)]
    pub timeout: Duration,
}

impl Connection {
    /// A client with the default retries.
    pub fn client(&self) -> Result<Client, Failure> {
        let client = Client::builder(&self.addr).deadline(self.timeout).connect();
        client.map_err(|error| Failure::of_client(&error, &self.addr))
    }
}

/// An idempotency token from the command line.
#[derive(Debug, Args)]
pub struct TokenArguments {
    /// The idempotency token: sending the same change with the same token and generation time again counts it once.
    /// By default a new one.
    #[arg(long, value_name = "TOKEN", value_parser = NonEmptyStringValueParser::new())]
    token: Option<String>,

    /// When the change was made, in RFC 3339; it must lie within the namespace's accept limit of now. By default now.
    #[arg(long, value_name = "TIME", requires = "token")]
    generation_time: Option<Timestamp>,
}

impl TokenArguments {
    /// The token given, or a new one; its time is now unless given.
    pub fn token(&self, client: &Client) -> IdempotencyToken {
        let new = client.new_token();
        IdempotencyToken {
            token: self.token.clone().unwrap_or(new.token),
            generation_time: self.generation_time.or(new.generation_time),
        }
    }
}

/// Arguments of `add` and `add-and-get`.
#[derive(Debug, Args)]
pub struct Add {
    /// NAMESPACE/NAME; the name is all that follows the first '/'.
    pub counter: CounterPath,

    /// What to add: any signed 64-bit integer.
    #[arg(default_value_t = 1, allow_negative_numbers = true)]
    pub delta: i64,

    #[command(flatten)]
    pub token: TokenArguments,

    #[command(flatten)]
    pub connection: Connection,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub struct Get {
    /// NAMESPACE/NAME; the name is all that follows the first '/'.
    pub counter: CounterPath,

    /// Count anew what was written since the last rollup if that is older than this: 0s always does.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub max_staleness: Option<Duration>,

    #[command(flatten)]
    pub connection: Connection,
}

/// Arguments of `clear`.
#[derive(Debug, Args)]
pub struct Clear {
    /// NAMESPACE/NAME; the name is all that follows the first '/'.
    pub counter: CounterPath,

    #[command(flatten)]
    pub token: TokenArguments,

    #[command(flatten)]
    pub connection: Connection,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// NAMESPACE/NAME; the name is all that follows the first '/'.
    pub counter: CounterPath,

    /// End after so many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,

    #[command(flatten)]
    pub connection: Connection,
}

/// A duration as the resources write it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<tallyman_crds::Duration>().map_err(|error| error.to_string())?;
    Ok(parsed.as_std())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_negative_delta_needs_no_separator() {
        let arguments = Arguments::try_parse_from(["tallyman", "add", "credits/alice/eur", "-5"]).unwrap();
        let Command::Add(add) = arguments.command else { panic!("another command") };
        assert_eq!(
            (add.counter.namespace.as_str(), add.counter.name.as_str(), add.delta),
            ("credits", "alice/eur", -5)
        );
        let smallest = i64::MIN.to_string();
        assert!(Arguments::try_parse_from(["tallyman", "add", "n/c", &smallest]).is_ok());
        assert!(Arguments::try_parse_from(["tallyman", "add", "n/c", "9223372036854775808"]).is_err());
    }

    #[test]
    fn an_empty_token_is_refused_for_it_would_protect_nothing() {
        assert!(Arguments::try_parse_from(["tallyman", "add", "n/c", "--token", ""]).is_err());
        assert!(Arguments::try_parse_from(["tallyman", "add", "n/c", "--token", "t"]).is_ok());
    }

    #[test]
    fn a_generation_time_without_a_token_is_refused() {
        let time = "2025-01-31T12:00:00Z";
        assert!(Arguments::try_parse_from(["tallyman", "clear", "n/c", "--generation-time", time]).is_err());
        assert!(
            Arguments::try_parse_from(["tallyman", "clear", "n/c", "--token", "t", "--generation-time", time]).is_ok()
        );
        let error =
            Arguments::try_parse_from(["tallyman", "clear", "n/c", "--token", "t", "--generation-time", "noon"]);
        assert!(error.unwrap_err().to_string().contains("RFC 3339"));
    }

    #[test]
    fn durations_are_those_of_the_resources() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert!(duration("soon").unwrap_err().contains("soon"));
    }
}
