//! A counter as the command line names it.

use std::fmt;
use std::str::FromStr;

/// `NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterPath {
    /// Up to the first `/`.
    pub namespace: String,
    /// All that follows it, further `/` included.
    pub name: String,
}

impl FromStr for CounterPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("must be NAMESPACE/NAME, such as video-plays/video/42".to_owned()),
        }
    }
}

impl fmt::Display for CounterPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_all_that_follows_the_first_slash() {
        let path: CounterPath = "plays/video/42".parse().unwrap();
        assert_eq!((path.namespace.as_str(), path.name.as_str()), ("plays", "video/42"));
        assert_eq!(path.to_string(), "plays/video/42");
        assert_eq!("plays//".parse::<CounterPath>().unwrap().name, "/");
    }

    #[test]
    fn a_path_without_namespace_or_name_is_refused() {
        for text in ["", "/", "plays", "plays/", "/video"] {
            assert!(text.parse::<CounterPath>().is_err(), "{text}");
        }
    }
}
