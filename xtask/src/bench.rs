//! Starts the benchmark program.

use anyhow::Result;
use tallyman_servers::debian::{self, Package};

use crate::process;

const PEERS: &[Package] =
    &[Package { name: "memcached", sign: "memcached" }, Package { name: "redis-server", sign: "redis-server" }];

/// Runs the benchmarks; whether they ended well. With `json`, standard output carries nothing but their lines.
pub fn run(scenario: Option<String>, json: bool, rest: Vec<String>) -> Result<bool> {
    debian::install(PEERS)?;
    process::cargo(arguments(scenario, json, rest)).succeeds()
}

fn arguments(scenario: Option<String>, json: bool, rest: Vec<String>) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["run", "--quiet", "--release", "-p", "tallyman-bench", "--"].map(str::to_owned).into();
    if let Some(scenario) = scenario {
        arguments.extend(["--scenario".to_owned(), scenario]);
    }
    if json {
        arguments.push("--json".to_owned());
    }
    arguments.extend(rest);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_arguments_reach_the_benchmark_program() {
        let arguments = arguments(Some("rollup".to_owned()), true, vec!["--rounds".to_owned(), "3".to_owned()]);
        let (_, after) = arguments.split_at(arguments.iter().position(|one| one == "--").unwrap());
        assert_eq!(after, ["--", "--scenario", "rollup", "--json", "--rounds", "3"]);
    }
}
