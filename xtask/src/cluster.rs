//! A real Kubernetes for development: `up`, `status`, `kubeconfig`, `load-images`, `exec`, `down`.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use tallyman_cluster::{Cluster, Place, Shape, Up, Version, bin_folders, load_images, status};

use crate::images;
use crate::servers::Output;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster that runs until `down`, and wait until it is ready.
    ///
    /// One node runs its pods, in namespaces of its own, from which nothing leads out of this machine; that needs root. The API server
    /// listens on port 6443 of 192.0.2.10, which leads to that node from this machine alone; without a node, on 127.0.100.1. All takes
    /// about 0.8 GiB of memory and 10 seconds, and at first the minutes to build Kubernetes. Where just this cluster runs already,
    /// processes that have ended are started again.
    Up(Options),
    /// Show what runs. Fails where a process has ended that nobody asked to.
    Status {
        /// How to print it. JSON: {"kubernetes", "node", "api_server", "kubeconfig", "processes": [{"name", "pid"}]}.
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Print the path of the administrator's kubeconfig file.
    Kubeconfig,
    /// Bring images to the node: docker-archives, as `docker save` and `cargo xtask images` make them.
    LoadImages {
        /// The archives. None: all images of this checkout and of its examples, which are built first.
        #[arg(value_name = "FILE")]
        archives: Vec<PathBuf>,
    },
    /// Run a program where the cluster can be reached: with KUBECONFIG set, and kubectl and helm on the path.
    ///
    /// It runs in the root of the workspace. Helm is built on first use.
    Exec {
        /// The program and its arguments.
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// End what runs, and remove its data.
    Down,
}

#[derive(Debug, Args)]
pub struct Options {
    /// No node: nothing runs the pods.
    #[arg(long)]
    control_plane_only: bool,
    /// Kubernetes to run: 1.34 or 1.36.
    #[arg(long, value_name = "VERSION", default_value_t = Version::default())]
    kubernetes: Version,
    /// The address on which everything listens: with a node an even one of 192.0.2.2 to 192.0.2.254 (192.0.2.10 when absent), else a
    /// loopback address (127.0.100.1 when absent).
    #[arg(long, value_name = "ADDRESS")]
    address: Option<Ipv4Addr>,
}

/// Runs one command; false where it ran and found something wrong.
pub fn run(command: Command) -> Result<bool> {
    let place = Place::default_place(&Shape::default())?;
    match command {
        Command::Up(options) => {
            let shape = Shape { version: options.kubernetes, node: !options.control_plane_only };
            let place = Place::default_place(&shape)?;
            let place = Place { address: options.address.unwrap_or(place.address), ..place };
            let remark = match Cluster::up(&place, &shape)? {
                Up::Started => "started",
                Up::RanAlready => "ran already",
                Up::Revived => "some had ended and were started again",
            };
            println!("{}{remark}; `cargo xtask cluster down` ends it", status(&place)?);
            Ok(true)
        }
        Command::Status { output } => {
            let status = status(&place)?;
            match output {
                Output::Text => print!("{status}"),
                Output::Json => println!("{}", status.json()),
            }
            Ok(status.is_well())
        }
        Command::Kubeconfig => {
            println!("{}", running(&place)?.0.display());
            Ok(true)
        }
        Command::LoadImages { archives } => {
            let archives = if archives.is_empty() {
                images::build(&images::Options::everything())?.into_iter().map(|image| image.file).collect()
            } else {
                archives
            };
            load_images(&place, &archives)?;
            for archive in archives {
                println!("loaded {}", archive.display());
            }
            Ok(true)
        }
        Command::Exec { command } => exec(&place, &command),
        Command::Down => {
            let ended = Cluster::down(&place)?;
            println!("{}", if ended { "ended, data removed" } else { "no cluster ran" });
            Ok(true)
        }
    }
}

fn running(place: &Place) -> Result<(std::path::PathBuf, Version)> {
    status(place)?.kubeconfig().context("no cluster runs; `cargo xtask cluster up` starts one")
}

fn exec(place: &Place, command: &[OsString]) -> Result<bool> {
    let (kubeconfig, version) = running(place)?;
    let [program, arguments @ ..] = command else { bail!("exec: no program given") };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = bin_folders(version)?.into_iter().chain(std::env::split_paths(&path));
    let path = std::env::join_paths(folders).context("PATH")?;
    // A program is looked for on the path that it is given itself.
    let status =
        process::Command::new(program).args(arguments).env("PATH", path).env("KUBECONFIG", kubeconfig).status();
    let status = status.with_context(|| format!("cannot run {}", program.display()))?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    #[test]
    fn a_kubernetes_that_we_do_not_have_is_refused_with_those_that_we_have() {
        let refused = Line::try_parse_from(["cluster", "up", "--kubernetes", "1.20"]).unwrap_err().to_string();
        assert!(refused.contains("1.34 or 1.36"), "{refused}");
    }

    #[test]
    fn what_is_run_keeps_its_own_options() {
        let line = Line::try_parse_from(["cluster", "exec", "--", "kubectl", "get", "pods", "-o", "json"]).unwrap();
        let Command::Exec { command } = line.command else { panic!("exec") };
        assert_eq!(command, ["kubectl", "get", "pods", "-o", "json"]);
    }
}
