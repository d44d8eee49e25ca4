//! `tallyman schema`: what the namespaces of a folder need in Cassandra, shown or made.
//!
//! The parts: [`request`] reads the folder and makes of it what is wanted; [`report`] prints; the work is
//! `tallyman_counter::backend::cassandra::schema`'s.

mod arguments;
mod report;
mod request;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tallyman_counter::backend::cassandra::Cluster;
use tallyman_counter::backend::cassandra::schema::Error;
use tallyman_counter::backend::cassandra::schema::datasets::Requested;
use tallyman_counter::backend::cassandra::schema::plan::{Found, Plan, Step, Wanted, plan};
use tallyman_counter::backend::cassandra::schema::provision::{Incomplete, Provisioner};
use tallyman_counter::clock::{Clock, SystemClock};

use self::arguments::Namespaces;
pub use self::arguments::{Command, Login};
use self::report::Report;
use self::request::Request;
use crate::failure::Failure;
use crate::output::Format;

/// Shows or makes what the namespaces need. One dataset's trouble holds up no other; the exit code is 0 if there was none.
pub async fn run(command: Command, format: Format) -> Result<ExitCode, Failure> {
    let report = Report::new(format);
    let (namespaces, login) = match &command {
        Command::Plan { namespaces, login, .. } | Command::Apply { namespaces, login } => (namespaces, login),
    };
    let request = Request::read(&namespaces.namespaces_dir)?;
    let mut failures = request.failures;
    if request.datasets.is_empty() && failures.is_empty() {
        report.nothing_in_cassandra(&namespaces.namespaces_dir)?;
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    for dataset in request.datasets {
        let done = match &command {
            Command::Plan { offline: true, .. } => plan_offline(dataset, namespaces, &clock, &report),
            Command::Plan { .. } => plan_here(dataset, namespaces, login, &clock, &report).await,
            Command::Apply { .. } => apply(dataset, namespaces, login, &clock, &report).await,
        };
        failures.extend(done.err());
    }
    // The last one is printed by who called, with the exit code.
    let Some(last) = failures.pop() else { return Ok(ExitCode::SUCCESS) };
    for failure in &failures {
        failure.print(format);
    }
    Err(last)
}

fn plan_offline(
    dataset: Requested,
    namespaces: &Namespaces,
    clock: &Arc<dyn Clock>,
    report: &Report,
) -> Result<(), Failure> {
    let usual = Provisioner::replication_without_looking(&dataset.local_datacenter);
    let (wanted, mut notes) = request::wanted(dataset, namespaces, usual)?;
    let mut planned = plan(&wanted, &Found::nothing(), clock.now()).map_err(|refusal| failure(&refusal.into()))?;
    notes.append(&mut planned.notes);
    report.planned(&wanted, &planned, &notes)
}

async fn plan_here(
    dataset: Requested,
    namespaces: &Namespaces,
    login: &Login,
    clock: &Arc<dyn Clock>,
    report: &Report,
) -> Result<(), Failure> {
    let (provisioner, wanted, mut notes) = connected(dataset, namespaces, login, clock).await?;
    let mut planned = provisioner.plan(&wanted).await.map_err(|error| failure(&error))?;
    notes.append(&mut planned.notes);
    report.planned(&wanted, &planned, &notes)
}

async fn apply(
    dataset: Requested,
    namespaces: &Namespaces,
    login: &Login,
    clock: &Arc<dyn Clock>,
    report: &Report,
) -> Result<(), Failure> {
    let (provisioner, wanted, mut notes) = connected(dataset, namespaces, login, clock).await?;
    let mut progress = |step: &Step| report.progress(&wanted, step);
    let applied = provisioner.apply(&wanted, &mut progress).await;
    let mut done = applied.map_err(|incomplete| match &incomplete {
        Incomplete::Schema(error) => failure(error),
        Incomplete::Slices { .. } | Incomplete::Unfinished { .. } => Failure::local(incomplete.to_string())
            .with_remedy("nothing is lost: what was not done is done by the next run"),
    })?;
    notes.append(&mut done.notes);
    report.applied(&wanted, &done, &notes)
}

/// Connects with the credentials of who may change schemas.
async fn connected(
    dataset: Requested,
    namespaces: &Namespaces,
    login: &Login,
    clock: &Arc<dyn Clock>,
) -> Result<(Provisioner, Wanted, Vec<String>), Failure> {
    let cluster = Cluster::new(dataset.reach(login.admin_credentials.clone()));
    reached(&cluster, &dataset, login.connect_timeout).await?;
    let provisioner = Provisioner::new(cluster, clock.clone(), None);
    let usual = provisioner.usual_replication(&dataset.local_datacenter).await.map_err(|error| failure(&error))?;
    let (wanted, notes) = request::wanted(dataset, namespaces, usual)?;
    Ok((provisioner, wanted, notes))
}

/// What is missing of what is wanted, with the credentials of who may change schemas.
pub async fn missing(wanted: &Wanted, login: &Login, clock: &Arc<dyn Clock>) -> Result<Plan, Failure> {
    let cluster = Cluster::new(wanted.dataset.reach(login.admin_credentials.clone()));
    reached(&cluster, &wanted.dataset, login.connect_timeout).await?;
    let provisioner = Provisioner::new(cluster, clock.clone(), None);
    provisioner.plan(wanted).await.map_err(|error| failure(&error))
}

/// Waits for the connection, no longer than it takes to see that the answer will stay the same.
async fn reached(cluster: &Cluster, dataset: &Requested, limit: Duration) -> Result<(), Failure> {
    if tokio::time::timeout(limit, cluster.connected()).await.is_ok() {
        return Ok(());
    }
    let reason = cluster.check().err().unwrap_or_else(|| "it does not answer".to_owned());
    let failure = Failure::local(format!("dataset {}, cluster {}: {reason}", dataset.keyspace, dataset.cluster));
    Err(failure.with_remedy(
        "contact_points, local_datacenter and tls are those of the namespace documents; user name and password those of --admin-credentials",
    ))
}

fn failure(error: &Error) -> Failure {
    let failure = Failure::local(error.to_string());
    match error {
        Error::Unauthorized { .. } => failure.with_remedy(
            "log in with --admin-credentials as a role that may create keyspaces and tables, and roles if the documents name a credentials_file",
        ),
        _ if error.is_retryable() => failure.with_remedy("nothing is lost: what was not done is done by the next run"),
        _ => failure,
    }
}
