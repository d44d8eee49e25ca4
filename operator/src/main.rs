//! `tallyman-operator`: keeps what CounterNamespaces ask for. Everything is in the library.

use std::process::ExitCode;

use tallyman_daemon::process;
use tallyman_operator::arguments::Arguments;

/// This process's name in the traces that it exports.
const SERVICE: &str = "tallyman-operator";

fn main() -> ExitCode {
    let arguments: Arguments = process::arguments();
    let shared = arguments.shared.clone();
    process::run(SERVICE, None, &shared, tallyman_operator::process::serve(arguments))
}
