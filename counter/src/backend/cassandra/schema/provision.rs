//! Carries a plan out: keyspace, tables, owner and role. Slices are [`retention`](crate::retention)'s, over the dataset's stores.

use scylla::statement::{Consistency, SerialConsistency};

use super::ddl::Ddl;
use super::plan::{Action, Plan, Refusal, Step, Wanted, plan};
use super::{Error, Result, query, read};
use crate::model::Timestamp;

/// Looks at what is there and plans; changes nothing.
///
/// # Errors
/// When it cannot be read, or something is there that is not ours to touch.
pub async fn planned(ddl: &Ddl, wanted: &Wanted, password_is_right: bool, now: Timestamp) -> Result<Plan> {
    let found = read::found(ddl.session(), wanted, password_is_right).await?;
    Ok(plan(wanted, &found, now)?)
}

/// Carries out one step of [`Plan::provisioning`]. A step that was carried out already, by whomever, changes nothing.
///
/// # Errors
/// When it may not have been carried out; [`Refusal`] when somebody else was quicker and what is there is not ours.
pub async fn carry_out(ddl: &Ddl, wanted: &Wanted, step: &Step) -> Result<()> {
    let keyspace = &wanted.dataset.keyspace;
    match &step.action {
        Action::CreateKeyspace => {
            ddl.run(&format!("create keyspace {keyspace}"), &step.cql).await?;
            // So that statements on it are routed by its replication from now on.
            let refreshed = ddl.session().refresh_metadata().await;
            refreshed.map_err(|error| Error::Unavailable {
                doing: format!("read keyspace {keyspace}"),
                reason: error.to_string(),
            })
        }
        Action::CreateTable(table) => ddl.create_table(table).await.map(drop),
        Action::Claim { owner } => claim(ddl, keyspace, owner, step).await,
        Action::ChangeRole => ddl.run(&format!("change the role of {keyspace}"), &step.cql).await,
        // They come after the sweep that shows that no count is lost.
        Action::RecordSlice(_) | Action::MoveSlice { .. } | Action::DropTable(_) => Ok(()),
    }
}

/// Claims the dataset: the first claim wins, across all datacenters.
async fn claim(ddl: &Ddl, keyspace: &str, claimant: &str, step: &Step) -> Result<()> {
    if let Some(permit) = ddl.permit() {
        permit.may_change_schema().await.map_err(Error::NotPermitted)?;
    }
    let statement = query::conditional(step.cql.to_run(), Consistency::LocalQuorum, SerialConsistency::Serial);
    query::run(ddl.session(), &format!("claim dataset {keyspace}"), statement).await?;
    match read::owner(ddl.session(), keyspace, Consistency::Serial).await? {
        Some(owner) if owner == claimant => Ok(()),
        Some(owner) => {
            Err(Refusal::OwnedByAnother { dataset: keyspace.to_owned(), owner, claimant: Some(claimant.to_owned()) }
                .into())
        }
        None => Err(Error::Unavailable {
            doing: format!("claim dataset {keyspace}"),
            reason: "the claim is not there, though it was acknowledged".to_owned(),
        }),
    }
}
