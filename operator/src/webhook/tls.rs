//! TLS with a certificate that changes while the server runs.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use prometheus_client::metrics::gauge::Gauge;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tallyman_daemon::connections;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::certificates::{Facts, KeyPair};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often a folder is looked at. A certificate is there weeks before it is needed.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The files of a Secret of type `kubernetes.io/tls`, as cert-manager writes it.
const FILES: [&str; 2] = ["tls.crt", "tls.key"];

/// Why a certificate cannot be shown. The one before it stays.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {file}: {source}")]
    File {
        /// Which.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// It is no certificate with its key.
    #[error("cannot use the webhook's certificate: {0}")]
    Unusable(String),
}

/// The certificate that a server shows, from the next connection on.
#[derive(Debug)]
pub struct ServerCertificate {
    provider: Arc<CryptoProvider>,
    shown: ArcSwapOption<CertifiedKey>,
    not_after: Gauge<i64, AtomicI64>,
}

impl ServerCertificate {
    /// None yet: connections fail until there is one. Its end is written to `not_after`.
    #[must_use]
    pub fn none(not_after: Gauge<i64, AtomicI64>) -> Arc<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        Arc::new(Self { provider, shown: ArcSwapOption::empty(), not_after })
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.shown.load().is_some()
    }

    /// Shows this one from now on, if it is another. Answers whether it is.
    ///
    /// # Errors
    /// If it cannot be used; then what was shown before still is.
    pub fn show(&self, pair: &KeyPair) -> Result<bool, Error> {
        let unusable = |error: &dyn std::fmt::Display| Error::Unusable(error.to_string());
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).collect();
        let chain = chain.map_err(|error| unusable(&error))?;
        if self.shown.load().as_ref().is_some_and(|shown| shown.cert == chain) {
            return Ok(false);
        }
        let facts = Facts::read(&pair.certificate).map_err(|error| unusable(&error))?;
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|error| unusable(&error))?;
        let key = CertifiedKey::from_der(chain, key, &self.provider).map_err(|error| unusable(&error))?;
        self.shown.store(Some(Arc::new(key)));
        self.not_after.set(facts.not_after.as_second());
        Ok(true)
    }

    /// Shows the certificate of a folder, files `tls.crt` and `tls.key`, if it is another. Answers whether it is.
    ///
    /// # Errors
    /// If it cannot be read or used; then what was shown before still is.
    pub async fn show_from(&self, folder: &Path) -> Result<bool, Error> {
        let mut texts = Vec::new();
        for name in FILES {
            let path = folder.join(name);
            let text = tokio::fs::read_to_string(&path).await;
            texts.push(text.map_err(|source| Error::File { file: path.display().to_string(), source })?);
        }
        let [certificate, key] = <[String; 2]>::try_from(texts).unwrap_or_default();
        self.show(&KeyPair { certificate, key })
    }

    /// Follows the certificate of a folder until `stop`. Looks at what is in the files rather than being told that they
    /// changed: a mounted Secret is replaced by links, and certificate and key are not replaced at once everywhere.
    pub async fn follow(&self, folder: &Path, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            match self.show_from(folder).await {
                Ok(true) => tracing::info!(folder = %folder.display(), "shows another certificate"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "goes on with the certificate that it has, if any"),
            }
        }
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown.load_full()
    }
}

/// TLS on a TCP port.
pub(super) struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl TlsListener {
    pub fn new(listener: TcpListener, certificate: Arc<ServerCertificate>) -> Self {
        let builder = ServerConfig::builder_with_provider(certificate.provider.clone());
        let mut config = builder
            .with_safe_default_protocol_versions()
            .expect("the provider has the cipher suites of the default versions")
            .with_no_client_auth()
            .with_cert_resolver(certificate);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}

impl connections::Listener for TlsListener {
    type Connection = TlsConnection;

    /// Waits for no handshake: a client that dallies holds up no other.
    async fn accept(&self) -> io::Result<TlsConnection> {
        let stream = connections::Listener::accept(&self.listener).await?;
        let deadline = Box::pin(tokio::time::sleep(HANDSHAKE));
        Ok(TlsConnection::Handshaking { accept: Box::new(self.acceptor.accept(stream)), deadline })
    }
}

/// A connection that shakes hands when it is first read or written.
pub(super) enum TlsConnection {
    Handshaking { accept: Box<tokio_rustls::Accept<TcpStream>>, deadline: Pin<Box<Sleep>> },
    Open(Box<TlsStream<TcpStream>>),
}

impl TlsConnection {
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Pin<&mut TlsStream<TcpStream>>>> {
        if let Self::Handshaking { accept, deadline } = self {
            let open = match Pin::new(accept.as_mut()).poll(context) {
                Poll::Ready(open) => open?,
                Poll::Pending => {
                    ready!(deadline.as_mut().poll(context));
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")));
                }
            };
            *self = Self::Open(Box::new(open));
        }
        match self {
            Self::Open(stream) => Poll::Ready(Ok(Pin::new(stream.as_mut()))),
            // It was opened above, or this was not reached.
            Self::Handshaking { .. } => Poll::Pending,
        }
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.get_mut().poll_open(context))?.poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.get_mut().poll_open(context))?.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Open(stream) => Pin::new(stream.as_mut()).poll_flush(context),
            // Nothing was written.
            Self::Handshaking { .. } => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Open(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
            Self::Handshaking { .. } => Poll::Ready(Ok(())),
        }
    }
}
