//! stub
use crate::arguments::Arguments;
use crate::inject;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
pub struct Webhook;
impl Webhook {
    pub async fn new(_: &Arguments, _: Client, _: &str, _: inject::Settings, _: &mut Registry) -> Result<Self, String> {
        Ok(Self)
    }
    pub fn readiness(&self) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
        || Ok(())
    }
    pub async fn serve(self, _: TcpListener, stop: CancellationToken) {
        stop.cancelled().await
    }
}
pub async fn keep_certificates(_: &Arguments, _: &Client) {
    std::future::pending().await
}
