//! Certificates are verified as rustls does, at the times that the tests choose.

use std::sync::Arc;

use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;

use super::webhook::{self, Webhook};
use super::*;

const START: i64 = 1_800_000_000;
const SERVER: &str = "*.likes-rollup.shop.svc";

fn day(day: i64) -> Timestamp {
    Timestamp::from_second(START).unwrap() + (24 * day).hours()
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}

fn roots(bundle: &str) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(bundle) {
        roots.add(certificate).unwrap();
    }
    Arc::new(roots)
}

fn at(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.as_second().try_into().unwrap()))
}

fn trusts_server(bundle: &str, server: &KeyPair, name: &str, now: Timestamp) -> bool {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(bundle), provider).build().unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.verify_server_cert(&certificates(&server.certificate)[0], &[], &name, &[], at(now)).is_ok()
}

fn trusts_client(bundle: &str, client: &KeyPair, now: Timestamp) -> bool {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(bundle), provider).build().unwrap();
    verifier.verify_client_cert(&certificates(&client.certificate)[0], &[], at(now)).is_ok()
}

fn trusts(mutual: &Mutual, shown: &Mutual, now: Timestamp) -> bool {
    let bundle = &mutual.authority.certificate;
    trusts_server(bundle, &shown.server, "likes-rollup-0.likes-rollup.shop.svc", now)
        && trusts_client(bundle, &shown.client, now)
}

/// What is made of it, if that is anything else.
fn renew(existing: Option<&Mutual>, now: Timestamp) -> Option<Mutual> {
    let (authority, server, client) = match existing {
        Some(Mutual { authority, server, client }) => (Some(authority), Some(server), Some(client)),
        None => (None, None, None),
    };
    let names = [SERVER.to_owned(), "likes-rollup.shop.svc".to_owned()];
    let renewed = rollup_tls("shop/likes", &names, authority, server, client, now).unwrap();
    (Some(&renewed) != existing).then_some(renewed)
}

fn fresh(now: Timestamp) -> Mutual {
    renew(None, now).unwrap()
}

#[test]
fn what_is_issued_is_what_rustls_takes_for_it_and_for_nothing_else() {
    let mutual = fresh(day(0));
    let bundle = &mutual.authority.certificate;
    assert!(trusts(&mutual, &mutual, day(0)));
    assert!(trusts_server(bundle, &mutual.server, "likes-rollup.shop.svc", day(0)));
    assert!(!trusts_server(bundle, &mutual.server, "other.shop.svc", day(0)));
    assert!(!trusts_server(bundle, &mutual.client, "likes-rollup.shop.svc", day(0)), "a client is no server");
    assert!(!trusts_client(bundle, &mutual.server, day(0)), "a server is no client");
    assert!(!trusts(&mutual, &fresh(day(0)), day(0)), "another authority's");
    assert!(!trusts(&mutual, &mutual, day(91)));
}

#[test]
fn what_is_in_order_is_left_alone() {
    let mutual = fresh(day(0));
    for days in [0, 1, 59] {
        assert_eq!(renew(Some(&mutual), day(days)), None);
    }
}

#[test]
fn a_certificate_is_made_anew_when_two_thirds_of_its_time_have_passed_and_the_authority_stays() {
    let mutual = fresh(day(0));
    let renewed = renew(Some(&mutual), day(60)).unwrap();
    assert_eq!(renewed.authority, mutual.authority);
    assert_ne!(renewed.server, mutual.server);
    assert_ne!(renewed.client, mutual.client);
    assert_eq!(Facts::read(&renewed.server.certificate).unwrap().not_after, day(150));
}

#[test]
fn a_server_of_other_names_gets_another_certificate_and_the_client_keeps_its_own() {
    let mutual = fresh(day(0));
    let (authority, client) = (Some(&mutual.authority), Some(&mutual.client));
    let names = ["elsewhere.svc".to_owned()];
    let renewed = rollup_tls("shop/likes", &names, authority, Some(&mutual.server), client, day(0)).unwrap();
    assert_eq!((&renewed.client, &renewed.authority), (&mutual.client, &mutual.authority));
    assert!(trusts_server(&mutual.authority.certificate, &renewed.server, "elsewhere.svc", day(0)));
}

