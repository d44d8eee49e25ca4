//! The webhook's own certificate, where nobody else cares for it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;

use super::renewal::Trust;
use super::{Error, KeyPair, Renewed};

/// Name of the authority that signs it.
const AUTHORITY: &str = "tallyman-webhook";
/// Keys of the Secret it is kept in.
const KEYS: [&str; 4] = ["ca.crt", "ca.key", "tls.crt", "tls.key"];

/// What the webhook serves with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Who signs: all that are to be trusted, the one with the key first.
    pub authority: KeyPair,
    /// The certificate that the webhook shows.
    pub server: KeyPair,
}

impl Webhook {
    /// From the data of its Secret; `None` if a part is missing or no text.
    #[must_use]
    pub fn from_data(data: &BTreeMap<String, ByteString>) -> Option<Self> {
        let [authority, authority_key, certificate, key] =
            KEYS.map(|key| data.get(key).and_then(|value| String::from_utf8(value.0.clone()).ok()));
        Some(Self {
            authority: KeyPair { certificate: authority?, key: authority_key? },
            server: KeyPair { certificate: certificate?, key: key? },
        })
    }

    /// The data of its Secret.
    #[must_use]
    pub fn to_data(&self) -> BTreeMap<String, ByteString> {
        let values = [&self.authority.certificate, &self.authority.key, &self.server.certificate, &self.server.key];
        KEYS.iter()
            .zip(values)
            .map(|(key, value)| ((*key).to_owned(), ByteString(value.clone().into_bytes())))
            .collect()
    }

    /// What the API server is to trust: the `caBundle` of the webhook's configuration.
    #[must_use]
    pub fn ca_bundle(&self) -> ByteString {
        ByteString(self.authority.certificate.clone().into_bytes())
    }
}

/// What is to be in place of `existing`; `None` leaves it as it is. `dns_names` are the webhook's as the API server calls it:
/// `<service>.<Kubernetes namespace>.svc`.
///
/// # Errors
/// If no key can be made, or a name is none.
pub fn renew(
    existing: Option<&Webhook>,
    dns_names: &[String],
    now: Timestamp,
) -> Result<Option<Renewed<Webhook>>, Error> {
    let mut reasons = Vec::new();
    let trust = Trust::of(existing.map(|existing| &existing.authority), AUTHORITY, now, &mut reasons)?;
    let server = trust.leaf(existing.map(|existing| &existing.server), dns_names, now, "webhook's", &mut reasons);
    let server = server.map_or_else(|| trust.signing.server(dns_names, now), Ok)?;
    let certificates = Webhook { authority: trust.authority, server };
    Ok((!reasons.is_empty()).then(|| Renewed { certificates, reason: reasons.join("; ") }))
}
