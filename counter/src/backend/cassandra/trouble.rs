//! Why a cluster cannot be used, in words that a person can act on. Pure.

use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestError, ConnectionSetupRequestErrorKind, DbError,
    MetadataError, NewSessionError,
};

use super::Reach;

/// Why a contact point does not let us in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It asks for a user name and password, and we were given none.
    CredentialsMissing,
    /// It does not take the user name and password that we have.
    CredentialsWrong(String),
    /// What we were given to log in or to connect with cannot be used.
    OurFiles(String),
    /// Anything else: it may not even be there.
    Unreachable(String),
}

pub(super) fn refusal(error: &NewSessionError) -> Refusal {
    match error {
        NewSessionError::FailedToResolveAnyHostname(_) => {
            Refusal::Unreachable("its name cannot be resolved to an address".to_owned())
        }
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
            last_connection_error,
        })) => of_connection(last_connection_error),
        other => Refusal::Unreachable(other.to_string()),
    }
}

pub(super) fn of_connection(error: &ConnectionError) -> Refusal {
    match error {
        ConnectionError::ConnectionSetupRequestError(error) => of_setup(error),
        ConnectionError::ConnectTimeout => Refusal::Unreachable("it does not answer".to_owned()),
        ConnectionError::IoError(error) => Refusal::Unreachable(error.to_string()),
        other => Refusal::Unreachable(other.to_string()),
    }
}

fn of_setup(error: &ConnectionSetupRequestError) -> Refusal {
    match error.get_error() {
        ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, reason) if is_of_logins(reason) => {
            Refusal::Unreachable(reason.clone())
        }
        ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, reason) => {
            Refusal::CredentialsWrong(reason.clone())
        }
        ConnectionSetupRequestErrorKind::MissingAuthentication => Refusal::CredentialsMissing,
        ConnectionSetupRequestErrorKind::StartAuthSessionError(reason) => Refusal::OurFiles(reason.clone()),
        _ => Refusal::Unreachable(error.to_string()),
    }
}

/// Whether a node refuses somebody because it cannot look up who that is and what he may do: logins and permissions are rows, whose
/// replicas may be away. Cassandra has no code of its own for it (`PasswordAuthenticator`, `CassandraAuthorizer`).
pub(super) fn is_of_logins(reason: &str) -> bool {
    reason.starts_with("Unable to perform auth")
}

/// What no contact point let us in for, as one sentence. Where one of them says what is wrong with our side, that is it;
/// else each is named with its own reason.
pub(super) fn in_words(reach: &Reach, refusals: &[(String, Refusal)]) -> String {
    let ours = refusals.iter().find_map(|(contact_point, refusal)| match refusal {
        Refusal::CredentialsMissing => Some(format!(
            "wrong credentials: Cassandra at {contact_point} asks for a user name and password, and no credentials_file is configured"
        )),
        Refusal::CredentialsWrong(reason) => {
            let file = reach.credentials_file.as_ref().map_or("none".to_owned(), |file| file.display().to_string());
            Some(format!(
                "wrong credentials: Cassandra at {contact_point} does not take the user name and password in {file}: {reason}"
            ))
        }
        Refusal::OurFiles(reason) => Some(reason.clone()),
        Refusal::Unreachable(_) => None,
    });
    ours.unwrap_or_else(|| {
        let each: Vec<String> = refusals
            .iter()
            .filter_map(|(contact_point, refusal)| match refusal {
                Refusal::Unreachable(reason) => Some(format!("{contact_point}: {reason}")),
                _ => None,
            })
            .collect();
        format!("unreachable contact points: no Cassandra at any of them ({})", each.join("; "))
    })
}

/// That a contact point let us in, and had no time to say which nodes there are, in which datacenters.
pub(super) fn undescribed(reach: &Reach) -> String {
    let contact_points = reach.contact_points.join(", ");
    format!("Cassandra at {contact_points} takes connections and does not describe its nodes: it is starting, or busy")
}

/// That the configured datacenter is none of the cluster's.
pub(super) fn wrong_datacenter(configured: &str, cluster: &str, datacenters: &[&str]) -> String {
    format!(
        "wrong datacenter: local_datacenter is {configured:?}, and Cassandra cluster {cluster:?} has {}",
        datacenters.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn reach() -> Reach {
        Reach {
            contact_points: vec!["a:9042".to_owned(), "b:9042".to_owned()],
            local_datacenter: "dc1".to_owned(),
            credentials_file: Some(PathBuf::from("/etc/credentials")),
            tls_ca_file: None,
        }
    }

    fn unreachable(contact_point: &str, reason: &str) -> (String, Refusal) {
        (contact_point.to_owned(), Refusal::Unreachable(reason.to_owned()))
    }

    #[test]
    fn each_unreachable_contact_point_is_named_with_its_reason() {
        let words = in_words(&reach(), &[unreachable("a:9042", "refused"), unreachable("b:9042", "no such host")]);
        assert!(words.starts_with("unreachable contact points"), "{words}");
        assert!(words.contains("a:9042: refused") && words.contains("b:9042: no such host"), "{words}");
    }

    #[test]
    fn wrong_credentials_outweigh_an_unreachable_neighbour() {
        let wrong = ("b:9042".to_owned(), Refusal::CredentialsWrong("bad username".to_owned()));
        let words = in_words(&reach(), &[unreachable("a:9042", "refused"), wrong]);
        assert!(words.starts_with("wrong credentials"), "{words}");
        assert!(words.contains("b:9042") && words.contains("/etc/credentials"), "{words}");
    }

    #[test]
    fn a_cluster_that_does_not_describe_itself_is_told_by_its_contact_points() {
        let words = undescribed(&reach());
        assert!(words.contains("a:9042, b:9042") && words.contains("does not describe its nodes"), "{words}");
    }

    #[test]
    fn a_wrong_datacenter_is_told_with_those_that_there_are() {
        let words = wrong_datacenter("dc9", "main", &["dc1", "dc2"]);
        for part in ["\"dc9\"", "\"main\"", "dc1, dc2"] {
            assert!(words.contains(part), "{words}");
        }
    }
}
