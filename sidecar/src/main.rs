//! `tallyman-sidecar`: one per pod, it serves the namespaces of a folder to the applications beside it. Assembly and order of
//! start and stop are in [`process`]; everything that speaks to clients is the library's.

mod process;

use std::process::ExitCode;

use process::Arguments;

/// This process's name in the traces that it exports.
const SERVICE: &str = "tallyman-sidecar";

fn main() -> ExitCode {
    let arguments: Arguments = tallyman_daemon::process::arguments();
    let (threads, shared) = (arguments.threads, arguments.shared.clone());
    tallyman_daemon::process::run(SERVICE, Some(threads), &shared, process::serve(arguments))
}
