//! Certificates: who signs them, whom they name, and when they are made anew.
//!
//! No I/O, and no clock: now is always given. Two users: the streams between sidecars and rollup servers, where both sides show a
//! certificate ([`Mutual`]), and the webhook ([`webhook`]).
//!
//! An authority is good for ten years and a certificate for ninety days; both are made anew once two thirds of that have
//! passed, so that a month of an operator that does not run breaks nothing. **Nobody learns of a new authority from a
//! certificate that it signed:** a new one is first only added to the ones to be trusted, with certificates made anew by the
//! old one at that time; it signs the next ones, two months later. What has expired is no longer trusted.

mod issuing;
mod renewal;
#[cfg(test)]
mod tests;
pub mod webhook;

use std::collections::BTreeSet;

use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

pub use self::issuing::{AUTHORITY_DAYS, Authority, LEAF_DAYS};
pub use self::renewal::{Mutual, Renewed, rollup_tls};

/// A certificate and its key, PEM both.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The certificate. Of an authority: all that are to be trusted, the one with this key first.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Why a certificate cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be made.
    #[error("cannot make the certificate of {name}: {source}")]
    Make {
        /// Whose.
        name: String,
        /// Why not.
        source: rcgen::Error,
    },
    /// It cannot be read.
    #[error("cannot read {what}: {message}")]
    Read {
        /// What.
        what: &'static str,
        /// Why not.
        message: String,
    },
}

/// What is read of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// When it begins to count.
    pub not_before: Timestamp,
    /// Up to when it counts.
    pub not_after: Timestamp,
    /// The DNS names it is for.
    pub dns_names: BTreeSet<String>,
    public_key: Vec<u8>,
}

impl Facts {
    /// Of the first certificate of a PEM text.
    ///
    /// # Errors
    /// If there is none that can be read.
    pub fn read(pem: &str) -> Result<Self, Error> {
        blocks(pem)?.first().ok_or_else(|| unreadable("there is none")).and_then(of_block)
    }

    /// Whether it is to be made anew: two thirds of its time have passed, or its time has not come.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        let seconds = self.not_after.as_second() - self.not_before.as_second();
        now < self.not_before || now.as_second() >= self.not_before.as_second() + seconds / 3 * 2
    }
}

fn unreadable(message: impl Into<String>) -> Error {
    Error::Read { what: "a certificate", message: message.into() }
}

fn blocks(pem: &str) -> Result<Vec<Pem>, Error> {
    let blocks: Result<Vec<_>, _> = Pem::iter_from_buffer(pem.as_bytes()).collect();
    blocks.map_err(|error| unreadable(error.to_string()))
}

fn parse(block: &Pem) -> Result<X509Certificate<'_>, Error> {
    block.parse_x509().map_err(|error| unreadable(error.to_string()))
}

fn of_block(block: &Pem) -> Result<Facts, Error> {
    let certificate = parse(block)?;
    let time = |seconds| Timestamp::from_second(seconds).map_err(|error| unreadable(error.to_string()));
    let names = certificate.subject_alternative_name().ok().flatten();
    let dns_names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Ok(Facts {
        not_before: time(certificate.validity().not_before.timestamp())?,
        not_after: time(certificate.validity().not_after.timestamp())?,
        dns_names: dns_names.collect(),
        public_key: certificate.public_key().subject_public_key.data.to_vec(),
    })
}

/// Whether the first certificate of `pem` was signed by one of `authorities`.
fn is_signed_by_any(pem: &str, authorities: &str) -> bool {
    let Ok((leaves, authorities)) = blocks(pem).and_then(|leaves| Ok((leaves, blocks(authorities)?))) else {
        return false;
    };
    let Some(Ok(leaf)) = leaves.first().map(parse) else { return false };
    authorities.iter().filter_map(|block| parse(block).ok()).any(|authority| {
        authority.subject() == leaf.issuer() && leaf.verify_signature(Some(authority.public_key())).is_ok()
    })
}
