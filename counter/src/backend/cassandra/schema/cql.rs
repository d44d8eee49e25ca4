//! CQL text. What is shown is what is run, but for secrets.

use std::fmt;

/// One CQL statement. Its `Display` and `Debug` show it without the secret in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Cql {
    before: String,
    /// A secret, as a CQL string, and what follows it.
    secret: Option<(String, String)>,
}

impl Cql {
    /// A statement without secrets.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { before: text.into(), secret: None }
    }

    /// `before`, the secret as a CQL string, and `after`.
    #[must_use]
    pub fn with_secret(before: impl Into<String>, secret: &str, after: impl Into<String>) -> Self {
        Self { before: before.into(), secret: Some((string(secret), after.into())) }
    }

    /// The text to run, with the secret in it. Never shown.
    #[must_use]
    pub(super) fn to_run(&self) -> String {
        match &self.secret {
            None => self.before.clone(),
            Some((secret, after)) => format!("{}{secret}{after}", self.before),
        }
    }
}

impl fmt::Display for Cql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.secret {
            None => f.write_str(&self.before),
            Some((_, after)) => write!(f, "{}'********'{after}", self.before),
        }
    }
}

impl fmt::Debug for Cql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A CQL string constant.
#[must_use]
pub fn string(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A CQL map of strings.
#[must_use]
pub fn map<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let entries: Vec<_> =
        entries.into_iter().map(|(key, value)| format!("{}: {}", string(key), string(value))).collect();
    format!("{{{}}}", entries.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_run_and_never_shown() {
        let cql = Cql::with_secret("CREATE ROLE r WITH PASSWORD = ", "it's", " AND LOGIN = true");
        assert_eq!(cql.to_run(), "CREATE ROLE r WITH PASSWORD = 'it''s' AND LOGIN = true");
        for shown in [format!("{cql}"), format!("{cql:?}"), format!("{:?}", Some(&cql))] {
            assert!(!shown.contains("it''s") && shown.contains("PASSWORD = '********' AND LOGIN"), "{shown}");
        }
    }

    #[test]
    fn quotes_within_strings_are_doubled() {
        assert_eq!(map([("class", "a'b"), ("dc1", "3")]), "{'class': 'a''b', 'dc1': '3'}");
    }
}
