//! From the pairing code's endpoints to addresses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, info};
use wanbond_control::words::ServerState;
use wanbond_proto::pairing::Endpoint;

use super::LinkHint;
use crate::bypass::ask::server_addresses;
use crate::shared::Shared;

/// Names are looked up again this often: the server may have moved.
const REFRESH: Duration = Duration::from_secs(300);
/// And this often while they have no address.
const RETRY: Duration = Duration::from_secs(3);

/// The addresses of a server, in the order of its endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServerAddresses(pub Vec<SocketAddr>);

impl ServerAddresses {
    /// The first address that can be reached from `source`.
    #[must_use]
    pub(crate) fn reachable_from(&self, source: IpAddr) -> Option<SocketAddr> {
        self.0.iter().find(|address| address.is_ipv4() == source.is_ipv4()).copied()
    }

    /// Whether there is none.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Looks the endpoints up. Those that don't resolve are left out; the error tells of the last one
/// if none did.
pub(crate) async fn resolve(
    shared: Option<&Shared>,
    endpoints: &[Endpoint],
) -> std::io::Result<ServerAddresses> {
    let mut found = Vec::new();
    let mut failure = None;
    for endpoint in endpoints {
        if let Ok(ip) = endpoint.host.parse::<IpAddr>() {
            found.push(SocketAddr::new(ip, endpoint.port));
            continue;
        }
        match server_addresses(shared, &endpoint.host, endpoint.port).await {
            Ok(addresses) => found.extend(addresses),
            Err(error) => failure = Some(error),
        }
    }
    found.dedup();
    match failure {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(ServerAddresses(found)),
    }
}

/// Keeps the server's addresses up to date, for as long as it is polled.
pub(crate) async fn keep_resolved(shared: Arc<Shared>, endpoints: Vec<Endpoint>) {
    let literal = endpoints.iter().all(|endpoint| endpoint.host.parse::<IpAddr>().is_ok());
    loop {
        let pause = match resolve(Some(&shared), &endpoints).await {
            Ok(found) => {
                let news = shared.server.send_if_modified(|known| {
                    let news = *known != found;
                    if news {
                        info!(addresses = ?found.0, "server");
                        *known = found;
                    }
                    news
                });
                if news {
                    let _ = shared.link.try_send(LinkHint::WansChanged);
                }
                REFRESH
            }
            Err(error) => {
                debug!(%error, "the server's name has no address");
                if shared.server.borrow().is_empty() {
                    shared.set_server_state(
                        ServerState::UnresolvedName,
                        &format!("the name of the server can't be resolved: {error}"),
                    );
                }
                RETRY
            }
        };
        if literal {
            std::future::pending::<()>().await;
        }
        sleep(pause).await;
    }
}
