//! The whole system on this machine, in one command: a cluster with a node, Cassandra, the charts, and applications that count.
//!
//! Every step leaves alone what an earlier run has done. Steps print their progress on standard error, the display ([`live`]) its
//! counts on standard output.

mod counts;
mod live;
mod report;
mod tools;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use tallyman_cluster::{Cluster, Place, Shape, Version, load_images};
use tallyman_servers::process::now;
use tallyman_servers::progress::Task;

use crate::images;
use crate::servers::Output;
use counts::{APPLICATIONS_NAMESPACE, Counts};
use tools::Tools;

const CASSANDRA_NAMESPACE: &str = "data";
/// The operator's Kubernetes namespace.
const SYSTEM: &str = "tallyman-system";
const EXAMPLES: &str = "examples/overlays/development";
/// How long each step may take. On an idle machine the longest, Cassandra, takes 20 s.
const PATIENCE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct Options {
    /// Kubernetes to run: 1.34 or 1.36.
    #[arg(long, value_name = "VERSION", default_value_t = Version::default())]
    kubernetes: Version,
    /// The node's address: an even one of 192.0.2.2 to 192.0.2.254; 192.0.2.10 when absent. For a cluster beside another one, in the
    /// folder that TALLYMAN_CLUSTER_DIR names.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<Ipv4Addr>,
    /// Folder with archives of all images, as `cargo xtask images --examples --out DIR` makes them. They are built when absent.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// End the display after so many seconds, 20 or more, and fail where counts have not risen by then.
    /// When absent: 30, or on a terminal, where the display is a table, until Ctrl-C.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(20..))]
    seconds: Option<u64>,
    /// How to print the counts. JSON: {"counts": {"NAME": COUNT, …}}, one line a second.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// Brings up what does not run yet, and shows its counts.
pub fn run(options: &Options) -> Result<bool> {
    let started = now();
    let shape = Shape::with_node(options.kubernetes);
    let place = Place::default_place(&shape)?;
    let place = Place { address: options.address.unwrap_or(place.address), ..place };
    // Asked for before images are built, which takes long.
    let archives = options.images.as_deref().map(archives).transpose()?;
    Cluster::up(&place, &shape)?;
    let tools = Tools::of(&place, shape.version)?;
    let archives = match archives {
        Some(archives) => archives,
        None => built().context("the images")?,
    };
    step("images to the node", || Ok(load_images(&place, &archives)?))?;
    let shown = install(&tools).and_then(|first| {
        let missing = first.not_above(&Counts::default());
        if !missing.is_empty() {
            return Ok(missing);
        }
        eprintln!("the demo runs, after {:.0} s\n", started.elapsed().as_secs_f64());
        live::show(&tools, first, options.seconds, options.output)
    });
    if shown.is_err() {
        eprint!("{}", report::text(&tools));
    }
    let unrisen = shown?;
    if unrisen.is_empty() {
        eprintln!("{}", farewell());
        return Ok(true);
    }
    eprint!("{}{}", report::text(&tools), report::logs(&tools, &unrisen));
    bail!("counts that have not risen: {}", unrisen.join(", "));
}

/// Installs the charts and applies the examples; the first counts of the applications, as far as they have counted in time.
fn install(tools: &Tools) -> Result<Counts> {
    let chart = |name: &str, more: &[&str]| {
        let folder = format!("charts/{name}");
        let arguments = ["upgrade", "--install", name, &folder, "--namespace", SYSTEM, "--create-namespace"];
        tools.helm(&[&arguments, more].concat())
    };
    let patience = format!("--timeout={}s", PATIENCE.as_secs());
    let rollout = |namespace: &str, what: &[&str]| {
        tools.kubectl(&[&["rollout", "status", "--namespace", namespace, &patience], what].concat()).map(drop)
    };
    step("Helm charts", || {
        chart("tallyman-crds", &[])?;
        chart("tallyman", &["--set", "class.secretNames={cassandra-admin}"]).map(drop)
    })?;
    // Without its webhook no pod with a sidecar is made, and each further attempt comes later than the one before.
    step("the operator", || rollout(SYSTEM, &["deployment/tallyman-operator"]))?;
    // What people have changed in the meantime, such as replicas, becomes what the examples say.
    let apply = ["apply", "--server-side", "--force-conflicts", "--kustomize", EXAMPLES];
    // Types that were installed just now may be unknown for a moment.
    step(EXAMPLES, || retried(|| tools.kubectl(&apply), |_| true).map(drop))?;
    step("Cassandra", || rollout(CASSANDRA_NAMESPACE, &["statefulset/cassandra"]))?;
    step("CounterNamespaces to be ready", || {
        let wait = ["wait", "--for=condition=Ready", "--namespace", APPLICATIONS_NAMESPACE, &patience];
        tools.kubectl(&[&wait[..], &["counternamespaces", "--all"]].concat()).map(drop)
    })?;
    for application in counts::applications() {
        step(&format!("application {application}"), || {
            rollout(APPLICATIONS_NAMESPACE, &[&format!("deployment/{application}")])
        })?;
    }
    let all_have_counted = |counts: &Counts| counts.not_above(&Counts::default()).is_empty();
    step("first counts", || retried(|| counts::read(tools), all_have_counted))
}

/// One step, with its progress, and its name in what it fails with.
fn step<T>(name: &str, action: impl FnOnce() -> Result<T>) -> Result<T> {
    let task = Task::begin(name);
    let done = action().with_context(|| name.to_owned())?;
    task.done();
    Ok(done)
}

/// Does it again until it works and is done, or patience ends.
fn retried<T>(action: impl Fn() -> Result<T>, is_done: impl Fn(&T) -> bool) -> Result<T> {
    let deadline = now() + PATIENCE;
    loop {
        let outcome = action();
        if outcome.as_ref().is_ok_and(&is_done) || now() >= deadline {
            return outcome;
        }
        std::thread::sleep(POLL);
    }
}

fn built() -> Result<Vec<PathBuf>> {
    // Not a moving line: cargo has its own.
    eprintln!("images …");
    let started = now();
    let built = images::build(&images::Options::everything())?;
    eprintln!("images: {:.1} s", started.elapsed().as_secs_f64());
    Ok(built.into_iter().map(|image| image.file).collect())
}

/// The archives in a folder.
fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>();
    let mut files = files.with_context(|| folder.display().to_string())?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "tar"));
    if files.is_empty() {
        bail!("{}: no archives of images (*.tar)", folder.display());
    }
    files.sort();
    Ok(files)
}

fn farewell() -> String {
    let kubectl = "cargo xtask cluster exec -- kubectl";
    format!(
        "\
\nThe demo runs on. To look around:
  {kubectl} get counternamespaces --all-namespaces
  {kubectl} logs --namespace {APPLICATIONS_NAMESPACE} deployment/curl --container curl --tail 5
  {kubectl} scale --namespace {APPLICATIONS_NAMESPACE} deployment/curl --replicas 3
  cargo xtask demo            shows the counts again
  cargo xtask cluster down    ends it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_archives_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        let refused = archives(folder.path()).unwrap_err().to_string();
        assert_eq!(refused, format!("{}: no archives of images (*.tar)", folder.path().display()));
        for name in ["b.tar", "a.tar"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(archives(folder.path()).unwrap(), ["a.tar", "b.tar"].map(|name| folder.path().join(name)));
        let missing = archives(Path::new("/no/such/folder")).unwrap_err();
        assert_eq!(missing.to_string(), "/no/such/folder");
    }

    #[test]
    fn a_step_that_fails_is_named() {
        let error = step("the operator", || -> Result<()> { bail!("timed out") }).unwrap_err();
        assert_eq!(format!("{error:#}"), "the operator: timed out");
    }
}
