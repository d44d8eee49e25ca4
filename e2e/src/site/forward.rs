//! A way from a loopback port to a port of a pod, as `kubectl port-forward` makes it.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tallyman_api::client::Client;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::PATIENCE;

/// Open until it is dropped.
pub struct Forward {
    /// Where it begins.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Forward {
    pub(super) async fn start(pods: Api<Pod>, pod: String, port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(lead(pods.clone(), pod.clone(), port, connection));
            }
        });
        Self { address, task }
    }

    /// A client of the counter API at its end, patient as everything here is.
    pub fn client(&self) -> Client {
        Client::connect(format!("http://{}", self.address)).unwrap().with_deadline(PATIENCE)
    }
}

/// A connection that breaks is its user's to make again.
async fn lead(pods: Api<Pod>, pod: String, port: u16, mut connection: TcpStream) {
    let Ok(mut forwarder) = pods.portforward(&pod, &[port]).await else { return };
    let Some(mut stream) = forwarder.take_stream(port) else { return };
    let _ = tokio::io::copy_bidirectional(&mut connection, &mut stream).await;
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}
