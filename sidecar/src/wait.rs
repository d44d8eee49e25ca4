//! `tallyman-sidecar wait`: ends once the sidecar beside it is live. Pods run it as the hook after their sidecar's start, so that
//! applications find it listening: unlike a startup probe, which comes once a second, it sees at once that the sidecar is there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::Args;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long it is between two looks. Short beside the start of a process, and dear to nobody.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Wait until the sidecar that was started beside this is live, as its admin page /livez says.
///
/// Ends with exit code 0 once it is, and with 1 if it is not in time.
#[derive(Debug, Args)]
pub struct Wait {
    /// The sidecar's --admin.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:7778", env = "TALLYMAN_ADMIN")]
    admin: SocketAddr,

    /// Seconds after which to give up: long enough for a busy node to get to the sidecar.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u16,
}

/// Waits.
///
/// # Errors
/// If the sidecar is not live in time; says what was missing last.
pub async fn wait(Wait { admin, timeout }: Wait) -> anyhow::Result<()> {
    let admin = SocketAddr::new(reachable(admin.ip()), admin.port());
    let mut missing = None;
    let look = async {
        while let Err(reason) = is_live(admin).await {
            missing = Some(reason);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(timeout.into()), look).await;
    in_time
        .map_err(|_| missing.take().unwrap_or_else(|| anyhow::anyhow!("it does not answer")))
        .with_context(|| format!("the sidecar is not live after {timeout} s: http://{admin}/livez"))
}

/// Where to find what listens on this address, which may be all of them.
fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// Asks once. That something accepts connections is not enough: the listener is there before the process serves.
async fn is_live(admin: SocketAddr) -> anyhow::Result<()> {
    let (mut ask, connection) = http1::handshake(TokioIo::new(TcpStream::connect(admin).await?)).await?;
    let request = Request::get("/livez").header(header::HOST, admin.to_string()).body(Empty::<Bytes>::new())?;
    let answer = tokio::select! {
        answer = ask.send_request(request) => answer?,
        // Only to move the request along; it ends with it.
        ended = connection => { ended?; anyhow::bail!("it hung up") }
    };
    ensure!(answer.status() == StatusCode::OK, "the answer was {}", answer.status());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_on_all_addresses_is_asked_on_loopback() {
        assert_eq!(reachable("0.0.0.0".parse().unwrap()), IpAddr::from(Ipv4Addr::LOCALHOST));
        assert_eq!(reachable("::".parse().unwrap()), IpAddr::from(Ipv6Addr::LOCALHOST));
        assert_eq!(reachable("192.0.2.7".parse().unwrap()), IpAddr::from([192, 0, 2, 7]));
    }
}