#[test]
fn what_cannot_be_read_or_does_not_belong_together_is_made_anew() {
    let (good, other) = (fresh(day(0)), fresh(day(0)));
    let broken = KeyPair { certificate: "nonsense".to_owned(), key: good.server.key.clone() };
    let other_key = KeyPair { key: other.authority.key.clone(), ..good.authority.clone() };
    for bad in [
        Mutual { server: broken.clone(), ..good.clone() },
        Mutual { server: KeyPair { key: other.server.key.clone(), ..good.server.clone() }, ..good.clone() },
        Mutual { client: other.client.clone(), ..good.clone() },
        Mutual { authority: broken, ..good.clone() },
        Mutual { authority: other_key, ..good.clone() },
    ] {
        let renewed = renew(Some(&bad), day(0)).unwrap();
        assert!(trusts(&renewed, &renewed, day(0)));
        assert_eq!(renew(Some(&renewed), day(0)), None);
    }
}

#[test]
fn a_new_authority_is_trusted_long_before_it_signs() {
    let mut old = fresh(day(0));
    // As they are when the authority is due: certificates come from the last time they were.
    let due = i64::from(AUTHORITY_DAYS) / 3 * 2 + 2;
    old = renew(Some(&old), day(due - 30)).unwrap();
    let both = renew(Some(&old), day(due)).unwrap();
    assert_eq!(certificates(&both.authority.certificate).len(), 2);
    assert!(trusts(&old, &both, day(due)), "who has not heard of the new one takes what is shown");
    assert!(trusts(&both, &old, day(due)), "who has heard of it takes what was shown before");
    for days in 0..60 {
        assert_eq!(renew(Some(&both), day(due + days)), None, "and there is time to hear of it");
    }
    let new = renew(Some(&both), day(due + 60)).unwrap();
    assert!(trusts(&both, &new, day(due + 60)));
    assert!(!trusts(&old, &new, day(due + 60)), "the new one signs now");
    let expired = i64::from(AUTHORITY_DAYS);
    let alone = renew(Some(&new), day(expired)).unwrap();
    assert_eq!(certificates(&alone.authority.certificate).len(), 1);
}

#[test]
fn what_expired_while_nobody_looked_is_made_anew() {
    let renewed = renew(Some(&fresh(day(0))), day(5000)).unwrap();
    assert!(trusts(&renewed, &renewed, day(5000)));
}

#[test]
fn the_webhooks_certificate_goes_through_its_secret_unchanged() {
    let names = ["tallyman-webhook.tallyman.svc".to_owned()];
    let made = webhook::renew(None, &names, day(0)).unwrap().unwrap().certificates;
    let read = Webhook::from_data(&made.to_data()).unwrap();
    assert_eq!(read, made);
    assert_eq!(webhook::renew(Some(&read), &names, day(1)).unwrap(), None);
    let bundle = String::from_utf8(read.ca_bundle().0).unwrap();
    assert!(trusts_server(&bundle, &read.server, &names[0], day(1)));
    let mut part = made.to_data();
    part.remove("tls.key");
    assert_eq!(Webhook::from_data(&part), None);
}

#[test]
fn a_key_is_not_printed() {
    assert!(!format!("{:?}", fresh(day(0))).contains("PRIVATE"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Over any sequence of looks, none of them longer apart than a certificate lasts, each state trusts and is trusted by
    /// the one before it: whichever pod reloads first.
    #[test]
    fn neighbouring_states_trust_each_other(steps in prop::collection::vec(1_i64..85, 60..120)) {
        let (mut today, mut state) = (0, fresh(day(0)));
        for step in steps {
            // Never looked at between two thirds and the end is what the step's bound rules out.
            today += step;
            let before = state.clone();
            if let Some(renewed) = renew(Some(&state), day(today)) {
                state = renewed;
            }
            prop_assert!(trusts(&before, &state, day(today)));
            prop_assert!(trusts(&state, &before, day(today)) || !trusts(&before, &before, day(today)));
        }
    }
}
