//! What `tallyman schema` prints: CQL to read, with the reasons as comments, or one JSON object per dataset.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use tallyman_counter::backend::cassandra::schema::plan::{Plan, Step, Wanted};
use tallyman_counter::backend::cassandra::schema::provision::Done;

use crate::failure::Failure;
use crate::output::Format;

pub struct Report {
    format: Format,
}

/// A step, for programs.
#[derive(Serialize)]
struct StepLine {
    action: &'static str,
    cql: String,
    why: String,
}

#[derive(Serialize)]
struct PlanLine<'a> {
    dataset: &'a str,
    cluster: &'a str,
    steps: Vec<StepLine>,
    notes: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DoneLine<'a> {
    dataset: &'a str,
    cluster: &'a str,
    steps: Vec<StepLine>,
    slices_created: usize,
    slices_closed: usize,
    slices_dropped: usize,
    notes: &'a [String],
}

impl From<&Step> for StepLine {
    fn from(step: &Step) -> Self {
        Self { action: step.action.name(), cql: step.cql.to_string(), why: step.why.clone() }
    }
}

impl Report {
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// None of the namespaces is kept in Cassandra.
    pub fn nothing_in_cassandra(&self, folder: &Path) -> Result<(), Failure> {
        match self.format {
            Format::Text => self
                .format
                .print(&format!("-- no namespace in {} is kept in Cassandra: nothing to do", folder.display()), &()),
            Format::Json | Format::Yaml => Ok(()),
        }
    }

    /// What would be done.
    pub fn planned(&self, wanted: &Wanted, plan: &Plan, notes: &[String]) -> Result<(), Failure> {
        let (dataset, cluster) = (wanted.dataset.keyspace.as_str(), wanted.dataset.cluster.as_str());
        let mut text = heading(wanted, notes);
        if plan.is_empty() {
            let _ = write!(text, "-- nothing to do");
        }
        let steps: Vec<_> =
            plan.steps().map(|step| format!("-- {}\n{};", step.why.replace('\n', " "), step.cql)).collect();
        text.push_str(&steps.join("\n\n"));
        let steps = plan.steps().map(StepLine::from).collect();
        self.format.print(&format!("{text}\n"), &PlanLine { dataset, cluster, steps, notes })
    }

    /// A step is about to be carried out. For people only, and for their patience.
    pub fn progress(&self, wanted: &Wanted, step: &Step) {
        if matches!(self.format, Format::Text) {
            let cql = step.cql.to_string();
            let first = cql.lines().next().unwrap_or_default().trim_end_matches(" (");
            eprintln!("{}: {first}", wanted.dataset.keyspace);
        }
    }

    /// What was done.
    pub fn applied(&self, wanted: &Wanted, done: &Done, notes: &[String]) -> Result<(), Failure> {
        let (dataset, cluster) = (wanted.dataset.keyspace.as_str(), wanted.dataset.cluster.as_str());
        let mut text = heading(wanted, notes);
        let slices = done.slices;
        if done.provisioning.is_empty() && slices.created + slices.closed + slices.dropped == 0 {
            let _ = write!(text, "-- nothing to do");
        } else {
            let _ = write!(
                text,
                "-- done: {} statements; slices: {} created, {} closed, {} dropped",
                done.provisioning.len(),
                slices.created,
                slices.closed,
                slices.dropped
            );
        }
        let line = DoneLine {
            dataset,
            cluster,
            steps: done.provisioning.iter().map(StepLine::from).collect(),
            slices_created: slices.created,
            slices_closed: slices.closed,
            slices_dropped: slices.dropped,
            notes,
        };
        self.format.print(&text, &line)
    }
}

fn heading(wanted: &Wanted, notes: &[String]) -> String {
    let mut text = format!("-- dataset {}, cluster {}\n", wanted.dataset.keyspace, wanted.dataset.cluster);
    for note in notes {
        // Writing into a String does not fail.
        let _ = writeln!(text, "-- note: {note}");
    }
    text
}
