//! Accepts what nftables redirects here.

use std::io;
use std::sync::Arc;
use std::time::Duration;
use wanbond_relay::boxed;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tracing::{debug, warn};
use wanbond_linux::socket::original_dst;

use super::carry;
use crate::shared::Shared;

/// Probes of an idle client after this long, so that flows of vanished hosts end.
const KEEPALIVE: Duration = Duration::from_secs(300);

/// Accepts until it is dropped.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => start(&shared, client),
            Err(error) if is_of_one_connection(&error) => debug!(%error, "client gone at once"),
            Err(error) => {
                warn!(%error, "clients can't be accepted; is the limit of open files too low?");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn start(shared: &Arc<Shared>, client: TcpStream) {
    let target = match original_dst(&client) {
        Ok(target) => target,
        Err(error) => {
            debug!(%error, "connection that was not redirected");
            return;
        }
    };
    // Who connects to the port itself is tracked as going there: no target, and no loop.
    if client.local_addr().is_ok_and(|own| own.port() == target.port() && own.ip() == target.ip()) {
        debug!(%target, "connection to the redirect port itself");
        return;
    }
    let socket = socket2::SockRef::from(&client);
    // None of it is needed to work. As long as it is not ended in order, it ends with a reset, even if
    // the daemon is killed.
    let _ = socket.set_linger(Some(Duration::ZERO));
    let _ = socket.set_tcp_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
    let _ = socket.set_tcp_keepalive(&keepalive);
    tokio::spawn(boxed(carry(Arc::clone(shared), client, target)));
}

/// Errors of accept(2) that concern one connection, not the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionRefused
    )
}
