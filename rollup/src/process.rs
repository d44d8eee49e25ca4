//! The process `tallyman-rollup`, from its options to its end.

use std::sync::Arc;
use std::time::Duration;

use tallyman_counter::clock::SystemClock;
use tallyman_counter::configuration::Directory;
use tallyman_counter::opening::Opener;
use tallyman_daemon::process::shutdown;

use crate::arguments::Arguments;
use crate::engine::{Engine, accepts_shared_stores};
use crate::server::{self, Listeners};
use crate::tls::Tls;

/// How soon a change in the folder of namespaces is noticed.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot begin: an address that cannot be listened on.
pub async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let shutdown = shutdown()?;
    let listeners = Listeners::bind(arguments.listen, arguments.admin).await?;
    let tls = match arguments.tls_files() {
        Some(files) => Some(Tls::open(files).await),
        None => None,
    };
    let name = arguments.server_name();
    let loaded = Directory::new(&arguments.namespaces_dir).watch(POLL_EVERY).await;
    let opener = Arc::new(Opener::new(Arc::new(SystemClock::new()), None));
    let engine = Engine::new(&name, opener, accepts_shared_stores);
    let (listen, admin) = (listeners.forwarding_address, listeners.admin_address);
    tracing::info!(%name, %listen, %admin, namespaces_dir = %arguments.namespaces_dir.display(), "serving");
    server::serve(engine, listeners, tls, loaded, shutdown).await;
    tracing::info!("stopped");
    Ok(())
}
