//! What of the certificates that are there is to be made anew.

use jiff::Timestamp;

use super::{Authority, Error, Facts, KeyPair, is_signed_by_any};

/// The certificates of streams on which both sides show one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutual {
    /// Who signs: all that are to be trusted, the one with the key first.
    pub authority: KeyPair,
    /// The server's.
    pub server: KeyPair,
    /// The client's.
    pub client: KeyPair,
}

/// Certificates that were made anew, in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed<T> {
    /// What is now in force.
    pub certificates: T,
    /// What was made anew and why, for people.
    pub reason: String,
}

/// The certificates of the rollup streams of a CounterNamespace: those found, and anew what is missing, unusable or due.
/// `name` is for people; `dns_names` are the rollup servers'.
///
/// # Errors
/// If no key can be made, or a name is none.
pub fn rollup_tls(
    name: &str,
    dns_names: &[String],
    authority: Option<&KeyPair>,
    server: Option<&KeyPair>,
    client: Option<&KeyPair>,
    now: Timestamp,
) -> Result<Mutual, Error> {
    let mut reasons = Vec::new();
    let trust = Trust::of(authority, name, now, &mut reasons)?;
    let server = trust.leaf(server, dns_names, now, "rollup servers'", &mut reasons);
    let server = server.map_or_else(|| trust.signing.server(dns_names, now), Ok)?;
    let client = trust.leaf(client, &[], now, "sidecars'", &mut reasons);
    let client = client.map_or_else(|| trust.signing.client(&format!("sidecars of {name}"), now), Ok)?;
    if !reasons.is_empty() {
        tracing::info!(name, reason = reasons.join("; "), "issued certificates");
    }
    Ok(Mutual { authority: trust.authority, server, client })
}

/// Who is trusted, and who signs.
pub(super) struct Trust {
    /// All that are to be trusted, and the newest one's key.
    pub authority: KeyPair,
    /// Who signs at this time: still the old one when there is a new one that nobody has heard of.
    pub signing: Authority,
    /// Whether there is a new one that nobody has heard of: what the old one signs is to last until all have.
    is_handing_over: bool,
}

impl Trust {
    /// Who is to be trusted from now on.
    pub fn of(
        existing: Option<&KeyPair>,
        name: &str,
        now: Timestamp,
        reasons: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let read =
            existing.map(|pair| Authority::read(pair).and_then(|read| Ok((read, Facts::read(&pair.certificate)?))));
        match read {
            Some(Ok((signing, facts))) if now < facts.not_after => {
                let trusted = without_expired(&signing.pair().certificate, now);
                if trusted != signing.pair().certificate {
                    reasons.push("an authority that has expired is no longer trusted".to_owned());
                }
                if !facts.is_due(now) {
                    let authority = KeyPair { certificate: trusted, key: signing.pair().key.clone() };
                    return Ok(Self { authority, signing, is_handing_over: false });
                }
                reasons.push(format!("the authority ends at {}: another one is trusted beside it", facts.not_after));
                let next = Authority::new(name, now)?;
                let certificate = format!("{}{trusted}", next.pair().certificate);
                let authority = KeyPair { certificate, key: next.pair().key.clone() };
                Ok(Self { authority, signing, is_handing_over: true })
            }
            unusable => {
                reasons.push(match unusable {
                    None => "there was no authority".to_owned(),
                    Some(Ok((_, facts))) => format!("the authority has expired, at {}", facts.not_after),
                    Some(Err(error)) => format!("the authority could not be used: {error}"),
                });
                let signing = Authority::new(name, now)?;
                Ok(Self { authority: signing.pair().clone(), signing, is_handing_over: false })
            }
        }
    }

    /// The certificate that is there, if it can stay. `dns_names` is empty for a client's.
    pub fn leaf(
        &self,
        existing: Option<&KeyPair>,
        dns_names: &[String],
        now: Timestamp,
        whose: &str,
        reasons: &mut Vec<String>,
    ) -> Option<KeyPair> {
        let Some(existing) = existing else {
            reasons.push(format!("there was no {whose} certificate"));
            return None;
        };
        match self.fault(existing, dns_names, now) {
            None => Some(existing.clone()),
            Some(fault) => {
                reasons.push(format!("the {whose} certificate {fault}"));
                None
            }
        }
    }

    fn fault(&self, existing: &KeyPair, dns_names: &[String], now: Timestamp) -> Option<String> {
        let facts = match Facts::read(&existing.certificate) {
            Ok(facts) => facts,
            Err(error) => return Some(format!("could not be used: {error}")),
        };
        let key = rcgen::KeyPair::from_pem(&existing.key);
        if key.map_or(true, |key| key.public_key_raw() != facts.public_key) {
            return Some("and its key do not belong together".to_owned());
        }
        if facts.is_due(now) {
            return Some(format!("ends at {}", facts.not_after));
        }
        if facts.dns_names != dns_names.iter().cloned().collect() {
            return Some(format!("is not for {}", dns_names.join(", ")));
        }
        if !is_signed_by_any(&existing.certificate, &self.authority.certificate) {
            return Some("is not signed by an authority that is trusted".to_owned());
        }
        self.is_handing_over.then(|| "is to last until the new authority is known to all".to_owned())
    }
}

/// The certificates of a bundle that still count, in their order; as it is if all do.
fn without_expired(bundle: &str, now: Timestamp) -> String {
    let certificates = bundle.split_inclusive("-----END CERTIFICATE-----\n");
    certificates.filter(|pem| Facts::read(pem).is_ok_and(|facts| now < facts.not_after)).collect()
}
