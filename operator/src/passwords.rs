//! Passwords of datasets' roles: each follows from one key, so that none has to be read back from where it was put, two operators
//! agree on it, and the Secret that holds it can be made again at any time.

use aws_lc_rs::{hmac, rand};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

/// The Secret with the key, in the operator's Kubernetes namespace.
pub const KEY_SECRET: &str = "tallyman-operator-key";
/// The key's name there.
const KEY: &str = "key";
const KEY_BYTES: usize = 32;

/// The key that passwords follow from.
pub struct PasswordKey(hmac::Key);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Kubernetes API did not do what was asked.
    #[error("the Secret {KEY_SECRET} can neither be read nor created: {0}")]
    Kubernetes(#[from] Box<kube::Error>),
    /// Somebody put something else there.
    #[error("the Secret {KEY_SECRET} has no {KEY} of {KEY_BYTES} bytes or more; delete it, and new passwords are made")]
    Unusable,
    /// The system has no random numbers.
    #[error("no random numbers can be had")]
    NoRandomness,
}

impl PasswordKey {
    /// A key.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Reads the key, or makes one where there is none. Of several who do so at once, one's is taken by all.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn of_cluster(client: Client, kubernetes_namespace: &str) -> Result<Self, Error> {
        let secrets: Api<Secret> = Api::namespaced(client, kubernetes_namespace);
        loop {
            if let Some(secret) = secrets.get_opt(KEY_SECRET).await.map_err(Box::new)? {
                let key = secret.data.and_then(|mut data| data.remove(KEY)).filter(|key| key.0.len() >= KEY_BYTES);
                return key.map(|key| Self::new(&key.0)).ok_or(Error::Unusable);
            }
            let mut bytes = vec![0; KEY_BYTES];
            rand::fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
            let secret = Secret {
                metadata: ObjectMeta { name: Some(KEY_SECRET.to_owned()), ..ObjectMeta::default() },
                data: Some([(KEY.to_owned(), k8s_openapi::ByteString(bytes))].into()),
                immutable: Some(true),
                ..Secret::default()
            };
            match secrets.create(&PostParams::default(), &secret).await {
                Ok(_) => tracing::info!(secret = KEY_SECRET, "made the key that passwords follow from"),
                // Another was quicker: theirs is read.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(Box::new(error).into()),
            }
        }
    }

    /// The password of a dataset's role.
    #[must_use]
    pub fn password(&self, kubernetes_namespace: &str, dataset: &str) -> String {
        let of = format!("{kubernetes_namespace}/{dataset}");
        hmac::sign(&self.0, of.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_datasets_own_and_the_keys() {
        let key = PasswordKey::new(&[1; 32]);
        let password = key.password("team-a", "plays");
        assert_eq!(password, key.password("team-a", "plays"));
        assert!(password.len() == 64 && password.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(password, key.password("team-b", "plays"));
        assert_ne!(password, key.password("team-a", "likes"));
        assert_ne!(password, PasswordKey::new(&[2; 32]).password("team-a", "plays"));
    }
}
