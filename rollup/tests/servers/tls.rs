//! Mutual TLS between sidecars and rollup servers, over real sockets: who gets in, and what becomes of renewed certificates.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tallyman_counter::forward::RollupEndpoint;
use tallyman_daemon::tls_files::TlsFiles;
use tallyman_sidecar::rollup_endpoint::RemoteRollupServer;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::world::{ANY_PORT, World, document, eventually, get, group, name};

const COALESCE: Duration = Duration::from_millis(100);

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a certificate is for.
#[derive(Clone, Copy)]
enum End {
    Server,
    Client,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate and its key, in PEM.
    fn issue(&self, end: End) -> (String, String) {
        let (names, usage) = match end {
            End::Server => (vec!["127.0.0.1".to_owned()], ExtendedKeyUsagePurpose::ServerAuth),
            End::Client => (vec!["sidecar".to_owned()], ExtendedKeyUsagePurpose::ClientAuth),
        };
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// Writes what that end is to have, over what is there.
    fn write(&self, end: End, dir: &Path) -> TlsFiles {
        let (cert, key) = self.issue(end);
        let at = |name: &str| dir.join(name);
        let files = TlsFiles { ca_file: at("ca.crt"), cert_file: at("tls.crt"), key_file: at("tls.key") };
        for (file, text) in [(&files.ca_file, self.0.pem()), (&files.cert_file, cert), (&files.key_file, key)] {
            std::fs::write(file, text).unwrap();
        }
        files
    }
}

fn connect(address: SocketAddr, tls: Option<TlsFiles>) -> Arc<RemoteRollupServer> {
    RemoteRollupServer::connect(&address.to_string(), tls)
}

async fn is_ready(what: &str, endpoint: &RemoteRollupServer) {
    eventually(what, async || endpoint.is_ready(&name())).await;
}

/// A way to `to` that counts who goes it.
async fn counting_proxy(to: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                if let Ok(mut to) = TcpStream::connect(to).await {
                    // How it ends is the business of those at its ends.
                    let _ = copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
    (address, count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_gets_in_with_a_certificate_of_the_servers_authority_and_by_nothing_else() {
    let world = World::new(&document(&[], COALESCE)).await;
    let (ours, another) = (Authority::new(), Authority::new());
    let [server_dir, right_dir, wrong_dir, mixed_dir] = [(); 4].map(|()| TempDir::new().unwrap());
    let server = world.start_with(ANY_PORT, Some(ours.write(End::Server, server_dir.path()))).await;
    world.configure(&document(&[server.address], COALESCE).to_string());

    // It trusts the server, and shows a certificate of somebody else.
    let mixed = another.write(End::Client, mixed_dir.path());
    std::fs::write(&mixed.ca_file, ours.0.pem()).unwrap();
    let refused = [
        ("plain text", connect(server.address, None)),
        ("another authority", connect(server.address, Some(another.write(End::Client, wrong_dir.path())))),
        ("another authority's certificate", connect(server.address, Some(mixed))),
        // The very certificate that the server itself shows is for servers.
        ("a server's certificate", connect(server.address, Some(ours.write(End::Server, server_dir.path())))),
    ];
    let right = connect(server.address, Some(ours.write(End::Client, right_dir.path())));
    is_ready("the right sidecar is in", &right).await;
    world.touched.route(tallyman_counter::forward::Routes::from([(name(), vec![right as Arc<dyn RollupEndpoint>])]));
    world.add(group("a", 20)).await;
    world.wait_for(group("a", 20), 1).await;
    for (what, endpoint) in &refused {
        assert!(!endpoint.is_ready(&name()), "{what}");
        let counters = [tallyman_counter::model::CounterName::new("c").unwrap()];
        assert!(endpoint.send(&name(), &counters).await.is_err(), "{what}");
    }
    assert_eq!(get(server.admin, "/metrics").await.unwrap().1.matches("tallyman_forwarding_streams 1\n").count(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_does_not_trust_a_server_of_another_authority_or_one_without_tls() {
    let world = World::new(&document(&[], COALESCE)).await;
    let (ours, another) = (Authority::new(), Authority::new());
    let [server_dir, client_dir] = [(); 2].map(|()| TempDir::new().unwrap());
    // It takes our sidecars' certificates, and shows one that does not come from our authority.
    let impostor = another.write(End::Server, server_dir.path());
    std::fs::write(&impostor.ca_file, ours.0.pem()).unwrap();
    let servers = [world.start_with(ANY_PORT, Some(impostor)).await, world.start(ANY_PORT).await];
    world.configure(&document(&servers.each_ref().map(|server| server.address), COALESCE).to_string());
    let files = ours.write(End::Client, client_dir.path());
    let endpoints = servers.each_ref().map(|server| connect(server.address, Some(files.clone())));
    let plain = connect(servers[1].address, None);
    is_ready("the server without TLS is there", &plain).await;
    // Long enough for many attempts.
    for _ in 0..50 {
        assert!(!endpoints.iter().any(|endpoint| endpoint.is_ready(&name())));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_files_are_taken_by_both_ends_without_a_restart() {
    let world = World::new(&document(&[], COALESCE)).await;
    let (old, new) = (Authority::new(), Authority::new());
    let [server_dir, client_dir, later_dir] = [(); 3].map(|()| TempDir::new().unwrap());
    let server = world.start_with(ANY_PORT, Some(old.write(End::Server, server_dir.path()))).await;
    world.configure(&document(&[server.address], COALESCE).to_string());
    let (address, connections) = counting_proxy(server.address).await;
    let sidecar = connect(address, Some(old.write(End::Client, client_dir.path())));
    is_ready("it is in with the old certificates", &sidecar).await;
    let before = connections.load(Ordering::SeqCst);

    // The server's side first: who is in stays in, who comes is asked for the new.
    new.write(End::Server, server_dir.path());
    let later = connect(server.address, Some(new.write(End::Client, later_dir.path())));
    is_ready("one with new certificates is in", &later).await;
    assert!(sidecar.is_ready(&name()));
    assert_eq!(connections.load(Ordering::SeqCst), before);

    // Half renewed is not renewed: the certificate and the key do not fit.
    std::fs::write(client_dir.path().join("tls.crt"), new.issue(End::Client).0).unwrap();
    new.write(End::Client, client_dir.path());
    eventually("it connects anew", async || connections.load(Ordering::SeqCst) > before).await;
    is_ready("it is in with the new certificates", &sidecar).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_waits_for_its_certificates_and_says_what_is_wrong_with_them() {
    let world = World::new(&document(&[], COALESCE)).await;
    let authority = Authority::new();
    let [server_dir, client_dir, spare_dir] = [(); 3].map(|()| TempDir::new().unwrap());
    let files = authority.write(End::Server, server_dir.path());
    std::fs::remove_file(&files.key_file).unwrap();
    let server = world.start_with(ANY_PORT, Some(files.clone())).await;
    world.configure(&document(&[server.address], COALESCE).to_string());
    let page = async || get(server.admin, "/readyz").await.unwrap_or_default();
    eventually("it is not ready, and says why", async || {
        let (code, text) = page().await;
        code == 503 && text.lines().any(|line| line.starts_with("[-]") && line.contains("tls.key"))
    })
    .await;
    let endpoint = connect(server.address, Some(authority.write(End::Client, client_dir.path())));
    assert!(!endpoint.is_ready(&name()));
    authority.write(End::Server, server_dir.path());
    is_ready("the certificates are there", &endpoint).await;
    eventually("it is ready", async || page().await.0 == 200).await;

    // Another key than the certificate's: what was right stays in force.
    std::fs::copy(authority.write(End::Server, spare_dir.path()).key_file, &files.key_file).unwrap();
    eventually("it warns", async || {
        let (code, text) = page().await;
        code == 200 && text.contains("tls.key") && text.contains("stays in force")
    })
    .await;
    assert!(endpoint.is_ready(&name()));
    server.stop().await;
}
