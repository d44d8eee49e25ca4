//! Roles and what they were granted, as the cluster lists them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::statement::Consistency;

use super::cql;
use super::plan::{FoundRole, Permission, Role};
use super::{Error, Result, query};
use crate::backend::cassandra::connecting::{self, Profiles};
use crate::backend::cassandra::credentials::{self, Credentials};
use crate::backend::cassandra::{Reach, trouble};

/// The role of this name, if it is there.
///
/// # Errors
/// When it cannot be read: only a role that may describe roles can.
pub(super) async fn found(
    session: &Session,
    role: &Role,
    password_is_right: impl Future<Output = Result<bool>> + Send,
) -> Result<FoundRole> {
    let name = cql::string(&role.name);
    let doing = format!("look for role {}", role.name);
    let listed = query::named_rows(session, &doing, listing(format!("LIST ROLES OF {name} NORECURSIVE"))).await;
    let row = match listed {
        Ok(rows) => match rows.into_iter().find(|row| row.text("role") == Some(&role.name)) {
            Some(row) => row,
            None => return Ok(FoundRole::Absent),
        },
        Err(Error::Unauthorized { reason, .. }) if reason.contains("anonymous") => {
            return Ok(FoundRole::NoAuthentication);
        }
        Err(Error::Rejected { reason, .. }) if reason.contains("doesn't exist") => return Ok(FoundRole::Absent),
        Err(error) => return Err(error),
    };
    let flag = |column: &str| row.value(column).and_then(scylla::value::CqlValue::as_boolean).unwrap_or(false);
    let (login, superuser) = (flag("login"), flag("super"));
    // One that may not log in at all is changed, whatever its password.
    let password_is_right = login && password_is_right.await?;
    Ok(FoundRole::Present { login, superuser, password_is_right, permissions: permissions(session, &role.name).await? })
}

/// The role that a credentials file names.
///
/// # Errors
/// What is wrong with the file, without the secret in it.
pub fn of_file(file: &Path) -> std::result::Result<Role, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let Credentials { username, password } = credentials::parse(&text)?;
    Ok(Role { name: username, password })
}

/// How long a node may go on by a password that was changed since: it keeps them for `credentials_validity`, by default 2 s.
const OLD_PASSWORD_LIMIT: Duration = Duration::from_secs(5);
const LOGIN_EVERY: Duration = Duration::from_millis(500);

/// Whether one can log in with the credentials file of `reach`. A password that was changed a moment ago is waited for.
pub(super) async fn password_is_right(reach: &Reach) -> Result<bool> {
    let cannot = |reason| Error::Unavailable { doing: "try the role's password".to_owned(), reason };
    let profiles = Profiles::new(&reach.local_datacenter);
    let started = tokio::time::Instant::now();
    loop {
        match connecting::session(reach, &profiles, &reach.contact_points).await.map_err(cannot)? {
            Ok(_) => return Ok(true),
            Err(trouble::Refusal::CredentialsWrong(_)) if started.elapsed() < OLD_PASSWORD_LIMIT => {
                tokio::time::sleep(LOGIN_EVERY).await;
            }
            Err(trouble::Refusal::CredentialsWrong(_)) => return Ok(false),
            Err(refusal) => {
                return Err(cannot(trouble::in_words(reach, &[(reach.contact_points.join(", "), refusal)])));
            }
        }
    }
}

/// What a role was granted itself; `None` where the cluster does not ask.
async fn permissions(session: &Session, role: &str) -> Result<Option<BTreeSet<Permission>>> {
    let text = format!("LIST ALL PERMISSIONS OF {} NORECURSIVE", cql::string(role));
    let doing = format!("list the permissions of role {role}");
    let rows = match query::named_rows(session, &doing, listing(text)).await {
        Ok(rows) => rows,
        Err(Error::Rejected { reason, .. }) if reason.contains("AllowAllAuthorizer") => return Ok(None),
        Err(error) => return Err(error),
    };
    let permission = |row: &query::NamedRow| {
        let (resource, permission) = (row.text("resource")?, row.text("permission")?);
        Some(Permission { resource: resource.to_owned(), permission: permission.to_owned() })
    };
    Ok(Some(rows.iter().filter_map(permission).collect()))
}

fn listing(text: String) -> scylla::statement::unprepared::Statement {
    query::repeatable(text, Consistency::LocalQuorum)
}
