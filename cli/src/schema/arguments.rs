//! The options of `tallyman schema`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use crate::arguments::duration;

/// Show or make what namespaces need in Cassandra: keyspaces, tables, slices, roles.
///
/// Both read a folder of namespace documents (docs/configuration.md). What is there already is compared first, and only what is
/// missing is created; what Tallyman did not create is never touched. docs/schema.md says more.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the statements that are missing, and change nothing.
    Plan {
        #[command(flatten)]
        namespaces: Namespaces,

        #[command(flatten)]
        login: Login,

        /// Ask no cluster: show everything that an empty one needs.
        #[arg(long, conflicts_with_all = ["admin_credentials", "connect_timeout"])]
        offline: bool,
    },
    /// Run the statements that are missing; create slices ahead, close and drop those whose time has come.
    ///
    /// To be run at least once a day, or several times in every --ahead. A run that was cut short is finished by the next one.
    Apply {
        #[command(flatten)]
        namespaces: Namespaces,

        #[command(flatten)]
        login: Login,
    },
}

/// For what.
#[derive(Debug, Args)]
pub struct Namespaces {
    /// The namespace documents: a folder of *.json, one a namespace.
    #[arg(long, value_name = "DIR", env = "TALLYMAN_NAMESPACES_DIR")]
    pub namespaces_dir: PathBuf,

    /// Replicas in a datacenter, for keyspaces that are created: may be given several times, or separated by commas. By default
    /// 3 in the local datacenter of the documents, or as many as it has nodes. An existing keyspace's is never altered.
    #[arg(long, value_name = "DATACENTER=N", value_delimiter = ',', value_parser = factor)]
    pub replication: Vec<(String, u32)>,

    /// Claim the datasets for this owner, such as a Kubernetes namespace. A dataset that has one is refused to all others, and
    /// without --owner.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub owner: Option<String>,

    /// Create slices that reach so far ahead of now: 10m, 12h, 72h. A changed setting takes effect behind them; where they end
    /// before the next run, mutations are refused until it. Never more than 100 slices.
    #[arg(long, value_name = "DURATION", default_value = "72h", value_parser = duration)]
    pub ahead: Duration,
}

/// As whom.
#[derive(Debug, Args)]
pub struct Login {
    /// Log in with the user name and password of this file: of a role that may change schemas, and roles. It has the lines
    /// username=… and password=….
    #[arg(long, value_name = "FILE", env = "TALLYMAN_ADMIN_CREDENTIALS")]
    pub admin_credentials: Option<PathBuf>,

    /// How long to try to connect: 500ms, 10s, 1m.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub connect_timeout: Duration,
}

/// The most replicas anybody asks for; a slip of the finger is more likely beyond.
const FACTOR_MAX: u32 = 100;

fn factor(text: &str) -> Result<(String, u32), String> {
    let allowed = format!("a datacenter's name, '=' and a number from 1 to {FACTOR_MAX}, such as dc1=3");
    let refused = || format!("{text:?} is not allowed; allowed: {allowed}");
    let (datacenter, factor) = text.split_once('=').ok_or_else(refused)?;
    let factor: u32 = factor.parse().map_err(|_| refused())?;
    if datacenter.is_empty() || datacenter == "class" || !(1..=FACTOR_MAX).contains(&factor) {
        return Err(refused());
    }
    Ok((datacenter.to_owned(), factor))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tallyman_counter::retention::Ahead;

    use super::*;

    #[test]
    fn slices_reach_as_far_ahead_as_is_usual_unless_it_is_said_otherwise() {
        #[derive(Parser)]
        struct Schema {
            #[command(flatten)]
            namespaces: Namespaces,
        }
        let ahead = |more: &[&str]| {
            Schema::try_parse_from([&["schema", "--namespaces-dir", "d"], more].concat()).map(|it| it.namespaces.ahead)
        };
        assert_eq!(ahead(&[]).unwrap(), Ahead::USUAL.span);
        assert_eq!(ahead(&["--ahead", "90s"]).unwrap(), Duration::from_secs(90));
        assert!(ahead(&["--ahead", "soon"]).is_err());
    }

    #[test]
    fn a_factor_is_a_datacenter_and_a_number() {
        assert_eq!(factor("dc1=3"), Ok(("dc1".to_owned(), 3)));
        for wrong in ["dc1", "=3", "dc1=", "dc1=0", "dc1=x", "dc1=101", "class=3"] {
            assert!(factor(wrong).unwrap_err().contains("such as dc1=3"), "{wrong}");
        }
    }
}
