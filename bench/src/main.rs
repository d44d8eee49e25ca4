//! Tallyman's benchmarks: each scenario measures it and its peers in turn, on the same machine in the same run, and verifies
//! that every acknowledged add was counted once. `docs/benchmarks.md` says what each one measures.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::cast_precision_loss, reason = "figures, not money")]

mod cassandra;
mod comparison;
mod counters;
mod dataplane;
mod deployment;
mod echo;
mod measurement;
mod memcached;
mod process;
mod programs;
mod redis;
mod rollup;
mod scenarios;
mod standalone;
mod table;
mod tallyman;
mod tokens;
mod usage;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::OnceCell;

use crate::comparison::Comparison;
use crate::measurement::Span;
use crate::programs::Programs;
use crate::scenarios::{Scenario, Settings};

/// Measures Tallyman beside its peers.
#[derive(Parser)]
#[command(name = "tallyman-bench", args_conflicts_with_subcommands = true)]
struct Arguments {
    /// What to run; may be repeated. All scenarios when absent.
    #[arg(long, value_name = "NAME")]
    scenario: Vec<Scenario>,
    /// Print one JSON object per comparison and line, and nothing else, on standard output.
    #[arg(long)]
    json: bool,
    /// How often each contender is measured.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// How long each measurement takes; a third of it more is for warming up.
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    seconds: f64,
    /// 3 rounds of 1 second.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// The folder of the programs to measure; by default this program's own, where they are built first.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the bare gRPC echo that scenarios start as a process of its own.
    #[command(hide = true)]
    ServeEcho {
        /// Where to listen.
        address: SocketAddr,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(arguments: Arguments) -> Result<bool> {
    if let Some(Command::ServeEcho { address }) = arguments.command {
        echo::serve(address).await?;
        return Ok(true);
    }
    // What the pipeline in this process has to say goes where the rounds' figures go.
    // The driver's complaints when a node of ours ends before the driver are none of it.
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new("warn,scylla=off"))
        .with_writer(std::io::stderr)
        .init();
    ensure!(!cfg!(debug_assertions), "figures of a debug build mean nothing; build with --release");
    let (rounds, seconds) = if arguments.quick { (3, 1.0) } else { (arguments.rounds, arguments.seconds) };
    ensure!((0.1..=3_600.0).contains(&seconds), "--seconds {seconds}: 0.1 to 3600 are allowed");
    let measured = Duration::from_secs_f64(seconds);
    let settings = Settings {
        rounds: rounds.into(),
        span: Span { warm_up: measured / 3, measured },
        programs: match arguments.programs {
            Some(folder) => Programs::in_folder(&folder)?,
            None => Programs::built()?,
        },
        cassandra: OnceCell::new(),
    };
    let scenarios = match arguments.scenario.as_slice() {
        [] => Scenario::value_variants(),
        chosen => chosen,
    };
    let mut terminated = signal(SignalKind::terminate())?;
    // Whichever comes first, what was started is killed when it is dropped.
    tokio::select! {
        ended_well = run_all(scenarios, &settings, arguments.json) => Ok(ended_well),
        _ = tokio::signal::ctrl_c() => Ok(false),
        _ = terminated.recv() => Ok(false),
    }
}

/// Runs the scenarios one after the other; whether none of them failed. A missed goal is a result, not a failure.
async fn run_all(scenarios: &[Scenario], settings: &Settings, json: bool) -> bool {
    let mut all: Vec<Comparison> = Vec::new();
    let mut ended_well = true;
    for scenario in scenarios {
        match scenario.run(settings).await {
            Ok(comparisons) => {
                if json {
                    comparisons.iter().for_each(print_json);
                }
                all.extend(comparisons);
            }
            Err(error) => {
                eprintln!("{} FAILED: {error:#}", scenario.name());
                ended_well = false;
            }
        }
    }
    if !json {
        println!("{}\n\n{}", table::machine(&std::env::temp_dir()), table::table(&all));
    }
    ended_well
}

fn print_json(comparison: &Comparison) {
    match serde_json::to_string(comparison) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("a comparison cannot be printed: {error}"),
    }
}
