//! Mutual TLS beneath the streams of sidecars: a sidecar gets in with a certificate of the right authority, and by no other way.
//! Renewed files are in force for the connections that come after; those that are open stay open.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tallyman_daemon::tls_files::{LOOK_EVERY, TlsContents, TlsFiles};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// What is spoken inside: HTTP/2, as gRPC is.
const PROTOCOL: &[u8] = b"h2";
/// How long a handshake may take, and how many may be under way: further connections wait to be accepted.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const HANDSHAKES_MAX: usize = 256;
/// Connections that are through and not served yet.
const WAITING_MAX: usize = 16;
/// The pause after a failed accept: most often the process is out of file descriptors, and trying on burns the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The certificates of this server, as its files say, and said when they were last right.
pub struct Tls {
    files: TlsFiles,
    current: ArcSwap<Current>,
}

#[derive(Default)]
struct Current {
    /// What new connections are taken with; `None` while the files were never right.
    config: Option<Arc<ServerConfig>>,
    /// What it was made of.
    contents: Option<TlsContents>,
    /// What is wrong with the files now.
    problem: Option<String>,
}

impl Tls {
    /// Reads the files, which need not be there yet.
    pub async fn open(files: TlsFiles) -> Arc<Self> {
        let tls = Arc::new(Self { files, current: ArcSwap::default() });
        tls.look().await;
        tls
    }

    /// What is wrong with the files now.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.current.load().problem.clone()
    }

    /// Whether the files were ever right: connections are taken by what they said then.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.current.load().config.is_some()
    }

    /// Takes renewed files, for as long as it is polled.
    pub async fn keep_renewed(&self) {
        loop {
            sleep(LOOK_EVERY).await;
            self.look().await;
        }
    }

    async fn look(&self) {
        let before = self.current.load_full();
        let read = self.files.read().await;
        if read.as_ref().is_ok_and(|contents| before.contents.as_ref() == Some(contents)) {
            if before.problem.is_some() {
                self.current.store(Arc::new(Current {
                    config: before.config.clone(),
                    contents: before.contents.clone(),
                    problem: None,
                }));
            }
            return;
        }
        let made = read.and_then(|contents| Ok((self.config(&contents)?, contents)));
        self.current.store(Arc::new(match made {
            Ok((config, contents)) => {
                tracing::info!(cert_file = %self.files.cert_file.display(), "new connections of sidecars are taken with these certificates");
                Current { config: Some(Arc::new(config)), contents: Some(contents), problem: None }
            }
            Err(problem) => {
                if before.problem.as_ref() != Some(&problem) {
                    tracing::warn!(%problem, "the files of TLS cannot be used; they are looked at until they can");
                }
                Current { config: before.config.clone(), contents: before.contents.clone(), problem: Some(problem) }
            }
        }));
    }

    /// What connections are taken with. The provider is named here, since a process may hold several and have installed none.
    fn config(&self, contents: &TlsContents) -> Result<ServerConfig, String> {
        let TlsFiles { ca_file, cert_file, key_file } = &self.files;
        let wrong = |file: &std::path::Path, what: &dyn std::fmt::Display| format!("{}: {what}", file.display());
        let certificates = |file: &std::path::Path, pem: &[u8]| {
            let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            match read {
                Ok(read) if read.is_empty() => Err(wrong(file, &"it holds no certificate in PEM")),
                Ok(read) => Ok(read),
                Err(error) => Err(wrong(file, &error)),
            }
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca_file, &contents.ca)? {
            roots.add(certificate).map_err(|error| wrong(ca_file, &error))?;
        }
        let chain = certificates(cert_file, &contents.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| wrong(key_file, &format_args!("it holds no private key in PEM: {error}")))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| wrong(ca_file, &error))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| format!("{} and {}: {error}", cert_file.display(), key_file.display()))?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(config)
    }

    /// The connections of sidecars that showed the right certificate, until `stop`.
    pub fn incoming(
        self: Arc<Self>,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> + Send {
        let (ready, incoming) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            let mut handshakes = JoinSet::new();
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = ready.closed() => return,
                    Some(_) = handshakes.join_next() => {}
                    accepted = listener.accept(), if handshakes.len() < HANDSHAKES_MAX => match accepted {
                        Ok((stream, _)) => {
                            let (tls, ready) = (self.clone(), ready.clone());
                            handshakes.spawn(async move {
                                match tls.handshake(stream).await {
                                    // Without a receiver the server is going away.
                                    Ok(stream) => drop(ready.send(Ok(stream)).await),
                                    Err(reason) => tracing::debug!(%reason, "a connection was refused"),
                                }
                            });
                        }
                        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept a connection");
                            sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
            }
        });
        ReceiverStream::new(incoming)
    }

    async fn handshake(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let Some(config) = self.current.load().config.clone() else {
            return Err("there are no certificates yet".to_owned());
        };
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let shaken = timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await;
        shaken.map_err(|_| format!("no handshake within {HANDSHAKE_TIMEOUT:?}"))?.map_err(|error| error.to_string())
    }
}
