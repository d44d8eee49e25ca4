//! The project's chores, run as `cargo xtask …`. What needs a crate of the project runs it as a program of its own.

mod bench;
mod cluster;
mod demo;
mod deny;
mod generated;
mod images;
mod process;
mod servers;
mod stage;
mod stages;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Tests, lints, benchmarks and generated files of Tallyman.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run everything: lints, unit and integration tests, simulation, end-to-end tests of the release binary. Installs
    /// what it needs. The last line is `N passed, N failed`.
    Test {
        /// Only what needs no servers and takes under 2 minutes once built.
        #[arg(long)]
        fast: bool,
    },
    /// Check style and hygiene: formatting, clippy, documentation, file sizes and names, generated files, dependencies.
    Lint,
    /// Run the deterministic simulation of the engine, in release.
    Sim {
        /// Number of seeds to run.
        #[arg(long, value_name = "N")]
        seeds: Option<u64>,
        /// The one seed to run, as a failed run prints it.
        #[arg(long, value_name = "S", conflicts_with = "seeds")]
        seed: Option<u64>,
    },
    /// Run the benchmarks against their peers, in release. Installs redis-server where it is missing.
    Bench {
        /// The one scenario to run; all when absent.
        #[arg(long, value_name = "NAME")]
        scenario: Option<String>,
        /// Print one JSON object per comparison and line.
        #[arg(long)]
        json: bool,
        /// Further arguments for the benchmark program.
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Real Cassandra nodes and memcached servers on this machine, installed on first use.
    ///
    /// What runs, data and logs are in the folder that TALLYMAN_SERVERS_DIR names, else in ~/.cache/tallyman/servers. Another folder
    /// and another `--first-address` make a second set beside the first.
    #[command(subcommand)]
    Servers(servers::Command),
    /// A real Kubernetes control plane on this machine, built on first use.
    ///
    /// What runs, data and logs are in the folder that TALLYMAN_CLUSTER_DIR names, else in ~/.cache/tallyman/cluster. Another folder
    /// and another `--address` make a second cluster beside the first.
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Build the images of operator, sidecar, rollup server and CLI without a container engine: a docker-archive each, which `docker load`,
    /// `podman load` and `ctr images import` take. The same sources and toolchain make the same bytes.
    Images(images::Options),
    /// Start the whole system and show it count: a Kubernetes of one node, Cassandra, the operator by its Helm chart, and the applications of
    /// examples/, whose counts are shown as they rise.
    ///
    /// All of it is on this machine and needs root, as `cargo xtask cluster` does, and about 3 GiB of memory. What is missing is built on first use, in
    /// about 20 minutes. Ctrl-C ends the display alone: the demo runs until `cargo xtask cluster down`, and where it runs already, this goes on
    /// with it. Pods that run keep the program that they were started with.
    Demo(demo::Options),
    /// Render what is generated: the CRDs, their chart and reference from the types, the charts' READMEs and the kustomize base from the charts.
    Generate {
        /// Change nothing; fail where a file is not current.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one chore; false where it ran and found something wrong.
fn run(chore: Chore) -> Result<bool> {
    std::env::set_current_dir(root()).context("cannot enter the workspace")?;
    match chore {
        Chore::Test { fast: false } => Ok(stage::run_all(stages::FULL)),
        Chore::Test { fast: true } => Ok(stage::run_all(stages::FAST)),
        Chore::Lint => Ok(stage::run_all(stages::LINT)),
        Chore::Sim { seeds, seed } => {
            let variable = match (seeds, seed) {
                (_, Some(seed)) => ("SIM_SEED", seed.to_string()),
                (Some(seeds), None) => ("SIM_SEEDS", seeds.to_string()),
                (None, None) => ("SIM_SEEDS", stages::SIMULATION_SEEDS.to_owned()),
            };
            process::cargo(stages::SIMULATION).env(variable.0, variable.1).succeeds()
        }
        Chore::Bench { scenario, json, rest } => bench::run(scenario, json, rest),
        Chore::Cluster(command) => cluster::run(command),
        Chore::Demo(options) => demo::run(&options),
        Chore::Servers(command) => servers::run(command),
        Chore::Generate { check } => {
            let arguments = if check { stages::GENERATE_CHECK } else { stages::GENERATE };
            let is_current = process::cargo(arguments).succeeds()?;
            Ok(generated::run(check)? && is_current)
        }
        Chore::Images(options) => images::run(&options),
    }
}

/// The workspace's root. Taken while running, not while compiling: a shared target folder serves several checkouts.
fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.join("..")
}
