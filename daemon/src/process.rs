//! From the command line to the exit code, for a binary that is nothing but a server, and what tells a process to end.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Shared;
use crate::config_file::with_config_file;
use crate::telemetry::Telemetry;

/// The program's arguments, with those of its `--config` file; ends the process with usage where they are wrong.
#[must_use]
pub fn arguments<A: Parser>() -> A {
    let command = A::command();
    match with_config_file(std::env::args_os().collect::<Vec<OsString>>(), &command, None) {
        Ok(arguments) => A::parse_from(arguments),
        Err(reason) => command.clone().error(ErrorKind::InvalidValue, reason).exit(),
    }
}

/// Serves on a runtime of its own, logging as `shared` says; `service` names the process in what it exports. `threads` work, or as
/// many as there are processors. Answers 0 where `serve` ended well, and 1 with a line on standard error where it, or what it
/// needs, did not.
pub fn run<E: fmt::Display>(
    service: &'static str,
    threads: Option<NonZeroUsize>,
    shared: &Shared,
    serve: impl Future<Output = Result<(), E>>,
) -> ExitCode {
    exit_code(served(service, threads, shared, serve))
}

/// The same for what does its work and ends: without a log, on this thread alone.
pub fn run_briefly<E: fmt::Display>(work: impl Future<Output = Result<(), E>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(|error| format!("cannot start: {error}"));
    // With its causes, where it has some.
    exit_code(done.and_then(|runtime| runtime.block_on(work).map_err(|error| format!("{error:#}"))))
}

fn exit_code(ended: Result<(), String>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn served<E: fmt::Display>(
    service: &'static str,
    threads: Option<NonZeroUsize>,
    shared: &Shared,
    serve: impl Future<Output = Result<(), E>>,
) -> Result<(), String> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        runtime.worker_threads(threads.get());
    }
    let runtime = runtime.enable_all().build().map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        let telemetry = Telemetry::start(service, shared).map_err(|error| error.to_string())?;
        let ended = serve.await.map_err(|error| error.to_string());
        telemetry.stop().await;
        ended
    })
}

/// Ends with the first SIGTERM or SIGINT from now on.
///
/// # Errors
/// When the process cannot listen to signals.
pub fn shutdown() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
