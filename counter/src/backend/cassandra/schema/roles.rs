//! Roles and what they were granted, as the cluster lists them.

use std::collections::BTreeSet;

use scylla::client::session::Session;
use scylla::statement::Consistency;

use super::cql;
use super::plan::{FoundRole, Permission, Role};
use super::{Error, Result, query};

/// The role of this name, if it is there.
///
/// # Errors
/// When it cannot be read: only a role that may describe roles can.
pub(super) async fn found(session: &Session, role: &Role, password_is_right: bool) -> Result<FoundRole> {
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
    Ok(FoundRole::Present { login, superuser, password_is_right, permissions: permissions(session, &role.name).await? })
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
