//! `tallyman-rollup`: rolls up the counters of the namespaces in a folder. Everything is in the library.

use std::process::ExitCode;

use tallyman_daemon::process;
use tallyman_rollup::arguments::Arguments;

/// This process's name in the traces that it exports.
const SERVICE: &str = "tallyman-rollup";

fn main() -> ExitCode {
    let arguments: Arguments = process::arguments();
    let shared = arguments.shared.clone();
    process::run(SERVICE, None, &shared, tallyman_rollup::process::serve(arguments))
}
