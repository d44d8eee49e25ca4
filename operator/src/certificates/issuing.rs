//! Authorities, and what they sign.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair as Key, KeyUsagePurpose,
};

use super::{Error, Facts, KeyPair};

/// How long an authority is good for.
pub const AUTHORITY_DAYS: u32 = 3650;
/// How long what it signs is good for.
pub const LEAF_DAYS: u32 = 90;
const SECONDS_PER_DAY: u64 = 86_400;
/// What it signs counts from this long before now: clocks differ.
const CLOCKS_DIFFER_SECONDS: u64 = 600;

/// Who signs certificates.
pub struct Authority {
    pair: KeyPair,
    issuer: Issuer<'static, Key>,
}

impl Authority {
    /// A new one of this name.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn new(name: &str, now: Timestamp) -> Result<Self, Error> {
        let make = |source| Error::Make { name: name.to_owned(), source };
        let mut params = params(name, now, AUTHORITY_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = Key::generate().map_err(make)?;
        let certificate = params.self_signed(&key).map_err(make)?.pem();
        let pair = KeyPair { certificate, key: key.serialize_pem() };
        Ok(Self { pair, issuer: Issuer::new(params, key) })
    }

    /// One that was made before: its key, and its certificate as the first of those to be trusted.
    ///
    /// # Errors
    /// If it cannot be read, or certificate and key do not belong together.
    pub fn read(pair: &KeyPair) -> Result<Self, Error> {
        let refused = |message: String| Error::Read { what: "an authority", message };
        let key = Key::from_pem(&pair.key).map_err(|error| refused(error.to_string()))?;
        if key.public_key_raw() != Facts::read(&pair.certificate)?.public_key {
            return Err(refused("certificate and key do not belong together".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_pem(&pair.certificate, key).map_err(|error| refused(error.to_string()))?;
        Ok(Self { pair: pair.clone(), issuer })
    }

    /// Its certificate, its key.
    #[must_use]
    pub fn pair(&self) -> &KeyPair {
        &self.pair
    }

    /// A certificate for a server of these DNS names, which may begin with `*.`.
    ///
    /// # Errors
    /// If a name is none, or no key can be made.
    pub fn server(&self, dns_names: &[String], now: Timestamp) -> Result<KeyPair, Error> {
        let name = dns_names.first().map_or("", String::as_str);
        let names =
            CertificateParams::new(dns_names).map_err(|source| Error::Make { name: name.to_owned(), source })?;
        let mut params = params(name, now, LEAF_DAYS);
        params.subject_alt_names = names.subject_alt_names;
        self.sign(params, name, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client of this name.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn client(&self, name: &str, now: Timestamp) -> Result<KeyPair, Error> {
        self.sign(params(name, now, LEAF_DAYS), name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<KeyPair, Error> {
        let make = |source| Error::Make { name: name.to_owned(), source };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = Key::generate().map_err(make)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(make)?.pem();
        Ok(KeyPair { certificate, key: key.serialize_pem() })
    }
}

fn params(name: &str, now: Timestamp, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Tallyman");
    // Verifiers read the alternative names only; the common name is for people, and has at most 64 characters.
    params.distinguished_name.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    // Certificates write times in whole seconds since before 1970; no clock of ours stands earlier.
    let now = u64::try_from(now.as_second()).unwrap_or_default();
    let time = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = time(now.saturating_sub(CLOCKS_DIFFER_SECONDS));
    params.not_after = time(now + u64::from(days) * SECONDS_PER_DAY);
    params
}
