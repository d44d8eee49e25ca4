//! `tallyman`: counters from the command line, replays, and the whole service in one process.
//!
//! This file only reads the arguments and turns what a command ends in into an exit code; each command is a module.

mod arguments;
mod counter_path;
mod counters;
mod failure;
mod inject;
mod output;
mod plan;
mod replay;
mod schema;
mod standalone;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use tallyman_daemon::config_file::with_config_file;

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let command = Arguments::command();
    let arguments = match with_config_file(std::env::args_os().collect(), &command, Some("standalone")) {
        Ok(arguments) => Arguments::parse_from(arguments),
        Err(reason) => command.clone().error(ErrorKind::InvalidValue, reason).exit(),
    };
    let format = arguments.output;
    match run(arguments) {
        Ok(code) => code,
        Err(failure) => {
            failure.print(format);
            failure.exit_code()
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let format = arguments.output;
    match arguments.command {
        Command::Add(add) => on_runtime(counters::add(&add, format)),
        Command::AddAndGet(add) => on_runtime(counters::add_and_get(&add, format)),
        Command::Get(get) => on_runtime(counters::get(&get, format)),
        Command::Clear(clear) => on_runtime(counters::clear(&clear, format)),
        Command::Watch(watch) => on_runtime(counters::watch(&watch, format)),
        Command::Plan(plan) => on_runtime(plan::run(&plan, format)),
        Command::Replay(replay) => on_runtime(replay::run(&replay, format)),
        Command::Inject(arguments) => inject::run(&arguments, format),
        Command::Schema { command } => on_runtime(schema::run(command, format)),
        Command::Standalone(standalone) => on_runtime(standalone::run(*standalone, format)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "tallyman", &mut script);
            output::write(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn on_runtime(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Failure::local(format!("cannot start: {error}")))?.block_on(command)
}
