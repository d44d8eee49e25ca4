//! The options of `tallyman-sidecar`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser};
use tallyman_counter::model::Token;
use tallyman_daemon::arguments::Shared;

use crate::wait::Wait;

/// What a generated token is longer than its source: a dash and a UUID.
const UNIQUE_BYTES: usize = 1 + 36;
/// Beyond the processors of any machine a sidecar runs on.
const THREADS_MAX: usize = 256;

/// What waits for the sidecar, as the command line names it.
const WAIT: &str = "wait";

/// What the program is started for.
#[derive(Debug)]
pub enum Program {
    /// To serve, which needs no command.
    Serve(Arguments),
    /// To wait for one that serves.
    Wait(Wait),
}

// By hand: derived, options of the program beside a command cannot be required.
impl CommandFactory for Program {
    fn command() -> clap::Command {
        let wait = Wait::augment_args(clap::Command::new(WAIT).version(tallyman_daemon::VERSION));
        Arguments::command().subcommand(wait).subcommand_negates_reqs(true).args_conflicts_with_subcommands(true)
    }

    fn command_for_update() -> clap::Command {
        Self::command()
    }
}

impl FromArgMatches for Program {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.subcommand() {
            Some((_, wait)) => Wait::from_arg_matches(wait).map(Self::Wait),
            None => Arguments::from_arg_matches(matches).map(Self::Serve),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        Self::from_arg_matches(matches).map(|program| *self = program)
    }
}

impl Parser for Program {}

/// Serve counters to the applications of this pod: gRPC and HTTP/JSON on loopback.
///
/// Reads the namespaces of a folder, one JSON document each, and follows it as it changes. Events and counts are kept in the
/// stores that the documents name, and touched counters are told to the rollup servers that they name. What cannot be
/// reached yet is tried for as long as it takes; until then GET /readyz on the admin address says why.
/// SIGTERM and Ctrl-C end it in order, with exit code 0.
///
/// Options come from the command line, from the environment, or from the --config file, in this order.
#[derive(Debug, Parser)]
#[command(name = "tallyman-sidecar", version = tallyman_daemon::VERSION)]
pub struct Arguments {
    /// The namespaces: a folder of documents, *.json, one a namespace. It may come later, or be empty.
    #[arg(long, value_name = "DIR", env = "TALLYMAN_NAMESPACES_DIR")]
    pub namespaces_dir: PathBuf,

    /// The counter API: gRPC and HTTP/JSON, on loopback only. Port 0 takes a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7777", env = "TALLYMAN_LISTEN")]
    pub listen: SocketAddr,

    /// The admin pages: /livez, /readyz, /metrics. On all addresses, so that Kubernetes and Prometheus reach them. Port 0
    /// takes a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:7778", env = "TALLYMAN_ADMIN")]
    pub admin: SocketAddr,

    /// The counter API on a Unix socket, too.
    #[arg(long, value_name = "PATH", env = "TALLYMAN_UNIX_SOCKET")]
    pub unix_socket: Option<PathBuf>,

    /// This process's name, with which the tokens begin that it makes for changes without one: up to 219 bytes. By default the
    /// host's, which in a pod is the pod's.
    #[arg(long, value_name = "NAME", env = "POD_NAME", value_parser = name)]
    pub name: Option<String>,

    /// Threads that work. One takes up to one processor, serves tens of thousands of requests a second, and each further one
    /// makes a request dearer.
    #[arg(long, value_name = "N", default_value = "1", env = "TALLYMAN_THREADS", value_parser = threads)]
    pub threads: NonZeroUsize,

    /// What all of Tallyman's servers have.
    #[command(flatten)]
    pub shared: Shared,
}

/// A name such that tokens can begin with it.
fn name(text: &str) -> Result<String, String> {
    let longest = Token::BYTES_MAX - UNIQUE_BYTES;
    if text.len() > longest {
        return Err(format!("a name has at most {longest} bytes, not {}", text.len()));
    }
    Token::new(text)
        .map(|_| text.to_owned())
        .map_err(|_| "a name is not empty and has no control characters".to_owned())
}

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse().ok().filter(|number| (1..=THREADS_MAX).contains(number)).and_then(NonZeroUsize::new);
    number.ok_or_else(|| format!("a number of threads is from 1 to {THREADS_MAX}"))
}

/// The host's name.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "sidecar".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_options_are_consistent() {
        Program::command().debug_assert();
    }

    #[test]
    fn a_name_is_one_that_tokens_can_begin_with() {
        for text in ["a", "pod-7", &"x".repeat(219)] {
            assert_eq!(name(text).as_deref(), Ok(text));
        }
        for text in ["", "a\nb", &"x".repeat(220)] {
            assert!(name(text).is_err(), "{text:?}");
        }
        assert!(name(&host_name()).is_ok());
    }

    #[test]
    fn there_is_at_least_one_thread_and_no_host_of_them() {
        assert_eq!(threads("1").map(NonZeroUsize::get), Ok(1));
        assert_eq!(threads("256").map(NonZeroUsize::get), Ok(256));
        for text in ["0", "257", "-1", "many", ""] {
            assert!(threads(text).is_err_and(|reason| reason.contains("from 1 to 256")), "{text:?}");
        }
    }
}
