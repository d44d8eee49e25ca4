//! `tallyman-sidecar`: one per pod, it serves the namespaces of a folder to the applications beside it. Assembly and order of
//! start and stop are in [`process`]; everything that speaks to clients is the library's. Beside it, [`wait`] ends once it is live.

mod process;
mod wait;

use std::process::ExitCode;

use process::Program;

/// This process's name in the traces that it exports.
const SERVICE: &str = "tallyman-sidecar";

fn main() -> ExitCode {
    match tallyman_daemon::process::arguments() {
        Program::Serve(arguments) => {
            let (threads, shared) = (arguments.threads, arguments.shared.clone());
            tallyman_daemon::process::run(SERVICE, Some(threads), &shared, process::serve(arguments))
        }
        Program::Wait(wait) => tallyman_daemon::process::run_briefly(wait::wait(wait)),
    }
}
