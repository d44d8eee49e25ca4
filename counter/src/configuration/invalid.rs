//! What is said of a document that is refused, and the path under which it is said. Pure.

use std::fmt;

/// A document that was refused: which field, its value, and what is allowed there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidDocument {
    /// The wrong or missing field, as in `persistence_configuration[2].config.accept_limit`; `.` for the document itself.
    pub path: String,
    /// What is wrong with it, and what is allowed.
    pub reason: String,
}

impl fmt::Display for InvalidDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path == "." {
            return f.write_str(&self.reason);
        }
        write!(f, "{}: {}", self.path, self.reason)
    }
}

impl std::error::Error for InvalidDocument {}

impl InvalidDocument {
    /// The refusal of a text that is no JSON, or JSON of another shape.
    pub(super) fn from_shape(error: &serde_path_to_error::Error<serde_json::Error>) -> Self {
        if error.inner().is_data() {
            // The path says where; the position would say it again.
            let (line, column) = (error.inner().line(), error.inner().column());
            let message = error.inner().to_string();
            let reason = message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&message);
            return Self { path: error.path().to_string(), reason: reason.to_owned() };
        }
        Self::from_syntax(error.inner())
    }

    /// The refusal of a text that is no JSON.
    pub(super) fn from_syntax(error: &serde_json::Error) -> Self {
        Self { path: ".".to_owned(), reason: format!("not a JSON document: {error}") }
    }
}

/// A place in the document.
#[derive(Debug, Clone)]
pub(super) struct At(String);

impl At {
    /// The document itself.
    pub fn root() -> Self {
        Self(String::new())
    }

    /// A field of the object here.
    pub fn field(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An element of the list here.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The refusal of what stands here.
    pub fn invalid(&self, reason: impl Into<String>) -> InvalidDocument {
        let path = if self.0.is_empty() { ".".to_owned() } else { self.0.clone() };
        InvalidDocument { path, reason: reason.into() }
    }

    /// The refusal of the value that stands here.
    pub fn refuse(&self, value: impl fmt::Display, allowed: impl fmt::Display) -> InvalidDocument {
        self.invalid(format!("{value} is not allowed; allowed: {allowed}"))
    }

    /// A field that has to be there.
    pub fn required<T>(&self, name: &str, value: Option<T>, allowed: impl fmt::Display) -> Result<T, InvalidDocument> {
        value.ok_or_else(|| self.field(name).invalid(format!("missing; allowed: {allowed}")))
    }

    /// A field that must not be there.
    pub fn forbidden<T>(&self, name: &str, value: Option<&T>, why: impl fmt::Display) -> Result<(), InvalidDocument> {
        match value {
            Some(_) => Err(self.field(name).invalid(format!("not allowed here: {why}"))),
            None => Ok(()),
        }
    }

    /// A text of 1 to [`TEXT_BYTES_MAX`] bytes without control characters, that has to be there.
    pub fn text(&self, name: &str, value: Option<String>) -> Result<String, InvalidDocument> {
        let allowed = format!("1 to {TEXT_BYTES_MAX} bytes of text without control characters");
        let value = self.required(name, value, &allowed)?;
        if value.is_empty() || value.len() > TEXT_BYTES_MAX || value.contains(char::is_control) {
            return Err(self.field(name).refuse(format_args!("{value:?}"), allowed));
        }
        Ok(value)
    }
}

/// The longest name, path or other text in the document, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 255;
