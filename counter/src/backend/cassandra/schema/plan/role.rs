//! The role that a dataset's sidecars and rollup servers log in as: it reads and writes its keyspace, and nothing else.

use std::collections::BTreeSet;
use std::fmt;

use super::super::cql::Cql;
use super::{Action, Found, Plan, Refusal, Step, Wanted};

/// How the name of every role that Tallyman creates begins.
const PREFIX: &str = "tallyman_";

/// What a dataset's role may do there.
const GRANTED: [&str; 2] = ["SELECT", "MODIFY"];

/// A role and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl Role {
    /// Whether it is the dataset's own, by its name, and so ours to create and change.
    #[must_use]
    pub fn is_of(&self, keyspace: &str) -> bool {
        self.name == name(keyspace)
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Role").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A permission that was granted to a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    /// On what, as Cassandra lists it: `<keyspace plays>`.
    pub resource: String,
    /// To do what: `SELECT`.
    pub permission: String,
}

/// The role that is wanted, as it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundRole {
    /// The cluster asks nobody who they are.
    NoAuthentication,
    /// There is none of its name.
    Absent,
    /// It is there.
    Present {
        /// Whether it may log in.
        login: bool,
        /// Whether it may do everything.
        superuser: bool,
        /// Whether it can log in with the password that is wanted.
        password_is_right: bool,
        /// What it was granted itself; `None` where the cluster lets every role do everything.
        permissions: Option<BTreeSet<Permission>>,
    },
}

/// The name of a dataset's role.
#[must_use]
pub fn name(keyspace: &str) -> String {
    format!("{PREFIX}{keyspace}")
}

pub(super) fn plan(wanted: &Wanted, found: &Found, plan: &mut Plan) -> Result<(), Refusal> {
    let Some(role) = &wanted.role else { return Ok(()) };
    let keyspace = &wanted.dataset.keyspace;
    if matches!(found.role, FoundRole::NoAuthentication) {
        plan.notes.push(format!(
            "the cluster asks nobody for a password (AllowAllAuthenticator): role {} is not created, and anyone who reaches the cluster reads and writes {keyspace}",
            role.name
        ));
        return Ok(());
    }
    if !role.is_of(keyspace) {
        plan.notes.push(format!(
            "role {} is left as it is: Tallyman creates and changes roles of the name {} only. It needs SELECT and MODIFY on keyspace {keyspace}",
            role.name,
            name(keyspace)
        ));
        return Ok(());
    }
    let mut step = |cql: Cql, why: String| {
        plan.provisioning.push(Step { action: Action::ChangeRole, cql, why });
    };
    let granted = match &found.role {
        FoundRole::NoAuthentication => return Ok(()),
        FoundRole::Absent => {
            let before = format!("CREATE ROLE IF NOT EXISTS {} WITH PASSWORD = ", role.name);
            let why = format!("sidecars and rollup servers of {keyspace} log in as it");
            step(Cql::with_secret(before, &role.password, " AND LOGIN = true"), why);
            Some(BTreeSet::new())
        }
        FoundRole::Present { superuser: true, .. } => return Err(Refusal::Superuser { role: role.name.clone() }),
        FoundRole::Present { login, superuser: false, password_is_right, permissions } => {
            if !login || !password_is_right {
                let before = format!("ALTER ROLE {} WITH PASSWORD = ", role.name);
                let why = "it cannot log in with the password of its credentials file".to_owned();
                step(Cql::with_secret(before, &role.password, " AND LOGIN = true"), why);
            }
            permissions.clone()
        }
    };
    let Some(granted) = granted else {
        plan.notes.push(format!(
            "the cluster lets every role do everything (AllowAllAuthorizer): {} is granted nothing, and its password reaches more than {keyspace}",
            role.name
        ));
        return Ok(());
    };
    let wanted: BTreeSet<_> = GRANTED
        .iter()
        .map(|permission| Permission {
            resource: format!("<keyspace {keyspace}>"),
            permission: (*permission).to_owned(),
        })
        .collect();
    for missing in wanted.difference(&granted) {
        let cql = format!("GRANT {} ON KEYSPACE {keyspace} TO {}", missing.permission, role.name);
        step(Cql::new(cql), format!("the dataset's role needs {}", missing.permission));
    }
    for more in granted.difference(&wanted) {
        match on(&more.resource) {
            Some(on) => {
                let cql = format!("REVOKE {} ON {on} FROM {}", more.permission, role.name);
                step(Cql::new(cql), "the dataset's role reaches its own dataset and nothing else".to_owned());
            }
            None => plan.notes.push(format!(
                "role {} was granted {} on {}, which it does not need; a person should revoke it",
                role.name, more.permission, more.resource
            )),
        }
    }
    Ok(())
}

/// A listed resource of data, as statements name it.
fn on(resource: &str) -> Option<String> {
    let resource = resource.strip_prefix('<')?.strip_suffix('>')?;
    match resource.split_once(' ')? {
        ("all", "keyspaces") => Some("ALL KEYSPACES".to_owned()),
        ("keyspace", name) => Some(format!("KEYSPACE \"{name}\"")),
        ("table", name) => name.split_once('.').map(|(keyspace, table)| format!("TABLE \"{keyspace}\".\"{table}\"")),
        _ => None,
    }
}
