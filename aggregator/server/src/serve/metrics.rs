//! Figures for Prometheus, over HTTP on a loopback address: `metrics` in `server.toml`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::warn;
use wanbond_control::metrics;

use super::Shared;
use super::status::status;

/// More is no request of a collector's.
const MAX_REQUEST: usize = 8 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);
/// Collectors at once; whoever comes beyond that waits.
const AT_ONCE: usize = 4;

/// Answers collectors for as long as it is polled.
pub(super) async fn serve(shared: Arc<Shared>, address: SocketAddr) {
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            warn!(%address, %error, "no metrics: the address can't be listened on");
            return std::future::pending().await;
        }
    };
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    // Whoever is slow or gone gets nothing, which is theirs to know.
                    let _ = timeout(PATIENCE, answer(&shared, stream)).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "metrics");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer(shared: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::with_capacity(1024);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > MAX_REQUEST || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let reply = if request.starts_with(b"GET /metrics ") {
        reply("200 OK", &metrics::server(&status(shared)))
    } else {
        reply("404 Not Found", "the figures are at /metrics\n")
    };
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}

fn reply(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        metrics::CONTENT_TYPE,
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use wanbond_control::ServerStatus;
    use wanbond_control::server::RouterStatus;

    use super::*;

    #[test]
    fn figures_have_names_types_and_labels() {
        let router = RouterStatus {
            name: "home".into(),
            connected: true,
            rx_bytes: 5_000_000_000,
            month_limit_bytes: Some(10),
            ..RouterStatus::default()
        };
        let away = RouterStatus { name: "a\"b".into(), ..RouterStatus::default() };
        let status = ServerStatus {
            version: "1.2.3".into(),
            kernel: "6.1".into(),
            uptime_s: 1.5,
            routers: vec![router, away],
            refusals: [("flow_limit".to_owned(), 4)].into(),
            ..ServerStatus::default()
        };
        let text = metrics::server(&status);
        for line in [
            "# TYPE wanbond_server_info gauge",
            "wanbond_server_info{version=\"1.2.3\",kernel=\"6.1\"} 1",
            "wanbond_server_uptime_seconds 1.5",
            "wanbond_server_refusals_total{reason=\"flow_limit\"} 4",
            "wanbond_server_router_connected{router=\"home\"} 1",
            "wanbond_server_router_connected{router=\"a\\\"b\"} 0",
            "wanbond_server_router_received_bytes_total{router=\"home\"} 5000000000",
            "wanbond_server_router_month_limit_bytes{router=\"home\"} 10",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}:\n{text}");
        }
        assert!(!text.contains("month_limit_bytes{router=\"a"), "{text}");
    }
}
