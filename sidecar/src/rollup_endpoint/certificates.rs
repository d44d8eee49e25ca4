//! What a sidecar shows to a rollup server, and trusts it by: read anew for every connection, and looked at while there is one.

use tallyman_daemon::tls_files::{LOOK_EVERY, TlsContents, TlsFiles};
use tokio::time::sleep;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// The way to `address`, not connected yet; with `contents` by mutual TLS.
///
/// # Errors
/// When the address is none, or the contents are not what they should be.
pub fn endpoint(address: &str, contents: Option<&TlsContents>) -> Result<Endpoint, String> {
    let Some(TlsContents { ca, cert, key }) = contents else {
        return Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string());
    };
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca))
        .identity(Identity::from_pem(cert, key))
        .domain_name(host(address));
    let endpoint = Endpoint::from_shared(format!("https://{address}")).map_err(|error| error.to_string())?;
    endpoint.tls_config(tls).map_err(|error| super::link::whole_reason(&error))
}

/// The host of `host:port`, as certificates name it.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Waits until the files hold something else that can be used.
pub async fn renewed(address: &str, files: &TlsFiles, contents: &TlsContents) {
    let mut told = None;
    loop {
        // Spread, so that not all sidecars come at once.
        sleep(LOOK_EVERY.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        let problem = match files.read().await {
            Ok(new) if new == *contents => None,
            Ok(new) => match endpoint(address, Some(&new)) {
                Ok(_) => return,
                Err(reason) => {
                    Some(format!("what {} and the files beside it hold: {reason}", files.cert_file.display()))
                }
            },
            Err(reason) => Some(reason),
        };
        if let Some(problem) = &problem
            && told.as_ref() != Some(problem)
        {
            tracing::warn!(%address, %problem, "renewed certificates cannot be used; the connection stays as it is");
        }
        told = problem;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_as_in_its_certificate() {
        for (address, name) in
            [("r-0.r.ns.svc:7787", "r-0.r.ns.svc"), ("127.0.0.1:7787", "127.0.0.1"), ("[::1]:7787", "::1")]
        {
            assert_eq!(host(address), name);
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused_before_anything_is_connected() {
        let nonsense = TlsContents { ca: b"ca".to_vec(), cert: b"cert".to_vec(), key: b"key".to_vec() };
        assert!(endpoint("r-0.r:7787", Some(&nonsense)).is_err());
        assert!(endpoint("r-0.r:7787", None).is_ok());
    }
}
