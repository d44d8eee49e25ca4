//! Names of namespaces and counters, checked where they enter.

use std::fmt;
use std::sync::Arc;

/// A name that breaks the rules; `reason` says which one and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidName {
    /// What is wrong with the name, and what is allowed.
    pub reason: String,
}

fn invalid(reason: impl Into<String>) -> InvalidName {
    InvalidName { reason: reason.into() }
}

/// The name of a namespace: 1–40 characters, lowercase letters, digits and `-`, as Kubernetes names without dots.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceName(Arc<str>);

impl NamespaceName {
    /// The longest name, in characters.
    pub const LENGTH_MAX: usize = 40;

    /// Checks `name`.
    ///
    /// # Errors
    /// When it is empty, too long, or holds other characters than lowercase letters, digits and inner `-`.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        if name.is_empty() || name.len() > Self::LENGTH_MAX {
            return Err(invalid(format!(
                "a namespace name has 1 to {} characters, not {}",
                Self::LENGTH_MAX,
                name.chars().count()
            )));
        }
        let inner = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !inner || name.starts_with('-') || name.ends_with('-') {
            return Err(invalid(
                "a namespace name consists of lowercase letters, digits and '-', and begins and ends with a letter or digit",
            ));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a counter: UTF-8, 1–512 bytes, no control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterName(Arc<str>);

impl CounterName {
    /// The longest name, in bytes of UTF-8.
    pub const BYTES_MAX: usize = 512;

    /// Checks `name`.
    ///
    /// # Errors
    /// When it is empty, longer than [`Self::BYTES_MAX`] bytes, or holds a control character.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        if name.is_empty() || name.len() > Self::BYTES_MAX {
            return Err(invalid(format!(
                "a counter name has 1 to {} bytes of UTF-8, not {}",
                Self::BYTES_MAX,
                name.len()
            )));
        }
        if let Some(at) = name.find(char::is_control) {
            return Err(invalid(format!("a counter name has no control characters; there is one at byte {at}")));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which counter: its namespace and its name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterKey {
    /// The namespace that the counter belongs to.
    pub namespace: NamespaceName,
    /// The counter's name within it.
    pub name: CounterName,
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for CounterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CounterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for CounterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for CounterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_names_follow_the_rules_of_kubernetes_without_dots() {
        for name in ["a", "video-plays", "0", &"x".repeat(40)] {
            assert!(NamespaceName::new(name).is_ok(), "{name}");
        }
        for name in ["", "A", "a.b", "-a", "a-", "a_b", "ä", &"x".repeat(41)] {
            assert!(NamespaceName::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn counter_names_are_any_text_without_control_characters_up_to_512_bytes() {
        for name in ["a", "origin/SFO", "a:b", "ünï", " ", &"x".repeat(512), &"ü".repeat(256)] {
            assert!(CounterName::new(name).is_ok(), "{name}");
        }
        for name in ["", "a\nb", "\u{7f}", "\u{85}", &"x".repeat(513), &"ü".repeat(257)] {
            assert!(CounterName::new(name).is_err(), "{name}");
        }
    }
}
