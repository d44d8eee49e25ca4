//! User name and password, from a file that may change at any time.

use std::path::PathBuf;

use async_trait::async_trait;
use scylla::authentication::{AuthError, AuthenticatorProvider, AuthenticatorSession, PlainTextAuthenticator};

/// What a credentials file says.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub username: String,
    pub password: String,
}

/// Reads `username=…` and `password=…`, each on a line of its own; a value is all that follows the `=`.
pub(super) fn parse(text: &str) -> Result<Credentials, String> {
    let (mut username, mut password) = (None, None);
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (name, slot) = match line.split_once('=') {
            Some(("username", value)) => ("username", username.replace(value.to_owned())),
            Some(("password", value)) => ("password", password.replace(value.to_owned())),
            // What the line holds may be a password, and is not repeated.
            _ => return Err(format!("line {} is neither username=… nor password=…", index + 1)),
        };
        if slot.is_some() {
            return Err(format!("line {} gives the {name} a second time", index + 1));
        }
    }
    match (username, password) {
        (Some(username), Some(password)) => Ok(Credentials { username, password }),
        (None, _) => Err("it has no line username=…".to_owned()),
        (_, None) => Err("it has no line password=…".to_owned()),
    }
}

/// Logs every connection in with what the file says by then: a Secret that is mounted changes while we run.
pub(super) struct CredentialsFile(pub PathBuf);

#[async_trait]
impl AuthenticatorProvider for CredentialsFile {
    async fn start_authentication_session(
        &self,
        authenticator: &str,
    ) -> Result<(Option<Vec<u8>>, Box<dyn AuthenticatorSession>), AuthError> {
        let path = self.0.display();
        let text = tokio::fs::read_to_string(&self.0).await;
        let text = text.map_err(|error| format!("the credentials_file {path} cannot be read: {error}"))?;
        let Credentials { username, password } =
            parse(&text).map_err(|error| format!("the credentials_file {path} cannot be used: {error}"))?;
        PlainTextAuthenticator::new(username, password).start_authentication_session(authenticator).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_all_that_follows_the_first_equals_sign() {
        for text in ["username=u\npassword= a=b \n", "\npassword= a=b \r\nusername=u"] {
            let parsed = parse(text).unwrap();
            assert_eq!((parsed.username.as_str(), parsed.password.as_str()), ("u", " a=b "), "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for (text, reason) in [
            ("username=u\nsecret", "line 2 is neither username=… nor password=…"),
            ("username=u\nusername=v\npassword=p", "line 2 gives the username a second time"),
            ("username=u\n", "it has no line password=…"),
            ("", "it has no line username=…"),
        ] {
            assert_eq!(parse(text).err().as_deref(), Some(reason), "{text:?}");
        }
    }
}
