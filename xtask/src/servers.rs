//! Real servers for development: `up`, `status`, `down`.

use std::net::Ipv4Addr;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use tallyman_servers::{CommitlogSync, Place, Set, Shape, Up, status};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start servers that run until `down`, and wait until they are ready.
    ///
    /// Cassandra's nodes listen on port 9042 of 127.0.0.1, 127.0.0.2, …; memcached on ports 11311, 11312, … of 127.0.0.1. A node
    /// takes about 1.1 GiB of memory and 12 seconds. Where just these servers run already, those that have ended are started
    /// again and the others left alone.
    Up(Options),
    /// Show what runs. Fails where a server has ended that nobody asked to.
    Status {
        /// How to print it. JSON: {"cassandra": [{"address", "port", "datacenter", "pid"}], "memcached": [{"address", "port", "pid"}]}.
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// End what runs, and remove its data.
    Down,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[derive(Debug, Args)]
pub struct Options {
    /// Cassandra nodes in each datacenter.
    #[arg(long, value_name = "N", default_value_t = Shape::default().nodes)]
    nodes: u16,
    /// Datacenters, named dc1, dc2, …
    #[arg(long, value_name = "N", default_value_t = Shape::default().datacenters)]
    datacenters: u16,
    /// Check passwords and permissions; the superuser is cassandra, password cassandra.
    #[arg(long)]
    auth: bool,
    /// Speak TLS with clients only; `status` names the certificate to trust.
    #[arg(long)]
    tls: bool,
    /// memcached servers.
    #[arg(long, value_name = "N", default_value_t = 0)]
    memcached: u16,
    /// When Cassandra's commit log reaches the disk; only `periodic` acknowledges before.
    #[arg(long, value_enum, default_value = "batch")]
    commitlog_sync: Sync,
    /// Address of the first Cassandra node and of all memcached servers; further nodes follow it.
    #[arg(long, value_name = "ADDRESS", default_value_t = Ipv4Addr::LOCALHOST)]
    first_address: Ipv4Addr,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sync {
    Batch,
    Group,
    Periodic,
}

/// Runs one command; false where it ran and found something wrong.
pub fn run(command: Command) -> Result<bool> {
    match command {
        Command::Up(options) => {
            let place = Place { first_address: options.first_address, ..Place::default_place()? };
            let remark = match Set::up(&place, &options.shape())? {
                Up::Started => "started",
                Up::RanAlready => "ran already",
                Up::Revived => "some had ended and were started again",
            };
            println!("{}{remark}; `cargo xtask servers down` ends them", status(&place)?);
            Ok(true)
        }
        Command::Status { output } => {
            let status = status(&Place::default_place()?)?;
            match output {
                Output::Text => print!("{status}"),
                Output::Json => println!("{}", status.json()),
            }
            Ok(status.is_well())
        }
        Command::Down => {
            let ended = Set::down(&Place::default_place()?)?;
            println!("{}", if ended { "ended, data removed" } else { "no servers ran" });
            Ok(true)
        }
    }
}

impl Options {
    fn shape(&self) -> Shape {
        Shape {
            nodes: self.nodes,
            datacenters: self.datacenters,
            auth: self.auth,
            tls: self.tls,
            memcached: self.memcached,
            commitlog_sync: match self.commitlog_sync {
                Sync::Batch => CommitlogSync::Batch,
                Sync::Group => CommitlogSync::Group,
                Sync::Periodic => CommitlogSync::Periodic,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    #[test]
    fn without_options_one_node_that_keeps_what_it_acknowledges_is_asked_for() {
        let Command::Up(options) = Line::try_parse_from(["servers", "up"]).unwrap().command else { panic!("up") };
        assert_eq!(options.shape(), Shape::default());
        assert_eq!(options.shape().commitlog_sync, CommitlogSync::Batch);
        assert_eq!(options.first_address, Ipv4Addr::LOCALHOST);
    }

    #[test]
    fn every_option_reaches_the_shape() {
        let line = "servers up --nodes 3 --datacenters 2 --auth --tls --memcached 4 --commitlog-sync periodic";
        let Command::Up(options) = Line::try_parse_from(line.split(' ')).unwrap().command else { panic!("up") };
        let expected = Shape {
            nodes: 3,
            datacenters: 2,
            auth: true,
            tls: true,
            memcached: 4,
            commitlog_sync: CommitlogSync::Periodic,
        };
        assert_eq!(options.shape(), expected);
    }
}
