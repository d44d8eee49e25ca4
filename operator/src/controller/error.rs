//! Why a reconcile did not come to its end. What is wrong with a resource is no error: it is told in its status.

use kube::runtime::reflector::Lookup;

/// Why a reconcile did not come to its end; it is tried again, later each time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Kubernetes API did not do what was asked.
    #[error("cannot {doing}: {source}")]
    Kubernetes {
        /// What was tried.
        doing: String,
        /// What the API, or the way to it, says.
        source: Box<kube::Error>,
    },
    /// This operator is not the leader any more, and changes nothing.
    #[error("cannot {0}: this operator is not the leader any more")]
    NotLeading(String),
    /// The Kubernetes API did not answer in time.
    #[error("the Kubernetes API did not answer within {0:?}")]
    TooSlow(std::time::Duration),
    /// What is watched could not be listed yet.
    #[error(
        "the {what} of its Kubernetes namespace could not be listed within {limit:?}; the log says why not, such as a missing right"
    )]
    NotSeen {
        /// What.
        what: &'static str,
        /// How long it was waited for.
        limit: std::time::Duration,
    },
    /// What is to be applied cannot be made. A bug in us, not in a resource.
    #[error("cannot build what {name} needs: {reason}")]
    Build {
        /// The CounterNamespace.
        name: String,
        /// Why.
        reason: String,
    },
    /// Certificates cannot be issued.
    #[error("cannot issue certificates: {0}")]
    Certificates(String),
    /// Credentials cannot be put where the driver reads them.
    #[error("cannot keep credentials at hand: {0}")]
    Files(#[from] std::io::Error),
}

impl Error {
    /// For `map_err`.
    pub fn doing(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Kubernetes { doing: doing.into(), source: Box::new(source) }
    }

    /// What the API server refused, and so for good reasons: the object is not valid to it, or it may not be written.
    pub fn refusal(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Kubernetes { source, .. } => match &**source {
                kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Name and Kubernetes namespace of a resource, for messages and keys.
pub fn full_name<K: Lookup>(resource: &K) -> String {
    let name = resource.name().unwrap_or_default();
    match resource.namespace() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.into_owned(),
    }
}
