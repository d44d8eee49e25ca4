//! The API server's own account of who asked it for what.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::{Error, Result};

/// A cluster's audit log.
#[derive(Debug, Clone)]
pub struct AuditLog {
    pub(crate) path: PathBuf,
}

/// A point in an audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// A request that the API server has answered. What a request does not name is empty.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Line")]
pub struct Event {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// The user, such as `system:serviceaccount:default:operator`.
    pub user: String,
    /// What the client says it is.
    pub user_agent: String,
    /// API group of the resource; empty for the core's.
    pub api_group: String,
    /// Such as `statefulsets`.
    pub resource: String,
    /// Such as `status`.
    pub subresource: String,
    /// Name of the object; empty where the server chose it, and for lists.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Path and query, for what is no resource, too.
    pub uri: String,
    /// HTTP status of the answer.
    pub code: u16,
}

impl Event {
    /// Whether it asked for a change.
    pub fn is_write(&self) -> bool {
        matches!(&*self.verb, "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    /// Whether the API server did what it was asked.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

impl AuditLog {
    /// Now: what is asked for later comes after it. A request stands in the log once it has ended; a watch goes on for minutes.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn mark(&self) -> Result<Mark> {
        let (mark, lines) = self.read(Mark(0))?;
        Ok(Mark(mark.0 + lines.len() as u64))
    }

    /// What was asked for after a mark, in the order in which it ended.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Answer`] for a line that is no event.
    pub fn since(&self, mark: Mark) -> Result<Vec<Event>> {
        let (_, lines) = self.read(mark)?;
        lines.lines().map(|line| serde_json::from_str(line).map_err(Error::answer("audit log", line))).collect()
    }

    /// All that was asked for.
    ///
    /// # Errors
    /// As [`since`](Self::since).
    pub fn all(&self) -> Result<Vec<Event>> {
        self.since(Mark(0))
    }

    /// The whole lines after a mark; the API server may be about to write another.
    fn read(&self, mark: Mark) -> Result<(Mark, String)> {
        let mut text = String::new();
        let mut file = File::open(&self.path).map_err(Error::file(&self.path))?;
        let read = file.seek(SeekFrom::Start(mark.0)).and_then(|_| file.read_to_string(&mut text));
        read.map_err(Error::file(&self.path))?;
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        Ok((mark, text))
    }
}

/// As the API server writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    #[serde(default)]
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(rename = "requestURI")]
    uri: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
}

#[derive(Default, Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    name: String,
    namespace: String,
}

#[derive(Default, Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

impl From<Line> for Event {
    fn from(line: Line) -> Self {
        let Line { verb, user, user_agent, uri, object_ref, response_status } = line;
        let ObjectRef { api_group, resource, subresource, name, namespace } = object_ref;
        let (user, code) = (user.username, response_status.code);
        Self { verb, user, user_agent, api_group, resource, subresource, name, namespace, uri, code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"1","stage":"ResponseComplete","requestURI":"/apis/apps/v1/namespaces/default/statefulsets/web/status?fieldManager=x","verb":"patch","user":{"username":"admin","groups":["system:masters"]},"sourceIPs":["127.0.0.1"],"userAgent":"kubectl/v1.34.4","objectRef":{"resource":"statefulsets","namespace":"default","name":"web","apiGroup":"apps","apiVersion":"v1","subresource":"status"},"responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":"2026-01-01T00:00:00.000000Z","stageTimestamp":"2026-01-01T00:00:00.000000Z"}"#;
    const HEALTH: &str = r#"{"stage":"ResponseComplete","requestURI":"/readyz","verb":"get","user":{"username":"system:anonymous"},"responseStatus":{"code":403}}"#;

    #[test]
    fn the_log_is_read_from_a_mark_on_and_only_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = AuditLog { path: folder.path().join("audit.log") };
        assert!(log.all().unwrap_err().to_string().contains("audit.log"));
        std::fs::write(&log.path, format!("{PATCH}\n")).unwrap();
        let mark = log.mark().unwrap();
        assert_eq!(log.since(mark).unwrap(), []);
        std::fs::write(&log.path, format!("{PATCH}\n{HEALTH}\n{{\"kind\":")).unwrap();
        let all = log.all().unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(log.since(mark).unwrap(), all[1..]);
        assert_eq!(log.since(log.mark().unwrap()).unwrap(), []);
    }

    #[test]
    fn an_event_tells_who_asked_for_what_and_whether_it_was_done() {
        let event: Event = serde_json::from_str(PATCH).unwrap();
        let Event { verb, user, api_group, resource, subresource, name, namespace, code, .. } = &event;
        assert_eq!((&**verb, &**user, *code), ("patch", "admin", 200));
        assert_eq!((&**api_group, &**resource, &**subresource), ("apps", "statefulsets", "status"));
        assert_eq!((&**namespace, &**name), ("default", "web"));
        assert!(event.is_write() && event.is_success());
        let event: Event = serde_json::from_str(HEALTH).unwrap();
        assert_eq!((&*event.resource, &*event.uri), ("", "/readyz"));
        assert!(!event.is_write() && !event.is_success());
    }
}
